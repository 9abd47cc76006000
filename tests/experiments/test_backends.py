"""The same seed trains the same agent on Meta-World's engine as on upstream's environments, bit for bit."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import pytest
import torch

from metarl import envs
from metarl.errors import ConfigError
from metarl.experiments.build import build_agent
from metarl.experiments.config import AnyConfig
from metarl.experiments.presets import load_preset
from metarl.loop import LoopSettings, meta_train

pytestmark = pytest.mark.metaworld

SHORT = LoopSettings(
    n_iterations=3, n_tasks=10, validate_every_iters=3, n_validation_tasks=10, validation_adapt_episodes=1,
    validation_eval_episodes=1, checkpoint_every_iters=1,
)  # fmt: skip
AGENTS: dict[str, dict[str, Any]] = {
    "rl2-ml10": {"episodes_per_trial": 2, "hidden": 16},
    "maml-ml10": {"episodes_per_step": 1, "hidden": (16,)},
    "ml1-reach-quick": {"episodes_per_trial": 2, "hidden": 16},
    "maml-ml1-reach": {"episodes_per_step": 1, "hidden": (16,)},
}
CORES = {"compiled": {"core": "compiled", "n_threads": 2}, "python": {"core": "python", "n_threads": 2}}


class Kept:
    """A recorder that keeps everything."""

    stop_requested = False

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.states: list[dict[str, Any]] = []

    def log(self, record: dict[str, Any]) -> None:
        self.records.append({k: v for k, v in record.items() if not k.startswith("time/") and not k.endswith("_s")})

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        self.states.append({k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in flat(state).items()})


def flat(state: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(state, dict):
        return {path: state}
    return {k: v for key, value in state.items() for k, v in flat(value, f"{path}/{key}").items()}


def train(preset: str, seed: int = 3, **options: Any) -> Kept:
    """Train for three iterations of 12-step episodes; return metrics and parameters of each."""
    config: AnyConfig = load_preset(preset)
    world = dataclasses.replace(config.world, options={**config.world.options, "horizon": 12, **options})
    agent = dataclasses.replace(config.agent, **AGENTS[preset])
    config = dataclasses.replace(config, world=world, agent=agent, seed=seed)
    tasks = envs.make(config.world.name, **config.world.options)
    kept = Kept()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        meta_train(build_agent(config, tasks, torch.device("cpu")), tasks, SHORT, kept, seed=seed)
    finally:
        torch.set_num_threads(threads)
    return kept


@cache
def upstream(preset: str) -> Kept:
    return train(preset, backend="upstream", n_workers=0)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return bool(a == b or (a != a and b != b))


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("preset", AGENTS)
def test_three_iterations_give_the_same_numbers_and_parameters_on_both_backends(preset: str, core: str) -> None:
    try:
        ours = train(preset, backend="engine", **CORES[core])
    except ConfigError as missing:
        if core == "python":
            raise
        pytest.skip(f"no compiled core here: {missing}")
    theirs = upstream(preset)
    assert len(ours.records) == len(theirs.records) == len(ours.states) == len(theirs.states) == 3
    for mine, other in zip([*ours.records, *ours.states], [*theirs.records, *theirs.states], strict=True):
        assert mine.keys() == other.keys()
        assert [key for key in other if not same(mine[key], other[key])] == []
    assert "validation/post_return" in theirs.records[-1]


def test_another_seed_gives_another_run() -> None:
    first, other = upstream("ml1-reach-quick"), train("ml1-reach-quick", seed=4, backend="upstream", n_workers=0)
    assert first.records != other.records
    assert any(not same(first.states[-1][key], other.states[-1][key]) for key in first.states[-1])
