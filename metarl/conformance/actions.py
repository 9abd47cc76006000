"""Checks of how a world answers to actions: finite results, scaling, clipping, speed."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from gymnasium import spaces as gym_spaces
from torch import Tensor

from metarl.cputime import cpu_seconds
from metarl.errors import WorldError
from metarl.world import World

from .probe import (
    Fault,
    NotApplicable,
    Probe,
    Row,
    bounds,
    difference,
    global_rng,
    go_on,
    random_action,
    step_row,
)


def check_finite(probe: Probe) -> str:
    """Rewards and observations are finite under random actions."""
    world = probe.world()
    for t, row in enumerate(probe.drive(world, probe.draw(None, "finite"), key="finite")):
        for name, value in row.items():
            bad = ~value.isfinite().reshape(len(value), -1).all(dim=1)
            if bool(bad.any()):
                raise Fault(f"{name} of copy {int(bad.nonzero()[0])} at step {t} is not finite; mend it at its source")
    return f"{probe.n_steps} steps of {world.num_envs} copies finite"


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
    """Actions outside a Box count as its edge; NaN is refused with WorldError."""
    world = probe.world()
    space = world.single_action_space
    if not isinstance(space, gym_spaces.Box):
        raise NotApplicable(f"{space} has no bounds to exceed")
    low, high = bounds(space, world.device)
    tasks, shape = probe.draw(None, "bounds"), (world.num_envs, *space.shape)
    runs = []
    for factor in (0.0, 10.0):
        action = torch.where(torch.arange(len(low), device=world.device) % 2 == 0, high, low)
        outside = action + factor * (action - (low + high) / 2)
        with global_rng(0):
            rows = [probe.start(world, tasks, key="bounds")]
            rows += [step_row(world, outside.expand(world.num_envs, -1).reshape(shape)) for _ in range(8)]
        runs.append(rows)
    found = difference(runs[0], runs[1]) if bool(torch.isfinite(torch.as_tensor(space.high)).all()) else ""
    if found:
        raise Fault(f"an action outside the Box differs from one on its edge: {found}; clip actions in step()")
    small = probe.fresh(1)
    try:
        probe.start(small, tasks[:1], key="bounds")
        small.step(torch.full((1, *space.shape), float("nan"), device=world.device))
    except WorldError:
        return "outside actions are clipped, NaN is refused"
    finally:
        small.close()
    raise Fault("a NaN action is taken without complaint; raise WorldError naming the copy")


def measure_speed(probe: Probe) -> str:
    """Report env steps per CPU second under random actions; never fails."""
    world = probe.world()
    last = probe.start(world, probe.draw(None, "speed"), key="speed")
    noise = probe.noise(world, probe.n_steps, "speed")
    wall, cpu = time.perf_counter(), cpu_seconds()
    go_on(world, last, noise)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    n = probe.n_steps * world.num_envs
    return f"{n / max(cpu, 1e-3):,.0f} env steps per CPU second, {n / wall:,.0f} per second ({world.num_envs} copies)"
