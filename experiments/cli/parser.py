"""Command lines whose errors are one line."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from metarl.errors import MOST, MOST_SEED, ConfigError, nearest

from .help_text import HelpFormatter


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigError, with the nearest names for an unknown flag, instead of exiting."""

    def __init__(self, *, renamed: Mapping[str, str] | None = None, **settings: Any) -> None:
        """Make a parser as argparse does, with help in whole sentences; flags that are `renamed` {old: new} work on."""
        self._renamed = renamed or {}
        super().__init__(**{"formatter_class": HelpFormatter} | settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does; old names of flags are told on stderr."""
        words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(flags_of_today(words, self._renamed), namespace)

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        flags = [s for action in self._actions for s in action.option_strings]
        words = [w.partition("=")[0] for w in message.split() if w.startswith("--")]
        unknown = next((w for w in words if w not in flags), None)
        hint = nearest(unknown, flags) if unknown and "unrecognized" in message else f"see {self.prog} --help"
        told = re.sub(r"^argument (\S+): must be", r"\1 must be", message)
        raise ConfigError(f"{told}; {hint}")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Read an argument's words; an option that is given and empty is not one that was left out."""
        if "" in arg_strings and action.option_strings:
            raise ConfigError(f"{action.option_strings[-1]} is empty; give it a value, or leave it out")
        return super()._get_values(action, arg_strings)


def flags_of_today(words: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """Return `words` with the flags of today in place of those `renamed`, {old: new}; told on stderr once for each."""
    now = []
    for word in words:
        name, equals, value = word.partition("=")
        new = renamed.get(name.replace("_", "-")) if name.startswith("--") else None
        if new is not None:
            print(f"note: {name} is {new} now", file=sys.stderr)
        now.append(word if new is None else f"{new}{equals}{value}")
    return now


def whole(low: int, high: int = MOST) -> Callable[[str], int]:
    """Return what reads an option's whole number from `low` to `high`, in plain digits."""

    def read(text: str) -> int:
        digits = re.fullmatch(r"[+-]?[0-9]{1,30}", text)
        if not digits or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text!r}")
        return int(text)

    return read


seed = whole(0, MOST_SEED)
"""Reads the root of random numbers."""


def real(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """Return what reads an option's finite number from `low` to `high`; with `above` not `low` itself."""

    def read(text: str) -> float:
        try:
            value = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not low <= value <= high or (above and value == low):
            wanted = [f"{'above' if above else 'from'} {low:g}"] * (low > -math.inf) + [f"to {high:g}"] * (
                high < math.inf
            )
            raise argparse.ArgumentTypeError(f"must be {' '.join(['a finite number', *wanted])}, got {text!r}")
        return value

    return read


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device` to a command that plays a run; `metarl.experiments.build.open_run` takes its value."""
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: the run's, or cpu if not here)")
