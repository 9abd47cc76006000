"""The figures behind "no bfloat16": every variant has its turns, and errors are those of its mantissa."""

from __future__ import annotations

import pytest

from tools import precision


def test_variants_take_turns_and_the_first_round_does_not_count() -> None:
    turns: list[str] = []
    least = precision.least_cpu_s([lambda: turns.append("a"), lambda: turns.append("b")], rounds=3)
    assert turns == ["a", "b"] * 4
    assert all(0.0 <= s < 1.0 for s in least)


def test_bfloat16_rounds_to_8_bits_and_float32_to_24(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "SHAPES", {"small": (2, 30, 16, 8)})
    row = precision.products(rounds=1)["small"]
    assert row["float32, error"] < 16 * 2.0**-23
    for way in ("bfloat16", "bfloat16, unconverted"):
        assert 2.0**-12 < row[f"{way}, error"] < 2.0**-5
    assert all(row[f"{way}, GFLOP/s"] > 0 for way in precision.WAYS)
