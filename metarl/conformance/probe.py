"""How the conformance checks drive a world: seeded random actions, every returned array kept."""

from __future__ import annotations

import random  # noqa: TID251  (saved and restored only: the checks disturb the global state on purpose)
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces as gym_spaces
from torch import Tensor

from metarl import spaces
from metarl.errors import ConfigError
from metarl.kinds import kind_of
from metarl.seeding import derive, generator
from metarl.spec import WorldSpec
from metarl.task_distribution import TaskDistribution
from metarl.tasks import Tasks
from metarl.world import World

Row = dict[str, Tensor]
"""What one step returned, copied: flat observations, reward, flags."""

Choose = Callable[[Tensor, Tensor | None], Tensor]
"""Turns uniform noise [B, width] and an action mask into actions."""


class Fault(Exception):
    """A check found that the contract is broken; the message says what was seen and what to do."""


class NotApplicable(Exception):
    """A check has nothing to say about this world; the message says why."""


@contextmanager
def global_rng(state: int) -> Iterator[None]:
    """Put every global random generator of this process into `state`, and back as it was afterwards.

    All checks run inside the same state, except those that ask whether the state matters. So a world that draws from
    global generators fails where that is the question, and nowhere else.
    """
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        random.seed(state)
        np.random.seed(state)  # noqa: NPY002, TID251
        torch.default_generator.manual_seed(state)
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])


@dataclass
class Probe:
    """One task distribution under examination, and the worlds built for it."""

    family: TaskDistribution
    rebuild: Callable[[], TaskDistribution] | None
    """Builds the distribution anew; None if only one instance was handed over."""
    num_envs: int = 8
    n_steps: int = 64
    """Longest run of a check, in steps; the episode-length check runs for one horizon and two steps more."""
    seed: int = 0
    device: torch.device | str = "cpu"
    thorough: bool = True
    """False in a try-out: comparisons of samples, which need many, are left to the full examination."""
    _worlds: dict[int, World] = field(default_factory=dict)

    def world(self, num_envs: int | None = None) -> World:
        """Return a world that earlier checks may have used; each check sets tasks and resets."""
        n = num_envs or self.num_envs
        if n not in self._worlds:
            self._worlds[n] = self.fresh(n)
        return self._worlds[n]

    def fresh(self, num_envs: int | None = None) -> World:
        """Build a world; the caller closes it."""
        return self.family.make_world(num_envs or self.num_envs, device=self.device)

    def draw(self, n: int | None = None, *keys: str | int, split: str = "train") -> Tasks:
        """Draw `n` tasks (by default one per env), on the world's device; raises Fault if they are none."""
        n = n or self.num_envs
        tasks = check_kind(
            f"sample({split!r}, {n}, generator)", self.family.sample(split, n, generator(self.seed, "tasks", *keys))
        )
        if len(tasks) != n:
            raise Fault(
                f"sample({split!r}, {n}) gave {len(tasks)} tasks; give as many as asked, with repeats if needed"
            )
        return tasks.to(self.device)

    def noise(self, world: World, n_steps: int, *keys: str | int) -> Tensor:
        """Return uniform noise [T, B, width]; that of env i depends on i, not on B."""
        width = noise_width(world.single_action_space)
        rows = [torch.rand(n_steps, width, generator=generator(self.seed, *keys, i)) for i in range(world.num_envs)]
        return torch.stack(rows, dim=1).to(self.device)

    def start(self, world: World, tasks: Tasks, *, key: str = "run") -> Row:
        """Set tasks, reset with the seed of `key` and return the first row."""
        world.set_tasks(tasks)
        obs, info = world.reset(seed=derive(self.seed, key))
        return first_row(world, obs, info)

    def drive(self, world: World, tasks: Tasks, n_steps: int | None = None, *, key: str = "run") -> list[Row]:
        """Return the rows of a fresh run: the first observation, then `n_steps` random steps."""
        with global_rng(0):
            first = self.start(world, tasks, key=key)
            return [first, *go_on(world, first, self.noise(world, n_steps or self.n_steps, key))]

    def close(self) -> None:
        """Close all worlds."""
        for world in self._worlds.values():
            world.close()
        self._worlds.clear()


def check_kind(what: str, tasks: Any) -> Tasks:
    """Return `tasks`; raises Fault unless they are `Tasks` of plain tensors with a text for each name and group."""
    if not isinstance(tasks, Tasks):
        raise Fault(f"{what} gave {kind_of(tasks)}; return metarl.tasks.Tasks")
    for name, value in tasks.values.items():
        if not isinstance(value, Tensor) or value.requires_grad:
            kind = "a tensor with a gradient" if isinstance(value, Tensor) else kind_of(value)
            raise Fault(f"{what} gave tasks whose {name!r} is {kind}; keep parameters in plain torch tensors")
    odd = next((label for label in (*tasks.names, *tasks.groups) if not isinstance(label, str)), None)
    if odd is not None:
        raise Fault(f"{what} gave tasks named {odd!r}; names and groups are texts")
    return tasks


