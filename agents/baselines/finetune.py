"""The baseline that every meta-RL claim is compared with: train one policy on all tasks, fine-tune it on a new one.

Training is plain multi-task PPO (arXiv:1707.06347): a feed-forward policy that sees the observation only, so it learns
what is best on average. At test it takes a few policy-gradient steps per task on the support episodes, all tasks in one
batch. Nothing in training knows that there will be such steps; that is the difference from MAML, whose network and
per-task baseline it shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from metarl.agent import ActOutput, Savable, State, TimeStep, WorldSpec
from metarl.agents.maml.inner_loop import gradient_step, make_batch
from metarl.agents.nn.functional import ACTIVATIONS, Params, PolicyNet, check_net, init_mlp, mlp
from metarl.agents.nn.normaliser import Normaliser, NormaliserConfig
from metarl.agents.ppo import (
    Optimiser,
    PPOConfig,
    Targets,
    ValueScale,
    explained_variance,
    minibatches,
    ppo_loss,
    surrogate,
)
from metarl.checks import check_ranges
from metarl.distributed import group
from metarl.errors import CheckpointError, ConfigError
from metarl.returns import gae, masked_mean, standardise
from metarl.rollout import Rollout, Trial
from metarl.seeding import generator as stream
from metarl.state import marked, unmarked

_PREFIX = "param/"


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of multi-task PPO and of the fine-tuning at test."""

    algorithm: ClassVar[str] = "finetune"

    hidden: tuple[int, ...] = (64, 64)
    """Units per hidden layer of policy and value network; () is linear."""
    activation: str = "tanh"
    """"tanh" or "relu"."""
    init_std: float = 1.0
    """Standard deviation of a Gaussian policy at the start, in units of the action, > 0."""
    min_std: float = 1e-3
    """Smallest standard deviation of a Gaussian policy, in units of the action, > 0."""
    episodes_per_task: int = 20
    """Episodes per training task and update, >= 1."""
    episodes_per_adapt: int = 20
    """Episodes per task before each fine-tuning, >= 1; more adaptation episodes mean several fine-tunings."""
    finetune_steps: int = 5
    """Gradient steps per fine-tuning, all on the same episodes, >= 1."""
    finetune_lr: float = 0.1
    """Step size of fine-tuning (plain gradient descent), >= 0."""
    ppo: PPOConfig = field(default_factory=lambda: PPOConfig(lr=3e-4, minibatches=8))
    """Settings of training; its clip, gamma and lam serve fine-tuning too."""
    normaliser: NormaliserConfig = field(default_factory=NormaliserConfig)
    """Observations in units of all training steps so far: what MAML may have, its baseline must be able to have."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_net(self.hidden, self.activation, "orthogonal")
        counts = "episodes_per_task episodes_per_adapt finetune_steps"
        check_ranges(self, "finetune.", {">= 1": counts, "> 0": "init_std min_std", ">= 0": "finetune_lr"})

    def build(self, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> Finetune:
        """Return the agent with weights that follow from `seed`.

        Raises: ConfigError for an observation or action space without a flat view or distribution.
        """
        return Finetune(self, spec, seed=seed, device=device)


class Finetune(Savable):
    """The agent. A trial's state is phi, one row of policy parameters per task."""

    name = FinetuneConfig.algorithm
    parallel_episodes = True
    learning_state = ("optimiser",)

    def __init__(
        self, config: FinetuneConfig, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        """See `FinetuneConfig.build`."""
        self.config, self.spec, self.device = config, spec, torch.device(device)
        self.train_phases = (config.episodes_per_task,)
        self.net = PolicyNet(
            spec, hidden=config.hidden, activation=config.activation, init="orthogonal", last_gain=0.01,
            init_std=config.init_std, min_std=config.min_std,
        )  # fmt: skip
        drawn = self.net.init(stream(seed, self.name, "policy"), self.device)
        value_sizes = (spec.obs_dim, *config.hidden, 1)
        value_stream = stream(seed, self.name, "value")
        value = init_mlp(value_sizes, value_stream, prefix="value", init="orthogonal", device=self.device)
        self._theta = {name: tensor.requires_grad_() for name, tensor in drawn.items()}
        self._value = {name: tensor.requires_grad_() for name, tensor in value.items()}
        self._optimiser = Optimiser([*self._theta.values(), *self._value.values()], config.ppo)
        self._value_scale = ValueScale(config.ppo, self.device)
        self.normaliser = Normaliser(config.normaliser, spec.obs_dim, self.device)

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        """Return one phase per fine-tuning: `episodes_per_adapt` each, or a single shorter one.

        Raises: ConfigError for a number of episodes that leaves a remainder.
        """
        each = self.config.episodes_per_adapt
        if n_episodes <= each:
            return (n_episodes,) if n_episodes else ()
        if n_episodes % each:
            raise ConfigError(
                f"finetune adapts on {each} episodes at a time, which {n_episodes} adaptation episodes are not a "
                f"multiple of; ask for {n_episodes // each * each}, or change agent.episodes_per_adapt"
            )
        return (each,) * (n_episodes // each)

    def init(self, n_tasks: int) -> State:
        """Return the trained policy for each task."""
        return marked(_PREFIX, {k: v.detach().expand(n_tasks, *v.shape).clone() for k, v in self._theta.items()})

    @torch.no_grad()
    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        """Sample from each task's own policy, or take its mode; the state stays."""
        phi = unmarked(_PREFIX, state)
        n_tasks, mask = len(next(iter(phi.values()))), step.action_mask
        grouped = None if mask is None else mask.reshape(n_tasks, -1, mask.shape[-1])
        obs = self.normaliser(step.obs).reshape(n_tasks, -1, step.obs.shape[-1])
        params = self.net(phi, obs, grouped).flatten(0, 1)
        distribution = self.net.distribution
        if greedy:
            action = distribution.mode(params)
            return state, ActOutput(self.net.world_action(action), torch.zeros_like(params[:, 0]), {})
        action = distribution.sample(params, generator)
        return state, ActOutput(self.net.world_action(action), distribution.log_prob(params, action), {})

    def adapt(self, state: State, rollout: Rollout) -> State:
        """Take `finetune_steps` steps on each task's clipped surrogate, advantages against the task's own baseline.

        The first step is the policy gradient; later ones weigh the same episodes by importance, and clipping keeps a
        task from running away from the episodes it has.
        """
        config = self.config
        batch = make_batch(self.net, self.normaliser.rollout(rollout), config.ppo.gamma, config.ppo.lam)

        def loss_of(phi: Params) -> Tensor:
            log_prob = self.net.distribution.log_prob(self.net(phi, batch.obs, batch.action_mask), batch.action)
            log_prob = torch.where(batch.valid, log_prob, batch.log_prob)
            gain = surrogate(log_prob, batch.log_prob, batch.advantage, config.ppo.clip)
            return -masked_mean(gain, batch.valid, dims=(1,))

        phi = unmarked(_PREFIX, state)
        with torch.enable_grad():
            for _ in range(config.finetune_steps):
                leaves = {name: value.detach().requires_grad_() for name, value in phi.items()}
                phi = gradient_step(leaves, loss_of, config.finetune_lr, create_graph=False)
        return marked(_PREFIX, {name: value.detach() for name, value in phi.items()})

    def _head_value(self, obs: Tensor) -> Tensor:
        """Return what the value head says, in its own units: [..., rows] for obs [..., rows, obs_dim]."""
        n_layers, activation = len(self.config.hidden) + 1, ACTIVATIONS[self.config.activation]
        return mlp(self._value, obs, prefix="value", n_layers=n_layers, activation=activation).squeeze(-1)

    @torch.no_grad()
    def targets(self, rollout: Rollout) -> tuple[Targets, dict[str, Tensor]]:
        """Compute advantages and value targets; V of the state reached stands in for what a time limit cut off.

        The rollout's observations are those that the networks see.
        """
        ppo, valid = self.config.ppo, rollout.valid
        value = self._value_scale.to_return(self._head_value(rollout.obs))
        next_value = self._value_scale.to_return(self._head_value(rollout.next_obs))
        advantage = gae(rollout.reward, value, next_value, rollout.terminated, rollout.last, ppo.gamma, ppo.lam)
        returns = torch.where(valid, advantage + value, torch.zeros_like(value))
        last_layer = f"value.{len(self.config.hidden)}."
        weight, bias = self._value[last_layer + "weight"], self._value[last_layer + "bias"]
        self._value_scale.update(returns, valid, weight[0], bias[0])
        metrics = {"explained_variance": explained_variance(value, returns, valid)}
        if ppo.standardise_advantages:
            advantage = standardise(advantage, valid, dims=(0, 1))
        return Targets(rollout.log_prob, advantage, self._value_scale.to_head(returns), valid), metrics

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        """Run PPO on the steps of all tasks together.

        Raises: ConfigError unless the trial has the one phase of `train_phases`.
        """
        if len(trial.rollouts) != 1:
            raise ConfigError(
                f"finetune trains on trials of one phase, got {len(trial.rollouts)}; use agent.train_phases"
            )
        rollout = self.normaliser.rollout(trial.query)
        targets, metrics = self.targets(rollout)
        rows = rollout.valid.flatten().nonzero().squeeze(1)
        obs = rollout.obs.flatten(0, 1)
        action = self.net.flat_action(rollout.action, batch_dims=2).flatten(0, 1)
        mask = None if rollout.action_mask is None else rollout.action_mask.flatten(0, 1)
        flat = Targets(*(getattr(targets, k).flatten() for k in ("log_prob", "advantage", "value", "valid")))
        sums: list[dict[str, Tensor]] = []
        for shares in minibatches(len(rows), self.config.ppo, generator, self.device):
            for share in shares:
                n, team = len(share), group().over(len(share))
                at = rows[share[team.share(n)]]
                params = self.net(self._theta, obs[at], None if mask is None else mask[at])
                loss, parts = ppo_loss(
                    self.net.distribution.log_prob(params, action[at]), self.net.distribution.entropy(params),
                    self._head_value(obs[at]), flat.pick((at,)), self.config.ppo,
                    entropy_coef=self._optimiser.entropy_coef,
                )  # fmt: skip
                self._optimiser.zero_grad()
                (loss / n).backward()  # type: ignore[no-untyped-call]
                parts = team.total_gradients(self._optimiser.params, parts)
                sums.append({k: v / n for k, v in parts.items()} | {"grad_norm": self._optimiser.step()})
        metrics |= {k: torch.stack([s[k] for s in sums]).mean() for k in sums[0]}
        metrics["kl"] = sums[-1]["kl"]
        self.normaliser.update(trial.query)
        self._optimiser.end_update()
        return dict(zip(metrics, torch.stack([v.float() for v in metrics.values()]).tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser state and value units, copied."""
        return {
            "policy": {k: v.detach().clone() for k, v in self._theta.items()},
            "value": {k: v.detach().clone() for k, v in self._value.items()},
            "optimiser": self._optimiser.state_dict(),
            "value_scale": self._value_scale.state_dict(),
            **self.normaliser.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit; raises CheckpointError if it belongs to other settings."""
        for part, own in (("policy", self._theta), ("value", self._value)):
            stored = state.get(part, {})
            shapes, expected = ({k: tuple(v.shape) for k, v in params.items()} for params in (stored, own))
            if shapes != expected:
                raise CheckpointError(
                    f"this checkpoint does not fit the finetune agent of this config: {part} has {shapes}, "
                    f"expected {expected}"
                )
            for name, value in stored.items():
                own[name].copy_(value)
        self._optimiser.load_state_dict(state["optimiser"])
        self._value_scale.load_state_dict(state["value_scale"])
        self.normaliser.load_state_dict(state)
