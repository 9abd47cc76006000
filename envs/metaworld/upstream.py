"""Upstream's own Meta-World environments behind the World contract: the oracle that the fast engine is held to."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import gymnasium as gym
import torch

from metarl.envs.gym.serial import Env
from metarl.envs.gym.world import GymWorld, in_float32
from metarl.spec import WorldSpec
from metarl.tasks import Tasks

from .catalogue import check_goal
from .options import EpisodeRules
from .render import forget, picture
from .tasks import goal_of, metaworld_module, upstream_task
from .upstream_state import restore, snapshot

UPSTREAM_RULES = EpisodeRules()


def upstream_world(
    name: str,
    num_envs: int,
    *,
    rules: EpisodeRules,
    reward_version: str,
    n_workers: int,
    device: torch.device | str = "cpu",
) -> GymWorld:
    """Return a world of `num_envs` upstream environments, spread over `n_workers` processes (0: none)."""
    return GymWorld(
        partial(make_env, reward_version=reward_version, rules=rules),
        apply_task,
        num_envs,
        horizon=rules.n_decisions,
        observation_space=spaces()[0],
        action_space=spaces()[1],
        env_key=class_name,
        snapshot=snapshot,
        restore=restore,
        render=picture,
        name=name,
        n_workers=n_workers,
        fixed_horizon=rules.fixed_horizon,
        has_success=True,
        device=device,
    )


def world_spec(name: str, rules: EpisodeRules) -> WorldSpec:
    """Return what worlds of Meta-World are, whoever steps them."""
    seen, action = (in_float32(space) for space in spaces())
    return WorldSpec(
        seen, action, rules.n_decisions, name=name, fixed_horizon=rules.fixed_horizon, has_success=True
    )  # fmt: skip


def class_name(task: Tasks) -> str:
    """Return the class of one task."""
    return goal_of(task)[0]


def make_env(task: Tasks, *, reward_version: str, rules: EpisodeRules = UPSTREAM_RULES) -> Env:
    """Return an upstream environment of the task's class, whose episodes follow `rules`."""
    environment = metaworld_module().ALL_V3_ENVIRONMENTS[class_name(task)]
    return _Closing(rules.wrap(environment(reward_function_version=reward_version)))


def apply_task(env: Env, task: Tasks) -> None:
    """Give an upstream environment its goal. Raises ConfigError for a goal that the class cannot have."""
    upstream: Any = env.unwrapped
    check_goal(upstream, *goal_of(task))
    upstream.set_task(upstream_task(task))


class _Closing(gym.Wrapper[Any, Any, Any, Any]):
    """Frees the picture's OpenGL context together with the environment."""

    def close(self) -> None:
        forget(self)
        super().close()


@cache
def spaces() -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Return upstream's observation and action space, which are the same for all classes while the goal is hidden."""
    env = metaworld_module().ALL_V3_ENVIRONMENTS["reach-v3"]()
    try:
        return env.sawyer_observation_space, env.action_space
    finally:
        env.close()
