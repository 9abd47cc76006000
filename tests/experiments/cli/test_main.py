"""The command line's outermost layer: what happens when machine, terminal or user give out."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metarl.experiments.cli import main as entry

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MemoryError(), 2, "error: not enough memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory:\n 12 bytes"), 2, "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), 2, "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "x.json"), 2, "cannot write x.json: No space left"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 999), 2, f"{'x' * 200}...: File name too long"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_machine_that_is_too_small_is_told_in_one_line(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(entry, "_run", fail)
    assert entry.main(["worlds", "list"]) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("seed", ["-1", str(10**30)])
@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "RUN"), ("doctor", "gridworld"), ("baseline", "gridworld"), ("npc", "watch", "RUN"),
        ("npc", "play", "RUN"),
        ("study", "coverage", "RUN"), ("study", "transfer", "RUN"), ("bench", "parity"), ("reproduce", "rl2-gridworld"),
    ],
)  # fmt: skip
def test_a_seed_that_is_none_is_refused_before_anything_is_looked_at(
    words: tuple[str, ...], seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main([*words, f"--seed={seed}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --seed must be a whole number from 0 to {2**63 - 1}, got '{seed}'; see ")
    assert said.count("\n") == 1


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: list[str]) -> int:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(entry, "_run", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        entry.main(["worlds", "list"])


def test_a_reader_that_leaves_and_a_closed_output_are_no_trouble() -> None:
    command = [sys.executable, "-m", "metarl", "train", "--help"]
    reader, writer = os.pipe()
    os.close(reader)
    left = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    os.close(writer)
    assert (left.returncode, left.stderr) == (141, "")
    shell = ["sh", "-c", f"exec {' '.join(command)} >&-"]
    closed = subprocess.run(shell, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert (closed.returncode, closed.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "os:system"], "preset 'os:system' cannot be built: TypeError: "),
        (["train", "rl2-gridworld", "--from", ""], ". is not a run directory"),
        (["worlds", "show", "gridworld", "--references", "--split", ""], "--split is empty; give it a value"),
        (["worlds", "show", "gridworld", "--option", "held_out=" + "[" * 100_000], "'held_out' is nested too deeply"),
        (["worlds", "show", "gridworld", "--option", "held_out=" + "9" * 5000], "gridworld option held_out is '99"),
        (["doctor", "gridworld", "--check", "spaces", "--json", "x" * 300], "File name too long; name another path"),
    ],
)
def test_a_word_that_nobody_can_mean_is_refused_in_one_line_of_bounded_length(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert len(line) < 2100


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["watch", "a run"], "npc watch 'a run'"),
        (["table", "--list"], "study table --list"),
        (["parity", "--help"], "bench parity --help"),
        (["worlds"], "worlds list"),
        (["worlds", "gridworld"], "worlds show gridworld"),
    ],
)
def test_an_old_spelling_runs_and_answers_with_the_new_one(
    old: list[str], new: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(
        "metarl.registry.load_target", lambda name, *_, **__: lambda rest: ran.append((name, rest)) or 0
    )
    assert entry.main(old) == 0
    now = new.replace("'a run'", "a_run").split()
    assert ran == [(entry.COMMANDS[" ".join(now[:2])][0], [word.replace("a_run", "a run") for word in now[2:]])]
    said = capsys.readouterr().err
    assert said.startswith("note: this command is `")
    assert said.endswith(f" {new}` now\n")
    assert entry.main(now) == 0
    assert capsys.readouterr().err == ""


def test_help_lists_groups_and_a_group_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(entry.GROUPS) == ["worlds", "bench", "npc", "study"]
    for words in (["npc"], ["npc", "--help"]):
        assert entry.main(words) == 0
        listed = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
        assert listed == [["npc", "watch"], ["npc", "play"]]
    assert entry.main(["npc", "wach"]) == 2
    assert "did you mean 'npc watch'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["npc", "--help"]], ids=" ".join)
def test_help_of_what_there_is_starts_without_torch(words: list[str]) -> None:
    """Importing it takes a CPU second and more."""
    code = f"import sys; from metarl.experiments.cli.main import main; main({words}); print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "False"
