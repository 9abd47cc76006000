"""`metarl bench agents`: where an iteration's time goes at the published sizes, how fast updates are.

Each case trains a few iterations, in a process of its own so that its peak memory is its own, on one thread of torch:
CPU seconds of collecting, adapting and updating; floating-point operations of the matrix products of an update, counted
on an iteration that is not timed, against the rate of a plain large product in the same process; peak resident memory.
Figures of other programs were taken on another machine, in CPU seconds; docs/training.md says which.

With `--device cuda` seconds are those of the clock on the wall, the GPU's work waited for, the product is one on the
GPU, memory is what tensors took there at most, and there are no targets.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from metarl.errors import ConfigError, nearest
from metarl.experiments.build import LoadedRun, build_agent, build_tasks, configure_torch
from metarl.experiments.cli.help_text import HelpFormatter
from metarl.experiments.cli.safe_text import make_console
from metarl.experiments.config import AnyConfig, ExperimentConfig, WorldConfig, check_device
from metarl.loop import LoopSettings
from metarl.provenance import provenance

from .clock import machine
from .fresh_process import measured_in_a_process
from .options import bench_parser, place, store
from .profile import profile, wait_for

MEASURES: dict[str, str] = {
    "update_cpu_s": "CPU s of an update",
    "collect_cpu_s": "CPU s of collecting",
    "iteration_cpu_s": "CPU s of an iteration",
    "share_of_product_rate": "share of the product rate",
    "gradient_steps_per_cpu_s": "gradient steps per CPU s",
    "peak_gb": "peak memory, GB",
}
"""What a target may be about."""


@dataclass(frozen=True)
class Target:
    """What a measured figure should be, and against what."""

    measure: str
    """A name in `MEASURES`."""
    limit: float
    most: bool
    """True: at most `limit`; False: at least."""
    why: str
    """Where the limit comes from."""

    def met(self, found: Mapping[str, Any]) -> bool:
        """Say whether a case's figures keep it."""
        value = float(found[self.measure])
        return value <= self.limit if self.most else value >= self.limit


@dataclass(frozen=True)
class Case:
    """One agent on one world at one size."""

    about: str
    make: Callable[[], AnyConfig]
    """Build the configuration; imports wait until then."""
    iterations: int = 3
    """Iterations that are timed, after one that is not."""
    targets: tuple[Target, ...] = ()


def _config(name: str, world: WorldConfig, agent: Any, n_tasks: int) -> AnyConfig:
    train = LoopSettings(n_iterations=1, n_tasks=n_tasks, envs_per_task=1, validate_every_iters=0)
    return ExperimentConfig(name=name, world=world, agent=agent, train=train, threads=1)


def maml_metaworld(episodes: int) -> AnyConfig:
    """Return MAML-TRPO with two layers of 512 tanh units on 20 tasks of ML10, `episodes` per phase."""
    from metarl.agents.maml.agent import MAMLConfig

    # All tasks at once, at ten episodes, take more memory than most machines have.
    agent = MAMLConfig(
        hidden=(512, 512), activation="tanh", episodes_per_step=episodes, tasks_at_once=None if episodes == 1 else 2
    )
    return _config("maml-metaworld", WorldConfig("metaworld/ML10"), agent, 20)


def rl2_metaworld(episodes: int) -> AnyConfig:
    """Return RL² with 256-256 units before a GRU of 256 on 20 tasks of ML10; gradients through 250 steps, 10 epochs."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.rl2.agent import RL2Config

    agent = RL2Config(
        episodes_per_trial=episodes, encoder=(256, 256), hidden=256, bptt_steps=250,
        ppo=PPOConfig(lr=5e-4, epochs=10, minibatches=1),
    )  # fmt: skip
    return _config("rl2-metaworld", WorldConfig("metaworld/ML10"), agent, 20)


def maml_navigation() -> AnyConfig:
    """Return the preset, one thread."""
    from metarl.experiments.presets import load_preset

    return replace(load_preset("maml-navigation"), threads=1)


def pearl_point_robot() -> AnyConfig:
    """Return PEARL at the size of its authors' code: 16 tasks of 256 rows per gradient step, 3 x 300 units."""
    from metarl.agents.pearl.agent import PEARLConfig

    return _config("pearl-point-robot", WorldConfig("point-robot"), PEARLConfig(grad_steps=25), 16)


_JAX = "half of metaworld-algorithms (JAX)"
_HALF_RATE = Target("share_of_product_rate", 0.5, False, "half the rate of a plain product")

