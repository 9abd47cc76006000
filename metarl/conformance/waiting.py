"""Checks of what worlds may offer beyond stepping: envs that wait for others, and what is hidden."""

from __future__ import annotations

import torch

from .probe import Fault, Probe, Row, difference, global_rng, go_on

_WAITED = 3
"""Steps for which every other env is held."""


def check_waiting(probe: Probe) -> str:
    """In worlds where something outlives an episode, held envs stand still and then go on as if nothing had been."""
    world, tasks = probe.world(), probe.draw(None, "waiting")
    if not world.persists_across_episodes or world.fixed_horizon:
        return "nobody waits: no episode outlives its end, or all end together"
    n = min(probe.n_steps, 2 * world.horizon)
    before = n // 2
    noise = probe.noise(world, n + _WAITED, "waiting")
    idle = torch.arange(world.num_envs, device=world.device) % 2 == 0
    late = torch.cat([noise[:before], noise[:_WAITED], noise[before:n]])
    with global_rng(0):
        first = probe.start(world, tasks, key="waiting")
        plain = [first, *go_on(world, first, noise)]
    with global_rng(0):
        rows = [probe.start(world, tasks, key="waiting")]
        noise = torch.where(idle[:, None], late, noise)
        rows += go_on(world, rows[-1], noise[:before])
        world.freeze(idle)
        held = go_on(world, rows[-1], noise[before : before + _WAITED])
        _check_still(rows[-1], held, idle)
        world.freeze(None)
        rows += held + go_on(world, held[-1], noise[before + _WAITED :])
    everywhere = torch.ones(len(rows), 1, dtype=torch.bool)
    found = difference(plain, rows, everywhere & ~idle.cpu())
    if found:
        raise Fault(f"holding some envs moved others: {found}; freeze(idle) concerns the envs of idle alone")
    kept = rows[: before + 1] + rows[before + 1 + _WAITED :]
    found = difference(plain[: len(kept)], kept, everywhere[: len(kept)] & idle.cpu())
    if found:
        raise Fault(f"an env that had been held went on differently: {found}; nothing of it may change, clock included")
    return f"{int(idle.sum())} of {world.num_envs} envs held for {_WAITED} steps, then on as if nothing had been"


def _check_still(last: Row, held: list[Row], idle: torch.Tensor) -> None:
    """Raise Fault unless the envs of `idle` have not moved since the row `last`."""
    for row in held:
        still = {"obs": last["obs"], "final_obs": last["obs"], "reward": torch.zeros_like(row["reward"])}
        still |= {k: torch.zeros_like(row[k]) for k in ("terminated", "truncated")}
        found = difference([still], [{k: row[k] for k in still}], idle.cpu()[None])
        if found:
            raise Fault(f"a held env did not stand still ({found}); its obs stays, its reward is 0 and nothing ends")


def check_hidden(probe: Probe) -> str:
    """privileged_info() gives `n_privileged` finite numbers per env, and looking changes nothing."""
    world, tasks = probe.world(), probe.draw(None, "hidden numbers")
    if not world.n_privileged:
        return "the world does not say what is hidden"
    with global_rng(0):
        plain = probe.drive(world, tasks, key="hidden numbers")
    want = (world.num_envs, world.n_privileged)
    with global_rng(0):
        rows = [probe.start(world, tasks, key="hidden numbers")]
        for noise in probe.noise(world, probe.n_steps, "hidden numbers"):
            told = world.privileged_info()
            if told.dtype != torch.float32 or tuple(told.shape) != want or not bool(told.isfinite().all()):
                raise Fault(f"privileged_info() gave {told.dtype} {tuple(told.shape)}; return finite float32 {want}")
            rows += go_on(world, rows[-1], noise[None])
    found = difference(plain, rows)
    if found:
        raise Fault(f"looking at what is hidden changed the world: {found}; privileged_info() only reads")
    return f"{world.n_privileged} numbers say what is hidden"
