"""Names are text and every terminal can show them: no markup, no options, no traceback, no endless lines."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import is_math_text

from metarl.commandline import path_word
from metarl.experiments.cli.help_text import fill
from metarl.experiments.cli.main import COMMANDS, main
from metarl.experiments.cli.safe_text import figure, grid, make_console, one_line, set_up_streams
from metarl.experiments.figures.plots import Shown, adaptation_figure, save_png, training_figure
from metarl.experiments.figures.text_tables import text_table
from metarl.experiments.report import load_shown
from tests.experiments.evaluated_runs import line_config, make_run
from tests.experiments.process_settings import process_settings  # noqa: F401

ROOT = Path(__file__).resolve().parents[3]
ODD = [
    "a$b$c",
    "a$b",
    r"a\$b$c",
    "_x",
    "[bold]x[/bold] :smile:",
    "a\nb\x1b[31m",
    "a\udcffb",
    "名前",
    "n" * 200,
    "a|b`c`",
]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "run", line_config())
    assert main(["evaluate", str(run)]) == 0
    return run


@pytest.mark.parametrize("name", ODD)
def test_a_figure_shows_any_name_letter_by_letter_in_its_legend(name: str, evaluated: Path, tmp_path: Path) -> None:
    """A formula that cannot be parsed would stop the drawing; a leading underscore would hide the line."""
    shown = load_shown(evaluated)
    both = [Shown(name, shown.evaluation, shown.records), Shown("other", shown.evaluation, shown.records)]
    for draw in (adaptation_figure, training_figure):
        drawing: Any = draw(both)
        save_png(drawing, tmp_path / "x.png", dpi=30)  # pytest makes an error of the warning about missing glyphs
        (legend,) = drawing.legends
        texts = [text.get_text() for text in legend.get_texts()]
        assert sum(text.startswith((figure(name), "other")) for text in texts) == (
            2 if draw is adaptation_figure else 4
        )
        assert not any(is_math_text(text) for text in texts)


def test_names_of_files_are_quoted_and_never_options(tmp_path: Path) -> None:
    assert path_word("runs/a-1") == "runs/a-1"
    assert path_word("-x") == "./-x"
    for name in ("it's", 'a"b', "a b", "a$HOME`ls`", "-x y", "a\nb", "a\\b\tc", "é\udcff"):
        (tmp_path / name).mkdir()
        word = path_word(name)
        assert word.isprintable()
        there = subprocess.run(["bash", "-c", f"test -d {word}"], cwd=tmp_path, check=False)
        assert there.returncode == 0, word
    assert shlex.split(path_word("a b")) == ["a b"]


@settings(max_examples=40)
@given(st.text())
def test_any_name_becomes_one_line_that_can_be_shown(name: str) -> None:
    assert one_line(name).isprintable()
    assert one_line(name) == name or not name.isprintable()


def test_rich_prints_brackets_and_colons_as_they_are() -> None:
    stream = io.StringIO()
    make_console(file=stream).print("[red]a[/red] :smile: [/nothing]")
    assert stream.getvalue() == "[red]a[/red] :smile: [/nothing]\n"


def test_a_markdown_cell_keeps_to_its_column() -> None:
    assert grid(["a", "b"], [["x|y", "1\n2"]]) == "| a | b |\n| --- | --- |\n| x\\|y | 1\\n2 |"


def test_a_narrow_terminal_gets_the_nearest_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(inside, encoding="ascii"))
    set_up_streams()
    print("−1.5 [–] → ² │╭─╮ “x” 名 \udcff", flush=True)
    assert inside.getvalue() == b'-1.5 [-] -> 2 |+-+ "x" \\u540d \\udcff\n'


def test_commands_work_in_a_terminal_without_utf_8(evaluated: Path) -> None:
    """Python itself would end with a traceback at the first minus sign."""
    narrow = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "metarl"]
    commands: list[list[str]] = [
        ["report", str(evaluated)],
        ["worlds", "list"],
        ["worlds", "show", "gridworld", "--references"],
    ]
    commands += [["evaluate", str(evaluated)], ["train", "--run-dir", str(evaluated), "--resume"]]
    for command in commands:
        done = subprocess.run(
            [*words, *command], env={**os.environ, **narrow}, cwd=ROOT, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.isascii()


ROWS = [["runs/" + "x" * 70, *["−1.32 [−1.50, −0.95]"] * 6], ["uniform random policy", *[""] * 5, "1"]]
HEADER = ["", *(f"success (any step), number {i}" for i in range(6))]


@pytest.mark.parametrize("width", [60, 80, 100, 155, 400])
def test_a_table_of_any_width_fits_and_loses_nothing(width: int) -> None:
    text = text_table(HEADER, ROWS, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("−1.32 [−1.50, −0.95]") == 6
    folded = "".join(text.split())
    assert folded.count("success") == 6
    assert "x" * 20 in folded
    assert ("\n\n" in text) == (width < 200)


def test_a_table_is_100_columns_wide_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert 80 < max(map(len, text_table(HEADER, ROWS).splitlines())) <= 100
    print(text_table(["a"], []))
    assert capsys.readouterr().out == "a\n-\n"


HELP = [[], *[[*name.split(), "--help"] for name in COMMANDS], ["npc"], ["worlds", "--help"],
        ["train", "rl2-gridworld", "--help"], ["train", "maml-navigation", "--help"],
        ["train", "pearl-sparse-point-robot", "--help"]]  # fmt: skip


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_is_at_most_100_columns_wide_and_of_whole_sentences(
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    process_settings: None,  # noqa: F811
) -> None:
    with contextlib.suppress(SystemExit):  # as argparse ends after its help
        main(words)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert [line for line in lines if len(line) > 100] == []
    # Where the next word would still have fitted, the source code broke the sentence. Prose stands at 0 or 8 columns.
    broken = [
        line
        for line, after in itertools.pairwise(lines)
        if indent(line) == indent(after)
        and indent(line) in (0, 8)
        and after.split()[0].islower()
        and len(line) + 1 + len(after.split()[0]) <= 95
        and not line.endswith((".", ":"))
    ]
    assert broken == []


def indent(line: str) -> int:
    return len(line) - len(line.lstrip()) if line.strip() else -1


def test_paragraphs_are_filled_and_lists_are_folded_item_by_item() -> None:
    text = "One sentence that\nis broken.\n\nlist:\n  a     what a is and more\n  bcd   what bcd is"
    assert fill(text, 22) == (
        "One sentence that is\nbroken.\n\nlist:\n  a     what a is and\n        more\n  bcd   what bcd is"
    )