CASES: dict[str, Case] = {
    "maml-navigation": Case(
        "MAML-TRPO, 2-D navigation: 20 tasks x 20 episodes x up to 100 steps, twice",
        maml_navigation, 5, (Target("iteration_cpu_s", 7.8 / 5, True, "a fifth of pytorch-maml-rl"),),
    ),
    "pearl-point-robot": Case(
        "PEARL, point robot: 16 tasks x 256 rows, 3 x 300 units", pearl_point_robot, 2,
        (Target("gradient_steps_per_cpu_s", 4.6, False, "twice oyster"),),
    ),
    "maml-metaworld-small": Case(
        "MAML-TRPO 2 x 512, ML10: 20 tasks x 1 episode x 500 steps, twice", partial(maml_metaworld, 1), 3,
        (Target("update_cpu_s", 8.5, True, _JAX), Target("collect_cpu_s", 25.0, True, "metaworld-algorithms (JAX)")),
    ),
    "rl2-metaworld-small": Case(
        "RL² 256-256-GRU 256, ML10: 20 tasks x 2 episodes x 500 steps", partial(rl2_metaworld, 2), 3,
        (Target("update_cpu_s", 5.0, True, _JAX), Target("collect_cpu_s", 26.0, True, "metaworld-algorithms (JAX)")),
    ),
    "maml-metaworld": Case(
        "MAML-TRPO 2 x 512, ML10: 20 tasks x 10 episodes x 500 steps, twice", partial(maml_metaworld, 10), 1,
        (_HALF_RATE, Target("peak_gb", 3.0, True, "the JAX reference takes 11.5")),
    ),
    "rl2-metaworld": Case(
        "RL² 256-256-GRU 256, ML10: 20 tasks x 10 episodes x 500 steps", partial(rl2_metaworld, 10), 1, (_HALF_RATE,)
    ),
}  # fmt: skip
QUICK = ("maml-navigation",)


def _added_product_flop(total: Any, a: Any, b: Any, **_: Any) -> int:
    """Return the operations of total += a @ b, from shapes [..., i, j] and [..., j, k]."""
    return 2 * int(math.prod(a)) * int(b[-1])


def _cudnn_flop(x: Any, weights: Any, *_: Any, passes: int = 1, **__: Any) -> int:
    """Return the operations of products in a recurrent layer of cuDNN, from shapes: x [T, B, I], its weights."""
    return passes * 2 * int(x[0]) * int(x[1]) * sum(int(w[0]) * int(w[1]) for w in weights if len(w) == 2)


def _uncounted_products() -> dict[Any, Any]:
    """Return formulas for products that torch's counter does not know: in-place ones, and those inside cuDNN."""
    aten = torch.ops.aten
    return {
        aten.addmm_: _added_product_flop,
        aten.baddbmm_: _added_product_flop,
        aten._cudnn_rnn: _cudnn_flop,
        aten._cudnn_rnn_backward: partial(_cudnn_flop, passes=2),
    }


