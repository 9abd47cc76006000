"""MAML-TRPO (Finn et al. 2017) on 2-D navigation, on one page: where to start, so that one step finds a new goal.

One learns MAML's levels. Three minutes on one core: -37.8, after a step -14.6 (preset maml-navigation: -37.9, -14.8).
"""

import sys

from torch.func import grad, jvp, vjp, vmap

from metarl import episodes, make_tasks, seeding, trial
from metarl.agent import ActOutput
from metarl.agents.maml import inner_loop, trust_region
from metarl.agents.nn.functional import PolicyNet


class MAML:
    def __init__(self, spec):
        self.name, self.parallel_episodes, self.net = "maml-on-a-page", True, PolicyNet(spec, hidden=(64, 64))
        self.like, self.dist = self.net.init(seeding.generator(0, "init")), self.net.distribution
        self.theta = trust_region.flatten(list(self.like.values()))  # [P]

    def init(self, n_tasks, theta=None):  # N tasks start from theta: one row of parameters, by name, for each
        parts = trust_region.unflatten(self.theta if theta is None else theta, list(self.like.values()))
        return {name: part.expand(n_tasks, *part.shape) for name, part in zip(self.like, parts, strict=True)}

    def act(self, phi, step, *, generator, greedy=False):
        out = vmap(self.net)(phi, step.obs.unflatten(0, (len(phi["log_std"]), -1))).flatten(0, 1)
        return phi, ActOutput(action := self.dist.sample(out, generator), self.dist.log_prob(out, action), {})

    def adapt(self, phi, rollout):  # the inner level: one policy-gradient step per task, on its own episodes
        batch = inner_loop.make_batch(self.net, rollout, gamma=0.99, lam=1.0)  # with advantages, task by task
        gradient = grad(lambda phi: inner_loop.ratio_loss(self.net, vmap(self.net)(phi, batch.obs), batch).sum())(phi)
        return {name: value - 0.1 * gradient[name] for name, value in phi.items()}

    def update(self, support, query):  # the outer level: a trust-region step on what the adapted policies earned
        def after(theta):  # what adapted policies say on the query episodes, differentiable through `adapt`
            return vmap(self.net)(self.adapt(self.init(len(batch.obs), theta), support), batch.obs)

        def score(new):  # loss, and mean KL(old || new) of adapted policies
            return inner_loop.ratio_loss(self.net, new, batch).mean(), (self.dist.kl(old, new) * weight).sum()

        def fisher(v):  # J' F J v, the Hessian of that KL: forward through both levels, and back
            return pull(self.dist.fisher_product(old, jvp(after, (theta,), (v,))[1]) * weight[..., None])[0]

        batch, theta = inner_loop.make_batch(self.net, query, gamma=0.99, lam=1.0), self.theta
        (old, pull), weight = vjp(after, theta), batch.valid / batch.valid.sum()
        (gradient,), loss = pull(grad(lambda new: score(new)[0])(old)), score(old)[0]
        step = trust_region.natural_step(gradient, fisher, limit=0.01, n_iters=10, damping=1e-5)
        at = trust_region.line_search(lambda d: score(after(theta + d)), step, loss, limit=0.01, shrink=0.8, n_tries=15)
        self.theta = theta + at.step


n_iterations, n_tasks, n_episodes = (4, 8, 8) if "--quick" in sys.argv else (50, 20, 20)
tasks = make_tasks("navigation")
agent, world = MAML(tasks.spec), tasks.make_world(n_tasks * n_episodes)
for i in range(n_iterations):  # always new goals: each line says how well it adapts to goals it has never seen
    chosen = tasks.sample("train", n_tasks, seeding.generator(0, "tasks", i))
    phases = trial.run_trial(world, agent, chosen, (n_episodes, n_episodes), seed=i)
    print(i, episodes.pre_post(phases, agent), flush=True)
    agent.update(*phases.rollouts)
