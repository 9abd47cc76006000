"""Every example is a page long, runs from any folder, and the two written-out algorithms learn."""

import ast
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from metarl.agents.maml import trust_region

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {path.stem: path for path in sorted((ROOT / "examples").glob("*.py"))}
LEAVES = {
    "01_facade": ["adaptation.png", "agent.safetensors", "runs"], "02_side_by_side": ["side-by-side.png"],
    "08_npc": ["companion.html", "runs"], "09_metaworld": ["runs"],
}  # fmt: skip
"""What an example leaves in the current folder."""


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Return what runs an example, quick, in an empty folder, and returns what it prints."""

    def run(name: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [str(EXAMPLES[name]), "--quick"])
        runpy.run_path(str(EXAMPLES[name]), run_name="__main__")
        return capsys.readouterr().out

    return run


def scores(printed: str) -> list[dict[str, Any]]:
    """Return the scores that every line "iteration {...}" of a page's training tells."""
    return [ast.literal_eval(line.partition(" ")[2]) for line in printed.splitlines()]


def test_examples_are_numbered_and_fit_on_a_page() -> None:
    assert [int(name[:2]) for name in EXAMPLES] == list(range(1, len(EXAMPLES) + 1))
    assert len(EXAMPLES) >= 9
    assert {name: n for name, path in EXAMPLES.items() if (n := len(path.read_text().splitlines())) > 60} == {}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_says_what_one_learns_and_how_long_it_takes(name: str) -> None:
    said = ast.get_docstring(ast.parse(EXAMPLES[name].read_text())) or ""
    assert re.search(r"\bOne learns\b", said)
    assert re.search(r"\b(second|minute|hour)s?\b", said, re.IGNORECASE)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if not name.startswith(("06", "07"))])
def test_an_example_runs_from_an_empty_folder(name: str, play: Callable[[str], str], tmp_path: Path) -> None:
    if "metaworld" in name:
        pytest.importorskip("mujoco")
    assert re.search(r"-?\d+\.\d", play(name)), "it prints no number"
    assert sorted(path.name for path in tmp_path.iterdir()) == LEAVES.get(name, [])


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own forward mode uses it
def test_maml_on_a_page_learns_where_to_start(play: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    def gained() -> float:
        found = scores(play("06_maml_trpo"))
        return float(found[-1]["post_return"] - found[0]["post_return"])

    assert gained() > 12
    # Without the outer step adaptation starts from where it was born.
    monkeypatch.setattr(trust_region, "natural_step", lambda gradient, product, **_: torch.zeros_like(gradient))
    assert gained() < 6


def test_rl2_on_a_page_learns_from_its_updates(play: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    def gained() -> float:
        found = [score["pre_return"] + score["post_return"] for score in scores(play("07_rl2"))]
        return float(sum(found[-4:]) - sum(found[:4])) / 8

    assert gained() > 0.8
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: None)
    assert abs(gained()) < 0.4


def test_readme_and_docs_lead_to_the_examples() -> None:
    assert "(examples/README.md)" in (ROOT / "README.md").read_text()
    assert "(../examples/README.md)" in (ROOT / "docs" / "plugging-in.md").read_text()
    listed = re.findall(r"^\| \[\d\d\]\((\d\d_\w+)\.py\)", (ROOT / "examples" / "README.md").read_text(), re.MULTILINE)
    assert listed == list(EXAMPLES)
