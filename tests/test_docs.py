"""README and docs say what is true: their code runs, their commands, targets and links exist."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from metarl.agent import WorldSpec
from metarl.conformance import check_world
from metarl.episodes import episode_table
from metarl.loop import LoopSettings, Silent, meta_train
from metarl.seeding import generator
from metarl.trial import run_trial

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
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
def readme() -> dict[str, Any]:
    """Return the names that the README's python blocks define, after running them."""
    return run_blocks("README.md", "readme_example")


def failures(make: Any) -> list[str]:
    """Return the failed checks of the conformance suite."""
    return [f"{f.check}: {f.message}" for f in check_world(make) if f.status == "fail"]


def test_the_world_of_the_readme_keeps_every_promise(readme: dict[str, Any]) -> None:
    assert failures(readme["make"]) == []


def test_the_world_of_the_docs_keeps_every_promise() -> None:
    assert failures(run_blocks("docs/worlds.md", "docs_example")["make"]) == []


def test_the_agent_of_the_readme_adapts_because_of_adapt(readme: dict[str, Any]) -> None:
    tasks, config = readme["make"](), readme["DriftConfig"]()
    winds = tasks.sample("test", 50, generator(1, "tasks"))
    world = tasks.make_world(500)
    agent = config.build(WorldSpec.of(world), seed=0)

    def gain() -> float:
        pre, post = (
            episode_table(r).returns.mean().item() for r in run_trial(world, agent, winds, (10, 10), seed=2).rollouts
        )
        return post - pre

    assert gain() > 1.0
    agent.adapt = lambda state, rollout: state
    assert abs(gain()) < 0.5


def test_the_agent_of_the_readme_goes_through_the_training_loop(readme: dict[str, Any]) -> None:
    tasks = readme["make"]()
    agent = readme["DriftConfig"](meta_rate=1.0).build(WorldSpec.of(tasks.make_world(1)), seed=0)
    before = agent.state_dict()["theta"].clone()
    settings = LoopSettings(n_iterations=2, n_tasks=4, n_validation_tasks=4, validation_adapt_episodes=10)
    done = meta_train(agent, tasks, settings, Silent(), seed=0, device="cpu")
    assert done["finished"]
    assert done["env_steps"] == 2 * 4 * 20 * 20  # iterations, tasks, episodes, steps
    assert not agent.state_dict()["theta"].equal(before)


def test_every_make_target_that_is_mentioned_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {(name, words[1]) for name, words in commands() if words[0] == "make" and len(words) > 1}
    assert used, "no document mentions a make target"
    assert {(name, target) for name, target in used if target not in targets} == set()


def test_every_command_and_preset_that_is_mentioned_exists() -> None:
    from experiments.__main__ import COMMANDS
    from experiments.presets import PRESETS

    used = [(name, words[1:]) for name, words in commands() if words[0] == "metarl"]
    verbs = {(name, words[0]) for name, words in used if words and words[0] != "..."}
    assert {verb for _, verb in verbs} >= {"train", "evaluate", "doctor"}
    assert {(name, verb) for name, verb in verbs if verb not in COMMANDS} == set()
    presets = {(name, words[1]) for name, words in used if words[:1] == ["train"] and not words[1].startswith("-")}
    assert presets
    assert {(name, preset) for name, preset in presets if preset not in PRESETS} == set()


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