class Counted:
    """Stands in for an agent; counts the floating-point operations of matrix products in its first update."""

    def __init__(self, agent: Any) -> None:
        self.__dict__.update(_agent=agent, flops=None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_agent"], name)

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """Update; the first time under the counter, which takes time."""
        if self.flops is not None:
            return self._agent.update(*args, **kwargs)
        with FlopCounterMode(display=False, custom_mapping=_uncounted_products()) as counter:
            metrics = self._agent.update(*args, **kwargs)
        self.__dict__["flops"] = float(counter.get_total_flops())
        return metrics


def product_rate(device: torch.device, size: int | None = None, rounds: int = 7) -> float:
    """Return floating-point operations per second of a float32 product of two matrices [size, size]; the best.

    CPU seconds, or on a GPU those on the wall; a product has 2,048 rows, or on a GPU 8,192.
    """
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    size = size or (8192 if on_gpu else 2048)
    a, b = torch.randn(2, size, size, device=device)
    best = float("inf")
    for _ in range(rounds):
        wait_for(device)
        began = clock()
        torch.mm(a, b)
        wait_for(device)
        best = min(best, clock() - began)
    return 2.0 * size**3 / best


def peak_gb(device: torch.device) -> float:
    """Return the most memory that this process held, or on a GPU its tensors there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measure_case(name: str, iterations: int | None = None, device: str = "cpu") -> dict[str, Any]:
    """Return the figures of a case; call it in a fresh process."""
    case = CASES[name]
    config = replace(case.make(), device=device)
    where = configure_torch(config)
    rate = product_rate(where)
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)  # the product's own matrices are no part of the case
    tasks = build_tasks(config)
    agent = Counted(build_agent(config, tasks, where))
    n = iterations or case.iterations
    found = profile(LoadedRun(config, agent, tasks, 0, 0), n, warm_up=1)
    clock = "cpu_s" if where.type == "cpu" else "wall_s"
    out = figures(found, agent.flops, rate, getattr(config.agent, "grad_steps", None), clock)
    return out | {"peak_gb": peak_gb(where)}


def figures(
    found: Mapping[str, Any], flops: float, rate: float, grad_steps: int | None, clock: str = "cpu_s"
) -> dict[str, Any]:
    """Return a case's figures per iteration from a profile of several; seconds are "cpu_s" or "wall_s"."""
    n = int(found["n_iterations"])
    spent = {phase: float(row[clock]) / n for phase, row in found["phases"].items()}
    update, adapt = (spent.get(f"agent.{part}", 0.0) for part in ("update", "adapt"))
    total = sum(spent.values())
    out = {
        "n_iterations": n,
        "env_steps": round(found["env_steps"] / n),
        f"collect_{clock}": total - update - adapt,
        f"adapt_{clock}": adapt,
        f"update_{clock}": update,
        f"iteration_{clock}": total,
        "iteration_wall_s": sum(float(row["wall_s"]) for row in found["phases"].values()) / n,
        "update_gflop": flops / 1e9,
        f"update_gflop_per_{clock}": flops / 1e9 / update,
        f"product_gflop_per_{clock}": rate / 1e9,
        "share_of_product_rate": flops / update / rate,
    }
    return out | ({} if grad_steps is None else {f"gradient_steps_per_{clock}": grad_steps / update})


def measure(
    names: list[str], rounds: int, console: Console | None = None, *, quick: bool = False, device: str = "cpu"
) -> dict[str, Any]:
    """Return all figures; cases take turns, and the median over rounds counts."""
    where = check_device(device)
    for name in names:
        if name not in CASES:
            raise ConfigError(f"no case {name!r}; {nearest(name, CASES)}")
    began, load = time.perf_counter(), os.getloadavg()[0]
    all_found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names:
            words = [name, "--device", device, *["--quick"] * quick]
            all_found[name].append(measured_in_a_process(__name__, *words, what=f"case {name!r}"))
            if console is not None:
                console.print(f"round {turn + 1}, {name}: {all_found[name][-1]['iteration_wall_s']:.2f} s on the wall")
    cases = {}
    for name, rows in all_found.items():
        medians = {k: statistics.median(row[k] for row in rows) for k in rows[0]}
        targets = [
            {"measure": t.measure, "limit": t.limit, "most": t.most, "why": t.why, "met": t.met(medians)}
            for t in (CASES[name].targets if where.type == "cpu" else ())
        ]
        cases[name] = {"about": CASES[name].about, "median": medians, "rounds": rows, "targets": targets}
    return {
        "kind": "metarl.bench-agents",
        "machine": machine() | {"load_before": load} | _gpu(where),
        "provenance": provenance(),
        "wall_s": round(time.perf_counter() - began, 1),
        "cases": cases,
    }


def _gpu(device: torch.device) -> dict[str, str]:
    """Return what the GPU is, if there is one in use."""
    return {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}


def print_found(found: Mapping[str, Any], console: Console) -> None:
    """Print one row per case, then its targets."""
    where = found["machine"].get("gpu", "one thread")
    clock = "wall_s" if "gpu" in found["machine"] else "cpu_s"
    table = Table(title=f"per iteration, {where}", title_justify="left", box=None)
    table.add_column("case")
    columns = {
        "env_steps": ",.0f", f"collect_{clock}": ".2f", f"adapt_{clock}": ".3f", f"update_{clock}": ".3f",
        "update_gflop": ",.0f", f"update_gflop_per_{clock}": ".1f", "share_of_product_rate": ".0%", "peak_gb": ".2f",
    }  # fmt: skip
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    for name, case in found["cases"].items():
        table.add_row(name, *(format(case["median"][k], spec) for k, spec in columns.items()))
    console.print(table)
    for name, case in found["cases"].items():
        for t in case["targets"]:
            sign, verdict = "at most" if t["most"] else "at least", "met" if t["met"] else "MISSED"
            value = case["median"][t["measure"]]
            console.print(
                f"{name}: {MEASURES[t['measure']]} {value:.3g}, {sign} {t['limit']:.3g} ({t['why']}): {verdict}"
            )


def main(argv: Sequence[str]) -> int:
    """Measure, print and, unless quick, store."""
    parser = bench_parser("agents", __doc__, CASES)
    parser.add_argument("--device", default="cpu", help="torch device to measure on (default: cpu)")
    arguments = parser.parse_args(list(argv))
    quick, device, console = arguments.quick, arguments.device, make_console()
    out = place(arguments, "agents-speed.json" if device == "cpu" else "agents-speed-gpu.json")
    names = list(arguments.scenario or (QUICK if quick else CASES))
    found = measure(names, arguments.rounds or (1 if quick else 3), console, quick=quick, device=device)
    print_found(found, console)
    store(found, out, console)
    return 0


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("case", choices=list(CASES))
    parser.add_argument("--quick", action="store_true", help="one iteration")
    parser.add_argument("--device", default="cpu", help="torch device")
    arguments = parser.parse_args()
    print(json.dumps(measure_case(arguments.case, 1 if arguments.quick else None, arguments.device)))


if __name__ == "__main__":
    _main()
