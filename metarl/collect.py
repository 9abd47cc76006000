"""The loop that collects a rollout: one phase of N trials, an agent acting in B envs of a world."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from . import spaces
from .agent import Agent, needs_privileged_info
from .commandline import command
from .errors import ConfigError, WorldError
from .rollout import Rollout, TimeStep
from .state import State, choose_rows
from .world import Obs, World


def first_step(world: World, obs: Obs, action_mask: Tensor | None = None) -> TimeStep:
    """Return the step that opens a trial: no previous action, reward or end of episode."""
    b, device = world.num_envs, world.device
    return TimeStep(
        obs=spaces.flatten(world.single_observation_space, obs),
        prev_action=torch.zeros(b, spaces.flat_dim(world.single_action_space), device=device),
        prev_reward=torch.zeros(b, device=device),
        prev_done=torch.zeros(b, dtype=torch.bool, device=device),
        action_mask=action_mask,
    )


def _let_wait(world: World, idle: Tensor | None) -> None:
    """Let idle envs stand still in worlds where their steps would leave a trace."""
    if world.persists_across_episodes and not world.fixed_horizon:
        world.freeze(idle)


def _append(columns: dict[str, list[Tensor]], row: dict[str, Tensor]) -> None:
    """Keep one time step; stacking all of them at the end costs less than writing each into its place."""
    for key, value in row.items():
        columns.setdefault(key, []).append(value)


_COLUMNS = (
    "obs", "action", "log_prob", "reward", "terminated", "truncated", "next_obs", "episode", "valid", "success",
    "action_mask", "dense_reward", "cost", "privileged_info",
)  # fmt: skip
"""Entries of a rollout that are stacked from its steps; the later ones only where a world gives them."""


@torch.no_grad()
def collect(
    world: World,
    agent: Agent,
    state: State,
    step: TimeStep,
    n_episodes: int,
    *,
    n_tasks: int,
    generator: torch.Generator,
    greedy: bool = False,
    training: bool = False,
) -> tuple[State, TimeStep, Rollout]:
    """Run exactly `n_episodes` per task and return the agent's state, the next step, and what happened.

    Only with `training` does the rollout say what was hidden, to an agent with `needs_privileged_info`. The M envs of a
    task share its episodes evenly. Raises ConfigError if they cannot.
    """
    b, rounds = world.num_envs, _rounds(n_episodes, world.num_envs // n_tasks)
    obs_space = world.single_observation_space
    # On a GPU these looks at the numbers would make each step wait for the device.
    on_cpu = world.device.type == "cpu"
    # Where all episodes last as long, nobody idles, and which episode a step belongs to is a matter of counting.
    free = not world.fixed_horizon
    hidden = None if world.reward_observable else torch.zeros(b, device=world.device)
    start, columns, aux_columns = step, dict[str, list[Tensor]](), dict[str, list[Tensor]]()
    episode = torch.zeros(b, dtype=torch.int64, device=world.device)
    active = torch.ones(b, dtype=torch.bool, device=world.device)
    extras = [k for k in ("success", "dense_reward", "cost") if getattr(world, f"has_{k}")]
    tells = training and world.n_privileged > 0 and needs_privileged_info(agent)
    for t in range(rounds * world.horizon):
        if tells:
            _append(columns, {"privileged_info": world.privileged_info()})
        # Elsewhere it is what the step before reached, and has been looked at.
        if on_cpu and (free or t % world.horizon == 0) and not _surely_finite(step.obs):
            refuse_non_finite(world, {"first observation": step.obs[None]}, active[None], t)
        new_state, decision = agent.act(state, step, generator=generator, greedy=greedy)
        obs, reward, terminated, truncated, info = world.step(decision.action)
        next_obs = spaces.flatten(obs_space, info["final_obs"])
        if on_cpu and not _surely_finite(reward, next_obs):
            refuse_non_finite(world, {"reward": reward[None], "observation": next_obs[None]}, active[None], t)
        done = terminated | truncated
        row = {
            "obs": step.obs, "action": decision.action, "log_prob": decision.log_prob, "reward": reward,
            "terminated": terminated, "truncated": truncated, "next_obs": next_obs, **{k: info[k] for k in extras},
        }  # fmt: skip
        if free:
            row["episode"], row["valid"] = episode, active
        if step.action_mask is not None:
            row["action_mask"] = step.action_mask
        _append(columns, row)
        _append(aux_columns, decision.aux)
        new_step = _next_step(world, obs, decision.action, reward if hidden is None else hidden, done, info)
        if not free:
            state, step = new_state, new_step
            continue
        # An env that has finished its episodes keeps the step after its last one until the phase ends.
        state = new_state if agent.parallel_episodes else choose_rows(active, new_state, state)
        step = _hold_step(step, new_step, active)
        episode = episode + done.long()
        active = active & (episode < rounds)
        if (on_cpu or (t + 1) % world.horizon == 0) and not bool(active.any()):
            break
        _let_wait(world, ~active)
    _let_wait(world, None)
    kept = {k: torch.stack(v) for k, v in columns.items()}
    if not free:
        count = torch.arange(rounds, device=world.device).repeat_interleave(world.horizon)
        kept["episode"] = count[:, None].expand(-1, b).contiguous()
        kept["valid"] = active.expand(len(count), b).contiguous()
    kept["episode"] = kept["episode"].clamp(max=rounds - 1)
    rollout = Rollout(
        **{name: kept.get(name) for name in _COLUMNS},  # type: ignore[arg-type]  # of the world's kind which are there
        aux={k: torch.stack(v) for k, v in aux_columns.items()},
        start=start,
        n_tasks=n_tasks,
        n_episodes=n_episodes,
        reward_observable=world.reward_observable,
    )
    return state, step, rollout


def _rounds(n_episodes: int, n_envs: int) -> int:
    """Return how many episodes each of a task's envs plays; raises ConfigError if they cannot share them evenly."""
    if n_episodes % n_envs:
        raise ConfigError(
            f"{n_episodes} episodes per task cannot be shared by {n_envs} envs; choose a number of envs that divides it"
        )
    return n_episodes // n_envs


