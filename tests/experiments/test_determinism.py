"""Training repeats itself on a GPU too: no operation is used that torch has no deterministic CUDA kernel for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from metarl import envs
from metarl.experiments.build import build_tasks
from metarl.experiments.config import AnyConfig
from metarl.loop import LoopSettings, NullRecorder, meta_train
from tests.experiments import tiny_presets
from tests.experiments.every_agent import KINDS, config_of

THROWING = {"put_", "histc", "kthvalue", "median", "resize_", "grid_sample", "interpolate", "ctc_loss"}
"""What `torch.use_deterministic_algorithms` refuses on CUDA, as its documentation says."""
TENSOR_WORLDS = [n for n in envs.WORLDS.builtin if not n.startswith("metaworld/") and n != "npc/assets-replay"]
"""All but MuJoCo's, which are no tensor worlds, and replayed prices, which are the user's own."""


class Refusing(TorchFunctionMode):
    """Raises where a GPU in deterministic mode would, on any device."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        floating = bool(args) and isinstance(args[0], torch.Tensor) and args[0].is_floating_point()
        if name in THROWING or (name in ("cumsum", "cumsum_") and floating):
            raise RuntimeError(f"{name} has no deterministic CUDA kernel")
        if name == "bincount" and (len(args) > 1 or (kwargs or {}).get("weights") is not None):
            raise RuntimeError("bincount of weights has no deterministic CUDA kernel")
        if name.startswith("scatter_reduce") and "prod" in (*args, *(kwargs or {}).values()):
            raise RuntimeError("scatter_reduce with prod has no deterministic CUDA kernel")
        return func(*args, **(kwargs or {}))


OPTIONS: dict[str, dict[str, Any]] = {"revealed": {"world": "gridworld", "what": "belief", "trial_episodes": 3}}


def train(config: AnyConfig, world: str) -> None:
    tasks = envs.make(world, **OPTIONS.get(world, {}))
    # Not guarded: pictures and catalogues are made once, on the CPU whatever the world's device.
    agent = config.agent.build(tasks.spec, seed=0)
    settings = LoopSettings(
        n_iterations=1, n_tasks=4, validate_every_iters=1, n_validation_tasks=4, validation_adapt_episodes=2
    )
    with Refusing():
        meta_train(agent, tasks, settings, NullRecorder(), seed=0, device="cpu")


def test_the_guard_refuses_a_floating_sum_and_lets_a_counting_one_pass() -> None:
    with Refusing():
        torch.ones(3, dtype=torch.int64).cumsum(0)
        torch.bincount(torch.tensor([0, 2]), minlength=3)
        with pytest.raises(RuntimeError, match="cumsum has no deterministic"):
            torch.ones(3).cumsum(0)
        with pytest.raises(RuntimeError, match="bincount of weights has no deterministic"):
            torch.bincount(torch.tensor([0, 2]), weights=torch.ones(2))


@pytest.mark.parametrize("world", TENSOR_WORLDS)
def test_no_tensor_world_needs_an_operation_without_a_deterministic_kernel(world: str) -> None:
    config = tiny_presets.rl2()
    train(dataclasses.replace(config, agent=dataclasses.replace(config.agent, hidden=4)), world)


@pytest.mark.parametrize("name", KINDS)
def test_no_agent_needs_an_operation_without_a_deterministic_kernel(name: str) -> None:
    config = config_of(name)
    tasks = build_tasks(config)
    agent = config.agent.build(tasks.spec, seed=0)
    # Two, because some agents only collect in the first; validation adapts.
    settings = dataclasses.replace(
        config.train, n_iterations=2, validate_every_iters=2, n_validation_tasks=4, validation_adapt_episodes=2
    )
    with Refusing():
        meta_train(agent, tasks, settings, NullRecorder(), seed=0, device="cpu")
