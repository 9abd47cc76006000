"""Where a result comes from: the commit, and whether what decides numbers was changed since."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from metarl import provenance
from metarl.provenance import git_state, kernels, package_versions


def git(folder: Path, *words: str) -> str:
    config = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *config, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="no git (Debian: apt-get install git)")
def test_changed_code_makes_a_checkout_dirty_and_new_results_do_not(tmp_path: Path) -> None:
    package, result = tmp_path / "metarl", tmp_path / "experiments/results/a/result.json"
    for path in (package / "loop.py", result):
        path.parent.mkdir(parents=True)
        path.write_text("1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    clean = {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    assert git_state(package) == clean
    result.write_text("2\n")
    assert git_state(package) == clean
    (package / "loop.py").write_text("2\n")
    assert git_state(package) == clean | {"dirty": True}


def test_outside_a_checkout_nothing_is_known(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {"commit": None, "dirty": None}


def test_what_decides_rounding_is_named_with_the_settings_a_user_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MKL_CBWR", raising=False)
    plain = kernels()
    assert plain.keys() >= {"cpu", "instructions", "blas"}
    assert all(plain.values())
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert kernels() == plain | {"MKL_CBWR": "COMPATIBLE"}


def test_the_build_of_torch_is_recorded_where_its_metadata_does_not_tell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "version", lambda name: "2.13.0")
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    assert package_versions(["torch", "numpy"]) == {"torch": "2.13.0+cu130", "numpy": "2.13.0"}
