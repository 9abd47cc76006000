"""README and docs say what is true: their code runs, their commands, targets and links exist."""

import argparse
import contextlib
import io
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from metarl.conformance import check_world
from metarl.episodes import episode_table
from metarl.loop import LoopSettings, NullRecorder, meta_train
from metarl.seeding import generator
from metarl.trial import run_trial
from tools import refresh_docs

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(path for folder in (".", "docs", "examples") for path in (ROOT / folder).glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: str, language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    return [body for kind, body in BLOCK.findall((ROOT / document).read_text()) if kind == language]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield (document, words) of every line of a bash block, without its comment, and of inline `make ...`."""
    for path in DOCUMENTS:
        name = str(path.relative_to(ROOT))
        for body in blocks(name, "bash"):
            yield from ((name, line.split("#")[0].split()) for line in body.splitlines() if line.strip())
        inline = re.findall(r"`((?:make|metarl|python -m) [^`]*)`", path.read_text())
        yield from ((name, found.split()) for found in inline)


def run_blocks(document: str, module: str) -> dict[str, Any]:
    """Run a document's python blocks one after another as the module `module`; return its names."""
    space = ModuleType(module)
    sys.modules[module] = space
    try:
        for number, body in enumerate(blocks(document, "python")):
            exec(compile(body, f"{document}, block {number}", "exec", dont_inherit=True), vars(space))
    finally:
        del sys.modules[module]
    return vars(space)


@pytest.fixture(scope="module")
def plugged() -> dict[str, Any]:
    """Return the names that the python blocks about one's own world and agent define, after running them."""
    return run_blocks("docs/plugging-in.md", "plugging_in_example")


def failures(make: Any) -> list[str]:
    """Return the failed checks of the conformance suite."""
    return [f"{f.check}: {f.message}" for f in check_world(make) if f.status == "fail"]


def test_the_world_of_one_page_keeps_every_promise(plugged: dict[str, Any]) -> None:
    assert failures(plugged["make"]) == []


def test_the_world_of_the_docs_keeps_every_promise() -> None:
    names = run_blocks("docs/worlds.md", "docs_example")
    assert failures(names["make"]) == []
    assert failures(names["make_poles"]) == []


def test_the_agent_of_one_page_adapts_because_of_adapt(plugged: dict[str, Any]) -> None:
    tasks, config = plugged["make"](), plugged["DriftConfig"]()
    winds = tasks.sample("test", 50, generator(1, "tasks"))
    world = tasks.make_world(500)
    agent = config.build(world.spec, seed=0)

    def gain() -> float:
        pre, post = (
            episode_table(r).returns.mean().item() for r in run_trial(world, agent, winds, (10, 10), seed=2).rollouts
        )
        return post - pre

    assert gain() > 1.0
    agent.adapt = lambda state, rollout: state
    assert abs(gain()) < 0.5


def test_the_agent_of_one_page_goes_through_the_training_loop(plugged: dict[str, Any]) -> None:
    tasks = plugged["make"]()
    agent = plugged["DriftConfig"](meta_rate=1.0).build(tasks.spec, seed=0)
    before = agent.state_dict()["theta"].clone()
    settings = LoopSettings(n_iterations=2, n_tasks=4, n_validation_tasks=4, validation_adapt_episodes=10)
    done = meta_train(agent, tasks, settings, NullRecorder(), seed=0, device="cpu")
    assert done["finished"]
    assert done["env_steps"] == 2 * 4 * 20 * 20  # iterations, tasks, episodes, steps
    assert not agent.state_dict()["theta"].equal(before)


def test_every_make_target_that_is_mentioned_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {(name, words[1]) for name, words in commands() if words[0] == "make" and len(words) > 1}
    assert used, "no document mentions a make target"
    assert {(name, target) for name, target in used if target not in targets} == set()


def test_every_command_and_preset_that_is_mentioned_exists() -> None:
    from metarl.experiments.cli.main import COMMANDS, GROUPS
    from metarl.experiments.presets import PRESETS

    used = [(name, words[1:]) for name, words in commands() if words[0] == "metarl"]
    verbs = {(name, " ".join(words[: 1 + (words[0] in GROUPS)])) for name, words in used if words and words[0] != "..."}
    assert {verb for _, verb in verbs} >= {"train", "evaluate", "doctor"}
    assert {(name, verb) for name, verb in verbs if verb not in COMMANDS} == set()
    trained = [(name, words[1]) for name, words in used if words[:1] == ["train"] and len(words) > 1]
    presets = {(name, word) for name, word in trained if not word.startswith("-")}
    assert presets
    assert {(name, preset) for name, preset in presets if preset not in PRESETS} == set()


def flags_of(text: str) -> set[str]:
    """Return the options that a text names."""
    return set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", text))


@pytest.fixture(scope="module")
def known_flags() -> set[str]:
    """Return all options of all commands, those of train for one preset per kind of agent."""
    from metarl.experiments.cli.main import COMMANDS, main

    presets = ("rl2-gridworld", "maml-navigation", "pearl-sparse-point-robot", "varibad-gridworld", "metric-navigation")
    verbs = [name.split() for name in COMMANDS]
    said = io.StringIO()
    for words in (*verbs, *(["train", preset] for preset in presets)):
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main([*words, "--help"])
    return flags_of(said.getvalue())


def torchrun_parser() -> argparse.ArgumentParser:
    """Return the parser of the command that starts a run in several processes."""
    from torch.distributed.run import get_args_parser

    return get_args_parser()


def test_every_option_that_a_document_names_exists(known_flags: set[str]) -> None:
    # of pip, of modules that are no commands, and of torchrun
    others = {"--index-url", "--files"} | flags_of(torchrun_parser().format_help())
    assert len(known_flags) > 150
    code = {path.name: re.findall(r"`([^`\n]+)`", path.read_text()) for path in DOCUMENTS}
    lines = {path.name: blocks(str(path.relative_to(ROOT)), "bash") for path in DOCUMENTS}
    named = {(name, flag) for texts in (code, lines) for name, found in texts.items() for flag in flags_of(str(found))}
    assert len(named) > 40
    assert {(name, flag) for name, flag in named if flag not in known_flags | others} == set()


def test_every_extra_that_is_named_exists_and_every_one_there_is_has_a_use() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    texts = [path.read_text() for path in DOCUMENTS]
    sources = [
        p.read_text() for room in ("metarl", "envs", "agents", "experiments") for p in (ROOT / room).rglob("*.py")
    ]
    assert {name for text in texts for name in re.findall(r"extra `(\w+)`", text)} <= extras
    # The distribution is on no index: advice to install it by name would lead to nothing.
    assert [text for text in (*texts, *sources) if re.search(r"pip install '?metarl", text)] == []
    used = {
        "baselines": "sb3_contrib", "tensorboard": "tensorboard", "video": "imageio", "ray": "import ray",
        "slurm": "import submitit",
    }  # fmt: skip
    assert extras - {"dev"} <= set(used)
    assert [name for name in extras - {"dev"} if not any(used[name] in source for source in sources)] == []


def test_every_preset_and_reproduction_that_a_document_names_exists() -> None:
    from metarl.agents import AGENTS
    from metarl.experiments.presets import PRESETS
    from metarl.experiments.studies.reproductions import REPRODUCTIONS

    known = {*PRESETS, *REPRODUCTIONS, *AGENTS.builtin}
    kinds = {name.partition("-")[0] for name in PRESETS} - {"ml1"}
    named = {
        (path.name, name)
        for path in DOCUMENTS
        for name in re.findall(r"`([a-z0-9]+-[a-z0-9-]*[a-z0-9])`", path.read_text())
        if name.partition("-")[0] in kinds
    }
    assert len(named) > 30
    assert {(document, name) for document, name in named if name not in known} == set()


def test_make_demo_is_what_the_readme_says() -> None:
    said = [" ".join(words).replace("metarl", "$(METARL)", 1) for name, words in commands() if name == "README.md"]
    recipe = (ROOT / "Makefile").read_text().split("\ndemo: ")[1].split("\n\n")[0].replace("$(RUN)", "runs/demo")
    lines = [line.strip() for line in recipe.splitlines()[1:]]
    assert len(lines) == 2
    assert [line for line in lines if line not in said] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    targets = [t for t in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()) if "://" not in t]
    assert [t for t in targets if not (path.parent / t).exists()] == []


