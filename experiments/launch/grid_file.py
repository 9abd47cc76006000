"""A grid as people write it: a YAML file, read strictly."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from metarl.errors import ConfigError, nearest
from metarl.reading import open_plain

MOST_BYTES = 2**20
"""Largest grid file that is read."""
_TOP = ("name", "presets", "seeds", "settings", "evaluate", "groups", "exclude")
_GROUP = ("presets", "seeds", "settings", "evaluate")
NO_GROUP = ""


@dataclass(frozen=True)
class Group:
    """Runs that differ in presets, settings and seeds; its own entries come before those of the file's top."""

    name: str
    """What the method is called in tables; "" where the file has no groups, and each preset is a method."""
    presets: tuple[str, ...]
    seeds: tuple[int, ...] | range
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted setting of `train` -> value, or list of values to go through."""
    evaluate: tuple[str, ...] = ("",)
    """Flags of `evaluate`, one string per evaluation after training."""


@dataclass(frozen=True)
class GridFile:
    """What the file says, checked as far as it can be without building a config."""

    name: str
    groups: tuple[Group, ...]
    exclude: tuple[Mapping[str, Any], ...] = ()
    """Combinations to leave out; each names some of group, preset, seed and settings, a list meaning any of it."""


class _Loader(yaml.SafeLoader):
    """Plain values only. A key that stands there twice is an error, and so is an alias: a few can make gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases are not taken (what all groups share stands once, in `settings` at the top)", mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for i, key in enumerate(keys) if key in keys[:i]]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_grid(path: Path) -> GridFile:
    """Read a grid file.

    Raises: ConfigError naming the entry that is unknown, missing or of the wrong kind, and what it should be.
    """
    text = _text(path)
    try:
        found = yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not YAML as a grid needs it: {' '.join(str(error).split())[:300]}") from error
    return parse_grid(found, path.stem)


def _text(path: Path) -> str:
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"{path} is larger than {MOST_BYTES} bytes; a grid is a page of YAML")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the grid {path} cannot be read ({error}); name a YAML file") from error


def parse_grid(found: Any, stem: str = "grid") -> GridFile:
    """Check what YAML gave; `stem` is the grid's name if it gives itself none. Raises: ConfigError."""
    top = _object(found, "a grid", _TOP)
    named = "groups" in top
    if named and "presets" in top:
        raise ConfigError("the grid has both presets and groups; put the presets into groups")
    if not named and "presets" not in top:
        raise ConfigError("the grid names no presets; write e.g. presets: [rl2-gridworld], or groups with presets each")
    groups = _object(top["groups"], "groups") if named else {NO_GROUP: {"presets": top["presets"]}}
    if not groups:
        raise ConfigError("groups is empty; give at least one")
    shared: dict[str, Any] = {key: top[key] for key in ("seeds", "settings", "evaluate") if key in top}
    name = top.get("name", stem)
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"name is {name!r}; give the grid a word")
    exclude = top.get("exclude", [])
    if not isinstance(exclude, list):
        raise ConfigError(f"exclude is {exclude!r}; give a list of combinations, such as - {{group: maml, seed: 3}}")
    return GridFile(
        name,
        tuple(_group(str(key), entry, shared) for key, entry in groups.items()),
        tuple(_object(entry, f"exclude[{i}]") for i, entry in enumerate(exclude)),
    )


def _group(name: str, entry: Any, shared: Mapping[str, Any]) -> Group:
    where = f"group {name!r}" if name else "the grid"
    given = _object(entry, where, _GROUP)
    if "presets" not in given:
        raise ConfigError(f"{where} names no presets; write presets: [NAME, ...]")
    settings = {
        **_object(shared.get("settings", {}), "settings"), **_object(given.get("settings", {}), f"{where}, settings"),
    }  # fmt: skip
    return Group(
        name,
        presets=_words(given["presets"], f"{where}, presets"),
        seeds=_seeds(given.get("seeds", shared.get("seeds", 0)), where),
        settings={_spelled(key): value for key, value in settings.items()},
        evaluate=_words(given.get("evaluate", shared.get("evaluate", "")), f"{where}, evaluate"),
    )


def _spelled(key: str) -> str:
    """Return a setting in the spelling of the command line."""
    return key.removeprefix("--").replace("_", "-")


def _object(found: Any, what: str, known: Collection[str] = ()) -> dict[str, Any]:
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ConfigError(f"{what} is {_short(found)}; it must be entries of the form key: value")
    for key in found:
        if known and key not in known:
            raise ConfigError(f"{what} has no entry {key!r}; {nearest(key, known)}")
    return found


def _words(found: Any, what: str) -> tuple[str, ...]:
    words = [found] if isinstance(found, str) else found
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"{what} is {_short(found)}; give a word, or a list of words")
    return tuple(dict.fromkeys(words))


def _seeds(found: Any, where: str) -> tuple[int, ...] | range:
    numbers = values_of(found)
    if not size(numbers) or not (isinstance(numbers, range) or all(type(x) is int and x >= 0 for x in numbers)):
        raise ConfigError(f"{where}, seeds is {_short(found)}; give a number >= 0, a list, or a range like 0..4")
    if isinstance(numbers, range):
        return numbers
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"{where}, seeds is {_short(found)}, where a number stands twice; leave it there once")
    return tuple(numbers)


def values_of(found: Any) -> list[Any] | range:
    """Return the values that an entry goes through: a list's, those of a range "0..4", or the one that it is."""
    if isinstance(found, str):
        low, dots, high = found.partition("..")
        if dots and low.strip().isascii() and low.strip().isdecimal() and high.strip().isdecimal():
            if len(found) > 40:
                raise ConfigError(f"the range {_short(found)} is longer than any that can be run")
            return range(int(low), int(high) + 1)
    return found if isinstance(found, list) else [found]


def size(values: list[Any] | range) -> int:
    """Return how many there are; `len` gives up on ranges that only a slip of the pen makes."""
    return max(0, values.stop - values.start) if isinstance(values, range) else len(values)


def split_words(text: str, what: str) -> tuple[str, ...]:
    """Return the words of `text` as a shell splits them; raises ConfigError for a quotation without an end."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigError(f"{what} is {_short(text)}, which no shell can split ({error}); mend the quotes") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
