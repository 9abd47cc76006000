"""Oracle observation wrapper: the task, or the exact posterior over tasks, is appended to the observation.

`envs.make("revealed", world="gridworld", what="task")` is the gridworld with the task in the observation: a policy
trained there is the known-task oracle. With `what="belief"` the exact posterior given the trial so far stands there
instead, with the time in the trial: a sufficient statistic of its history, so that a feed-forward policy can be
Bayes-optimal.
Such a family is called "gridworld+task" or "gridworld+belief" in every file that names it, with a fingerprint of its
own. Worlds themselves have no such switch: privileged information enters an observation through this wrapper only.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl import spaces as flat
from metarl.errors import ConfigError
from metarl.spec import WorldSpec
from metarl.task_distribution import TaskDistribution, about, spec_of
from metarl.tasks import Tasks
from metarl.world import Obs, StepResult, World

from .beliefs import Belief, Seen
from .families import check_count

What = Literal["task", "belief"]


class _Revealed(World):
    """A wrapper that appends features to the observation; everything else is the inner world's.

    Subclasses say which numbers. `_began` hears which envs have started an episode, `_saw` of each step.
    """

    def __init__(self, inner: World, name: str, n_extra: int) -> None:
        super().__init__(widened(inner.spec, name, n_extra), inner.num_envs, inner.device)
        self.inner = inner
        self._obs = torch.zeros(0)
        self._waiting = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)

    @abstractmethod
    def _extra(self) -> Tensor:
        """Return the numbers to show now, [B, n_extra]."""

    def _began(self, began: Tensor, fresh: Tensor) -> None:
        """Envs `began` [B] have started an episode; those of them that are `fresh` have a new task."""

    def _saw(self, seen: Seen) -> None:
        """Every env has taken a step; called before any of them starts another episode."""

    def _flat(self, obs: Obs) -> Tensor:
        return flat.flatten(self.inner.single_observation_space, obs)

    def _shown(self, obs: Tensor) -> Tensor:
        return torch.cat([obs, self._extra()], dim=1)

    def _start(self, began: Tensor) -> None:
        fresh = began & self._waiting
        self._waiting = self._waiting & ~began
        self.tasks = self.inner.tasks
        self._began(began, fresh)

    def set_tasks(self, tasks: Tasks) -> None:
        """Give env i task i from its next reset on; a trial begins there."""
        self.inner.set_tasks(tasks)
        self._waiting = torch.ones_like(self._waiting)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start new episodes; see `World.reset`."""
        first = not len(self._obs)
        obs, info = self.inner.reset(seed=seed, options=options)
        mask = None if first else (options or {}).get("mask")
        self._obs = self._flat(obs)
        began = torch.ones_like(self._waiting) if mask is None else torch.as_tensor(mask, device=self.device)
        self._start(began)
        return self._shown(self._obs), info

    def number_from(self, first: int) -> None:
        """Let the envs be some among those of several processes; see `World.number_from`."""
        self.inner.number_from(first)

    def freeze(self, idle: Tensor | None) -> None:
        """Let envs stand still; see `World.freeze`."""
        self.inner.freeze(idle)

    def privileged_info(self) -> Tensor:
        """Return what is hidden; see `World.privileged_info`."""
        return self.inner.privileged_info()

    def step(self, actions: Any) -> StepResult:
        """Advance all envs; see `World.step`."""
        obs, reward, terminated, truncated, info = self.inner.step(actions)
        reached = self._flat(info["final_obs"])
        self._saw(Seen(self._obs, torch.as_tensor(actions, device=self.device), reward, reached))
        info = {**info, "final_obs": self._shown(reached)}
        self._obs = self._flat(obs)
        self._start(terminated | truncated)
        return self._shown(self._obs), reward, terminated, truncated, info

    def render(self) -> Any:
        """Return the inner world's picture."""
        return self.inner.render()

    def close(self, **options: Any) -> None:
        """Close the inner world."""
        self.inner.close(**options)

    def _own(self) -> dict[str, Tensor]:
        """Return the tensors that a snapshot holds besides the inner world's."""
        return {"obs": self._obs, "waiting": self._waiting}

    def state_dict(self) -> dict[str, Any]:
        """Return a bit-exact snapshot."""
        return {"inner": self.inner.state_dict(), "own": {k: v.clone() for k, v in self._own().items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a snapshot."""
        self.inner.load_state_dict(state["inner"])
        self.tasks = self.inner.tasks
        for name, value in state["own"].items():
            setattr(self, f"_{name}", value.clone().to(self.device))


class TaskWorld(_Revealed):
    """Appends the task's parameters to the observation of each env."""

    def __init__(self, inner: World, name: str, family: Any, n_features: int) -> None:
        """`family.task_features` says what a task looks like."""
        super().__init__(inner, name, n_features)
        self._family, self._features = family, torch.zeros(self.num_envs, n_features, device=self.device)
        self._described: Tasks | None = None

    def _began(self, began: Tensor, fresh: Tensor) -> None:
        # Most steps end no episode, and most ends bring no new task: the tasks are then the same object.
        if self.tasks is not None and self.tasks is not self._described:
            self._features = self._family.task_features(self.tasks).to(self.device)
            self._described = self.tasks

    def _extra(self) -> Tensor:
        return self._features

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a snapshot."""
        super().load_state_dict(state)
        self._began(self._waiting, self._waiting)


class BeliefWorld(_Revealed):
    """Appends the exact posterior over each env's task, and how much of episode and trial is over."""

    def __init__(self, inner: World, name: str, belief: Belief, n_episodes: int) -> None:
        """`n_episodes` is the length of a trial, the unit of the clock."""
        super().__init__(inner, name, belief.n_features + 2)
        self._rule, self._n_episodes = belief, n_episodes
        self._prior = self._belief = belief.prior(self.num_envs)
        self._age = torch.zeros(self.num_envs, device=self.device)
        self._episode = torch.zeros(self.num_envs, device=self.device)

    def _began(self, began: Tensor, fresh: Tensor) -> None:
        rows = fresh.reshape(-1, *[1] * (self._prior.dim() - 1))
        self._belief = torch.where(rows, self._prior, self._belief)
        # An episode that is begun anew before its first step was none.
        self._episode = torch.where(fresh, 0.0, self._episode + (began & (self._age > 0)).float())
        self._age = torch.where(began, 0.0, self._age)

    def _saw(self, seen: Seen) -> None:
        self._belief = self._rule.update(self._belief, seen)
        self._age = self._age + 1.0

    def _extra(self) -> Tensor:
        clock = torch.stack([self._age / self.horizon, self._episode / self._n_episodes], dim=1)
        return torch.cat([self._rule.features(self._belief), clock], dim=1)

    def _own(self) -> dict[str, Tensor]:
        return {**super()._own(), "belief": self._belief, "age": self._age, "episode": self._episode}


def widened(spec: WorldSpec, name: str, n_extra: int) -> WorldSpec:
    """Return `spec` under another name, its observation flat and with `n_extra` unbounded numbers behind it."""
    space = spec.observation_space
    n = flat.flat_dim(space)
    if isinstance(space, spaces.Box):
        low, high = space.low.ravel(), space.high.ravel()
    else:
        low, high = np.zeros(n), np.ones(n)
        if isinstance(space, spaces.Dict):
            low, high = np.full(n, -np.inf), np.full(n, np.inf)
    more = np.full(n_extra, np.inf)
    ends = (np.concatenate([low, -more]).astype(np.float32), np.concatenate([high, more]).astype(np.float32))
    return replace(spec, name=name, observation_space=spaces.Box(*ends, dtype=np.float32))


class RevealedTasks:
    """The tasks, splits and references of another family, played in worlds that show more."""

    def __init__(self, inner: TaskDistribution, what: What, n_episodes: int | None = None) -> None:
        """See `make`."""
        self._inner, self._what, self._n_episodes = inner, what, n_episodes
        self.name, self.exhaustive, self.splits = f"{inner.name}+{what}", inner.exhaustive, inner.splits
        shown = {"reveals": what} | ({} if n_episodes is None else {"trial_episodes": n_episodes})
        self.settings: Mapping[str, Any] = {**about(inner).settings, **shown}
        sample = inner.sample("train", 1, torch.Generator().manual_seed(0))
        self._n_features = cast(Any, inner).task_features(sample).shape[1] if what == "task" else 0
        self.visible_parameters = tuple(sample.values) if what == "task" else ()

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` tasks: the inner family's."""
        return self._inner.sample(split, n, generator)

    def all(self, split: str) -> Tasks | None:
        """Return every task of a finite split: the inner family's."""
        return self._inner.all(split)

    def fingerprint(self) -> str:
        """Return a digest of the inner family and of what is shown."""
        text = f"{self.name}\x1f{self._n_episodes}\x1f{self._inner.fingerprint()}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are: the inner family's, and the numbers shown."""
        n_extra = self._n_features if self._what == "task" else cast(Any, self._inner).belief("cpu").n_features + 2
        return widened(spec_of(self._inner), self.name, n_extra)

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> World:
        """Build a world of `num_envs`."""
        inner = self._inner.make_world(num_envs, device=device)
        if self._what == "task":
            return TaskWorld(inner, self.name, self._inner, self._n_features)
        return BeliefWorld(inner, self.name, cast(Any, self._inner).belief(inner.device), cast(int, self._n_episodes))

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return the inner family's references: what is shown changes what agents know, not what policies earn."""
        return self._inner.references(split, n_episodes)


def make(world: str, what: What = "task", trial_episodes: int | None = None, **options: Any) -> RevealedTasks:
    """Build the family `world` (with its own `options`) so that its worlds show the task, or the exact belief about it.

    `trial_episodes` is the number of episodes of a trial; with what="belief" the clock needs it.

    Raises: ConfigError for a world that has nothing of the kind to show, or an option that does not fit.
    """
    from . import make as make_family

    if what not in get_args(What):
        raise ConfigError(f"revealed option what is {what!r}; choose 'task' or 'belief'")
    inner = make_family(world, **options)
    method = {"task": "task_features", "belief": "belief"}[what]
    if not hasattr(inner, method):
        raise ConfigError(
            f"world {world!r} has no {what} to show: {type(inner).__name__} lacks the method {method}; add it, or take "
            f"a world that has it, such as gridworld"
        )
    if what == "belief":
        if trial_episodes is None:
            raise ConfigError("revealed with what='belief' shows the clock of a trial; give trial_episodes=N")
        check_count("revealed", "trial_episodes", trial_episodes, 1, 10_000)
    elif trial_episodes is not None:
        raise ConfigError("revealed option trial_episodes is for what='belief' only; leave it out")
    return RevealedTasks(inner, what, trial_episodes)
