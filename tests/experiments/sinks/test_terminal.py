"""The live table and the plain lines say what a record says."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from metarl.experiments.cli.numbers import duration, number
from metarl.experiments.sinks.terminal import Clock, Lines, LiveTable, make_progress

RECORD: dict[str, Any] = {
    "iteration": 12,
    "env_steps": 3_600_000,
    "wall_s": 131.2,
    "steps_per_s": 27_439.0,
    "checkpoint_age_s": 4.0,
    "time/collect_s": 8.25,
    "time/update_s": 2.5,
    "train/pre_return": -39.61,
    "train/post_return": -19.87,
    "train/pre_success": 0.05,
    "train/post_success": 0.61,
    "update/kl": 0.0095,
    "update/grad_norm": 0.731,
    "update/accepted": 1.0,
}
VALIDATION = {"validation/pre_return": -41.25, "validation/post_return": -18.5}


def show(*records: dict[str, Any], notices: list[str] | None = None, width: int = 100) -> str:
    """Return what a terminal of `width` columns shows after `records`."""
    console, screen = (
        Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None) for _ in range(2)
    )
    table = LiveTable("maml: maml-trpo on navigation, seed 3", 300, ["W&B offline: runs/a"], notices or [], screen)
    try:
        for record in records:
            table.log(record)
        with console.capture() as captured:
            console.print(table.render())
    finally:
        table.close()
    return captured.get()


def test_the_table_shows_progress_scores_update_and_places() -> None:
    text = show(RECORD)
    for part in (
        "maml: maml-trpo on navigation, seed 3", "iteration 12/300", "3,600,000 env steps", "27,439 steps/s", "ETA",
        "checkpoint 4 s ago", "-39.6", "-19.9", "0.05", "0.61", "kl 0.0095", "grad_norm 0.731", "accepted 1",
        "collect_s 8.25", "W&B offline: runs/a",
    ):  # fmt: skip
        assert part in text, f"{part!r} not in\n{text}"
    assert "validation" not in text


def test_the_validation_row_stays_until_the_next_validation() -> None:
    text = show(RECORD | VALIDATION, RECORD | {"iteration": 13})
    assert "iteration 13/300" in text
    assert "validation at 12" in text
    assert "-41.2" in text
    assert "-18.5" in text


def test_a_world_without_success_has_no_success_column() -> None:
    plain = {k: v for k, v in RECORD.items() if "success" not in k}
    assert "success" in show(RECORD)
    assert "success" not in show(plain)


def test_before_the_first_record_the_table_says_so() -> None:
    assert "iteration 0/300" in show()
    assert "first iteration running" in show()


def test_the_last_warnings_are_shown() -> None:
    text = show(RECORD, notices=[f"sink {i} failed" for i in range(5)])
    assert "warning: sink 4 failed" in text
    assert "sink 1" not in text


def test_the_table_fits_a_narrow_terminal() -> None:
    for width in (40, 80):
        assert max(len(line) for line in show(RECORD, width=width).splitlines()) <= width
    rows = show(RECORD | VALIDATION, width=80).splitlines()
    assert any("return before" in r and "after adaptation" in r and "success before" in r for r in rows)


def test_lines_can_be_read_back_as_numbers() -> None:
    stream = io.StringIO()
    lines = Lines(300, stream)
    lines.log(RECORD)
    lines.log(RECORD | VALIDATION | {"iteration": 13})
    first, second = (dict(p.split("=") for p in line.split()) for line in stream.getvalue().splitlines())
    assert (first["iter"], first["env_steps"]) == ("12", "3600000")
    assert float(first["train/post_return"]) == -19.87
    assert float(second["validation/post_return"]) == -18.5
    assert all(float(value) == float(value) for value in first.values())
    assert "validation/post_return" not in first


@pytest.mark.parametrize(
    ("mode", "terminal", "kind"),
    [("auto", True, LiveTable), ("auto", False, Lines), ("plain", True, Lines), ("off", True, type(None))],
)
def test_auto_is_a_table_on_a_terminal_and_lines_elsewhere(
    mode: Any, terminal: bool, kind: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    shown = make_progress(mode, {"name": "x", "train": {"n_iterations": 3}}, tmp_path, "W&B disabled", [])
    assert type(shown) is kind
    if shown is not None:
        shown.close()


def test_the_remaining_time_shrinks_with_the_iterations_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clock = Clock(10)
    for _ in range(4):
        now[0] += 2.0
        clock.tick()
    assert clock.eta_s(4) == pytest.approx(12.0)
    assert clock.eta_s(10) == 0.0


def test_numbers_and_durations_read_well() -> None:
    assert [number(v) for v in (None, 1_234_567, 12.345, -0.00123, 123.456, 1.5e6)] == [
        "-", "1,234,567", "12.3", "-0.00123", "123.5", "1,500,000",
    ]  # fmt: skip
    assert [duration(s) for s in (41.6, 185, 7385)] == ["42 s", "3:05", "2:03:05"]


def test_a_line_holds_the_essentials_in_120_characters_whatever_the_record_says() -> None:
    stream = io.StringIO()
    many = {f"update/a_metric_of_some_agent_{i}": 0.123456789 for i in range(20)}
    long = RECORD | VALIDATION | many | {"iteration": 123_456, "env_steps": 123_456_789_012, "wall_s": 1e6 / 3}
    Lines(10**6, stream).log(long | {"train/post_return": -12345.678901, "validation/post_return": -1 / 3})
    line = stream.getvalue().rstrip("\n")
    assert len(line) <= 120
    for part in (
        "iter=123456 ",
        "env_steps=123456789012 ",
        "train/post_return=-12346",
        "validation/post_return=-0.3333",
    ):
        assert part in line
    assert "a_metric" not in line


def test_the_table_shows_a_name_with_brackets_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"name": "[red]a[/red]", "train": {"n_iterations": 3}}
    table = make_progress("rich", config, tmp_path / "[bold]\n", "W&B [disabled]", [])
    assert table is not None
    table.log(RECORD)
    table.close()
    said = capsys.readouterr().out
    for part in ("[red]a[/red]: agent on ?, seed 0", "[bold]\\n", "W&B [disabled]"):
        assert part in "".join(line.strip("│ ") for line in said.splitlines())