def noise_width(space: gym.Space[Any]) -> int:
    """Return how many uniform numbers decide one action; raises ConfigError for an unknown action space."""
    if isinstance(space, gym_spaces.Box | gym_spaces.Discrete):
        return spaces.flat_dim(space)
    if isinstance(space, gym_spaces.MultiDiscrete):
        return len(space.nvec)
    raise ConfigError(f"action space {space} is not supported; use Box, Discrete or MultiDiscrete")


def bounds(space: gym_spaces.Box, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return flat lower and upper action bounds, -1 and 1 where there is none."""
    low, high = (torch.as_tensor(b, dtype=torch.float32, device=device).flatten() for b in (space.low, space.high))
    return torch.where(low.isfinite(), low, -1.0), torch.where(high.isfinite(), high, 1.0)


def random_action(world: World, noise: Tensor, mask: Tensor | None) -> Tensor:
    """Return legal actions in the world's space, uniform if `noise` [B, width] is."""
    space = world.single_action_space
    if isinstance(space, gym_spaces.Box):
        low, high = bounds(space, world.device)
        return (low + noise * (high - low)).reshape(world.num_envs, *space.shape)
    if isinstance(space, gym_spaces.Discrete):
        score = noise if mask is None else torch.where(mask, noise, -1.0)
        return score.argmax(dim=1) + int(space.start)
    assert isinstance(space, gym_spaces.MultiDiscrete)
    n, start = (torch.as_tensor(v, device=world.device) for v in (space.nvec, space.start))
    return (noise * n).floor().long().clamp(max=n - 1) + start


def first_row(world: World, obs: Any, info: dict[str, Any]) -> Row:
    """Return the row of a reset."""
    row = {"obs": spaces.flatten(world.single_observation_space, obs).clone()}
    if info.get("action_mask") is not None:
        row["action_mask"] = info["action_mask"].clone()
    return row


def step_row(world: World, actions: Tensor) -> Row:
    """Step once and return copies of everything the contract names."""
    obs, reward, terminated, truncated, info = world.step(actions)
    row = first_row(world, obs, info) | {
        "reward": reward.clone(), "terminated": terminated.clone(), "truncated": truncated.clone()
    }  # fmt: skip
    row["final_obs"] = spaces.flatten(world.single_observation_space, info["final_obs"]).clone()
    if world.has_success:
        row["success"] = info["success"].clone()
    return row


def go_on(world: World, last: Row, noise: Tensor, choose: Choose | None = None) -> list[Row]:
    """Take one step per row of `noise` [T, B, width], beginning after `last`."""
    rows = []
    for values in noise:
        mask = last.get("action_mask")
        action = choose(values, mask) if choose is not None else random_action(world, values, mask)
        last = step_row(world, action)
        rows.append(last)
    return rows


def ended(rows: Sequence[Row]) -> Tensor:
    """Return bool [T, B]: an episode ended at this step (never at the first row of a reset)."""
    flags = [r["terminated"] | r["truncated"] if "reward" in r else torch.zeros(len(r["obs"])).bool() for r in rows]
    return torch.stack([f.cpu() for f in flags])


def difference(a: Sequence[Row], b: Sequence[Row], envs: int | Tensor | None = None, *, tolerance: float = 0.0) -> str:
    """Say where two runs first differ, bit for bit, or return "".

    `envs` restricts the comparison to the first envs, or to those of a mask bool [T, B]. With a `tolerance` floats
    may differ by that share of their size, or of 1.
    """
    for t, (x, y) in enumerate(zip(a, b, strict=True)):
        if x.keys() != y.keys():
            return f"step {t}: one has {sorted(x)}, the other {sorted(y)}"
        for name, value in x.items():
            n = envs if isinstance(envs, int) else len(value)
            unequal = ~same(value[:n], y[name][:n], tolerance)
            if isinstance(envs, Tensor):
                unequal &= envs[t].to(unequal.device)
            if bool(unequal.any()):
                return f"{name} differs at step {t} in env {int(unequal.nonzero()[0])}"
    return ""


def same(a: Tensor, b: Tensor, tolerance: float = 0.0) -> Tensor:
    """Return bool [B]: rows equal, bit for bit but for the `tolerance` of `difference`; NaN equals NaN."""
    floats = a.is_floating_point()
    equal = torch.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True) if floats else a == b
    return equal.reshape(len(a), -1).all(dim=1)


def usable_spec(world: World) -> WorldSpec:
    """Return the spec of `world`; raises ConfigError for spaces without a flat view."""
    spec = world.spec
    noise_width(spec.action_space)
    _ = spec.obs_dim
    return spec
