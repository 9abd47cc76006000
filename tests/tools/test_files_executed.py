"""How many files a reader has to know to follow an iteration, or a setting, stays as low as the docs say."""

import re
from pathlib import Path

import pytest

from tools.files_executed import SETTINGS, trace

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"


@pytest.mark.parametrize("preset", SETTINGS)
def test_an_iteration_and_a_setting_go_through_as_few_files_as_the_docs_say(preset: str) -> None:
    said = re.search(r"executes at most (\d+) of our files.*?config through (\d+) files.*?loss through (\d+)",
                     PAGE.read_text(), re.DOTALL)  # fmt: skip
    assert said is not None
    found = trace(preset)
    executed = found.iterations[1]
    assert {"metarl/loop.py", "metarl/trial.py", "metarl/collect.py", "envs/tensor_world.py"} <= executed.keys()
    counts = len(executed), len(found.to_config), len(found.to_loss)
    assert min(counts) > 1
    assert [count <= most for count, most in zip(counts, map(int, said.groups()), strict=True)] == [True] * 3
