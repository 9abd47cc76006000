"""A benchmark's figures as tables for the terminal and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metarl.experiments.figures.plots import STYLE
from metarl.statistics import Interval

from .rounds import Cell
from .statistics import COMPILED, PYTHON, RAW, Clock, Found, median_of_rounds, speed_ratio, times

LOOKS: dict[str, tuple[str, str]] = {
    RAW: ("#000000", "x"),
    COMPILED: ("#0072B2", "o"),
    PYTHON: ("#56B4E9", "s"),
    "envpool": ("#009E73", "^"),
    "upstream serial": ("#D55E00", "D"),
    "AsyncVectorEnv": ("#CC79A7", "v"),
}
"""Colour (Okabe and Ito's palette) and marker of each contender."""


def number(value: float) -> str:
    """Return microseconds with three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def ratio(interval: Interval) -> str:
    """Return "1.23 [1.20, 1.25]"."""
    value, low, high = map(float, interval)
    return f"{value:.2f} [–]" if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def print_cells(cells: Sequence[Cell], console: Console) -> None:
    """Print CPU and wall microseconds per env step: one table per scenario, one row per contender."""
    for scenario in dict.fromkeys(c.scenario for c in cells):
        own = [c for c in cells if c.scenario == scenario]
        sizes = sorted({c.num_envs for c in own})
        table = Table(title=f"{scenario}: µs per env step, CPU | wall", title_justify="left", box=None)
        table.add_column("")
        table.add_column("threads", justify="right")
        for n in sizes:
            table.add_column(f"N={n}", justify="right")
        table.add_column("observations")
        for label, threads in dict.fromkeys((c.label, _threads(c)) for c in own):
            row = {c.num_envs: c for c in own if (c.label, _threads(c)) == (label, threads)}
            texts = [_cost(row[n]) if n in row else "" for n in sizes]
            table.add_row(label, threads, *texts, _same(list(row.values())))
        console.print(table, "")


def _threads(cell: Cell) -> str:
    return "1 process each" if cell.label == "AsyncVectorEnv" else str(cell.n_threads)


def _cost(cell: Cell) -> str:
    cpu, wall = (float(np.median(times(cell, clock))) for clock in ("cpu", "wall"))
    return f"{number(cpu)} | {number(wall)}"


def _same(cells: Sequence[Cell]) -> str:
    known = [c.difference for c in cells if c.difference is not None]
    if not known:
        return ""
    return "equal upstream's" if max(known) == 0.0 else f"up to {max(known):.1e} from upstream's"


def print_targets(found: Sequence[Found], console: Console) -> None:
    """Print each target beside what was reached at the worst size."""
    table = Table(title="targets (the size where the ratio is lowest)", title_justify="left", box=None)
    for column, justify in (
        ("", "left"),
        ("scenario", "left"),
        ("N", "right"),
        ("median ratio [95 % over rounds]", "right"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_column("target", justify="right")
    table.add_column("")
    for one in found:
        table.add_row(
            one.target, one.scenario, str(one.num_envs), ratio(one.ratio), f"≥ {one.at_least:g}", verdict(one.met)
        )
    console.print(table)


def print_scaling(cells: Sequence[Cell], console: Console) -> None:
    """Print what two threads of bare physics gain on this machine, the most that an engine's threads could."""
    pairs = [
        (two, one)
        for two in cells
        for one in cells
        if two.label == one.label == RAW
        and (two.scenario, two.num_envs, two.n_threads, one.n_threads) == (one.scenario, one.num_envs, 2, 1)
    ]
    if pairs:
        gains = [float(speed_ratio(two, one, "wall").value) for two, one in pairs]
        low, middle, high = min(gains), float(np.median(gains)), max(gains)
        console.print(f"raw mj_step, 2 threads / 1 thread, wall: {middle:.2f} ({low:.2f} to {high:.2f})")


def verdict(met: bool) -> Text:
    """Return "met" or "missed"."""
    return Text("met", style="green") if met else Text("missed", style="bold red")


def speed_figure(cells: Sequence[Cell]) -> Figure:
    """Return CPU time per env step (one thread) and env steps per second (most threads) against N, per scenario."""
    scenarios = list(dict.fromkeys(c.scenario for c in cells))
    most = max((c.n_threads for c in cells if c.label in (COMPILED, PYTHON, RAW)), default=1)
    rows: list[tuple[Clock, int, str]] = [("cpu", 1, "CPU µs per env step, 1 thread")]
    rows.append(("wall", most, f"env steps per second, {most} thread{'s' if most > 1 else ''}"))
    with mpl.rc_context(STYLE):
        width = max(5.5, 3.1 * len(scenarios))
        figure = Figure(figsize=(width, 6.6), layout="constrained")
        grid = figure.subplots(2, len(scenarios), squeeze=False, sharex=True, sharey="row")
        for row, (clock, threads, title) in zip(grid, rows, strict=True):
            for axes, scenario in zip(row, scenarios, strict=True):
                _panel(axes, [c for c in cells if c.scenario == scenario], clock, threads)
                if clock == "cpu":
                    axes.set_title(scenario)
            row[0].set_ylabel(title)
        for axes in grid[1]:
            axes.set_xlabel("envs N")
        handles = {h.get_label(): h for a in figure.axes for h in a.get_legend_handles_labels()[0]}
        ordered = [handles[label] for label in (_shown(name) for name in LOOKS) if label in handles]
        figure.legend(handles=ordered, loc="outside lower center", ncols=min(len(ordered), 6 if width > 9 else 2))
    return figure


def _panel(axes: Axes, cells: Sequence[Cell], clock: Clock, threads: int) -> None:
    """Draw one scenario: medians with their 95 % intervals; what runs without threads is drawn where it is."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for label, (colour, marker) in LOOKS.items():
        own = sorted((c for c in cells if c.label == label), key=lambda c: c.num_envs)
        threaded = label not in ("upstream serial", "AsyncVectorEnv")
        own = [c for c in own if not threaded or c.n_threads == min(threads, c.num_envs)]
        if not own:
            continue
        n = np.array([c.num_envs for c in own], dtype=float)
        value, low, high = (np.array(v) for v in zip(*(_bounds(c, clock) for c in own), strict=True))
        error = np.maximum(0.0, np.stack([value - low, high - value]))
        line = "--" if label == RAW else "-"
        axes.errorbar(
            n, value, yerr=error, color=colour, marker=marker, linestyle=line, linewidth=1.5, markersize=5,
            capsize=2, label=_shown(label), zorder=3,
        )  # fmt: skip
        if label == "upstream serial":  # one environment after the other costs the same at any N
            axes.axhline(value[0], color=colour, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1)
    sizes = sorted({c.num_envs for c in cells})
    axes.xaxis.set_major_locator(FixedLocator([float(s) for s in sizes if s in (1, 2, 8, 32, 128) or len(sizes) < 5]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}" if str(f"{y:.0e}")[0] in "25" else ""))
    axes.grid(which="minor", color="#f2f2f2", linewidth=0.5)


def _shown(label: str) -> str:
    if label == RAW:
        return "raw mj_step(nstep=5), the limit"
    return "AsyncVectorEnv, a process per env" if label == "AsyncVectorEnv" else label


def _bounds(cell: Cell, clock: Clock) -> tuple[float, float, float]:
    """Return median and interval of µs per env step, or of env steps per second."""
    microseconds = times(cell, clock)
    interval = median_of_rounds((microseconds if clock == "cpu" else 1e6 / microseconds).tolist())
    return float(interval.value), float(interval.low), float(interval.high)
