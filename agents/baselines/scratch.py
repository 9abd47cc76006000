"""The reference that knows nothing: fresh parameters for each task, which learn from its adaptation episodes alone.

Each phase of adaptation is a batch of PPO (Schulman et al. 2017, arXiv:1707.06347, equation 7): full-batch gradient
steps on the clipped surrogate with the task's own linear baseline, taken by Adam (Kingma and Ba 2015, arXiv:1412.6980,
algorithm 1), for all tasks at once. With `steps=1` this is the plain policy gradient. What meta-training is worth is
the distance to this agent at equal adaptation episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from metarl.agent import ActOutput, Savable, State, TimeStep, WorldSpec
from metarl.agents.maml.inner_loop import Batch, make_batch
from metarl.agents.nn.batched_adam import adam_rows
from metarl.agents.nn.functional import Params, PolicyNet, check_net
from metarl.agents.ppo import surrogate
from metarl.checks import check_ranges
from metarl.errors import CheckpointError, ConfigError
from metarl.returns import masked_mean
from metarl.rollout import Rollout, Trial
from metarl.seeding import generator as stream
from metarl.state import unmarked

_PARAM, _FIRST, _SECOND, _COUNT = "param/", "adam-mean/", "adam-square/", "adam-steps"


@dataclass(frozen=True)
class ScratchConfig:
    """Settings of the learner that every task gets anew."""

    algorithm: ClassVar[str] = "scratch"

    hidden: tuple[int, ...] = (64, 64)
    """Units per hidden layer of the policy; () is linear."""
    activation: str = "tanh"
    """"tanh" or "relu"."""
    init_std: float = 1.0
    """Standard deviation of a Gaussian policy at the start, in units of the action, > 0."""
    min_std: float = 1e-3
    """Smallest standard deviation of a Gaussian policy, in units of the action, > 0."""
    episodes_per_adapt: int = 20
    """Episodes per task before each round of learning, >= 1; more adaptation episodes mean several rounds."""
    steps: int = 40
    """Gradient steps per round, all on the same episodes, >= 1."""
    lr: float = 3e-3
    """Adam's step size, >= 0."""
    clip: float = 0.2
    """Largest useful change of the probability ratio, > 0."""
    entropy_coef: float = 0.0
    """Standardised reward per nat of policy entropy, >= 0."""
    max_grad_norm: float = 0.5
    """Longest gradient of one task, Euclidean over all parameters, > 0."""
    gamma: float = 0.99
    """Discount per env step, in [0, 1]."""
    lam: float = 0.95
    """Decay of the generalised advantage per env step, in [0, 1]."""

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        check_net(self.hidden, self.activation, "orthogonal")
        ranges = {
            ">= 1": "episodes_per_adapt steps", "> 0": "init_std min_std clip max_grad_norm",
            ">= 0 and finite": "lr entropy_coef", "in [0, 1]": "gamma lam",
        }  # fmt: skip
        check_ranges(self, "scratch.", ranges)

    def build(self, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> Scratch:
        """Return the agent; row i of a fresh state follows from `seed` and i.

        Raises: ConfigError for an observation or action space without a flat view or distribution.
        """
        return Scratch(self, spec, seed=seed, device=device)


class Scratch(Savable):
    """The agent. A trial's state holds, per task, the policy's parameters and Adam's memory of them."""

    name = ScratchConfig.algorithm
    parallel_episodes = True
    train_phases: tuple[int, ...] = (1,)

    def __init__(
        self, config: ScratchConfig, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        """See `ScratchConfig.build`."""
        self.config, self.spec, self.device, self.seed = config, spec, torch.device(device), seed
        self.net = PolicyNet(
            spec, hidden=config.hidden, activation=config.activation, init="orthogonal", last_gain=0.01,
            init_std=config.init_std, min_std=config.min_std,
        )  # fmt: skip

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        """Return one phase per round of learning: `episodes_per_adapt` each, or a single shorter one.

        Raises: ConfigError for a number of episodes that leaves a remainder.
        """
        each = self.config.episodes_per_adapt
        if n_episodes <= each:
            return (n_episodes,) if n_episodes else ()
        if n_episodes % each:
            raise ConfigError(
                f"scratch learns from {each} episodes at a time, which {n_episodes} adaptation episodes are not a "
                f"multiple of; ask for {n_episodes // each * each}, or change agent.episodes_per_adapt"
            )
        return (each,) * (n_episodes // each)

    def init(self, n_tasks: int) -> State:
        """Return fresh parameters for each task, drawn for it alone."""
        drawn = [self.net.init(stream(self.seed, self.name, "policy", i), self.device) for i in range(n_tasks)]
        phi = {name: torch.stack([row[name] for row in drawn]) for name in drawn[0]}
        zeros = {name: torch.zeros_like(value) for name, value in phi.items()}
        return _state(phi, zeros, zeros, torch.zeros(n_tasks, device=self.device))

    @torch.no_grad()
    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        """Sample from each task's own policy, or take its mode; the state stays."""
        phi, mask = unmarked(_PARAM, state), step.action_mask
        n_tasks = len(state[_COUNT])
        grouped = None if mask is None else mask.reshape(n_tasks, -1, mask.shape[-1])
        params = self.net(phi, step.obs.reshape(n_tasks, -1, step.obs.shape[-1]), grouped).flatten(0, 1)
        distribution = self.net.distribution
        if greedy:
            action = distribution.mode(params)
            return state, ActOutput(self.net.world_action(action), torch.zeros_like(params[:, 0]), {})
        action = distribution.sample(params, generator)
        return state, ActOutput(self.net.world_action(action), distribution.log_prob(params, action), {})

    def adapt(self, state: State, rollout: Rollout) -> State:
        """Take `steps` steps of Adam per task on the clipped surrogate of its own episodes."""
        batch = make_batch(self.net, rollout, self.config.gamma, self.config.lam)
        phi, first, second = (unmarked(prefix, state) for prefix in (_PARAM, _FIRST, _SECOND))
        count = state[_COUNT]
        with torch.enable_grad():
            for _ in range(self.config.steps):
                leaves = {name: value.detach().requires_grad_() for name, value in phi.items()}
                grads = torch.autograd.grad(self.loss(leaves, batch).sum(), list(leaves.values()))
                count = count + 1
                phi, first, second = adam_rows(
                    phi, dict(zip(phi, grads, strict=True)), first, second, count,
                    lr=self.config.lr, max_grad_norm=self.config.max_grad_norm,
                )  # fmt: skip
        return _state(phi, first, second, count)

    def loss(self, phi: Params, batch: Batch) -> Tensor:
        """Return minus the clipped surrogate and the entropy bonus, averaged over each task's valid rows: [N]."""
        params, distribution = self.net(phi, batch.obs, batch.action_mask), self.net.distribution
        log_prob = torch.where(batch.valid, distribution.log_prob(params, batch.action), batch.log_prob)
        gain = surrogate(log_prob, batch.log_prob, batch.advantage, self.config.clip)
        if self.config.entropy_coef:
            gain = gain + self.config.entropy_coef * distribution.entropy(params)
        return -masked_mean(gain, batch.valid, dims=(1,))

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        """Learn nothing: there are no meta-parameters."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the seed, from which fresh parameters follow."""
        return {"seed": self.seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the seed; raises CheckpointError if this is the checkpoint of another agent."""
        if set(state) != {"seed"}:
            raise CheckpointError(
                f"the checkpoint of a scratch agent holds its seed, this one holds {sorted(state)}; it is that of "
                f"another agent"
            )
        self.seed = int(state["seed"])


def _state(phi: Params, first: Params, second: Params, count: Tensor) -> State:
    """Return the state that `unmarked` takes apart."""
    parts = ((_PARAM, phi), (_FIRST, first), (_SECOND, second))
    return {prefix + k: v.detach() for prefix, part in parts for k, v in part.items()} | {_COUNT: count}
