"""Checks of how a world answers to actions: finite results, scaling, clipping, speed."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from gymnasium import spaces as gym_spaces
from torch import Tensor

from metarl.cputime import cpu_seconds
from metarl.errors import WorldError
from metarl.tasks import Tasks
from metarl.world import World

from .probe import Fault, NotApplicable, Probe, Row, bounds, difference, global_rng, go_on, random_action, step_row


def check_finite(probe: Probe) -> str:
    """Rewards and observations are finite under random actions."""
    world = probe.world()
    for t, row in enumerate(probe.drive(world, probe.draw(None, "finite"), key="finite")):
        for name, value in row.items():
            bad = ~value.isfinite().reshape(len(value), -1).all(dim=1)
            if bool(bad.any()):
                raise Fault(f"{name} of env {int(bad.nonzero()[0])} at step {t} is not finite; mend it at its source")
    return f"{probe.n_steps} steps of {world.num_envs} envs finite"


def _forced(probe: Probe, world: World, key: str, force: Callable[[Tensor, Tensor | None], Tensor]) -> list[Row]:
    """Return a random run in which every other step (by a seeded coin) goes through `force`."""
    tasks, noise = probe.draw(None, "effect"), probe.noise(world, probe.n_steps, key)
    coin = probe.noise(world, probe.n_steps, key, "coin")[:, 0, 0] < 0.5
    with global_rng(0):
        rows = [probe.start(world, tasks, key=key)]
        for values, on in zip(noise, coin.tolist(), strict=True):
            action = random_action(world, values, rows[-1].get("action_mask"))
            rows.append(step_row(world, force(action, rows[-1].get("action_mask")) if on else action))
    return rows


def check_action_effect(probe: Probe) -> str:
    """Each action dimension (or choice) makes a difference: its scaling is right."""
    world = probe.world()
    space = world.single_action_space
    if isinstance(space, gym_spaces.Discrete):
        return _choices_differ(probe, world, space)
    if isinstance(space, gym_spaces.MultiDiscrete):
        start = torch.as_tensor(space.start, device=world.device)
        low, high = start, start + torch.as_tensor(space.nvec, device=world.device) - 1
    else:
        assert isinstance(space, gym_spaces.Box)
        low, high = bounds(space, world.device)
    for d in range(len(low)):
        runs = []
        for value in (low[d], high[d]):

            def put(action: Tensor, _: Tensor | None, d: int = d, value: Tensor = value) -> Tensor:
                flat = action.reshape(len(action), -1).clone()
                flat[:, d] = value
                return flat.reshape(action.shape)

            runs.append(_forced(probe, world, "effect", put))
        if not difference(runs[0], runs[1]):
            raise Fault(
                f"action dimension {d} at {float(low[d]):g} and at {float(high[d]):g} gives equal results over "
                f"{probe.n_steps} steps; check its scaling, or drop it"
            )
    return f"each of {len(low)} action dimensions changes the outcome"


def _choices_differ(probe: Probe, world: World, space: gym_spaces.Discrete) -> str:
    """Compare the choices of a Discrete space (the first 16) pair by pair."""
    runs = []
    n = min(int(space.n), 16)
    for choice in range(n):

        def put(action: Tensor, mask: Tensor | None, choice: int = choice) -> Tensor:
            chosen = torch.full_like(action, choice + int(space.start))
            return chosen if mask is None else torch.where(mask[:, choice], chosen, action)

        runs.append(_forced(probe, world, "effect", put))
    alike = [(i, j) for i in range(n) for j in range(i + 1, n) if not difference(runs[i], runs[j])]
    if n > 1 and len(alike) == n * (n - 1) // 2:
        raise Fault(f"all {n} actions give equal results over {probe.n_steps} steps; check how actions are read")
    twins = f"; alike in this run: {', '.join(f'{i} and {j}' for i, j in alike)}" if alike else ""
    return f"{n} actions tried, {n * (n - 1) // 2 - len(alike)} of {n * (n - 1) // 2} pairs differ{twins}"


def check_action_bounds(probe: Probe) -> str:
    """Actions outside a Box count as its edge; NaN, and choices that are none, are refused with WorldError."""
    world = probe.world()
    space = world.single_action_space
    if not isinstance(space, gym_spaces.Box):
        return _choices_refused(probe, world)
    low, high = bounds(space, world.device)
    tasks, shape = probe.draw(None, "bounds"), (world.num_envs, *space.shape)
    runs = []
    for factor in (0.0, 10.0, 0.0):
        action = torch.where(torch.arange(len(low), device=world.device) % 2 == 0, high, low)
        outside = action + factor * (action - (low + high) / 2)
        with global_rng(0):
            rows = [probe.start(world, tasks, key="bounds")]
            rows += [step_row(world, outside.expand(world.num_envs, -1).reshape(shape)) for _ in range(8)]
        runs.append(rows)
    found = difference(runs[0], runs[1]) if bool(torch.isfinite(torch.as_tensor(space.high)).all()) else ""
    if found and not difference(runs[0], runs[2]):  # else it differs from itself, which "determinism" tells
        raise Fault(f"an action outside the Box differs from one on its edge: {found}; clip actions in step()")
    if not _refuses(probe, world, tasks, torch.full(shape, float("nan"), device=world.device)):
        if world.device.type != "cpu":
            return f"outside actions are clipped (a world on {world.device} need not look for NaN)"
        raise Fault("a NaN action is taken without complaint; begin step() with actions = self.check_actions(actions)")
    return "outside actions are clipped, NaN is refused"


def _refuses(probe: Probe, world: World, tasks: Tasks, actions: Tensor) -> bool:
    """Return whether `world`, just reset, raises WorldError for `actions`."""
    with global_rng(0):
        probe.start(world, tasks, key="bounds")
        try:
            world.step(actions)
        except WorldError:
            return True
    return False


def _choices_refused(probe: Probe, world: World) -> str:
    """Hold the world to the range of each choice of a Discrete or MultiDiscrete space."""
    if world.device.type != "cpu":
        raise NotApplicable(f"a world on {world.device} need not look at the numbers of its actions")
    space, tasks = world.single_action_space, probe.draw(None, "bounds")
    first = torch.as_tensor(np.atleast_1d(space.start))  # type: ignore[attr-defined]
    n = torch.as_tensor(np.atleast_1d(space.n if isinstance(space, gym_spaces.Discrete) else space.nvec))  # type: ignore[attr-defined]
    for d in range(len(first)):
        for value in (int(first[d]) - 1, int(first[d] + n[d])):
            chosen = first.clone()
            chosen[d] = value
            actions = chosen.expand(world.num_envs, -1).reshape(world.num_envs, *(space.shape or ()))
            if not _refuses(probe, world, tasks, actions):
                raise Fault(
                    f"action {value if space.shape == () else chosen.tolist()} is taken, which {space} does not hold; "
                    f"begin step() with actions = self.check_actions(actions)"
                )
    return f"choices outside {space} are refused"


def measure_speed(probe: Probe) -> str:
    """Report env steps per CPU second under random actions; never fails."""
    world = probe.world()
    last = probe.start(world, probe.draw(None, "speed"), key="speed")
    noise = probe.noise(world, probe.n_steps, "speed")
    wall, cpu = time.perf_counter(), cpu_seconds()
    go_on(world, last, noise)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    n = probe.n_steps * world.num_envs
    return f"{n / max(cpu, 1e-3):,.0f} env steps per CPU second, {n / wall:,.0f} per second ({world.num_envs} envs)"
