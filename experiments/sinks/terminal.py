"""What the terminal shows of a run: a live table, or one line per iteration where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from metarl.experiments.cli.numbers import duration, number
from metarl.experiments.cli.safe_text import make_console, one_line

Mode = Literal["auto", "rich", "plain", "off"]

_REFRESH_PER_S = 2.0
_SMOOTHING = 0.9
"""Weight of the past in the smoothed time per iteration."""

_LONGEST_LINE = 120
_LINE = (
    "iter", "env_steps", "train/post_return", "validation/post_return", "train/post_success", "validation/post_success",
    "eta_s", "train/pre_return", "validation/pre_return", "steps_per_s", "train/pre_success", "validation/pre_success",
)  # fmt: skip
"""What a plain line says, the most important first: what does not fit into `_LONGEST_LINE` is left out."""


def make_progress(
    mode: Mode, config_json: Mapping[str, Any], run_dir: Path, wandb: str, notices: list[str]
) -> LiveTable | Lines | None:
    """Return the display for `mode`; "auto" is the table on a terminal and lines elsewhere.

    `config_json` gives title and number of iterations; `wandb` says in words where W&B writes; `notices` is a list
    that others append warnings to while the run goes on.
    """
    if mode == "off":
        return None
    n_iterations = int(config_json["train"]["n_iterations"])
    if mode == "plain" or (mode == "auto" and not sys.stdout.isatty()):
        return Lines(n_iterations)
    places = [f"run directory {one_line(run_dir)}", one_line(wandb)]
    return LiveTable(one_line(title_of(config_json)), n_iterations, places, notices)


def title_of(config_json: Mapping[str, Any]) -> str:
    """Return "name: algorithm on world, seed n"."""
    agent, world = config_json.get("agent", {}), config_json.get("world", {})
    algorithm = agent.get("type", "agent")
    return (
        f"{config_json.get('name', 'run')}: {algorithm} on {world.get('name', '?')}, seed {config_json.get('seed', 0)}"
    )


class Clock:
    """Smoothed seconds per iteration, from the moments at which records arrive."""

    def __init__(self, n_iterations: int) -> None:
        self.n_iterations = n_iterations
        self._before = time.perf_counter()
        self._per_iteration_s: float | None = None

    def tick(self) -> None:
        """Note that an iteration ended."""
        now = time.perf_counter()
        took, self._before = now - self._before, now
        old = self._per_iteration_s
        self._per_iteration_s = took if old is None else _SMOOTHING * old + (1.0 - _SMOOTHING) * took

    def eta_s(self, iteration: int) -> float:
        """Return the seconds that the iterations after `iteration` will take, 0 if none are left."""
        return max(0, self.n_iterations - iteration) * (self._per_iteration_s or 0.0)


class Lines:
    """One line per iteration: `iter=12 env_steps=3600 train/post_return=3.1 ...`, pairs with a blank between.

    It holds the essentials in at most 120 characters; metrics.jsonl has the rest.
    """

    def __init__(self, n_iterations: int, stream: TextIO | None = None) -> None:
        self.stream, self.clock = stream, Clock(n_iterations)

    def log(self, record: Mapping[str, Any]) -> None:
        """Print one line and flush it."""
        self.clock.tick()
        values = {**record, "iter": record["iteration"], "eta_s": round(self.clock.eta_s(int(record["iteration"])), 1)}
        line = ""
        for key in _LINE:
            pair = f"{key}={_short(values[key])}" if key in values else ""
            if pair and len(line) + 1 + len(pair) <= _LONGEST_LINE:
                line += f" {pair}" if line else pair
        print(line, file=self.stream or sys.stdout, flush=True)

    def close(self, exit_code: int = 0) -> None:
        """Nothing is pending."""


def _short(value: float) -> str:
    """Return a number with four digits that count, or all those of an integer."""
    whole = isinstance(value, int) or 1e4 <= abs(value) < 1e12
    return str(round(value)) if whole else f"{value:.4g}"


class LiveTable:
    """A table that stays in place: progress, scores before and after adaptation, the last update, warnings."""

    def __init__(
        self,
        title: str,
        n_iterations: int,
        places: Sequence[str],
        notices: Sequence[str] = (),
        console: Console | None = None,
    ) -> None:
        self.title, self.n_iterations, self.places, self.notices = title, n_iterations, places, notices
        self.record: dict[str, Any] = {}
        self.validation: dict[str, Any] = {}
        self.clock = Clock(n_iterations)
        self._logged = time.perf_counter()
        self._live = Live(
            console=console or make_console(),
            get_renderable=self.render,
            refresh_per_second=_REFRESH_PER_S,
            vertical_overflow="visible",
        )
        self._live.start()

    def log(self, record: Mapping[str, Any]) -> None:
        """Show a record from the next refresh on."""
        self.clock.tick()
        self._logged = time.perf_counter()
        if any(k.startswith("validation/") for k in record):
            self.validation = dict(record)
        self.record = dict(record)

    def close(self, exit_code: int = 0) -> None:
        """Leave the last state on the screen and give the terminal back."""
        self._live.refresh()
        self._live.stop()
        if not self._live.console.is_terminal:
            self._live.console.print()  # there the last state ends without a line break

    def render(self) -> RenderableType:
        """Return the table as it is now."""
        parts: list[RenderableType] = [self._head(), self._scores(), self._update()]
        parts += [Text(place, style="dim", overflow="fold") for place in self.places]
        parts += [Text(f"warning: {n}", style="bold yellow", overflow="fold") for n in self.notices[-3:]]
        return Panel(Group(*parts), title=Text(self.title, style="bold"), title_align="left")

    def _head(self) -> RenderableType:
        iteration = int(self.record.get("iteration", 0))
        grid = Table.grid(padding=(0, 2))
        since = time.perf_counter() - self._logged
        if not self.record:
            grid.add_row(f"iteration 0/{self.n_iterations}", f"first iteration running for {duration(since)}")
            return grid
        age = self.record.get("checkpoint_age_s")
        eta = max(0.0, self.clock.eta_s(iteration) - since) if iteration < self.n_iterations else 0.0
        grid.add_row(
            f"iteration {iteration}/{self.n_iterations}",
            ProgressBar(total=self.n_iterations, completed=iteration, width=24),
            f"ETA {duration(eta)}",
            f"elapsed {duration(float(self.record.get('wall_s', 0.0)) + since)}",
        )
        grid.add_row(
            f"{int(self.record.get('env_steps', 0)):,} env steps",
            f"{number(self.record.get('steps_per_s'))} steps/s",
            f"checkpoint {duration(float(age) + since)} ago" if age is not None else "",
        )
        return grid

    def _scores(self) -> RenderableType:
        """Return the rows of training and validation tasks, success only where the world has it."""
        has_success = any(k.endswith("_success") for k in (*self.record, *self.validation))
        table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
        table.add_column("tasks")
        for column in ("return before", "after adaptation", *(("success before", "after") if has_success else ())):
            table.add_column(column, justify="right")
        keys = ("pre_return", "post_return", *(("pre_success", "post_success") if has_success else ()))
        table.add_row("train", *(number(self.record.get(f"train/{k}")) for k in keys))
        if self.validation:
            name = f"validation at {self.validation.get('iteration', '?')}"
            table.add_row(name, *(number(self.validation.get(f"validation/{k}")) for k in keys))
        return table

    def _update(self) -> RenderableType:
        """Return the metrics of the last update, those of every algorithm alike, in columns."""
        metrics = {k.removeprefix("update/"): v for k, v in self.record.items() if k.startswith("update/")}
        times = {k.removeprefix("time/"): v for k, v in self.record.items() if k.startswith("time/")}
        grid = Table.grid(padding=(0, 2))
        cells = [Text.assemble((f"{k} ", "dim"), number(v)) for k, v in (metrics | times).items()]
        for i in range(0, len(cells), 4):
            grid.add_row(*cells[i : i + 4])
        return grid
