"""Checks of settings: what lies in a range is let through, what does not is named with its range and its value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from metarl.checks import check_choices, check_layers, check_ranges
from metarl.errors import ConfigError

NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Settings:
    lr: Any = None


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (">= 1", (1, 7, INF), (0, -3, NAN)),
        ("> 0", (1e-9, INF), (0, -1.0, NAN)),
        ("> 0 and finite", (1e-9, 1e30), (0.0, INF, NAN)),
        (">= 0 and finite", (0, (0.0, 2.0), ()), (-1e-9, INF, (0.0, INF), (-1.0, 2.0))),
        (">= 2, or None", (None, 2), (1,)),
        ("in [0, 1]", (0, 0.5, 1), (-0.1, 1.1, NAN)),
        ("in [0, 1)", (0, 0.99), (1, NAN)),
        ("in (0, 1]", (0.01, 1), (0,)),
        ("1 to 9", (1, 9), (0, 10)),
    ],
)
def test_a_range_lets_its_own_numbers_through_and_names_any_other(
    allowed: str, inside: tuple[Any, ...], outside: tuple[Any, ...]
) -> None:
    for value in inside:
        check_ranges(Settings(value), "ppo.", {allowed: "lr"})
    for value in outside:
        message = re.escape(f"{allowed}, got {value}")
        with pytest.raises(ConfigError, match=rf"^ppo\.lr must (be|lie) {message}$"):
            check_ranges(Settings(value), "ppo.", {allowed: "lr"})


def test_choices_are_listed_where_none_of_them_was_made() -> None:
    check_choices(Settings("huber"), "ppo.", {"lr": ("huber", "mse")})
    with pytest.raises(ConfigError, match=r"^ppo\.lr must be 'huber' or 'mse', got 'l1'$"):
        check_choices(Settings("l1"), "ppo.", {"lr": ("huber", "mse")})


def test_layers_have_units_and_there_is_one_where_one_is_needed() -> None:
    check_layers(Settings(()), "sac.", "lr")
    check_layers(Settings((1, 64)), "sac.", "lr", some=True)
    with pytest.raises(ConfigError, match=r"^sac\.lr layers need at least 1 unit each, got \(4, 0\)$"):
        check_layers(Settings((4, 0)), "sac.", "lr")
    with pytest.raises(ConfigError, match=r"^sac\.lr needs at least one layer, of at least 1 unit each, got \(\)$"):
        check_layers(Settings(()), "sac.", "lr", some=True)
