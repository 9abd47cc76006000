"""Names for task distributions and agents: the built-in ones and those of installed plug-ins.

A plug-in announces its worlds in its own pyproject.toml:

    [project.entry-points."metarl.worlds"]
    my-world = "my_package.worlds:make"

where `make(**options)` returns a TaskDistribution. A plug-in that fails to import is listed with its error and harms
nothing else.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import ConfigError, MetarlError, nearest

ENTRY_POINT_GROUP = "metarl.worlds"


@dataclass(frozen=True)
class Entry:
    """One name of a registry: where its factory is, and why it cannot be used, if so."""

    name: str
    target: str
    """`module:attribute` of the factory."""
    summary: str = ""
    origin: str = "metarl"
    """Distribution the entry comes from."""
    error: str = ""


def load_target(target: str, what: str = "world") -> Any:
    """Import `module:attribute`; raises ConfigError naming the part that is wrong."""
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{what} target {target!r} is not of the form 'package.module:attribute'")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"cannot import module {module_name!r} of {what} {target!r}: {type(error).__name__}: {error}"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise ConfigError(f"module {module_name!r} has no {attribute!r}; {nearest(attribute, vars(module))}") from error


def plugins(group: str = ENTRY_POINT_GROUP) -> list[Entry]:
    """Return the entries that installed distributions announce, broken ones with their error."""
    return [_probe(point) for point in sorted(entry_points(group=group), key=lambda p: p.name)]


def _probe(point: EntryPoint) -> Entry:
    origin = point.dist.name if point.dist is not None else "unknown"
    try:
        point.load()
    except Exception as error:  # a plug-in may fail in any way; the listing must survive it
        return Entry(point.name, point.value, origin=origin, error=f"{type(error).__name__}: {error}")
    return Entry(point.name, point.value, origin=origin)


class Registry:
    """Built-in factories by name, plus those of plug-ins; nothing is imported before it is asked for."""

    def __init__(self, what: str, builtin: Mapping[str, tuple[str, str]], group: str | None = None) -> None:
        """`builtin` maps a name to (target, one-line summary); `group` is the entry-point group of plug-ins."""
        self.what, self.group = what, group
        self.builtin = {n: Entry(n, target, summary) for n, (target, summary) in builtin.items()}

    def entries(self) -> dict[str, Entry]:
        """Return every known entry by name; a plug-in cannot replace a built-in name."""
        found = {e.name: e for e in (plugins(self.group) if self.group else [])}
        return found | self.builtin

    def factory(self, name: str) -> Callable[..., Any]:
        """Return the factory called `name`, which may also be a target `package.module:attribute`.

        Raises: ConfigError naming the nearest known names, or the reason a plug-in is broken.
        """
        if ":" in name:
            return load_target(name, self.what)  # type: ignore[no-any-return]
        entry = self.builtin.get(name) or self.entries().get(name)
        if entry is None:
            raise ConfigError(f"unknown {self.what} {name!r}; {nearest(name, self.entries())}")
        if entry.error:
            raise ConfigError(f"{self.what} {name!r} of {entry.origin!r} cannot be loaded: {entry.error}")
        return load_target(entry.target, self.what)  # type: ignore[no-any-return]

    def make(self, name: str, **options: Any) -> Any:
        """Build what `name` stands for.

        Raises: ConfigError for an unknown name, an option unknown or missing, or a stranger's factory that fails.
        """
        factory = self.factory(name)
        check_options(f"{self.what} {name!r}", factory, options)
        try:
            return factory(**options)
        except Exception as error:
            if name in self.builtin or isinstance(error, MetarlError):
                raise
            words = " ".join(str(error).split()) or "no message"
            raise ConfigError(f"{self.what} {name!r} cannot be built: {type(error).__name__}: {words}") from error


def check_options(what: str, factory: Any, options: Mapping[str, Any]) -> None:
    """Raise ConfigError unless `factory` can be called with these options; names the nearest ones."""
    if not callable(factory):
        raise ConfigError(f"{what} is a {type(factory).__name__}, not a function; point at the function that builds it")
    try:
        signature = inspect.signature(factory)
    except ValueError:
        return  # some builtins have none; the call itself will tell
    known = {n: p for n, p in signature.parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    free = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for option in options:
        if option not in known and not free:
            raise ConfigError(f"{what} has no option {option!r}; {nearest(option, known)}")
    missing = [n for n, p in known.items() if p.default is p.empty and n not in options]
    if missing:
        raise ConfigError(f"{what} needs the option {' and '.join(map(repr, missing))}; add {missing[0]}=VALUE")