def _next_step(
    world: World, obs: Obs, action: Tensor, shown_reward: Tensor, done: Tensor, info: Mapping[str, Any]
) -> TimeStep:
    """Return what the agent sees next."""
    return TimeStep(
        obs=spaces.flatten(world.single_observation_space, obs),
        prev_action=spaces.flatten(world.single_action_space, action),
        prev_reward=shown_reward,
        prev_done=done,
        action_mask=info.get("action_mask"),
    )


def _surely_finite(*numbers: Tensor) -> bool:
    """Return False if a number is NaN or infinite, or so large (1e19) that only a closer look can tell.

    Inner products, because this runs at each step: any other test takes several operations.
    """
    total = 0.0
    for value in numbers:
        flat = value.reshape(-1)
        total += torch.dot(flat, flat).item()
    return isfinite(total)


def refuse_non_finite(world: World, numbers: Mapping[str, Tensor], valid: Tensor, t: int = 0) -> None:
    """Raise WorldError naming env, task, step and entry of the first valid number that is not finite.

    `numbers` are [T, B] (rewards) or [T, B, obs_dim] (observations) by what they are called, in the order in which the
    numbers of one step come about; `valid` is [T, B]; `t` is the number of the first row. Called where the world is to
    blame, before an agent turns the NaN into a NaN action or a NaN loss.
    """
    whole = [value.isfinite() if value.dim() == 2 else value.isfinite().all(dim=-1) for value in numbers.values()]
    bad = (~torch.stack(whole, dim=1) & valid[:, None]).nonzero()  # [n, (row, kind, env)], the earliest first
    if not len(bad):
        return
    row, kind, env = bad[0].tolist()
    name, value = list(numbers.items())[kind]
    task, entry = world.tasks.names[env] if world.tasks is not None else "unknown", ""
    if value.dim() > 2:
        index = int((~value[row, env].isfinite()).nonzero()[0])
        entry = f", {spaces.entry_at(world.single_observation_space, index)} is {float(value[row, env, index])}"
    raise WorldError(
        f"world {world.name!r} gave a {name} that is not finite: task {task!r}, env {env}, step {t + row} of the "
        f"phase{entry}; check the world with `{command('doctor', 'NAME')}`"
    )


def _hold_step(kept: TimeStep, new: TimeStep, active: Tensor) -> TimeStep:
    """Return `new` where an env is active and `kept` where it idles."""
    before = vars(kept)
    both = {k: v for k, v in vars(new).items() if v is not None and before[k] is not None}
    return TimeStep(**choose_rows(active, both, before))
