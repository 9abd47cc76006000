"""Checks of how a world goes on: determinism, batch size, episode ends, aliasing, tasks, snapshots."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from metarl.errors import ConfigError, WorldError
from metarl.seeding import derive
from metarl.world import World

from .probe import (
    Fault,
    NotApplicable,
    Probe,
    Row,
    difference,
    ended,
    first_row,
    global_rng,
    go_on,
    random_action,
    same,
)

_RESETS, _MANY_RESETS = 16, 1024
"""Plain resets that first observations after an episode's end are held against, and further ones if some look odd."""


def check_determinism(probe: Probe) -> str:
    """Equal seeds, tasks and actions give equal runs, in a fresh world and in a used one."""
    tasks = probe.draw(None, "determinism")
    runs = []
    for state in (1, 2):
        with global_rng(state):
            world = probe.fresh()
            try:
                runs.append(_twice(probe, world, tasks))
            finally:
                world.close()
    found = difference(runs[0], runs[1])
    if found:
        raise Fault(
            f"two fresh worlds with equal seeds go different ways: {found}; draw randomness from the seed of reset() "
            f"only, never from a global generator"
        )
    world = probe.world()
    probe.drive(world, probe.draw(None, "before"), min(probe.n_steps, 8), key="before")
    found = difference(runs[0], _twice(probe, world, tasks))
    if found:
        raise Fault(f"a used world differs from a fresh one: {found}; reset(seed=) must start all streams afresh")
    return f"3 runs of {2 * probe.n_steps} steps equal, bit for bit"


def _twice(probe: Probe, world: World, tasks: Any) -> list[Row]:
    """Return a run with a reset without seed in the middle."""
    first = probe.start(world, tasks, key="determinism")
    rows = [first, *go_on(world, first, probe.noise(world, probe.n_steps, "determinism", 1))]
    again = first_row(world, *world.reset())
    return [*rows, again, *go_on(world, again, probe.noise(world, probe.n_steps, "determinism", 2))]


_ROUNDING = 1e-4
"""What rounding in float32 may grow to in the steps of a check, relative."""


def check_batch_size(probe: Probe) -> str:
    """Env i does the same among 3 envs as among many, to rounding: products of other shapes may round otherwise."""
    tasks = probe.draw(None, "batch")
    runs = [probe.drive(probe.world(n), tasks[:n], key="batch") for n in (probe.num_envs, 3)]
    found = difference(runs[1], [{k: v[:3] for k, v in row.items()} for row in runs[0]], envs=3, tolerance=_ROUNDING)
    if found:
        raise Fault(
            f"with 3 envs and with {probe.num_envs}, {found}; env i may depend on seed, i, its task and its actions "
            f"only (metarl.seeding.EnvStreams gives each env its own numbers)"
        )
    return f"envs 0-2 equal for 3 and {probe.num_envs} envs over {probe.n_steps} steps"


def check_autoreset(probe: Probe) -> str:
    """Episodes end in time and start again in the same step; `final_obs` is the observation before that."""
    world, tasks = probe.world(), probe.draw(None, "autoreset")
    n_steps = max(world.horizon + 2, probe.n_steps)
    rows = probe.drive(world, tasks, n_steps, key="autoreset")
    over = ended(rows)
    lengths = _lengths(over)
    if not lengths or max(lengths) > world.horizon or not bool(over.any(dim=0).all()):
        seen = f"{max(lengths)} steps" if lengths else "no end"
        raise Fault(f"horizon is {world.horizon}, but an env had {seen} in {n_steps} steps; truncate at the horizon")
    if world.fixed_horizon and min(lengths) != world.horizon:
        raise Fault(
            f"fixed_horizon is True, but an episode lasted {min(lengths)} of {world.horizon} steps; set it to False"
        )
    for t, row in enumerate(rows[1:], start=1):
        if bool((~same(row["obs"], row["final_obs"]).cpu() & ~over[t]).any()):
            raise Fault(f"step {t}: no episode ended, yet obs and final_obs differ; they are one observation then")
    _check_restart(probe, world, rows, over)
    return f"{len(lengths)} episodes of {min(lengths)} to {max(lengths)} steps, horizon {world.horizon}"


def _lengths(over: Tensor) -> list[int]:
    """Return the lengths of all complete episodes of bool [T, B], row 0 being the reset."""
    found: list[int] = []
    for column in over.T:
        ends = [0, *column.nonzero().flatten().tolist()]
        found += [b - a for a, b in pairwise(ends)]
    return found


