"""The one trial loop that training and evaluation share."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch

from . import spaces
from .agent import Agent, TimeStep
from .collect import collect, first_step, refuse_non_finite
from .errors import ConfigError
from .moved import moved
from .rollout import Rollout, Trial
from .seeding import derive
from .tasks import Tasks
from .world import World

__getattr__ = moved(__name__, __name__, {"copies_per_task": "envs_per_task"})


def envs_per_task(agent: Agent, phases: Sequence[int], limit: int = 1_000_000) -> int:
    """Return the most envs (at most `limit`) that share each phase's episodes evenly; 1 for agents with memory."""
    if not agent.parallel_episodes:
        return 1
    common = gcd(*phases)
    return max(m for m in range(1, min(common, limit) + 1) if common % m == 0)


def run_trial(
    world: World,
    agent: Agent,
    tasks: Tasks,
    phases: Sequence[int],
    *,
    seed: int,
    greedy: Sequence[bool] | bool = False,
    training: bool = False,
) -> Trial:
    """Run one trial on each task: `phases[0]` episodes, adapt, `phases[1]` episodes, adapt, ..., the query.

    Training and evaluation both go through here. Everything random follows from `seed`: env i of the world and the
    policy's noise. Where episodes may end early each phase starts with a fresh reset, so that idle steps of other
    envs leave no trace; in worlds where something outlives an episode idle envs stand still instead. With
    `training` the trial is for `Agent.update`, and may hold what the world hides from an agent that acts.

    Raises: ConfigError if envs, tasks and the agent do not fit; WorldError if a reward or observation is not finite.
    """
    n_tasks = len(tasks)
    if n_tasks == 0 or world.num_envs % n_tasks:
        raise ConfigError(
            f"world {world.name!r} has {world.num_envs} envs, which {n_tasks} tasks cannot share evenly; "
            f"build it with a multiple of {n_tasks} envs"
        )
    n_envs = world.num_envs // n_tasks
    if n_envs > 1 and not agent.parallel_episodes:
        raise ConfigError(
            f"agent {agent.name!r} carries memory from episode to episode, so a trial needs exactly one env; "
            f"world {world.name!r} has {n_envs} per task. Set envs_per_task=1"
        )
    if not phases or min(phases) < 1:
        raise ConfigError(f"phases are {tuple(phases)}; a trial needs at least one, each of at least 1 episode")
    flags = [greedy] * len(phases) if isinstance(greedy, bool) else list(greedy)
    noise = torch.Generator(device=world.device).manual_seed(derive(seed, "policy"))
    world.set_tasks(tasks.repeat(n_envs) if n_envs > 1 else tasks)
    obs, info = world.reset(seed=derive(seed, "world", 0))
    step = first_step(world, obs, info.get("action_mask"))
    state = agent.init(n_tasks)
    rollouts: list[Rollout] = []
    for phase, (n_episodes, flag) in enumerate(zip(phases, flags, strict=True)):
        if phase:
            state = agent.adapt(state, rollouts[-1])
            if not world.fixed_horizon and not world.persists_across_episodes:
                obs, info = world.reset(seed=derive(seed, "world", phase))
                step = TimeStep(
                    spaces.flatten(world.single_observation_space, obs),
                    step.prev_action, step.prev_reward, step.prev_done, info.get("action_mask"),
                )  # fmt: skip
        state, step, rollout = collect(
            world, agent, state, step, n_episodes, n_tasks=n_tasks, generator=noise, greedy=flag, training=training
        )
        if world.device.type != "cpu":  # there `collect` has looked at each step
            seen = {"first observation": rollout.obs, "reward": rollout.reward, "observation": rollout.next_obs}
            refuse_non_finite(world, seen, rollout.valid)
        rollouts.append(rollout)
    return Trial(tasks, tuple(rollouts))
