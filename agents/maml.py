"""MAML-TRPO: policy-gradient inner steps, a trust-region outer step.

Finn et al. 2017 (arXiv:1703.03400), section 5.3 and appendix A.2. Meta-training finds parameters theta from which K
policy-gradient steps, each on freshly collected episodes, give a good policy phi for a new task. The outer step is TRPO
(Schulman et al. 2015, arXiv:1502.05477) on the return of phi(theta), with the divergence measured between adapted
policies: the one that collected the query episodes and the one adapted from the new theta with the same support data.

Deviations from the paper, each for a reason:
- The inner loss weighs actions by the likelihood ratio instead of the log-likelihood: equal gradient, unbiased second
  derivative (Rothfuss et al. 2019, arXiv:1810.06784). `inner_objective` switches it back.
- Fisher-vector products are exact (`trust_region.fisher_product`), not finite differences.
- The last iterate is kept; choosing another is up to the caller's validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from metarl.agent import Decision, State, Step, WorldSpec
from metarl.errors import CheckpointError, ConfigError
from metarl.returns import masked_mean
from metarl.rollout import Rollout, Trial
from metarl.seeding import generator as stream

from .inner_loop import Batch, Objective, adapt_through, gradient_step, inner_loss, make_batch, ratio_loss
from .nets import Params, PolicyNet, check_net
from .normaliser import Normaliser, NormaliserConfig
from .trust_region import LineSearch, Product, fisher_product, flatten, line_search, natural_step, unflatten

_PREFIX = "param/"


@dataclass(frozen=True)
class MAMLConfig:
    """Settings of MAML-TRPO; the defaults are those of the 2-D navigation experiment."""

    algorithm: ClassVar[str] = "maml-trpo"

    hidden: tuple[int, ...] = (64, 64)
    """Units per hidden layer; () is a linear policy."""
    activation: str = "tanh"
    """"tanh" or "relu"."""
    init: str = "xavier"
    """Weight initialisation: "xavier" or "orthogonal"."""
    init_std: float = 1.0
    """Standard deviation of a Gaussian policy at the start, in units of the action (> 0)."""
    min_std: float = 1e-6
    """Smallest standard deviation of a Gaussian policy, in units of the action (> 0)."""
    alpha: float = 0.1
    """Inner step size (>= 0)."""
    later_alpha_factor: float = 0.5
    """Factor on `alpha` for adaptation steps beyond the `inner_steps` that were trained (>= 0)."""
    inner_steps: int = 1
    """K, inner steps per training trial, each on new episodes (>= 1)."""
    episodes_per_step: int = 20
    """Episodes per task before each inner step, and in the query (>= 1)."""
    inner_objective: Objective = "likelihood-ratio"
    """"likelihood-ratio" or "log-likelihood"."""
    second_order: bool = True
    """Differentiate through the inner gradient; False is first-order MAML."""
    gamma: float = 0.99
    """Discount per env step, in [0, 1]."""
    lam: float = 1.0
    """GAE's lambda, in [0, 1]."""
    kl_limit: float = 0.01
    """Largest mean KL(old || new) of an outer step, in nats (> 0)."""
    cg_iters: int = 10
    """Conjugate-gradient iterations (>= 1)."""
    damping: float = 1e-5
    """Added to the Fisher matrix's diagonal (>= 0)."""
    backtrack_factor: float = 0.8
    """Shrinking of the step between line-search tries, in (0, 1)."""
    backtrack_tries: int = 15
    """Most line-search tries (>= 1)."""
    fisher_rows: int | None = None
    """Query rows per task behind the Fisher matrix, drawn anew each update; None takes all (>= 1)."""
    normaliser: NormaliserConfig = field(default_factory=NormaliserConfig)
    """Observations in units of all training steps so far, the same in inner and outer loop. Rewards need no such thing:
    advantages are standardised per task, so that a factor on a task's rewards cancels."""

    def __post_init__(self) -> None:
        """Check every range; raises ConfigError."""
        check_net(self.hidden, self.activation, self.init)
        if self.inner_objective not in ("likelihood-ratio", "log-likelihood"):
            raise ConfigError(
                f"inner_objective is {self.inner_objective!r}; choose 'likelihood-ratio' or 'log-likelihood'"
            )
        for name in ("inner_steps", "episodes_per_step", "cg_iters", "backtrack_tries", "fisher_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"maml-trpo: {name} is {value}; it must be at least 1")
        for name in ("init_std", "min_std", "kl_limit"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"maml-trpo: {name} is {getattr(self, name)}; it must be above 0")
        for name in ("alpha", "later_alpha_factor", "damping"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"maml-trpo: {name} is {getattr(self, name)}; it must be finite and not negative")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"maml-trpo: {name} is {getattr(self, name)}; it must lie in [0, 1]")
        if not 0 < self.backtrack_factor < 1:
            raise ConfigError(f"maml-trpo: backtrack_factor is {self.backtrack_factor}; it must lie between 0 and 1")

    def build(self, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> MAML:
        """Return an agent with fresh parameters, which depend on `seed` alone.

        Raises: ConfigError for a space without a flat view or an action distribution.
        """
        return MAML(self, spec, seed=seed, device=device)


@dataclass(frozen=True)
class MetaBatch:
    """The stored episodes of one batch of trials, ready for the outer objective."""

    supports: tuple[Batch, ...]
    query: Batch


class MAML:
    """The agent. A trial's state is phi, one row of parameters per task, and k, the inner steps behind it."""

    name = MAMLConfig.algorithm
    parallel_episodes = True

    def __init__(self, config: MAMLConfig, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> None:
        """See `MAMLConfig.build`."""
        self.config, self.spec, self.device = config, spec, torch.device(device)
        self.net = PolicyNet(
            spec, hidden=config.hidden, activation=config.activation, init=config.init,
            init_std=config.init_std, min_std=config.min_std,
        )  # fmt: skip
        self.train_phases: tuple[int, ...] = (config.episodes_per_step,) * (config.inner_steps + 1)
        self._theta = self.net.init(stream(seed, "init", self.name), self.device)
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
        """Return theta for each task, and k = 0."""
        state = {_PREFIX + name: value.expand(n_tasks, *value.shape).clone() for name, value in self._theta.items()}
        return {**state, "k": torch.zeros(n_tasks, dtype=torch.int64, device=self.device)}

    @torch.no_grad()
    def act(
        self, state: State, step: Step, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, Decision]:
        """Sample from each task's own policy, or take its mode; the state stays."""
        n_tasks, n_rows = len(state["k"]), len(step.obs)
        mask = None if step.action_mask is None else step.action_mask.reshape(n_tasks, -1, step.action_mask.shape[-1])
        obs = self.normaliser(step.obs).reshape(n_tasks, n_rows // n_tasks, -1)
        out = self.net(_phi(state), obs, mask).flatten(0, 1)
        distribution = self.net.distribution
        if greedy:
            action = distribution.mode(out)
            return state, Decision(self.net.world_action(action), torch.zeros_like(out[:, 0]), {})
        action = distribution.sample(out, generator)
        return state, Decision(self.net.world_action(action), distribution.log_prob(out, action), {})

    def adapt(self, state: State, rollout: Rollout) -> State:
        """Take one policy-gradient step per task on the episodes it has just collected."""
        config = self.config
        batch = self._batch(rollout)
        with torch.enable_grad():
            phi = {name: value.detach().requires_grad_() for name, value in _phi(state).items()}
            new = gradient_step(
                phi,
                lambda p: inner_loss(self.net, p, batch, config.inner_objective),
                self._step_size(state["k"]),
                create_graph=False,
            )
        return {**{_PREFIX + name: value.detach() for name, value in new.items()}, "k": state["k"] + 1}

    def _batch(self, rollout: Rollout) -> Batch:
        """Return what the losses need of one phase, with the observations that the policy saw when it collected it."""
        return make_batch(self.net, self.normaliser.rollout(rollout), self.config.gamma, self.config.lam)

    def _step_size(self, k: Tensor) -> Tensor:
        """Return the inner step size after k steps: alpha for trained steps, less for later ones; float [N]."""
        config = self.config
        return torch.where(k < config.inner_steps, config.alpha, config.alpha * config.later_alpha_factor)

    def meta_batch(self, trial: Trial) -> MetaBatch:
        """Return the trial's episodes with their advantages, computed once: phi does not change them."""
        if len(trial.supports) != self.config.inner_steps:
            raise ConfigError(
                f"maml-trpo trains on {self.config.inner_steps} support phases, got a trial with "
                f"{len(trial.supports)}; collect it with phases=agent.train_phases"
            )
        made = [self._batch(rollout) for rollout in trial.rollouts]
        return MetaBatch(tuple(made[:-1]), made[-1])

    def adapted(self, theta: Params, batch: MetaBatch, *, differentiable: bool) -> Params:
        """Return phi(theta) [N, ...] re-adapted on the stored support episodes.

        `differentiable` keeps what the derivative in theta needs (which for first-order MAML is little).
        """
        sizes = [self.config.alpha] * len(batch.supports)
        return adapt_through(
            self.net, theta, batch.supports, sizes, self.config.inner_objective,
            create_graph=differentiable and self.config.second_order,
        )  # fmt: skip

    def query_loss(self, phi: Params, batch: MetaBatch) -> tuple[Tensor, Tensor]:
        """Return minus the query surrogate, averaged over tasks, and the adapted policies' outputs [N, R, p]."""
        query = batch.query
        out = self.net(phi, query.obs, query.action_mask)
        return ratio_loss(self.net, out, query).mean(), out

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        """Take one trust-region step on theta; returns metrics of that step.

        Theta stays if no step on the line lowers the loss within `kl_limit`.
        """
        batch = self.meta_batch(trial)
        with torch.enable_grad():
            theta = {name: value.detach().requires_grad_() for name, value in self._theta.items()}
            parts = list(theta.values())
            phi = self.adapted(theta, batch, differentiable=True)
            loss, out = self.query_loss(phi, batch)
            gradient = flatten(torch.autograd.grad(loss, parts, retain_graph=True))
            fisher = self.fisher(theta, phi, batch, out, generator=generator)
        config = self.config
        step = natural_step(gradient, fisher, limit=config.kl_limit, n_iters=config.cg_iters, damping=config.damping)
        found = self._search(theta, batch, out.detach(), loss.detach(), step)
        if found.accepted:
            moved = unflatten(flatten(parts).detach() + found.step, parts)
            self._theta = dict(zip(theta, moved, strict=True))
        metrics = self._metrics(theta, batch, out.detach(), loss.detach(), gradient, found)
        self.normaliser.update(*trial.rollouts)
        return metrics

    def fisher(
        self, theta: Params, phi: Params, batch: MetaBatch, out: Tensor, *, generator: torch.Generator
    ) -> Product:
        """Return v -> F v, F the Hessian in theta of the mean KL(old || new) of adapted policies, at new = old.

        `phi` and `out` come from `adapted` and `query_loss` at `theta`. Takes `fisher_rows` query rows per task.
        """
        query, wanted, distribution = batch.query, self.config.fisher_rows, self.net.distribution
        if wanted is not None and wanted < query.obs.shape[1]:
            index = torch.randperm(query.obs.shape[1], generator=generator, device=generator.device)[:wanted]
            query = query.rows(index.to(self.device))
            out = self.net(phi, query.obs, query.action_mask)
        weight = query.valid.to(out.dtype)
        weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1.0) / len(weight)
        old = out.detach()
        return fisher_product(out, list(theta.values()), lambda v: distribution.fisher_product(old, v), weight)

    def _search(self, theta: Params, batch: MetaBatch, old: Tensor, loss: Tensor, step: Tensor) -> LineSearch:
        """Return the first acceptable step on the line; the divergence is KL(old || new) of adapted policies."""
        parts, query, config = list(theta.values()), batch.query, self.config
        origin = flatten(parts).detach()

        def evaluate(candidate: Tensor) -> tuple[Tensor, Tensor]:
            moved = [p.requires_grad_() for p in unflatten(origin + candidate, parts)]
            with torch.enable_grad():
                phi = self.adapted(dict(zip(theta, moved, strict=True)), batch, differentiable=False)
            with torch.no_grad():
                new_loss, out = self.query_loss(phi, batch)
                kl = masked_mean(self.net.distribution.kl(old, out), query.valid, dims=(1,)).mean()
            return new_loss, kl

        return line_search(
            evaluate, step, loss, limit=config.kl_limit, shrink=config.backtrack_factor, n_tries=config.backtrack_tries
        )

    @torch.no_grad()
    def _metrics(
        self, theta: Params, batch: MetaBatch, out: Tensor, loss: Tensor, gradient: Tensor, found: LineSearch
    ) -> dict[str, float]:
        """Return what a run should watch.

        `kl`: of the outer step, in nats. `improvement`: fall of the query loss. `accepted`: 1 if theta moved.
        `line_search_tries`. `gradient_norm`: of the meta-gradient. `step_norm`. `entropy`: of the adapted policies, in
        nats. `inner_kl`: KL(before || after adaptation) on query states. `log_std`: of theta, mean over dimensions.
        """
        query, distribution = batch.query, self.net.distribution
        before = self.net(theta, query.obs, query.action_mask)
        values = {
            "gradient_norm": gradient.norm(),
            "step_norm": found.step.norm(),
            "entropy": masked_mean(distribution.entropy(out), query.valid),
            "inner_kl": masked_mean(distribution.kl(before, out), query.valid),
        }
        if "log_std" in self._theta:
            values["log_std"] = self._theta["log_std"].mean()
        return {
            "kl": found.divergence,
            "improvement": float(loss) - found.loss,
            "accepted": float(found.accepted),
            "line_search_tries": float(found.n_tried),
            **{name: float(value) for name, value in values.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the meta-parameters, and the normaliser's sums if there is one; there is no other state."""
        return {"theta": {name: value.clone() for name, value in self._theta.items()}} | self.normaliser.state_dict()

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
        self.normaliser.load_state_dict(state)
        self._theta = {name: stored[name].detach().clone().to(self.device) for name in self._theta}


def _phi(state: State) -> Params:
    """Return the parameters in a trial's state, by name."""
    return {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
