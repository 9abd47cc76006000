"""What several tests of NPC worlds need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.envs.npc.maps.tiled_files import tmx


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def to_file(text: str = "", name: str = "m.tmx", **own: Any) -> Path:
        path = tmp_path / name
        path.write_text(text or tmx(**own), encoding="utf-8")
        return path

    return to_file