def _check_restart(probe: Probe, world: World, rows: list[Row], over: Tensor) -> None:
    """Compare observations after an end with those of plain resets."""
    all_obs = torch.stack([row["obs"] for row in rows])
    if bool((all_obs == all_obs[:1]).all()):
        return  # nothing to see: the observation never changes
    at = over.to(all_obs.device)
    restarted = all_obs[at]
    reached = torch.stack([row.get("final_obs", row["obs"]) for row in rows])[at]
    if len(restarted) >= 4 and bool(same(restarted, reached).all()):
        raise Fault(
            "obs and final_obs are equal at every episode end; obs must be the first observation of the next episode "
            "(SAME_STEP), final_obs the last one of the episode that ended"
        )
    if not probe.thorough:
        return  # what follows compares samples, and a small one may mislead
    starts = _first_observations(world, _RESETS)
    if not _all_like(restarted, starts, persists=world.persists_across_episodes):
        # Some worlds begin in a rare way now and then, which a few resets need not show.
        starts = torch.cat([starts, _first_observations(world, _MANY_RESETS)])
        if not _all_like(restarted, starts, persists=world.persists_across_episodes):
            raise Fault("an observation after an episode's end looks like no first observation; reset in the same step")


def _first_observations(world: World, n: int) -> Tensor:
    """Return what `n` plain resets of all envs show."""
    with global_rng(0):
        return torch.cat([first_row(world, *world.reset())["obs"] for _ in range(n)])


def _all_like(restarted: Tensor, starts: Tensor, *, persists: bool) -> bool:
    """Return True if every row of `restarted` lies about where first observations do."""
    low, high = starts.amin(dim=0), starts.amax(dim=0)
    margin = 0.5 * (high - low) + 1e-5
    outside = (restarted < low - margin) | (restarted > high + margin)
    if persists:
        outside = outside & (high > low)  # what a plain reset leaves at its start value may come from the last episode
    return not bool(outside.any())


