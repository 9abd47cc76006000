"""A world whose envs are spread over the processes of a run, and look to each of them like one world.

Every process steps its own envs and then knows what all of them did: the agent acts for all, with the same memory and
the same noise everywhere, so that a trial is the trial of one process, bit for bit, whatever the agent and however many
processes there are. The price is one exchange of observations per step and an agent that acts in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .distributed import Group, group
from .errors import ConfigError
from .tasks import Tasks
from .world import Obs, StepResult, World


def spread(make_world: Callable[[int], World], num_envs: int) -> World:
    """Return `make_world(num_envs)`, or in a group of processes a world of that size spread over them.

    Raises: ConfigError for fewer envs than processes, or a world whose envs cannot be numbered from another one than 0.
    """
    team = group()
    if team.size == 1:
        return make_world(num_envs)
    if num_envs < team.size:
        raise ConfigError(
            f"{num_envs} envs cannot be spread over {team.size} processes; raise train.n_tasks and "
            f"train.n_validation_tasks, or start at most {num_envs} processes"
        )
    own = team.share(num_envs)
    local = make_world(own.stop - own.start)
    local.number_from(own.start)
    return SpreadWorld(local, num_envs, team)


class SpreadWorld(World):
    """All envs of all processes; `local` has those of this one."""

    def __init__(self, local: World, num_envs: int, team: Group) -> None:
        """`local` has this process's share of `num_envs` envs, numbered as they are among all."""
        super().__init__(local.spec, num_envs, local.device)
        self.local, self._team, self._own = local, team, team.share(num_envs)
        self._counts = [part.stop - part.start for part in team.shares(num_envs)]
        self._pending: Tasks | None = None

    def set_tasks(self, tasks: Tasks) -> None:
        """Give env i task i from its next reset on."""
        self.check_tasks(tasks)
        self._pending = tasks
        self.local.set_tasks(tasks[self._own])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start new episodes; see `World.reset`."""
        if options and options.get("mask") is not None:
            options = {**options, "mask": torch.as_tensor(options["mask"])[self._own]}
        obs, info = self.local.reset(seed=seed, options=options)
        self.tasks = self._pending
        found = self._of_all({"obs": obs, "info": info})
        return found["obs"], found["info"]

    def step(self, actions: Any) -> StepResult:
        """Advance all envs, each where it is; see `World.step`."""
        obs, reward, terminated, truncated, info = self.local.step(actions[self._own])
        found = self._of_all(
            {"obs": obs, "reward": reward, "terminated": terminated, "truncated": truncated, "info": info}
        )
        return found["obs"], found["reward"], found["terminated"], found["truncated"], found["info"]

    def privileged_info(self) -> Tensor:
        """Return what is hidden of all envs; see `World.privileged_info`."""
        told: Tensor = self._of_all({"told": self.local.privileged_info()})["told"]
        return told

    def freeze(self, idle: Tensor | None) -> None:
        """Let envs stand still; see `World.freeze`."""
        self.local.freeze(None if idle is None else idle[self._own])

    def state_dict(self) -> dict[str, Any]:
        """Return where this process's own envs are."""
        return self.local.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was taken in this process."""
        self.local.load_state_dict(state)

    def close(self, **options: Any) -> None:
        """End the local world's processes, if it has any."""
        self.local.close(**options)

    def _of_all(self, entries: Mapping[str, Any]) -> dict[str, Any]:
        """Return nested entries with the rows of all envs, in their order, where there are those of this process's.

        All of it goes in one exchange, as bytes; entries that are not one row per env stay behind.
        """
        n = self.local.num_envs
        leaves = {path: t for path, t in _leaves(entries) if t.dim() and len(t) == n}
        rows = [t.contiguous().reshape(n, -1).view(torch.uint8).reshape(n, -1) for t in leaves.values()]
        everybody = torch.cat(self._team.gather_rows(torch.cat(rows, dim=1), self._counts))
        found: dict[str, Any] = {name: {} for name, value in entries.items() if isinstance(value, Mapping)}
        columns = everybody.split([part.shape[1] for part in rows], dim=1)  # type: ignore[no-untyped-call]
        for (path, like), part in zip(leaves.items(), columns, strict=True):
            *outer, last = path
            at = found
            for name in outer:
                at = at.setdefault(name, {})
            at[last] = part.contiguous().view(like.dtype).reshape(-1, *like.shape[1:])
        return found


def _leaves(entries: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Tensor]]:
    """Return the tensors of nested dicts with their paths."""
    found: list[tuple[tuple[str, ...], Tensor]] = []
    for name, value in entries.items():
        if isinstance(value, Mapping):
            found += _leaves(value, (*path, name))
        elif isinstance(value, Tensor):
            found.append(((*path, name), value))
    return found
