"""stable-baselines3 models: built from a frozen config, trained on one task, and played as an agent of this package.

Needs the extra `baselines`; `WorldVecEnv` says what SB3 sees of a world.
"""

from __future__ import annotations

import random  # noqa: TID251 - SB3 seeds the global streams; they are put back afterwards
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO, SAC
from torch import Tensor

from metarl.agent import ActOutput, State, TimeStep, WorldSpec
from metarl.commandline import command, pip_command
from metarl.errors import ConfigError
from metarl.rollout import Rollout, Trial
from metarl.spaces import torch_dtype

from .sb3_options import SB3Config
from .sb3_world import WorldVecEnv, first_action


@contextmanager
def own_random_streams(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's global streams inside, and leave them as they were.

    SB3 draws from nothing else, so what it does inside follows from `seed` alone.
    """
    kept, kept_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - SB3 uses the legacy stream
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002, TID251
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(kept)
            np.random.set_state(kept_numpy)  # noqa: NPY002


def build_model(config: SB3Config, env: WorldVecEnv, *, seed: int) -> Any:
    """Return an untrained SB3 model on `env`; raises ConfigError for actions that the algorithm cannot take."""
    shared: dict[str, Any] = {
        "learning_rate": config.lr, "gamma": config.gamma, "policy_kwargs": {"net_arch": list(config.hidden)},
        "device": "cpu", "verbose": 0,
    }  # fmt: skip
    with own_random_streams(seed):
        if config.algorithm == "sac":
            if not isinstance(env.action_space, spaces.Box):
                raise ConfigError(f"SB3's SAC needs Box actions, got {env.action_space}; use ppo or recurrent-ppo")
            # As many gradient steps as env steps, however many envs there are.
            return SAC("MlpPolicy", env, buffer_size=config.steps, gradient_steps=-1, **shared)
        batch = config.rollout_steps * config.num_envs // config.minibatches
        if config.algorithm == "ppo":
            return PPO("MlpPolicy", env, n_steps=config.rollout_steps, batch_size=batch, **shared)
        return _recurrent_ppo()("MlpLstmPolicy", env, n_steps=config.rollout_steps, batch_size=batch, **shared)


def _recurrent_ppo() -> Any:
    try:
        from sb3_contrib import RecurrentPPO
    except ImportError as error:
        raise ConfigError(f"recurrent-ppo needs sb3-contrib; {pip_command('metarl-worlds[baselines]')}") from error
    return RecurrentPPO


@dataclass(frozen=True)
class _Memory:
    """Sizes of a recurrent policy's state."""

    layers: int
    hidden: int


class SB3Agent:
    """A trained model behind the agent contract: it plays and never adapts.

    A recurrent policy forgets at the end of an episode, as SB3 trained it to; its state is "h" and "c",
    float32 [B, layers, hidden]. `ActOutput.log_prob` is 0 throughout: nothing here learns from it.
    """

    train_phases: tuple[int, ...] = (1,)

    def __init__(self, model: Any, spec: WorldSpec, name: str) -> None:
        """Play `model`, whose observations and actions are those of a `WorldVecEnv` over worlds of `spec`."""
        self.model, self.spec, self.name = model, spec, name
        lstm = getattr(model.policy, "lstm_actor", None)
        self._memory = None if lstm is None else _Memory(lstm.num_layers, lstm.hidden_size)
        self.parallel_episodes = lstm is None

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        """Return one phase, or none: nothing is learned from it."""
        return (n_episodes,) if n_episodes else ()

    def init(self, n_tasks: int) -> State:
        """Return an empty memory."""
        if self._memory is None:
            return {}
        return {name: torch.zeros(n_tasks, self._memory.layers, self._memory.hidden) for name in ("h", "c")}

    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        """Ask the model; its noise is seeded from `generator`, at every step anew."""
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        before = tuple(_array(state[k].transpose(0, 1)) for k in ("h", "c")) if self._memory else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            chosen, after = self.model.predict(
                _array(step.obs), state=before, episode_start=_array(step.prev_done),
                deterministic=greedy,
            )  # fmt: skip
        new_state = state
        if self._memory and after is not None:
            new_state = {k: torch.from_numpy(v).transpose(0, 1).clone() for k, v in zip(("h", "c"), after, strict=True)}
        space = self.spec.action_space
        action = torch.as_tensor(np.array(chosen)).to(torch_dtype(space)).reshape(-1, *(space.shape or ()))
        action = (action + first_action(space)).to(step.obs.device)
        return new_state, ActOutput(action, torch.zeros_like(step.prev_reward), {})

    def adapt(self, state: State, rollout: Rollout) -> State:
        """Return the state as it is."""
        return state

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        """Refuse: the model learns by its own `learn`. Raises ConfigError."""
        raise ConfigError(f"an SB3 model is not meta-trained; `{command('baseline')}` trains it on single tasks")

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the policy's tensors."""
        return {name: value.detach().clone() for name, value in _tensors(self.model)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""
        self.model.policy.load_state_dict(dict(state))


def _array(value: Tensor) -> NDArray[Any]:
    return np.array(value.cpu().numpy())


def _tensors(model: Any) -> list[tuple[str, Tensor]]:
    return list(model.policy.state_dict().items())
