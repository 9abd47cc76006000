"""The shape of the repository: one name to import, quiet imports, arrows that point down, files of a readable size."""

import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import metarl

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("metarl", "envs", "agents", "experiments")
PACKAGES = ("metarl", "metarl.envs", "metarl.agents", "metarl.experiments")
HARD_LIMIT = 450
HEAVY = ("wandb", "matplotlib", "metaworld", "mujoco", "tensorboard", "tyro", "rich", "jinja2")


def run_python(*arguments: str, path: list[Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter whose import path begins with `path`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, cwd=cwd, capture_output=True, text=True)


def source_files() -> list[Path]:
    """Return every Python file of the packages and the tests."""
    return [path for name in (*ROOMS, "tests", "tools", ".ci") for path in (ROOT / name).rglob("*.py")]


def test_the_four_packages_lie_side_by_side_under_one_root() -> None:
    for room, name in zip(ROOMS, PACKAGES, strict=True):
        assert Path(str(importlib.import_module(name).__file__)).resolve().parent == ROOT / room


@pytest.mark.parametrize("name", ["envs", "agents.rl2", "experiments", "experiments.train"])
def test_a_room_under_its_bare_name_is_refused_and_named(name: str, tmp_path: Path) -> None:
    ran = run_python("-c", f"import {name}", path=[ROOT], cwd=tmp_path)
    assert ran.stderr.splitlines()[-1].startswith(f"ImportError: {name.partition('.')[0]!r} is a folder of metarl's")


def test_every_package_says_that_it_is_typed() -> None:
    assert [name for name in ROOMS if not (ROOT / name / "py.typed").is_file()] == []


PROBE = """
import json, logging, random, sys
import numpy, torch
before = (random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().tolist())
level, handlers = logging.getLogger().level, list(logging.getLogger().handlers)
loaded = set(sys.modules)
import PACKAGE
after = (random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().tolist())
print(json.dumps({
    "random": before == after,
    "logging": (level, handlers) == (logging.getLogger().level, logging.getLogger().handlers),
    "new": sorted({name.partition(".")[0] for name in set(sys.modules) - loaded}),
}))
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_changes_nothing_and_loads_nothing_heavy(package: str, tmp_path: Path) -> None:
    ran = run_python("-c", PROBE.replace("PACKAGE", package), path=[ROOT], cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert seen["random"], "the state of a global random generator changed"
    assert seen["logging"], "the root logger was configured"
    assert sorted(set(seen["new"]) & set(HEAVY)) == []


def test_the_probe_notices_an_import_with_side_effects(tmp_path: Path) -> None:
    (tmp_path / "rude.py").write_text("import logging, numpy, rich\nnumpy.random.seed(3)\nlogging.basicConfig()\n")
    seen = json.loads(run_python("-c", PROBE.replace("PACKAGE", "rude"), path=[tmp_path], cwd=tmp_path).stdout)
    assert not seen["random"]
    assert not seen["logging"]
    assert "rich" in seen["new"]


def test_imports_between_the_rooms_point_down() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    ran = run_python("-c", code, path=[ROOT], cwd=ROOT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "0 broken" in ran.stdout


def test_no_file_is_longer_than_the_limit() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in source_files()}
    assert {name: n for name, n in lengths.items() if n > HARD_LIMIT} == {}


def test_the_version_is_stated_once_and_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == metarl.__version__
    assert f"## {metarl.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_has_a_tested_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    names = {item.split("[")[0].split("=")[0].split(">")[0].split("<")[0].strip().lower() for item in wanted}
    assert names - pinned == set()


@pytest.mark.parametrize("door", ["metarl", "experiments"])
def test_the_command_line_runs_from_elsewhere(door: str, tmp_path: Path) -> None:
    ran = run_python("-m", door, "worlds", "list", path=[ROOT], cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "gridworld" in ran.stdout


def test_few_files_stand_at_the_door_of_a_room() -> None:
    assert len(list((ROOT / "experiments").glob("*.py"))) <= 12
    assert {path.name for path in (ROOT / "agents").glob("*.py")} == {"__init__.py", "ppo.py"}
