"""Names for task distributions and agents: the built-in ones and those of installed plug-ins.

A plug-in announces its worlds in its own pyproject.toml:

    [project.entry-points."metarl.worlds"]
    my-world = "my_package.worlds:make"

where `make(**options)` returns a TaskDistribution. A plug-in that is broken in any way is listed with its error and
harms nothing else: see `strangers`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any

from .containment import going_on
from .errors import ConfigError, MetarlError, nearest
from .stranger_probe import told
from .strangers import Entry, Fault, ImportFault, announced, load, probe, tried

ENTRY_POINT_GROUP = "metarl.worlds"


def load_target(target: str, what: str = "world", *, ours: bool = False) -> Any:
    """Import `module:attribute`; raises ConfigError naming the part that is wrong.

    The code is taken for somebody else's, which may do anything at import, unless it is `ours`.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{what} target {target!r} is not of the form 'package.module:attribute'")
    try:
        return _import_ours(module_name, attribute) if ours else load(module_name, attribute)
    except ImportFault as fault:
        raise ConfigError(f"cannot import module {module_name!r} of {what} {target!r}: {fault}") from fault
    except Fault as fault:
        raise ConfigError(f"{what} {target!r}: {fault}") from fault


def _import_ours(module_name: str, attribute: str) -> Any:
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # a package that it needs may be missing or broken
        raise ImportFault(told(error)) from error


def plugins(group: str = ENTRY_POINT_GROUP, taken: Container[str] = ()) -> list[Entry]:
    """Return the entries that installed distributions announce, broken ones with their error; none may be `taken`."""
    return tried([_renamed(entry) if entry.name in taken else entry for entry in announced(group)])


def _renamed(entry: Entry) -> Entry:
    error = f"the name {entry.name!r} is built in; its package must announce another"
    return replace(entry, name=f"{entry.name} of {entry.origin}", error=error)


class Registry:
    """Built-in factories by name, plus those of plug-ins; nothing is imported before it is asked for."""

    def __init__(self, what: str, builtin: Mapping[str, tuple[str, str]], group: str | None = None) -> None:
        """`builtin` maps a name to (target, one-line summary); `group` is the entry-point group of plug-ins."""
        self.what, self.group = what, group
        self.builtin = {n: Entry(n, target, summary) for n, (target, summary) in builtin.items()}

    def entries(self) -> dict[str, Entry]:
        """Return every known entry by name; a plug-in cannot have a built-in one and is listed beside it."""
        found = {e.name: e for e in (plugins(self.group, self.builtin) if self.group else [])}
        return found | self.builtin

    def entry(self, name: str) -> Entry | None:
        """Return the entry called `name`, if there is one. Nothing is imported, so that it may be broken after all."""
        return self.builtin.get(name) or self._announced().get(name)

    def check_survives(self, name: str) -> None:
        """Raise ConfigError if importing the plug-in `name` ends the process, as a crash of native code does.

        That is found out in another process, which takes as long as the import does.
        """
        entry = None if name in self.builtin else self._announced().get(name)
        if entry is None or entry.error:
            return
        try:
            probe(entry.target)
        except Fault as fault:
            raise self._unloadable(entry, fault) from fault

    def _unloadable(self, entry: Entry, fault: Fault) -> ConfigError:
        return ConfigError(f"{self.what} {entry.name!r} of {entry.origin!r} cannot be loaded: {fault}")

    def _announced(self) -> dict[str, Entry]:
        return {e.name: e for e in (announced(self.group) if self.group else [])}

    def factory(self, name: str) -> Callable[..., Any]:
        """Return the factory called `name`, which may also be a target `package.module:attribute`.

        Raises: ConfigError naming the nearest known names, or the reason a plug-in is broken.
        """
        if ":" in name:
            return load_target(name, self.what)  # type: ignore[no-any-return]
        if name in self.builtin:
            return load_target(self.builtin[name].target, self.what, ours=True)  # type: ignore[no-any-return]
        known = self._announced()
        entry = known.get(name)
        if entry is None:
            raise ConfigError(f"unknown {self.what} {name!r}; {nearest(name, self.builtin.keys() | known)}")
        try:
            if entry.error:
                raise Fault(entry.error)
            return load(*entry.target.split(":"))  # type: ignore[no-any-return]
        except Fault as fault:
            raise self._unloadable(entry, fault) from fault

    def make(self, name: str, **options: Any) -> Any:
        """Build what `name` stands for.

        Raises: ConfigError for an unknown name, an option unknown or missing, or a stranger's factory that fails.
        """
        factory = self.factory(name)
        check_options(f"{self.what} {name!r}", factory, options)
        if name in self.builtin:
            return factory(**options)
        try:
            with going_on():
                return factory(**options)
        except (Exception, SystemExit) as error:
            if isinstance(error, MetarlError):
                raise
            raise ConfigError(f"{self.what} {name!r} cannot be built: {told(error)}") from error


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
