"""`bench agents`: operations counted once, shares and targets worked out by hand, the command as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from metarl.agents.memory.sequence import gru
from metarl.errors import ConfigError
from metarl.experiments.bench.agents import (
    CASES,
    MEASURES,
    Case,
    Counted,
    Target,
    figures,
    main,
    measure,
    print_found,
    product_rate,
)

PROFILE: dict[str, Any] = {
    "n_iterations": 2,
    "env_steps": 1000,
    "phases": {
        "agent.update": {"cpu_s": 8.0, "wall_s": 10.0},
        "agent.adapt": {"cpu_s": 1.0, "wall_s": 1.0},
        "world.step": {"cpu_s": 2.0, "wall_s": 1.0},
        "everything else": {"cpu_s": 1.0, "wall_s": 2.0},
    },
}


class Multiplying:
    """An agent whose update is one product of matrices, and its gradient."""

    name = "multiplying"

    def update(self) -> dict[str, float]:
        weight = torch.ones(5, 6, requires_grad=True)
        torch.mm(torch.ones(4, 5), weight).sum().backward()  # type: ignore[no-untyped-call]
        return {}


def test_the_products_of_the_first_update_are_counted_backward_included() -> None:
    agent = Counted(Multiplying())
    assert agent.flops is None
    for _ in range(2):
        assert agent.update() == {}
        assert agent.flops == 2 * (2 * 4 * 5 * 6)  # the product, and its gradient to the weights
    assert agent.name == "multiplying"


class Recurrent:
    """An agent whose update is a GRU's walk over T = 4 steps of B = 3 rows, 2 inputs and 5 units, and its gradient."""

    def update(self) -> dict[str, float]:
        x, h = torch.ones(4, 3, 2), torch.zeros(3, 5)
        weights = [torch.ones(shape, requires_grad=True) for shape in ((15, 2), (15, 5), (15,), (15,))]
        gru(x, h, (weights[0], weights[1], weights[2], weights[3])).sum().backward()  # type: ignore[no-untyped-call]
        return {}


def test_products_that_are_added_in_place_are_counted_too() -> None:
    agent = Counted(Recurrent())
    agent.update()
    products = 2 * 4 * 3 * 15 * (2 + 5)  # forward; the gradients of weights; those of the memory (not of the inputs)
    assert agent.flops == 2 * products + 2 * 4 * 3 * 15 * 5


def test_a_batch_of_products_added_in_place_is_counted() -> None:
    class Adding:
        def update(self) -> dict[str, float]:
            torch.zeros(7, 2, 4).baddbmm_(torch.ones(7, 2, 3), torch.ones(7, 3, 4))
            return {}

    agent = Counted(Adding())
    agent.update()
    assert agent.flops == 7 * 2 * (2 * 3 * 4)


def test_figures_are_per_iteration_and_shares_of_the_rate() -> None:
    found = figures(PROFILE, flops=2e9, rate=4e9, grad_steps=10)
    assert (found["collect_cpu_s"], found["adapt_cpu_s"], found["update_cpu_s"]) == (1.5, 0.5, 4.0)
    assert (found["iteration_cpu_s"], found["iteration_wall_s"], found["env_steps"]) == (6.0, 7.0, 500)
    assert found["share_of_product_rate"] == pytest.approx(0.125)  # 2 GFLOP in 4 s, of 4 GFLOP/s
    assert found["gradient_steps_per_cpu_s"] == 2.5
    assert "gradient_steps_per_cpu_s" not in figures(PROFILE, 2e9, 4e9, None)


def test_figures_of_a_gpu_are_of_the_clock_on_the_wall() -> None:
    found = figures(PROFILE, flops=2e9, rate=4e9, grad_steps=10, clock="wall_s")
    assert (found["collect_wall_s"], found["adapt_wall_s"], found["update_wall_s"]) == (1.5, 0.5, 5.0)
    assert found["share_of_product_rate"] == pytest.approx(0.1)
    assert found["gradient_steps_per_wall_s"] == 2.0
    assert not [key for key in found if "cpu" in key]


def test_targets_are_limits_in_one_direction() -> None:
    most, least = (Target("update_cpu_s", 4.0, is_most, "") for is_most in (True, False))
    assert [most.met({"update_cpu_s": v}) for v in (3.9, 4.0, 4.1)] == [True, True, False]
    assert [least.met({"update_cpu_s": v}) for v in (3.9, 4.0, 4.1)] == [False, True, True]
    assert {t.measure for case in CASES.values() for t in case.targets} <= set(MEASURES)


def test_a_larger_product_takes_longer_but_not_at_another_rate() -> None:
    small, large = (product_rate(torch.device("cpu"), size) for size in (512, 1024))
    assert 0.2 < small / large < 5
    assert large > 1e8


@pytest.mark.parametrize("name", CASES)
def test_cases_are_of_the_sizes_they_say(name: str) -> None:
    case = CASES[name]
    assert isinstance(case, Case)
    config = case.make()
    assert (config.threads, config.train.n_tasks) == (1, 16 if name == "pearl-point-robot" else 20)
    agent = config.agent
    if name.startswith("maml-metaworld"):
        assert (agent.hidden, agent.activation, agent.inner_steps) == ((512, 512), "tanh", 1)
    if name.startswith("rl2"):
        assert (agent.encoder, agent.hidden, agent.memory) == ((256, 256), 256, "gru")
    if name.startswith("pearl"):
        assert (agent.sac.hidden, agent.sac.batch_size, agent.meta_batch) == ((300, 300, 300), 256, 16)


def test_the_command_measures_in_a_process_of_its_own_and_stores(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "agents.json"
    assert main(["--quick", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    row = found["cases"]["maml-navigation"]["median"]
    assert row["env_steps"] > 70_000
    assert row["update_gflop"] > 10
    assert row["peak_gb"] > 0.05
    assert row["update_cpu_s"] > 5 * row["adapt_cpu_s"] > 0
    [target] = found["cases"]["maml-navigation"]["targets"]
    assert target["met"] == (row["iteration_cpu_s"] <= target["limit"])
    print_found(found, Console(width=200))
    assert "CPU s of an iteration" in capsys.readouterr().out


def test_an_unknown_case_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'maml-navigation'"):
        measure(["maml-navigtion"], 1)


def test_a_device_that_is_not_there_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError, match="device 'cuda:77'"):
        measure(["maml-navigation"], 1, device="cuda:77")
