"""An agent of your own in four verbs: `init`, `act`, `adapt`, `update`; here Thompson sampling that learns its prior.

One learns the Agent contract. Within a task it counts the wins of a bandit's arms; across tasks it learns how different
arms are, having taken them all for fair coins. Ten seconds; `--quick`: three.
"""

import sys

import torch

import metarl
from metarl.agent import ActOutput


class EmpiricalBayes:
    name, parallel_episodes, train_phases = "empirical-bayes", False, (100,)  # a trial is 100 pulls, memory kept

    def __init__(self, spec):
        self.spec, self.prior = spec, torch.tensor([50.0, 50.0])  # wins and losses taken to precede the first pull

    def phases(self, n_episodes):  # nothing happens between episodes
        return (n_episodes,) if n_episodes else ()

    def init(self, n_tasks):  # what is known of N tasks: one row for each
        return {name: torch.zeros(n_tasks, self.spec.action_dim) for name in ("wins", "losses")}

    def act(self, state, step, *, generator, greedy=False):
        won = step.prev_reward[:, None] * step.prev_action
        state = {"wins": state["wins"] + won, "losses": state["losses"] + step.prev_action - won}
        a, b = state["wins"] + self.prior[0], state["losses"] + self.prior[1]
        spread = (a * b / (a + b + 1)).sqrt() / (a + b)  # of the belief about each arm, taken as normal
        guess = a / (a + b) + (0 if greedy else spread * torch.randn(a.shape, generator=generator))
        return state, ActOutput(guess.argmax(1), torch.zeros(len(a)), {})

    def adapt(self, state, rollout):  # it adapts while it acts
        return state

    def update(self, trial, *, generator):  # fit a Beta to the arms of all tasks by its moments
        arm = torch.nn.functional.one_hot(trial.query.action, self.spec.action_dim)
        pulls, wins = arm.sum(0), (arm * trial.query.reward[..., None]).sum(0)
        rate = (wins / pulls)[pulls >= 5]
        strength = (rate.mean() * (1 - rate.mean()) / rate.var() - 1).clamp(0.1, 100)
        self.prior += 0.5 * (strength * torch.stack([rate.mean(), 1 - rate.mean()]) - self.prior)
        return {"strength": float(self.prior.sum())}

    def state_dict(self):  # what a checkpoint holds
        return {"prior": self.prior.clone()}

    def load_state_dict(self, state):
        self.prior = state["prior"].clone()


tasks = metarl.make_tasks("bandit", n_test=100 if "--quick" in sys.argv else 1000)
agent = EmpiricalBayes(tasks.spec)
for moment in ("before", "after"):
    curve = metarl.evaluate(agent, tasks, adapt_episodes=99, n_seeds=1).curve
    print(f"{moment} training: {sum(pull.mean for pull in curve):.1f} of 100 pulls win; prior {agent.prior.tolist()}")
    metarl.train(agent, tasks, iterations=5, n_tasks=100, validate_every_iters=0, progress="off")
print("the best possible is 78.3 (Gittins index)")
