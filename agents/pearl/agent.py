"""PEARL: soft actor-critic that acts on a belief about the task, inferred from transitions.

Rakelly et al. 2019 (arXiv:1903.08254). An encoder turns the transitions met so far into a Gaussian belief over a latent
z; actor and critics see the observation and one z. The critics' Bellman error trains the encoder, with the belief's KL
divergence from N(0, I) as a price on information; the actor's loss does not reach it. Training is off-policy: the
critics learn from all transitions ever stored, the encoder reads those of the task's latest trial only, because at test
it will be given what the present policy collects.

Exploration is by posterior sampling: each episode has a z of its own, drawn from the belief when it begins, so that one
episode follows one guess about the task. That z is memory, hence one env per trial (`parallel_episodes` is False).

Deviations from the published code: no third network for V, the two critics have targets (arXiv:1812.05905); a trial is
collected on all tasks of the meta-batch side by side.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from metarl.agent import ActOutput, Savable, State, TimeStep, WorldSpec
from metarl.agents.nn.normaliser import Normaliser, NormaliserConfig
from metarl.agents.nn.optim import annealing, set_lr
from metarl.agents.nn.reward_scale import check_dense_reward, objective_reward
from metarl.checks import check_choices, check_layers, check_ranges
from metarl.distributed import group
from metarl.errors import MOST, CheckpointError, ConfigError, shortened
from metarl.rollout import Rollout, Trial
from metarl.seeding import RowsGenerator, normal
from metarl.seeding import generator as stream

from .context_encoder import (
    Belief,
    Encoder,
    PriorProductEncoder,
    ProductEncoder,
    RecurrentEncoder,
    kl_to_standard_normal,
)
from .replay import TaskReplay, TaskSlots
from .sac import Batch, SACConfig, expand_latent, make_adam
from .sac_discrete import make_sac

Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class PEARLConfig:
    """Settings of PEARL; the defaults are those of its authors' code where it has them."""

    algorithm: ClassVar[str] = "pearl"

    prior_episodes: int = 2
    """Episodes of a training trial with z from N(0, I), >= 1."""
    posterior_episodes: int = 0
    """Episodes after them, each with z from the belief over all before it, >= 0; the encoder reads these too."""
    extra_episodes: int = 2
    """Last episodes of a training trial, z from the belief, >= 0; only the critics and the actor learn from them."""
    explore_episodes: int = 1
    """First episodes of an evaluation's adaptation, with z from N(0, I), >= 1; then the belief moves after each."""
    redraw_steps: int | None = None
    """Env steps after which an episode's z is drawn anew, >= 1 (None: one z per episode, as in the paper). For episodes
    that outlast the way to a guess: what is left of them goes to the next one."""
    greedy_latent: Literal["mean", "sample"] = "mean"
    """The z of greedy episodes: the belief's mean, so that nothing is random, or a draw per episode as in the paper."""
    latent: int = 5
    """Length of z, >= 1."""
    encoder: Literal["product", "prior-product", "gru"] = "product"
    """"product": every transition votes with a Gaussian, the belief is their product, order plays no part.
    "prior-product": N(0, I) is a factor too, for tasks where most transitions say nothing. "gru": a recurrent network
    reads them in order."""
    encoder_hidden: tuple[int, ...] = (200, 200, 200)
    """Units of the encoder's ReLU layers, >= 1 each; the last one is the GRU's if there is one."""
    encoder_next_obs: bool = False
    """Show the encoder the observation that followed too: for tasks that differ in their dynamics."""
    kl_weight: float = 0.1
    """Weight of KL(belief || N(0, I)), summed over the tasks of a gradient step, >= 0."""
    kl_first: float | None = None
    """Its weight in the first update, > 0, from where it moves geometrically (None: it stays the same). Where reward is
    rare, a low price at first lets z tell tasks apart before there is reward to tell them by."""
    kl_iters: int = 1
    """Updates after which `kl_weight` is reached, >= 1."""
    context_order: Literal["random", "trial"] = "random"
    """"random": the encoder learns from transitions drawn from the task's latest trial, with replacement. "trial": from
    that trial's first transitions, in order (needed by "gru")."""
    context_size: int = 64
    """Transitions per task that the encoder learns from at a gradient step, >= 1 (at most; a trial may have fewer)."""
    context_least: int | None = None
    """Least number of them, 1 .. context_size: each task's number is then drawn, so that short and long contexts are
    learnt (None: always context_size)."""
    context_trials: int = 1
    """Latest trials of a task that the encoder learns from, one of them at a gradient step, >= 1. Where reward is rare,
    the latest one often holds none; older ones keep goals in sight that the present policy misses."""
    dense_reward: bool = False
    """Train the critics on the world's `dense_reward`. The encoder sees, and scores count, its reward in any case."""
    meta_batch: int = 16
    """Tasks per gradient step, >= 1; fewer while fewer are known."""
    grad_steps: int = 2000
    """Gradient steps per update, >= 1."""
    anneal_iters: int | None = None
    """Updates over which `sac.lr` shrinks linearly to `anneal_to` of itself (None: constant), >= 1."""
    anneal_to: float = 0.1
    """Fraction of it that is left at the end, in [0, 1]."""
    warmup_iters: int = 0
    """First iterations that only fill the replay, >= 0."""
    replay_tasks: int = 100
    """Tasks that the replay holds, >= the meta-batch of the loop; the one not seen for longest makes room."""
    replay_steps: int = 10_000
    """Transitions that it holds per task, >= 1; the oldest make room."""
    normaliser: NormaliserConfig = field(default_factory=NormaliserConfig)
    """Observations in units of all training steps so far."""
    sac: SACConfig = field(default_factory=SACConfig)
    """Actor and critics."""

    def __post_init__(self) -> None:
        """Check ranges and combinations; raises ConfigError."""
        self._check_counts()
        choices = {
            "greedy_latent": ("mean", "sample"), "context_order": ("random", "trial"),
            "encoder": ("product", "prior-product", "gru"),
        }  # fmt: skip
        check_choices(self, "pearl.", choices)
        check_layers(self, "pearl.", "encoder_hidden", some=True)
        check_ranges(self, "pearl.", {">= 0 and finite": "kl_weight", "in [0, 1]": "anneal_to"})
        if self.kl_first is not None and not (0 < self.kl_first < math.inf and self.kl_weight > 0):
            raise ConfigError(
                f"pearl.kl_first must be > 0 and finite, and kl_weight > 0 with it, got {self.kl_first} and "
                f"{self.kl_weight}; set kl_first to None for a constant price"
            )
        if self.context_least is not None and not 1 <= self.context_least <= self.context_size:
            raise ConfigError(
                f"pearl.context_least must be 1 to context_size={self.context_size}, or None, got {self.context_least}"
            )
        if self.encoder == "gru" and self.context_order == "random":
            raise ConfigError(
                "pearl.encoder='gru' reads transitions in the order in which they happened, but context_order is "
                "'random'; set context_order='trial'"
            )

    def _check_counts(self) -> None:
        least_1 = (
            "prior_episodes explore_episodes latent context_size meta_batch grad_steps replay_tasks replay_steps "
            "kl_iters context_trials"
        )
        counts = {
            f"0 to {MOST}": "posterior_episodes extra_episodes warmup_iters", f"1 to {MOST}": least_1,
            f"1 to {MOST}, or None": "anneal_iters redraw_steps",
        }  # fmt: skip
        check_ranges(self, "pearl.", counts)

    def build(self, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> PEARL:
        """Return the agent with weights that follow from `seed`.

        Raises: ConfigError for actions that are neither a bounded Box nor a limited number of choices, observations
        without a flat view, or `dense_reward` in a world that has none.
        """
        return PEARL(self, spec, seed=seed, device=device)


class PEARL(Savable):
    """The agent. A trial's state is what the encoder keeps of its transitions, its z, and when that was drawn.

    "z" [N, latent]; "fresh" (bool [N]): z is yet to be drawn from the belief; "age" (int64 [N]): steps of the episode.
    """

    name = PEARLConfig.algorithm
    parallel_episodes = False
    learning_state = (
        "adam", "sac/actor_adam", "sac/temperature_adam", "slots", "replay", "context", "oldest_trial", "n_updates",
    )  # fmt: skip
    adapts_within_episode = False
    """An episode follows one z; only `adapt` moves the belief."""

    def __init__(self, config: PEARLConfig, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> None:
        """See `PEARLConfig.build`."""
        self.config, self.spec, self.device = config, spec, torch.device(device)
        check_dense_reward(config.dense_reward, spec, "pearl")
        self.train_phases = (
            config.prior_episodes, *[1] * config.posterior_episodes, *[config.extra_episodes][: config.extra_episodes],
        )  # fmt: skip
        self.sac = make_sac(config.sac, spec, config.latent, seed=seed, device=device)
        action_dim = self.sac.scale.width
        n_in = spec.obs_dim * (1 + config.encoder_next_obs) + action_dim + 1
        parts = (n_in, config.latent, config.encoder_hidden, stream(seed, "pearl", "encoder"), self.device)
        self.encoder: Encoder
        if config.encoder == "prior-product":
            self.encoder = PriorProductEncoder(*parts, typical=config.context_size)
        else:
            self.encoder = (ProductEncoder if config.encoder == "product" else RecurrentEncoder)(*parts)
        self._learning = [*self.sac.critics.values(), *self.encoder.parameters()]
        self._adam = make_adam(self._learning, config.sac.lr)
        self._widths = (spec.obs_dim, action_dim, 1, spec.obs_dim, 1)
        width, n_context = sum(self._widths), config.prior_episodes + config.posterior_episodes
        self._n_context_phases = 1 + config.posterior_episodes
        self._slots = TaskSlots(config.replay_tasks)
        self.replay = TaskReplay(config.replay_tasks, config.replay_steps, width, self.device)
        n_trials = config.replay_tasks * config.context_trials
        self.context = TaskReplay(n_trials, n_context * spec.horizon, width, self.device)
        self._oldest_trial = torch.zeros(config.replay_tasks, dtype=torch.int64, device=self.device)
        self.normaliser = Normaliser(config.normaliser, spec.obs_dim, self.device)
        self._n_updates = 0

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        """Return `explore_episodes` episodes (or fewer), then phases of one: the belief moves after each."""
        first = min(n_episodes, self.config.explore_episodes)
        return (first, *[1] * (n_episodes - first)) if n_episodes else ()

    def init(self, n_tasks: int) -> State:
        """Return N(0, I) for each task."""
        return {
            **self.encoder.start(n_tasks),
            "z": torch.zeros(n_tasks, self.config.latent, device=self.device),
            "fresh": torch.ones(n_tasks, dtype=torch.bool, device=self.device),
            "age": torch.zeros(n_tasks, dtype=torch.int64, device=self.device),
        }

    @torch.no_grad()
    def belief(self, state: State) -> Belief:
        """Return mean and variance of the belief about each task, [N, latent]."""
        return self.encoder.belief(state)

    @torch.no_grad()
    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        """Choose one action per trial for the z of its episode, drawn at the first step (and each `redraw_steps`).

        Raises: ConfigError in a world where some actions are illegal at times.
        """
        if step.action_mask is not None:
            raise ConfigError("pearl does not know of illegal actions, and this world has some; use rl2 or maml-trpo")
        mean, variance = self.encoder.belief(state)
        age = torch.where(state["fresh"] | step.prev_done, 0, state["age"] + 1)
        if greedy and self.config.greedy_latent == "mean":
            z = mean
        else:
            noise = torch.randn(mean.shape, generator=generator, device=self.device)
            begins = age == 0 if self.config.redraw_steps is None else age % self.config.redraw_steps == 0
            z = torch.where(begins[:, None], mean + variance.sqrt() * noise, state["z"])
        params = self.sac.policy(self.normaliser(step.obs), z)
        if greedy:
            action, log_prob = self.sac.mode(params), torch.zeros_like(params[:, 0])
        else:
            action, log_prob = self.sac.sample(params, generator)
            log_prob = log_prob - self.sac.scale.log_volume
        new_state = {**state, "z": z, "fresh": torch.zeros_like(state["fresh"]), "age": age}
        return new_state, ActOutput(self.sac.scale.to_world(action), log_prob, {})

    @torch.no_grad()
    def adapt(self, state: State, rollout: Rollout) -> State:
        """Return the belief after the transitions of one more phase; the next episode draws a new z from it."""
        rows = self._rows(rollout, rollout.shown_reward).transpose(0, 1)
        kept = self.encoder.absorb(state, self._encoder_inputs(rows), rollout.valid.sum(0))
        return {**kept, "z": state["z"], "fresh": torch.ones_like(state["fresh"]), "age": state["age"]}

    def _rows(self, rollout: Rollout, reward: Tensor) -> Tensor:
        """Return the transitions of a rollout as they are stored: [T, B, width], observations raw."""
        action = self.sac.scale.from_world(rollout.action, batch_dims=2)
        parts = [rollout.obs, action, reward[..., None], rollout.next_obs, rollout.terminated[..., None].float()]
        return torch.cat(parts, dim=-1)

    def _batch(self, rows: Tensor) -> Batch:
        """Return stored transitions [n, b, width] in parts, observations as the networks see them."""
        obs, action, reward, next_obs, terminated = torch.split(rows, list(self._widths), dim=-1)
        seen = self.normaliser
        return Batch(seen(obs), action, reward.squeeze(-1), seen(next_obs), terminated.squeeze(-1))

    def _encoder_inputs(self, rows: Tensor) -> Tensor:
        """Return what the encoder sees of stored transitions: [n, k, n_in]."""
        batch = self._batch(rows)
        parts = [batch.obs, batch.action, batch.reward[..., None]]
        return torch.cat([*parts, batch.next_obs] if self.config.encoder_next_obs else parts, dim=-1)

    @torch.no_grad()
    def remember(self, trial: Trial) -> None:
        """Store a trial: all of it for the critics, its context phases, in place of older ones, for the encoder.

        Raises: ConfigError unless the trial has the phases of `train_phases`.
        """
        if tuple(r.n_episodes for r in trial.rollouts) != self.train_phases:
            raise ConfigError(
                f"pearl trains on phases of {self.train_phases} episodes, got "
                f"{tuple(r.n_episodes for r in trial.rollouts)}; collect with phases=agent.train_phases"
            )
        slots, emptied = self._slots.take(trial.tasks.keys())
        self.replay.clear(emptied)
        latest = {slot: column for column, slot in enumerate(slots)}  # a task may be in the batch twice
        at, where = (torch.tensor(v, device=self.device) for v in (list(latest), list(latest.values())))
        into = self._room_for_trial(at, emptied)
        for i, rollout in enumerate(trial.rollouts):
            rows = self._rows(rollout, objective_reward(rollout, dense=self.config.dense_reward))
            self.replay.add(torch.tensor(slots, device=self.device), rows, rollout.valid)
            if i < self._n_context_phases:
                rows = self._rows(rollout, rollout.shown_reward)
                self.context.add(into, rows[:, where], rollout.valid[:, where])

    def _room_for_trial(self, slots: Tensor, emptied: Sequence[int]) -> Tensor:
        """Forget the trials of `emptied` slots and the oldest one of `slots` [n] if there are enough; return places.

        A slot's trials lie side by side: those of slot i in places i · context_trials and on.
        """
        k, gone = self.config.context_trials, torch.tensor(emptied, dtype=torch.int64, device=self.device)
        self.context.clear((gone[:, None] * k + torch.arange(k, device=self.device)).flatten())
        self._oldest_trial[gone] = 0
        into = slots * k + self._oldest_trial[slots]
        self.context.clear(into)
        self._oldest_trial[slots] = (self._oldest_trial[slots] + 1) % k
        return into

    def _choose_trials(self, slots: Tensor, generator: torch.Generator) -> Tensor:
        """Return the place of one of each slot's trials, drawn at random."""
        k = self.config.context_trials
        if k == 1:
            return slots
        held = (self.context.size.reshape(-1, k)[slots] > 0).sum(1)  # the first ones until all are in use
        u = torch.rand(len(slots), generator=generator, device=self.device)
        return slots * k + (u * held).long()

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        """Store the trial, then take `grad_steps` gradient steps; returns their mean metrics.

        `critic_loss`: squared Bellman error, both critics. `actor_loss`. `entropy`: of the policy in [-1, 1]^a, nats.
        `kl`: of a task's belief from N(0, I), nats. `q`: mean value of stored actions, in units of the scaled reward.
        `latent_std`: of the belief, mean over dimensions. `temperature`. `replay_tasks`, `replay_steps`: held now.
        """
        self.remember(trial)
        self._n_updates += 1
        totals: Metrics = {}
        set_lr((self._adam, *self.sac.optimisers), self.lr)
        if self._n_updates > self.config.warmup_iters:
            for _ in range(self.config.grad_steps):
                metrics = self.gradient_step(generator)
                totals = {k: v + totals[k] if totals else v for k, v in metrics.items()}
        self.normaliser.update(*trial.rollouts)
        means = {k: float(v) / self.config.grad_steps for k, v in totals.items()}
        held = {"replay_tasks": float(len(self._slots.keys)), "replay_steps": float(self.replay.size.sum())}
        return means | held | {"temperature": float(self.sac.temperature)}

    def gradient_step(self, generator: torch.Generator) -> Metrics:
        """Take one step on critics, encoder and actor with a fresh batch of the stored transitions.

        Of several processes each one draws for all tasks of the batch and learns from its share of them.
        """
        slots = torch.randperm(len(self._slots.keys), generator=generator, device=self.device)[: self.config.meta_batch]
        team, n = group().over(len(slots)), len(slots)
        own = team.share(n)
        weight = (own.stop - own.start) / n
        batch = self._batch(self.replay.sample(slots, self.config.sac.batch_size, generator)[own])
        x, count = self.draw_context(slots, generator)
        mean, variance = self.infer(x[own], count[own])
        generator = RowsGenerator.of(generator, n, own)
        noise = normal(mean, generator)
        z = expand_latent(mean + variance.sqrt() * noise, batch.obs)
        target = self.sac.target(batch, z.detach(), generator)
        critic_loss = self.sac.critic_loss(batch, z, target)
        self._adam.zero_grad()
        (weight * critic_loss + self.kl_penalty(mean, variance)).backward()
        with torch.no_grad():
            kl = kl_to_standard_normal(mean, variance).mean()
            std = variance.sqrt().mean()
        seen = {"critic_loss": critic_loss.detach(), "kl": kl, "q": target.mean(), "latent_std": std}
        seen = team.total_gradients(self._learning, {k: weight * v for k, v in seen.items()})
        self._adam.step()
        metrics = self.sac.update_actor(batch.obs, z, generator, team=team, weight=weight)
        self.sac.polyak_update()
        return metrics | seen

    def draw_context(self, slots: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return recent transitions of the tasks in `slots` [n], as the encoder sees them, and how many count.

        Shapes: [n, k, n_in] and int64 [n]; the first ones count.
        """
        config, slots = self.config, self._choose_trials(slots, generator)
        size = self.context.size[slots]
        if config.context_order == "random":
            rows = self.context.sample(slots, config.context_size, generator)
            most = torch.full_like(size, config.context_size)
        else:
            longest = min(config.context_size, self.context.capacity)
            rows, most = self.context.oldest(slots, longest), size.clamp(max=longest)
        count = most
        if config.context_least is not None:
            least = most.clamp(max=config.context_least)
            u = torch.rand(len(slots), generator=generator, device=self.device)
            count = (least + (u * (most - least + 1)).long()).clamp(max=most)
        return self._encoder_inputs(rows), count

    def infer(self, x: Tensor, count: Tensor) -> Belief:
        """Return the belief after the first `count` [n] transitions of x [n, k, n_in]; differentiable."""
        return self.encoder.belief(self.encoder.absorb(self.encoder.start(len(x)), x, count))

    @property
    def lr(self) -> float:
        """The step size of the update that is going on."""
        config = self.config
        return config.sac.lr * annealing(max(self._n_updates - 1, 0), config.anneal_iters, config.anneal_to)

    @property
    def kl_weight(self) -> float:
        """The price of a nat in the update that is going on."""
        first, last = self.config.kl_first, self.config.kl_weight
        if first is None:
            return last
        return float(first * (last / first) ** min(max(self._n_updates - 1, 0) / self.config.kl_iters, 1.0))

    def kl_penalty(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the present price of KL(belief || N(0, I)), summed (not averaged) over the tasks [n, latent]."""
        return self.kl_weight * kl_to_standard_normal(mean, variance).sum()

    def _parts(self) -> dict[str, Any]:
        return {"sac": self.sac, "slots": self._slots, "replay": self.replay, "context": self.context}

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser states, counters and all stored transitions, copied."""
        return {
            **{name: part.state_dict() for name, part in self._parts().items()},
            "encoder": {k: v.detach().clone() for k, v in self.encoder.state_dict().items()},
            "adam": copy.deepcopy(self._adam.state_dict()),
            "n_updates": self._n_updates,
            "oldest_trial": self._oldest_trial.clone(),
            **self.normaliser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit; raises CheckpointError if it belongs to other settings."""
        try:
            self.encoder.load_state_dict(state["encoder"])
            self._oldest_trial.copy_(state["oldest_trial"])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"this checkpoint does not fit the pearl agent of this config: {shortened(error)}"
            ) from error
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self._adam.load_state_dict(copy.deepcopy(state["adam"]))
        self._n_updates = int(state["n_updates"])
        self.normaliser.load_state_dict(state)
