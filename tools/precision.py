"""`python -m tools.precision [--into FILE]`: would bfloat16 or torch.compile make agents faster?

Times the batched matrix products of the agents' networks in float32, with torch's leave to round inputs
(`torch.set_float32_matmul_precision("medium")`), and in bfloat16; and loss and gradient of a policy as they are and
compiled. One thread; the variants take turns and the least CPU time of each counts, so that a busy machine tells the
same story.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metarl.experiments.cli.help_text import HelpFormatter
from metarl.experiments.cli.outputs import write_json
from metarl.experiments.cli.parser import whole
from metarl.provenance import provenance
from metarl.seeding import generator

SHAPES: dict[str, tuple[int, int, int, int]] = {
    "navigation, first layer": (20, 2000, 2, 64),
    "navigation, hidden layer": (20, 2000, 64, 64),
    "ML10, first layer": (20, 500, 39, 512),
    "ML10, hidden layer": (20, 500, 512, 512),
    "ML10, GRU's inputs": (1, 10_000, 256, 768),
}
"""Tasks, rows per task, inputs and outputs of one product."""
POLICIES: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "navigation": (20, 2000, (2, 64, 64, 2)),
    "ML10": (20, 500, (39, 512, 512, 4)),
}
"""Tasks, rows per task and units of a policy's layers."""


def least_cpu_s(calls: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Return the least CPU seconds of each call; they take turns, after one round that does not count."""
    least = [float("inf")] * len(calls)
    for turn in range(rounds + 1):
        for i, call in enumerate(calls):
            began = time.process_time()
            call()
            if turn:
                least[i] = min(least[i], time.process_time() - began)
    return least


def float32(x: Tensor, w: Tensor) -> Tensor:
    """Multiply in float32."""
    torch.set_float32_matmul_precision("highest")
    return torch.bmm(x, w)


def medium(x: Tensor, w: Tensor) -> Tensor:
    """Multiply float32 numbers, which torch may round to bfloat16 first where it has a kernel for that."""
    torch.set_float32_matmul_precision("medium")
    return torch.bmm(x, w)


def bfloat16(x: Tensor, w: Tensor) -> Tensor:
    """Convert, multiply in bfloat16 and convert back, as autocast does."""
    return torch.bmm(x.bfloat16(), w.bfloat16()).float()


WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"float32": float32, "medium": medium, "bfloat16": bfloat16}


def products(rounds: int) -> dict[str, dict[str, float]]:
    """Return GFLOP per CPU second of each way to multiply, and the largest error relative to the largest result."""
    found = {}
    for name, (n, rows, n_in, n_out) in SHAPES.items():
        x = torch.randn(n, rows, n_in, generator=generator(0, name, "x"))
        w = torch.randn(n, n_in, n_out, generator=generator(0, name, "w")) / n_in**0.5
        calls: dict[str, Callable[[], Tensor]] = {way: partial(f, x, w) for way, f in WAYS.items()}
        calls["bfloat16, unconverted"] = partial(torch.bmm, x.bfloat16(), w.bfloat16())
        work = 2e-9 * n * rows * n_in * n_out
        seconds = least_cpu_s(list(calls.values()), rounds)
        row = {f"{way}, GFLOP/s": work / s for way, s in zip(calls, seconds, strict=True)}
        exact = torch.bmm(x.double(), w.double())
        found[name] = row | {
            f"{way}, error": float((call() - exact).abs().max() / exact.abs().max()) for way, call in calls.items()
        }
    torch.set_float32_matmul_precision("highest")
    return found


def loss(x: Tensor, *weights: Tensor) -> Tensor:
    """Return the mean square of what an MLP per task puts out: x [N, R, in]."""
    for weight in weights[:-1]:
        x = torch.bmm(x, weight).tanh()
    return torch.bmm(x, weights[-1]).square().mean()


def step(of: Callable[..., Tensor], x: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradient of `of`."""
    leaves = [w.detach().requires_grad_() for w in weights]
    return torch.autograd.grad(of(x, *leaves), leaves)


def policies(rounds: int) -> dict[str, dict[str, float]]:
    """Return CPU milliseconds of a policy's loss and gradient, as they are and compiled, and of compiling."""
    found = {}
    for name, (n, rows, units) in POLICIES.items():
        x = torch.randn(n, rows, units[0], generator=generator(0, name, "x"))
        sizes = enumerate(pairwise(units))
        weights = [torch.randn(n, a, b, generator=generator(0, name, i)) / a**0.5 for i, (a, b) in sizes]
        compiled = torch.compile(loss, dynamic=False)
        began = time.perf_counter()
        step(compiled, x, weights)
        compile_s = time.perf_counter() - began
        plain_s, compiled_s = least_cpu_s([partial(step, f, x, weights) for f in (loss, compiled)], rounds)
        found[name] = {"plain, ms": 1e3 * plain_s, "compiled, ms": 1e3 * compiled_s, "compiling, wall s": compile_s}
    return found


def show(found: Mapping[str, Mapping[str, float]]) -> None:
    """Print one line per row."""
    for name, row in found.items():
        print(f"{name}: " + "; ".join(f"{k} {v:.3g}" for k, v in row.items()), flush=True)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--into", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--rounds", type=whole(1), default=12, help="turns of each variant")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"kind": "metarl.precision", "provenance": provenance()}
    for part, measure in (("products", products), ("policies", policies)):
        result[part] = measure(arguments.rounds)
        show(result[part])
    if arguments.into is not None:
        write_json(arguments.into, result)


if __name__ == "__main__":
    main()
