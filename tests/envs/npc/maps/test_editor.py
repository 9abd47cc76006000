"""The Tiled editor itself opens what is written here, and what it writes is read alike."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from metarl.envs.npc.maps.layout import differences
from metarl.envs.npc.maps.samples import FOLDER, SAMPLES, load_sample
from metarl.envs.npc.maps.tiled import load_tiled

TILED = shutil.which("tiled")


@pytest.mark.skipif(TILED is None, reason="the Tiled editor is not installed (Debian: apt-get install tiled)")
@pytest.mark.parametrize("ending", ["tmx", "json"])
def test_a_sample_opened_and_saved_by_the_editor_is_the_same_world(tmp_path: Path, ending: str) -> None:
    for path in (FOLDER / file for file in (*SAMPLES.values(), "npcworld.tsx", "npcworld.png")):
        shutil.copy(path, tmp_path)
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    for name, file in SAMPLES.items():
        out = tmp_path / f"{name}-saved.{ending}"
        command = [str(TILED), "--export-map", ending, str(tmp_path / file), str(out)]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert out.exists(), ran.stderr
        assert differences(load_tiled(out), load_sample(name)) == []
