"""Every kind of agent on a GPU: it learns what it learns on a CPU, repeats itself, resumes, and never makes it wait."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from metarl.agent import Agent
from metarl.agents.maml.agent import MAMLConfig
from metarl.collect import first_step
from metarl.experiments.build import build_agent, build_tasks, configure_torch
from metarl.experiments.cli.main import main
from metarl.experiments.config import AnyConfig
from metarl.loop import NullRecorder, _tensors, meta_train
from metarl.seeding import generator
from metarl.task_distribution import TaskDistribution
from tests.experiments.every_agent import KINDS, N_ITERATIONS, config_of
from tests.experiments.process_settings import process_settings  # noqa: F401
from tests.experiments.runs.test_resume_agents import outcome, train
from tests.gpu.host_draws import HostDraws
from tests.gpu.waiting import no_waiting

pytestmark = pytest.mark.usefixtures("process_settings")

NO_META_LEARNING = ("scratch", "random")


def build(name: str, device: str) -> tuple[AnyConfig, torch.device, TaskDistribution, Agent]:
    """Return a kind's configuration on a device, the device, its tasks and a fresh agent."""
    config = dataclasses.replace(config_of(name), device=device, threads=1)
    if isinstance(config.agent, MAMLConfig):
        # With the usual damping ten conjugate gradients are far from done, and make 1e-7 into as much as 0.1.
        config = dataclasses.replace(config, agent=dataclasses.replace(config.agent, damping=0.1))
    where = configure_torch(config)
    tasks = build_tasks(config)
    return config, where, tasks, build_agent(config, tasks, where)


def learned(name: str, device: str, n_iterations: int = 2) -> dict[str, torch.Tensor]:
    """Return an agent's float tensors, in float64, after some iterations whose noise is drawn on the CPU."""
    config, where, tasks, agent = build(name, device)
    if n_iterations:
        with HostDraws() as draws:
            settings = dataclasses.replace(config.train, n_iterations=n_iterations)
            meta_train(agent, tasks, settings, NullRecorder(), seed=0, device=where)
        assert (draws.n_draws > 0) == (device == "cuda")
    found = _tensors(agent.state_dict(), "")
    return {k: v.detach().to("cpu", torch.float64, copy=True) for k, v in found if v.is_floating_point()}


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], names: list[str]) -> float:
    """Return the Euclidean distance of the tensors `names` in both."""
    return float(torch.cat([(a[name] - b[name]).flatten() for name in names]).norm())


@pytest.mark.parametrize("name", [name for name in KINDS if name not in NO_META_LEARNING])
def test_learns_what_it_learns_on_a_cpu(name: str) -> None:
    """Part by part, because statistics of observations move a thousand times as far as weights do."""
    before, on_cpu, on_gpu = learned(name, "cpu", 0), learned(name, "cpu"), learned(name, "cuda")
    assert {k: v.shape for k, v in on_gpu.items()} == {k: v.shape for k, v in on_cpu.items()}
    parts: dict[str, list[str]] = {}
    for path, value in on_cpu.items():
        if path in before and before[path].shape == value.shape:
            parts.setdefault(path.split("/")[0], []).append(path)
    moved = {part: distance(before, on_cpu, paths) for part, paths in parts.items()}
    off = {part: distance(on_cpu, on_gpu, paths) for part, paths in parts.items()}
    assert max(moved.values()) > 0
    limit = 0.05 if isinstance(config_of(name).agent, MAMLConfig) else 0.005
    assert {part: value for part, value in off.items() if value > limit * moved[part]} == {}


@pytest.mark.parametrize("name", KINDS)
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(name, whole, N_ITERATIONS, device="cuda")
    for n_iterations in (2, N_ITERATIONS):
        train(name, broken, n_iterations, device="cuda")
    assert outcome(broken) == outcome(whole)


@pytest.mark.parametrize("name", ["rl2_gru", "maml", "pearl_product", "varibad", "metric_siamese"])
def test_a_run_is_evaluated_where_it_was_trained_and_on_a_cpu(name: str, tmp_path: Path) -> None:
    train(name, tmp_path / "run", N_ITERATIONS, device="cuda")
    for device in ("cuda", "cpu"):
        assert main(["evaluate", str(tmp_path / "run"), "--device", device, "--n-tasks", "3"]) == 0


@pytest.mark.parametrize("name", KINDS)
def test_neither_acting_nor_the_world_waits_for_the_gpu(name: str) -> None:
    _, device, tasks, agent = build(name, "cuda")
    world = tasks.make_world(4, device=device)
    world.set_tasks(tasks.sample("train", 4, generator(0)).to(device))
    obs, info = world.reset(seed=0)
    step, state = first_step(world, obs, info.get("action_mask")), agent.init(4)
    noise = generator(0, "noise", device=device)
    decided = agent.act(state, step, generator=noise)[1]
    world.step(decided.action)
    with no_waiting():
        for _ in range(3):
            state, decided = agent.act(state, step, generator=noise)
            world.step(decided.action)


def test_a_wait_is_noticed() -> None:
    """Negative control."""
    ones = torch.ones(3, device="cuda")
    with no_waiting(), pytest.raises(RuntimeError, match="synchroniz"):
        ones.sum().item()
