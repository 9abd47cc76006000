"""Damaged worlds are refused, never crashed on. Thousands of them: `make fuzz-maps`."""

from __future__ import annotations

import json
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metarl.envs.npc.maps import tiled_tree
from tests.envs.npc.maps.map_fuzzer import KINDS, HangError, damage, fuzz, time_limit


def test_three_hundred_damaged_worlds_load_or_are_refused(tmp_path: Path) -> None:
    findings = fuzz(tmp_path, 300, seed=20)
    assert findings.bad == []
    refused = {kind: findings.outcomes[f"{kind}: refused"] for kind in KINDS}
    assert min(refused.values()) >= 20, refused  # the damage is damage
    assert sum(findings.outcomes[f"{kind}: loaded"] for kind in KINDS) >= 15  # and not always fatal
    assert len(findings.messages) >= 25


def test_the_fuzzer_notices_a_reader_that_trusts_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled_tree, "parse_xml", ElementTree.fromstring)
    monkeypatch.setattr(tiled_tree, "parse_json", json.loads)
    assert len(fuzz(tmp_path, 36, seed=1).bad) > 3


def spin() -> None:
    while True:
        pass


@pytest.mark.parametrize("hang", [lambda: time.sleep(300), spin])
def test_a_hang_ends_at_the_limit(hang: Callable[[], None]) -> None:
    with pytest.raises(HangError), time_limit(0.05):
        hang()


def test_damage_is_a_function_of_its_seed() -> None:
    content = b'{"a": [1, 2, {"b": "c"}]}' * 3
    first, again, other = (damage(content, "tmj", np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
