"""The gradient-based family, of which the plain member is MAML-TRPO: policy-gradient inner steps, a trust-region step.

Finn et al. 2017 (arXiv:1703.03400), section 5.3 and appendix A.2. Meta-training finds parameters theta from which K
policy-gradient steps, each on freshly collected episodes, give a good policy phi for a new task. The outer step is TRPO
(Schulman et al. 2015, arXiv:1502.05477) on the return of phi(theta), with the divergence measured between adapted
policies: the one that collected the query episodes and the one adapted from the new theta with the same support data.

Switches of `MAMLConfig` give the relatives: `second_order` (first-order MAML), `adapt` (ANIL, CAVIA), `step_sizes`
(Meta-SGD), `inner_rule` (a learned optimiser), `inner_objective` (DiCE), `exploration_coef` (E-MAML: Stadie et al.
2018, arXiv:1803.01118), `outer` (Reptile, ProMP).

Deviations from the paper, each for a reason:
- The inner loss weighs actions by the likelihood ratio instead of the log-likelihood: equal gradient, a better second
  derivative (Rothfuss et al. 2019, arXiv:1810.06784). `inner_objective` switches it back.
- Fisher-vector products are exact (`trust_region.fisher_product`), not finite differences.
- The last iterate is kept; choosing another is up to the caller's validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metarl.agent import ActOutput, Savable, State, TimeStep, WorldSpec
from metarl.agents.nn.functional import Params, PolicyNet
from metarl.agents.nn.normaliser import Normaliser
from metarl.agents.ppo import surrogate
from metarl.distributed import group
from metarl.errors import CheckpointError, ConfigError
from metarl.returns import masked_mean
from metarl.rollout import Rollout, Trial
from metarl.seeding import generator as stream
from metarl.state import marked, unmarked

from .config import MAMLSettings
from .inner_loop import Batch, inner_loss, make_batch, ratio_loss, task_scores
from .inner_rule import GradientRule, Loss, chosen_names
from .learned_optimiser import LSTMRule
from .meta_batch import MetaBatch, Share, shares, sum_of_products
from .promp import OuterPPO
from .trust_region import LineSearch, Product, PullBack, fisher_product, flatten, line_search, natural_step, unflatten

__all__ = ["MAML", "MAMLConfig", "MetaBatch"]

_PREFIX = "param/"
_MEMORY = "rule/"


@dataclass(frozen=True)
class MAMLConfig(MAMLSettings):
    """Settings of MAML-TRPO and its relatives, and the agent that they make."""

    def build(self, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> MAML:
        """Return an agent with fresh parameters, which depend on `seed` alone.

        Raises: ConfigError for a space without a flat view or an action distribution, or a name in `adapt` that is none
            of the policy's.
        """
        return MAML(self, spec, seed=seed, device=device)


class MAML(Savable):
    """The agent. A trial's state is phi, one row of parameters per task, and k, the inner steps behind it."""

    name = MAMLConfig.algorithm
    parallel_episodes = True
    learning_state = ("outer",)

    def __init__(self, config: MAMLConfig, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> None:
        """See `MAMLConfig.build`."""
        self.config, self.spec, self.device = config, spec, torch.device(device)
        self.net = PolicyNet(
            spec, hidden=config.hidden, activation=config.activation, init=config.init,
            init_std=config.init_std, min_std=config.min_std, context=config.context,
        )  # fmt: skip
        self.train_phases: tuple[int, ...] = (config.episodes_per_step,) * (config.inner_steps + 1)
        noise = stream(seed, "init", self.name)
        theta = self.net.init(noise, self.device)
        self._net_names = tuple(theta)
        context = {"context": torch.zeros(config.context, device=self.device)} if config.context else {}
        names = chosen_names(config.adapt, [*theta, *context], len(config.hidden) + 1)
        self.rule = (
            LSTMRule(names, config.lstm, alpha=config.alpha)
            if config.inner_rule == "lstm"
            else GradientRule(
                names, alpha=config.alpha, n_steps=config.inner_steps, step_sizes=config.step_sizes,
                later_factors=config.later_alpha_factors or (config.later_alpha_factor,),
            )
        )  # fmt: skip
        self._theta = {**theta, **self.rule.init({**theta, **context}, noise)}
        self.outer_ppo = OuterPPO(config.ppo, self._theta, config.inner_steps) if config.outer == "ppo" else None
        self.normaliser = Normaliser(config.normaliser, spec.obs_dim, self.device)

    def parameters(self) -> Params:
        """Return the meta-parameters theta by name; they are never written in place."""
        return dict(self._theta)

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        """Return one phase per inner step: `episodes_per_step` each, or a single shorter one.

        Raises: ConfigError for a number of episodes that leaves a remainder.
        """
        per_step = self.config.episodes_per_step
        if n_episodes <= per_step:
            return (n_episodes,) if n_episodes else ()
        if n_episodes % per_step:
            raise ConfigError(
                f"maml-trpo adapts on {per_step} episodes per step, which {n_episodes} adaptation episodes are not a "
                f"multiple of; ask for {n_episodes // per_step * per_step}, or change agent.episodes_per_step"
            )
        return (per_step,) * (n_episodes // per_step)

    def init(self, n_tasks: int) -> State:
        """Return theta for each task, with a context of 0, and k = 0."""
        phi = {name: value.detach().clone() for name, value in self._start(self._theta, n_tasks).items()}
        k = torch.zeros(n_tasks, dtype=torch.int64, device=self.device)
        return {**marked(_PREFIX, phi), **marked(_MEMORY, self.rule.start(phi)), "k": k}

    @torch.no_grad()
    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        """Sample from each task's own policy, or take its mode; the state stays."""
        n_tasks, n_rows = len(state["k"]), len(step.obs)
        mask = None if step.action_mask is None else step.action_mask.reshape(n_tasks, -1, step.action_mask.shape[-1])
        obs = self.normaliser(step.obs) if self.normaliser.enabled else step.obs
        obs = obs.reshape(n_tasks, n_rows // n_tasks, -1)
        out = self.net(unmarked(_PREFIX, state), obs, mask).flatten(0, 1)
        distribution = self.net.distribution
        if greedy:
            action = distribution.mode(out)
            return state, ActOutput(self.net.world_action(action), torch.zeros_like(out[:, 0]), {})
        action = distribution.sample(out, generator)
        return state, ActOutput(self.net.world_action(action), distribution.log_prob(out, action), {})

    def adapt(self, state: State, rollout: Rollout) -> State:
        """Take one policy-gradient step per task on the episodes it has just collected."""
        batch = self._batch(rollout)
        with torch.enable_grad():
            phi = {name: value.detach().requires_grad_() for name, value in unmarked(_PREFIX, state).items()}
            new, memory = self.rule.step(
                self._theta, phi, unmarked(_MEMORY, state), self._loss_on(batch), state["k"], create_graph=False
            )
        new, memory = ({name: value.detach() for name, value in part.items()} for part in (new, memory))
        return {**marked(_PREFIX, new), **marked(_MEMORY, memory), "k": state["k"] + 1}

    def _loss_on(self, batch: Batch) -> Loss:
        """Return phi -> each task's inner loss on `batch`."""
        return lambda phi: inner_loss(self.net, phi, batch, self.config.inner_objective)

    def _start(self, theta: Params, n_tasks: int) -> Params:
        """Return the parameters [N, ...] before the first inner step, as a function of theta."""
        phi = {name: theta[name].expand(n_tasks, *theta[name].shape) for name in self._net_names}
        if self.config.context:
            like = phi[self._net_names[0]]
            phi["context"] = like.new_zeros(n_tasks, self.config.context).requires_grad_()
        return phi

    def _batch(self, rollout: Rollout) -> Batch:
        """Return what the losses need of one phase, with the observations that the policy saw when it collected it."""
        config = self.config
        seen = self.normaliser.rollout(rollout) if self.normaliser.enabled else rollout
        return make_batch(self.net, seen, config.gamma, config.lam, episodes=config.inner_objective == "dice")

    def meta_batch(self, trial: Trial) -> MetaBatch:
        """Return the trial's episodes with their advantages, computed once: phi does not change them."""
        if len(trial.supports) != self.config.inner_steps:
            raise ConfigError(
                f"maml-trpo trains on {self.config.inner_steps} support phases, got a trial with "
                f"{len(trial.supports)}; collect it with phases=agent.train_phases"
            )
        made = [self._batch(rollout) for rollout in trial.rollouts]
        credit = task_scores(trial.query, self.config.gamma) if self.config.exploration_coef else None
        return MetaBatch(tuple(made[:-1]), made[-1], credit)

    def adapted(self, theta: Params, batch: MetaBatch, *, differentiable: bool) -> Params:
        """Return phi(theta) [N, ...] re-adapted on the stored support episodes.

        `differentiable` keeps what the derivative in theta needs (which for first-order MAML is little).
        """
        return self.trail(theta, batch, differentiable=differentiable)[-1]

    def trail(self, theta: Params, batch: MetaBatch, *, differentiable: bool) -> list[Params]:
        """Return phi_0, phi_1, ... phi_K, each [N, ...], with the meaning of `adapted`.

        Every batch keeps the episodes, advantages and log-probabilities it was collected with.
        """
        trail = [self._start(theta, batch.n_tasks)]
        memory, create_graph = self.rule.start(trail[0]), differentiable and self.config.second_order
        for k, support in enumerate(batch.supports):
            phi, memory = self.rule.step(theta, trail[-1], memory, self._loss_on(support), k, create_graph=create_graph)
            trail.append(phi)
        return trail

    def query_loss(self, phi: Params, batch: MetaBatch) -> tuple[Tensor, Tensor]:
        """Return minus the query surrogate, averaged over tasks, and the adapted policies' outputs [N, R, p]."""
        query = batch.query
        out = self.net(phi, query.obs, query.action_mask)
        return ratio_loss(self.net, out, query).mean(), out

    def objective(
        self, theta: Params, batch: MetaBatch, *, differentiable: bool
    ) -> tuple[Tensor, Tensor, list[Params]]:
        """Return the loss of the outer step, the adapted policies' outputs on the query [N, R, p], and the trail."""
        trail = self.trail(theta, batch, differentiable=differentiable)
        loss, out = self.query_loss(trail[-1], batch)
        return loss + self.exploration_loss(trail, batch), out, trail

    def exploration_loss(self, trail: list[Params], batch: MetaBatch) -> Tensor | float:
        """Return minus the credited log-probability (as a ratio) of the episodes that adaptation learned from.

        The gradient of the return after adaptation in theta has two parts: theta moves phi, and theta decides which
        episodes phi is made from. MAML has the first; this is the second (Stadie et al. 2018), for every inner step
        with the policy phi_k(theta) that collected its episodes.
        """
        if batch.credit is None:
            return 0.0
        total = torch.zeros((), device=batch.credit.device, dtype=batch.credit.dtype)
        for phi, support in zip(trail, batch.supports, strict=False):
            credited = replace(support, advantage=batch.credit[:, None].expand_as(support.advantage))
            total = total + ratio_loss(self.net, self.net(phi, support.obs, support.action_mask), credited).mean()
        return self.config.exploration_coef * total

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        """Take one outer step on theta; returns metrics of that step.

        Raises: ConfigError for exploration credit with a single task, whose score has nothing to be compared with.
        """
        batch = self.meta_batch(trial)
        if batch.credit is not None and len(batch.credit) < 2:
            raise ConfigError(
                "maml-trpo: exploration_coef compares tasks with each other, got one; raise train.n_tasks to 2 or "
                "more, or set exploration_coef=0"
            )
        if self.config.outer == "reptile":
            metrics = self._reptile(batch)
        else:
            metrics = self._trpo(batch, generator) if self.outer_ppo is None else self._ppo(self.outer_ppo, batch)
        if self.normaliser.enabled:
            self.normaliser.update(*trial.rollouts)
        return metrics

    def _reptile(self, batch: MetaBatch) -> dict[str, float]:
        """Move theta towards the tasks' mean phi: theta + epsilon * mean(phi - theta) (Nichol et al. 2018, eq. 2).

        The query episodes, collected by phi_K, serve one more inner step: with K = 1, too, theta learns from what
        follows a first step, and not from the tasks' mean gradient alone.
        """
        with torch.enable_grad():
            theta = {name: value.detach().requires_grad_() for name, value in self._theta.items()}
            phases = MetaBatch((*batch.supports, batch.query), batch.query)
            trail = self.trail(theta, phases, differentiable=False)
        move = {name: (trail[-1][name].detach() - value).mean(0) for name, value in self._theta.items()}
        step = self.config.reptile_step
        self._theta = {name: value + step * move[name] for name, value in self._theta.items()}
        with torch.no_grad():
            loss, out = self.query_loss(trail[-2], batch)
        metrics = {"step_norm": step * flatten(list(move.values())).norm(), "query_loss": loss}
        return {name: float(value) for name, value in metrics.items()} | self._policy_metrics(theta, batch, out)

    def _ppo(self, outer: OuterPPO, batch: MetaBatch) -> dict[str, float]:
        """Take the several clipped steps of ProMP."""
        distribution, clip = self.net.distribution, self.config.ppo.clip
        own = group().over(batch.n_tasks).share(batch.n_tasks)
        mine, weight = batch.tasks(own), (own.stop - own.start) / batch.n_tasks

        def outputs(trail: list[Params], of: MetaBatch) -> list[Tensor]:
            return [self.net(p, b.obs, b.action_mask) for p, b in zip(trail, of.supports, strict=False)]

        with torch.enable_grad():
            start = {name: value.detach().requires_grad_() for name, value in self._theta.items()}
            trail = self.trail(start, batch, differentiable=False)
        with torch.no_grad():
            old, out = outputs(trail, batch), self.query_loss(trail[-1], batch)[1]

        def objective(theta: Params) -> tuple[Tensor, Tensor]:
            trail, query = self.trail(theta, mine, differentiable=True), mine.query
            adapted = self.net(trail[-1], query.obs, query.action_mask)
            log_prob = torch.where(query.valid, distribution.log_prob(adapted, query.action), query.log_prob)
            gain = masked_mean(surrogate(log_prob, query.log_prob, query.advantage, clip), query.valid, dims=(1,))
            kls = [
                masked_mean(distribution.kl(a[own], b), support.valid, dims=(1,)).mean()
                for a, b, support in zip(old, outputs(trail, mine), mine.supports, strict=True)
            ]
            return weight * (-gain.mean() + self.exploration_loss(trail, mine)), weight * torch.stack(kls)

        with torch.enable_grad():
            self._theta, metrics = outer.step(self._theta, objective, group().over(batch.n_tasks))
        return metrics | self._policy_metrics(start, batch, out)

    def _trpo(self, batch: MetaBatch, generator: torch.Generator) -> dict[str, float]:
        """Take one trust-region step; theta stays if no step on the line lowers the loss within `kl_limit`."""
        theta = {name: value.detach().requires_grad_() for name, value in self._theta.items()}
        parts, config = list(theta.values()), self.config
        rows, held = self._fisher_rows(batch, generator), shares(batch, config.tasks_at_once)
        if len(held) == 1:
            with torch.enable_grad():
                loss, out, trail = self.objective(theta, batch, differentiable=True)
                if batch.credit is None and rows is None:
                    # All of theta's influence goes through `out`: the pass back that the products need gives the
                    # gradient, too.
                    (cotangent,) = torch.autograd.grad(loss, out, retain_graph=True)
                    jacobian = PullBack(out, parts, cotangent)
                    gradient, fisher = jacobian.vector, self._fisher_at(jacobian, batch, out)
                else:
                    gradient = flatten(torch.autograd.grad(loss, parts, retain_graph=True))
                    fisher = self.fisher(theta, trail[-1], batch, out, rows=rows)
        else:
            loss, out, gradient = self._gradient_by_share(theta, held)
            fisher = self._fisher_by_share(theta, held, rows)
        step = natural_step(gradient, fisher, limit=config.kl_limit, n_iters=config.cg_iters, damping=config.damping)
        found = self._search(theta, held, out.detach(), loss.detach(), step)
        if found.accepted:
            moved = unflatten(flatten(parts).detach() + found.step, parts)
            self._theta = dict(zip(theta, moved, strict=True))
        return {
            "kl": found.divergence,
            "improvement": float(loss.detach()) - found.loss,
            "accepted": float(found.accepted),
            "line_search_tries": float(found.n_tried),
            "gradient_norm": float(gradient.norm()),
            "step_norm": float(found.step.norm()),
        } | self._policy_metrics(theta, batch, out.detach())

    def _gradient_by_share(self, theta: Params, held: Sequence[Share]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the outer loss, the adapted policies' outputs and the gradient, one share after the other."""
        leaves = list(theta.values())

        def of(share: Share) -> tuple[Tensor, ...]:
            with torch.enable_grad():
                loss, out, _ = self.objective(theta, share.batch, differentiable=True)
                gradient = flatten(torch.autograd.grad(loss, leaves))
            return share.weight * loss.detach(), out.detach(), share.weight * gradient

        losses, outs, gradients = zip(*group().map(held, of), strict=True)
        return torch.stack(losses).sum(), torch.cat(outs), torch.stack(gradients).sum(0)

    def _fisher_by_share(self, theta: Params, held: Sequence[Share], rows: Tensor | None) -> Product:
        """Return `fisher` of all tasks; with `tasks_at_once` each share's graph is built anew at every product."""

        def of(share: Share) -> Product:
            phi = self.adapted(theta, share.batch, differentiable=True)
            return self.fisher(theta, phi, share.batch, None, rows=rows)

        return sum_of_products(held, of, keep=self.config.tasks_at_once is None)

    def _fisher_rows(self, batch: MetaBatch, generator: torch.Generator) -> Tensor | None:
        """Return which query rows the Fisher matrix takes of each task; None for all."""
        wanted, n_rows = self.config.fisher_rows, batch.query.obs.shape[1]
        if wanted is None or wanted >= n_rows:
            return None
        return torch.randperm(n_rows, generator=generator, device=generator.device)[:wanted].to(self.device)

    def fisher(
        self, theta: Params, phi: Params, batch: MetaBatch, out: Tensor | None, *, rows: Tensor | None = None
    ) -> Product:
        """Return v -> F v, F the Hessian in theta of the mean KL(old || new) of adapted policies, at new = old.

        `phi` and `out` come from `adapted` and `query_loss` at `theta`; None computes `out`. Takes the query
        rows `rows` of each task.
        """
        if rows is not None:
            batch, out = replace(batch, query=batch.query.rows(rows)), None
        if out is None:
            out = self.net(phi, batch.query.obs, batch.query.action_mask)
        return self._fisher_at(PullBack(out, list(theta.values()), torch.zeros_like(out)), batch, out)

    def _fisher_at(self, jacobian: PullBack, batch: MetaBatch, out: Tensor) -> Product:
        """Return `fisher`, given the Jacobian in theta of the outputs `out` on the query."""
        weight, old = batch.query.valid.to(out.dtype), out.detach()
        weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1.0) / len(weight)
        return fisher_product(jacobian, lambda v: self.net.distribution.fisher_product(old, v), weight)

    def _search(self, theta: Params, held: Sequence[Share], old: Tensor, loss: Tensor, step: Tensor) -> LineSearch:
        """Return the first acceptable step on the line; the divergence is KL(old || new) of adapted policies."""
        parts, config = list(theta.values()), self.config
        origin = flatten(parts).detach()

        def on_share(moved: Params, share: Share) -> tuple[Tensor, Tensor]:
            batch = share.batch
            with torch.enable_grad():
                trail = self.trail(moved, batch, differentiable=False)
            with torch.no_grad():
                new_loss, out = self.query_loss(trail[-1], batch)
                new_loss = new_loss + self.exploration_loss(trail, batch)
                kl = self.net.distribution.kl(old[share.tasks], out)
                return new_loss, masked_mean(kl, batch.query.valid, dims=(1,)).mean()

        def evaluate(candidate: Tensor) -> tuple[Tensor, Tensor]:
            leaves = [p.requires_grad_() for p in unflatten(origin + candidate, parts)]
            found = group().map(held, lambda share: on_share(dict(zip(theta, leaves, strict=True)), share))
            weighted = [[s.weight * pair[i] for s, pair in zip(held, found, strict=True)] for i in (0, 1)]
            return torch.stack(weighted[0]).sum(), torch.stack(weighted[1]).sum()

        return line_search(
            evaluate, step, loss, limit=config.kl_limit, shrink=config.backtrack_factor, n_tries=config.backtrack_tries
        )

    @torch.no_grad()
    def _policy_metrics(self, theta: Params, batch: MetaBatch, out: Tensor) -> dict[str, float]:
        """Return what a run should watch of the policies that collected `batch`, before the outer step.

        `entropy`: of the adapted policies, in nats. `inner_kl`: KL(before || after adaptation) on query states.
        `log_std`: of theta after the step, mean over dimensions. The outer steps add `kl`: of the step, in nats.
        `improvement`: fall of the query loss. `accepted`: 1 if theta moved. `line_search_tries`. `gradient_norm`: of
        the meta-gradient. `step_norm`.
        """
        query, distribution = batch.query, self.net.distribution
        before = self.net(theta, query.obs, query.action_mask)
        values = {
            "entropy": masked_mean(distribution.entropy(out), query.valid),
            "inner_kl": masked_mean(distribution.kl(before, out), query.valid),
        }
        if "log_std" in self._theta:
            values["log_std"] = self._theta["log_std"].mean()
        return {name: float(value) for name, value in values.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the meta-parameters, the normaliser's sums if there is one, and the state of the outer optimiser."""
        outer = {} if self.outer_ppo is None else {"outer": self.outer_ppo.state_dict()}
        theta = {name: value.clone() for name, value in self._theta.items()}
        return {"theta": theta} | outer | (self.normaliser.state_dict() if self.normaliser.enabled else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit.

        Raises: CheckpointError if names or shapes are not those of this configuration.
        """
        stored: Mapping[str, Tensor] = state.get("theta", {})
        found, wanted = ({n: tuple(v.shape) for n, v in params.items()} for params in (stored, self._theta))
        if found != wanted:
            raise CheckpointError(
                f"the checkpoint's parameters {found} are not those of this maml-trpo agent, {wanted}; "
                f"load it with the configuration and world it was written with"
            )
        if self.outer_ppo is not None:
            if "outer" not in state:
                raise CheckpointError("the checkpoint has no outer optimiser; load it with agent.outer='trpo'")
            self.outer_ppo.load_state_dict(state["outer"])
        self.normaliser.load_state_dict(state)
        self._theta = {name: stored[name].detach().clone().to(self.device) for name in self._theta}
