"""Every tensor world on a GPU: the same numbers as on a CPU, whatever the episode, and nothing waits for the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from metarl import envs, spaces
from metarl.agents.baselines.random_policy import RandomConfig
from metarl.collect import first_step
from metarl.seeding import generator
from metarl.world import World
from tests.experiments.test_determinism import OPTIONS, TENSOR_WORLDS
from tests.gpu.waiting import no_waiting

N_COPIES, N_STEPS = 6, 60
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def make(name: str, device: str) -> tuple[World, Any, dict[str, Any]]:
    """Return a world that has just begun, its observation and its info."""
    tasks = envs.make(name, **OPTIONS.get(name, {}))
    world = tasks.make_world(N_COPIES, device=device)
    world.set_tasks(tasks.sample("train", N_COPIES, generator(0)).to(device))
    return world, *world.reset(seed=3)


@pytest.mark.parametrize("name", TENSOR_WORLDS)
def test_gives_the_numbers_that_it_gives_on_a_cpu(name: str) -> None:
    (cpu, obs, info), (gpu, gpu_obs, gpu_info) = make(name, "cpu"), make(name, "cuda")
    policy, noise = RandomConfig().build(cpu.spec, seed=0), generator(0, "noise")
    space = cpu.single_observation_space
    for _ in range(N_STEPS):
        torch.testing.assert_close(spaces.flatten(space, gpu_obs).cpu(), spaces.flatten(space, obs), **CLOSE)
        step = first_step(cpu, obs, info.get("action_mask"))
        if step.action_mask is not None:
            torch.testing.assert_close(gpu_info["action_mask"].cpu(), step.action_mask)
        action = policy.act({}, step, generator=noise)[1].action
        obs, reward, terminated, truncated, info = cpu.step(action)
        gpu_obs, gpu_reward, gpu_terminated, gpu_truncated, gpu_info = gpu.step(action.cuda())
        torch.testing.assert_close(gpu_reward.cpu(), reward, **CLOSE)
        assert torch.equal(gpu_terminated.cpu(), terminated)
        assert torch.equal(gpu_truncated.cpu(), truncated)


@pytest.mark.parametrize("name", TENSOR_WORLDS)
def test_no_step_waits_for_the_gpu(name: str) -> None:
    world, obs, info = make(name, "cuda")
    policy, noise = RandomConfig().build(world.spec, seed=0, device="cuda"), generator(0, device="cuda")
    step = first_step(world, obs, info.get("action_mask"))
    action = policy.act({}, step, generator=noise)[1].action
    world.step(action)
    with no_waiting():
        for _ in range(min(world.horizon + 2, 150)):
            world.step(action)
