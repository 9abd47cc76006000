"""One visitor at a time through Gymnasium: its own checker is content, and a trial is one of its episodes."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from metarl import envs
from metarl.envs import WORLDS
from metarl.envs.npc.single import IDS, NpcEnv
from metarl.errors import ConfigError, WorldError

MADE = [i for i, world in IDS.items() if world in WORLDS.entries()]


def legal(env: Any, info: dict[str, Any]) -> Any:
    """Return a random action, a legal one where some are not."""
    mask = info.get("action_mask")
    return env.action_space.sample() if mask is None else env.action_space.sample(mask)


def play(env: Any, seed: int) -> list[Any]:
    """Play a whole trial and return what came back."""
    env.action_space.seed(seed)
    obs, info = env.reset(seed=seed)
    found, over = [obs], False
    while not over:
        obs, reward, over, truncated, info = env.step(legal(env, info))
        assert not truncated
        found += [obs, reward, info["inner_done"], info["episode_index"], info["cost"]]
    return found


@pytest.mark.parametrize("name", MADE)
def test_gymnasiums_checker_passes(name: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Box .*(low|high|precision|infinity).*")
        check_env(gym.make(name).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("name", MADE)
def test_a_trial_has_its_episodes_and_repeats_with_its_seed(name: str) -> None:
    env = gym.make(name).unwrapped
    first, again, other = (play(env, seed) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_equal(a, b)
    assert str(first) != str(other)
    assert sum(first[3::5]) == env.family.n_episodes
    with pytest.raises(WorldError, match="call reset first"):
        env.step(env.action_space.sample())


@pytest.mark.parametrize("name", MADE)
def test_pictures_need_no_display(name: str) -> None:
    env = gym.make(name, render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2


@pytest.mark.parametrize("name", MADE)
def test_a_named_visitor_is_the_one_of_the_list(name: str) -> None:
    env = NpcEnv(IDS[name], split="test")
    last = len(env.family.fixed_tasks("test")) - 1
    env.reset(seed=0, options={"task": last})
    assert env.world.tasks == env.family.fixed_tasks("test")[last]
    with pytest.raises(ConfigError, match=f"tasks 0 to {last} in 'test', got {last + 1}"):
        env.reset(options={"task": last + 1})


@pytest.mark.parametrize("name", MADE)
def test_it_shows_what_the_batched_world_shows(name: str) -> None:
    env = NpcEnv(IDS[name], split="test")
    obs, _ = env.reset(seed=3, options={"task": 2})
    draw = int(np.random.default_rng(np.random.PCG64(np.random.SeedSequence(3))).integers(2**63 - 1))
    world = envs.make(IDS[name]).make_world(4)
    world.set_tasks(envs.make(IDS[name]).fixed_tasks("test")[2].repeat(4))  # type: ignore[attr-defined]
    batch, _ = world.reset(seed=draw)
    for _ in range(5):
        one, many = (x.values() if isinstance(x, dict) else [x] for x in (obs, batch))
        for a, b in zip(one, many, strict=True):
            np.testing.assert_array_equal(a, b[0].numpy())
        action = torch.as_tensor(np.asarray(env.action_space.sample()))
        mask = world.action_mask(world.state)
        if mask is not None:
            action = mask[0].long().argmax()
        obs, _, over, *_ = env.step(action.numpy())
        batch, *_ = world.step(torch.stack([action] * 4))
        if over:  # the batch begins another trial
            break


@pytest.mark.parametrize("name", [name for name in MADE if "Tiny" in name or "Macro" in name])
def test_an_action_outside_the_space_is_refused_and_moves_nothing(name: str) -> None:
    env, untouched = (gym.make(name).unwrapped for _ in range(2))
    _, info = env.reset(seed=4)
    untouched.reset(seed=4)
    good = legal(env, info)
    below, above, wide = np.asarray(good) * 0 - 1, np.asarray(good) * 0 + 53, np.stack([np.asarray(good)] * 2)
    for action in (below, above, wide, np.asarray(good) + 0.5, None, "north"):
        with pytest.raises(WorldError, match=f"world '{env.world.name}' got "):
            env.step(action)
    for a, b in zip(env.step(good), untouched.step(good), strict=True):
        np.testing.assert_equal(a, b)


def test_bad_input_names_the_value() -> None:
    with pytest.raises(ConfigError, match="'gridworld' is no NPC world"):
        NpcEnv("gridworld")