def check_masked_reset(probe: Probe) -> str:
    """reset(options={"mask": ...}) starts new episodes there and leaves the other envs alone."""
    world, tasks = probe.world(), probe.draw(None, "mask")
    before, after = max(1, min(world.horizon // 2, 8)), min(world.horizon + 2, probe.n_steps)
    mask = torch.arange(world.num_envs, device=world.device) % 2 == 0
    noise = probe.noise(world, before + after, "mask")
    runs: list[list[Row]] = []
    opening: list[Row] = []
    for masked in (False, True):
        with global_rng(0):
            first = probe.start(world, tasks, key="mask")
            rows = [first, *go_on(world, first, noise[:before])]
            last = rows[-1]
            if masked:
                last = first_row(world, *world.reset(options={"mask": mask}))
                if not bool(same(last["obs"], rows[-1]["obs"])[~mask].all()):
                    raise Fault("reset with a mask moved an env outside the mask; return its observation unchanged")
            runs.append([last, *go_on(world, last, noise[before:])])
            opening = rows
    others = (~mask).cpu().expand(after + 1, -1)
    found = difference(
        [{k: v for k, v in row.items() if k == "obs" or t} for t, row in enumerate(runs[0])],
        [{k: v for k, v in row.items() if k == "obs" or t} for t, row in enumerate(runs[1])],
        others,
    )
    if found:
        raise Fault(f"after a reset with a mask, outside the mask {found}; leave other envs alone")
    _check_whole_episodes(opening, runs, mask.cpu())
    return f"{int(mask.sum())} of {world.num_envs} envs reset, the others undisturbed"


def _check_whole_episodes(opening: list[Row], runs: list[list[Row]], mask: Tensor) -> None:
    """After a masked reset, envs inside the mask have episodes as long as the first ones were."""
    length = _lengths(torch.cat([ended(opening), ended(runs[0])[1:]]))
    over = ended(runs[1])[:, mask]
    if len(set(length)) == 1 and length[0] < len(over) and (over[1 : length[0]].any() or not over[length[0]].all()):
        raise Fault(f"envs reset by a mask did not get a whole episode of {length[0]} steps; set their age to 0")


def check_aliasing(probe: Probe) -> str:
    """Arrays that were handed out, and tasks and actions handed in, are never written to."""
    world, tasks = probe.world(), probe.draw(None, "aliasing")
    handed: list[tuple[str, Tensor, Tensor]] = []

    def keep(where: str, value: Any) -> None:
        if isinstance(value, Tensor):
            handed.append((where, value, value.clone()))
        elif isinstance(value, dict):
            for key, part in value.items():
                keep(f"{where}[{key!r}]", part)

    for name, parameter in tasks.values.items():
        keep(f"parameter {name!r} of the tasks", parameter)
    world.set_tasks(tasks)
    obs, info = world.reset(seed=derive(probe.seed, "aliasing"))
    keep("the observation of reset", obs)
    mask = info.get("action_mask")
    for t, noise in enumerate(probe.noise(world, min(probe.n_steps, world.horizon + 2), "aliasing")):
        action = random_action(world, noise, mask)
        keep(f"the action of step {t}", action)
        names = ("obs", "reward", "terminated", "truncated", "info")
        result = world.step(action)
        for name, value in zip(names, result, strict=True):
            keep(f"{name} of step {t}", value)
        mask = result[4].get("action_mask")
    world.reset()
    for where, value, env in handed:
        if not bool(same(value.reshape(1, -1), env.reshape(1, -1)).all()):
            raise Fault(f"{where} changed later; return new tensors and write into none that you were given")
    return f"{len(handed)} arrays unchanged until the end"


def check_set_tasks(probe: Probe) -> str:
    """New tasks wait for the next reset, then hold as in a world that had them from the start."""
    world, old, new = probe.world(), probe.draw(None, "old"), probe.draw(None, "new")
    with global_rng(0):
        fresh = probe.fresh()
        try:
            expected = probe.drive(fresh, new, key="set")
        finally:
            fresh.close()
    n_steps = max(1, min(world.horizon - 1, probe.n_steps))
    plain = probe.drive(world, old, n_steps, key="set")
    with global_rng(0):
        first = probe.start(world, old, key="set")
        noise = probe.noise(world, n_steps, "set")
        world.set_tasks(new)
        waiting = [first, *go_on(world, first, noise)]
        before_end = ended(plain).cumsum(dim=0) == 0
        found = difference(plain, waiting, before_end)
        if found:
            raise Fault(f"set_tasks() in mid-episode had an effect at once: {found}; apply tasks at the next reset")
    with global_rng(0):
        row = first_row(world, *world.reset(seed=derive(probe.seed, "set")))
        after = [row, *go_on(world, row, probe.noise(world, probe.n_steps, "set"))]
    found = difference(expected, after)
    if found:
        raise Fault(f"a world given other tasks differs from one that had them from the start: {found}")
    return "tasks apply from the next reset on, as in a fresh world"


def check_snapshot(probe: Probe) -> str:
    """state_dict in mid-episode, steps, load_state_dict, the same steps: bit for bit, and in another world too."""
    world, tasks = probe.world(), probe.draw(None, "snapshot")
    before, after = max(1, min(world.horizon // 2, 8)), min(world.horizon + 2, probe.n_steps)
    last = probe.drive(world, tasks, before, key="snapshot")[-1]
    try:
        state = world.state_dict()
    except (ConfigError, WorldError, NotImplementedError) as error:
        raise NotApplicable(f"the world says it cannot: {error}") from error
    stored = _through_file(state)
    noise = probe.noise(world, after, "snapshot", "after")
    with global_rng(0):
        expected = go_on(world, last, noise)
    for what, target in (("the same world", world), ("a fresh world", probe.fresh())):
        try:
            with global_rng(0):
                target.load_state_dict(stored)
                found = difference(expected, go_on(target, last, noise))
        finally:
            if target is not world:
                target.close()
        if found:
            raise Fault(f"after load_state_dict in {what}, {found}; store everything that decides what comes next")
    return f"{after} steps repeated bit for bit from a snapshot after {before}, in 2 worlds"


def _through_file(state: dict[str, Any]) -> dict[str, Any]:
    """Return `state` after torch.save and a weights-only load."""
    odd = _not_plain(state, "state")
    if odd:
        raise Fault(f"state_dict() holds {odd}; store tensors and plain values only, Tasks as to_json()")
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return dict(torch.load(file, weights_only=True))


def _not_plain(value: Any, path: str) -> str:
    """Return path and type of the first thing that a weights-only load would refuse, or ""."""
    if value is None or isinstance(value, Tensor | bool | int | float | str | bytes):
        return ""
    if isinstance(value, dict):
        return next(filter(None, (_not_plain(v, f"{path}[{k!r}]") for k, v in value.items())), "")
    if isinstance(value, list | tuple):
        return next(filter(None, (_not_plain(v, f"{path}[{i}]") for i, v in enumerate(value))), "")
    return f"a {type(value).__name__} at {path}"