def test_the_python_of_the_readme_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (body,) = blocks("README.md", "python")
    space: dict[str, Any] = {}
    exec(compile(body.replace("iterations=200", "iterations=2"), "README.md", "exec", dont_inherit=True), space)
    assert len(space["run"].history) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"runs", "adaptation.png", "agent.safetensors"}


def test_the_readme_comes_to_a_result_within_300_words() -> None:
    before, marker, _ = (ROOT / "README.md").read_text().partition("<!-- demo-output -->")
    assert marker
    assert len(before.split()) <= 300


def test_every_test_that_a_document_names_exists() -> None:
    named = [
        (path.name, found)
        for path in DOCUMENTS
        for found in re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", path.read_text())
    ]
    assert len(named) > 40
    missing = [
        (document, test)
        for document, test in named
        if not re.search(rf"^def {test[1]}\(", (ROOT / test[0]).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_every_test_named_after_a_trap_is_in_the_table_of_traps() -> None:
    table = (ROOT / "docs" / "evaluation.md").read_text()
    tests = {
        f"{path.relative_to(ROOT)}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_trap_\w+)\(", path.read_text(), re.MULTILINE)
    }
    assert len(tests) > 15
    assert {test for test in tests if f"`{test}`" not in table} == set()


def test_the_numbers_of_readme_and_docs_are_those_of_the_committed_results() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    marked = [path for path in documents if "<!-- numbers: " in path.read_text()]
    assert {path.name for path in marked} >= {"README.md", "reproductions.md"}
    for path in marked:
        assert refresh_docs.refreshed(path.read_text(), path.name) == path.read_text(), "run `make numbers`"


def test_a_number_that_is_not_that_of_the_results_would_be_found() -> None:
    text = (ROOT / "README.md").read_text()
    wrong = re.sub(r"(\| gridworld \| RL² \|) [\d.]+", r"\1 4.04", text)
    assert wrong != text == refresh_docs.refreshed(wrong, "README.md")


OF_CHANGED_CODE = {
    "agents-speed-gpu.json",
    "corner-closed-coverage.json",
    "precision.json",
}
"""Results that were written from a checkout with uncommitted changes, still to be run again; none may join them."""


def test_results_come_from_committed_code() -> None:
    results = ROOT / "experiments" / "results"
    found = {
        path.relative_to(results).as_posix()
        for path in results.rglob("*.json")
        if re.search(r'"dirty":\s*true', path.read_text(encoding="utf-8"))
    }
    assert found == OF_CHANGED_CODE
