"""Checks of settings, each said once: ranges of numbers, choices of words, sizes of layers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from .errors import ConfigError

_RANGE = re.compile(r"(>=?) (\S+?)( and finite)?|in ([\[(])(\S+), (\S+)([\])])|(\d+) to (\d+)")


def check_ranges(config: object, where: str, allowed: Mapping[str, str]) -> None:
    """Raise ConfigError naming the first setting of `config` that lies outside its range; NaN lies in none.

    `allowed` maps a range to the settings it is for, with blanks between them. A range is written as the message says
    it: ">= 1", "> 0", "> 0 and finite", "in [0, 1)", "1 to 9"; with ", or None" at the end None is allowed, too. Of a
    tuple each number is held to it. `where` ("ppo.") stands before a setting's name in the message.
    """
    for text, names in allowed.items():
        fits = _test(text.removesuffix(", or None"))
        for name in names.split():
            value = getattr(config, name)
            if value is None and text.endswith(", or None"):
                continue
            if not (all(map(fits, value)) if isinstance(value, tuple) else fits(value)):
                raise ConfigError(f"{where}{name} must {'lie' if text.startswith('in') else 'be'} {text}, got {value}")


@cache
def _test(text: str) -> Callable[[float], bool]:
    """Return the test that a range's text stands for."""
    found = _RANGE.fullmatch(text)
    assert found is not None, f"no range: {text!r}"
    sign, least, finite, left, low, high, right, first, last = found.groups()
    if sign:
        bound, top = float(least), math.inf
        return lambda v: (v >= bound if sign == ">=" else v > bound) and (not finite or v < top)
    if left:
        a, b = float(low), float(high)
        return lambda v: (a <= v if left == "[" else a < v) and (v <= b if right == "]" else v < b)
    n, most = int(first), int(last)
    return lambda v: n <= v <= most


def check_choices(config: object, where: str, choices: Mapping[str, Sequence[str]]) -> None:
    """Raise ConfigError naming the first setting of `config` that is none of its choices."""
    for name, known in choices.items():
        value = getattr(config, name)
        if value not in known:
            raise ConfigError(f"{where}{name} must be {' or '.join(map(repr, known))}, got {value!r}")


def check_layers(config: object, where: str, *names: str, some: bool = False) -> None:
    """Raise ConfigError for sizes of layers below 1, or, with `some`, for a setting without any layer."""
    for name in names:
        sizes = getattr(config, name)
        if any(size < 1 for size in sizes) or (some and not sizes):
            least = "needs at least one layer, of" if some else "layers need"
            raise ConfigError(f"{where}{name} {least} at least 1 unit each, got {tuple(sizes)}")
