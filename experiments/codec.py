"""Configs as plain JSON: a `type` key names the agent, a schema version the layout, and an unknown key is an error."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from metarl import agents
from metarl.deprecated import deprecated, field_names, today
from metarl.errors import CheckpointError, ConfigError, nearest

from .cli import trust
from .config import AnyConfig, ExperimentConfig

SCHEMA_VERSION = 2
"""What is written. Version 1, which is read as well, has the old names of `metarl.deprecated.renamed_fields`."""
_READ = (1, SCHEMA_VERSION)


def to_json(config: AnyConfig) -> dict[str, Any]:
    """Return `config` as JSON-able values; `from_json` gives an equal config back."""
    return {"schema_version": SCHEMA_VERSION, **_encode(config)}


def first_spelling(config: AnyConfig) -> dict[str, Any]:
    """Return `config` as version 1 spelled it.

    Digests that decide whether settings are still the same are made of this: they outlive every renaming.
    """
    return {"schema_version": 1, **_encode(config, first=True)}


def from_json(stored: Mapping[str, Any], trusted: Collection[str] = ()) -> AnyConfig:
    """Return the config that `to_json` wrote; code that it names must be built in, installed or `trusted`.

    Raises: CheckpointError for another schema version; ConfigError naming an unknown, missing or wrong entry, or code
    that is not trusted.
    """
    check_version(stored)
    trust.check(stored, trusted)
    stored = upgraded(stored, foreign=True)
    content = {k: v for k, v in stored.items() if k != "schema_version"}
    decoded: AnyConfig = _decode_dataclass(ExperimentConfig, content, "")
    trust.check_world(decoded.world.name)
    return decoded


def typed(kind: Any, settings: Mapping[str, Any], where: str) -> Any:
    """Return the dataclass `kind` made of settings given in Python, each of the type that its field says.

    Raises: ConfigError naming a setting that is unknown, or of another type (1.5 for a count, "no" for a truth value).
    """
    try:
        return _decode_dataclass(kind, {k: _encode(v) for k, v in by_new_names(kind, settings).items()}, where)
    except ConfigError as error:
        text = str(error).removeprefix("config.json: ")
        raise ConfigError(re.sub(r"^config\.json ", "what was given ", text)) from error


def by_new_names(kind: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings given in Python by today's names; whoever gives an old one is warned."""
    now = today(kind, settings)
    for old in settings.keys() - now.keys():
        deprecated(f"the setting {old} is now {field_names(kind)[old]}")
    return now


def upgraded(stored: Mapping[str, Any], *, foreign: bool = False) -> dict[str, Any]:
    """Return the JSON values of a config by today's names of settings: those of version 1 were others.

    The files of a run keep the spelling that they were written with: checkpoints are bound to their sha256. The names
    of an agent that is not built in are looked up only if `foreign`, since that imports it.
    """
    if stored.get("schema_version") != 1:
        return dict(stored)
    return {**_by_new_names(ExperimentConfig, stored, foreign), "schema_version": SCHEMA_VERSION}


def _by_new_names(kind: Any, stored: Mapping[str, Any], foreign: bool) -> dict[str, Any]:
    """Give the settings of the dataclass `kind` today's names, however deep; what is none is left to the decoder."""
    out, hints = today(kind, stored), get_type_hints(kind)
    for name, value in out.items():
        if not isinstance(value, Mapping):
            continue
        inner = _kinds(hints.get(name))
        if (kind, name) == (ExperimentConfig, "agent"):
            named = value.get("type")
            known = foreign or named in tuple(agents.AGENTS.builtin)
            inner = [agents.AGENTS.factory(named)] if isinstance(named, str) and known else []
        for part in inner:
            if isinstance(part, type) and dataclasses.is_dataclass(part):
                out[name] = _by_new_names(part, out[name], foreign)
    return out


def _kinds(hint: Any) -> list[Any]:
    """Return the classes that a type hint names, one or the members of a union."""
    return list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]


def check_version(stored: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a config of another schema version."""
    version = stored.get("schema_version")
    if type(version) is not int or version not in _READ:
        raise CheckpointError(
            f"config.json has schema version {version!r}, this metarl reads {' and '.join(map(str, _READ))}; use the "
            f"version that wrote it (run.json names the commit), or start a new run"
        )


def agent_to_json(config: Any) -> dict[str, Any]:
    """Return an agent's config alone as JSON-able values; `agent_from_json` gives an equal one back."""
    encoded: dict[str, Any] = _encode(config)
    return encoded


def agent_from_json(stored: Any, trusted: Collection[str] = (), version: int = SCHEMA_VERSION) -> Any:
    """Return the agent config that `agent_to_json` of schema `version` wrote; raises as `from_json` does."""
    trust.check({"agent": stored}, trusted)
    stored = upgraded({"schema_version": version, "agent": stored}, foreign=True)["agent"]
    return _decode_agent(None, stored, "agent")


def agent_type(config: Any) -> str:
    """Return the name that `config.json` uses for an agent config's class: its algorithm, or module:class."""
    name = str(config.algorithm)
    if name in agents.AGENTS.builtin and agents.AGENTS.factory(name) is type(config):
        return name
    return f"{type(config).__module__}:{type(config).__qualname__}"


def _encode(value: Any, *, first: bool = False) -> Any:
    """Return JSON values, with the names that fields had in version 1 if `first`."""
    encode = partial(_encode, first=first)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        before = {new: old for old, new in field_names(value).items()} if first else {}
        fields = {before.get(f.name, f.name): encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": agent_type(value), **fields} if hasattr(value, "algorithm") else fields
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it; `_decode` reads it back where a float is expected
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config holds {value!r}, which JSON cannot store; use numbers, text and lists") from error
    return value


def _decode_dataclass(kind: Any, stored: Any, path: str) -> Any:
    """Build one dataclass, checking every key."""
    if not isinstance(stored, Mapping):
        raise _wrong(path, stored, f"an object with the fields of {kind.__name__}")
    known = {f.name: f for f in dataclasses.fields(kind) if f.init}
    for key in stored:
        if key not in known:
            raise ConfigError(f"config.json has the unknown key {_at(path, key)!r}; {nearest(key, known)}")
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in stored:
            decode = _decode_agent if (kind, name) == (ExperimentConfig, "agent") else _decode
            values[name] = decode(hints[name], stored[name], _at(path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"config.json lacks {_at(path, name)!r}; add it or take another config")
    return kind(**values)


def _decode_agent(hint: Any, stored: Any, path: str) -> Any:
    """Build the agent config that the key `type` names."""
    if not isinstance(stored, Mapping) or not isinstance(stored.get("type"), str):
        raise _wrong(path, stored, 'an object with "type": the name of an agent')
    kind = agents.AGENTS.factory(stored["type"])
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind) and hasattr(kind, "build")):
        raise ConfigError(
            f"{path}.type {stored['type']!r} is not an agent config; {nearest('', agents.AGENTS.builtin)}"
        )
    return _decode_dataclass(kind, {k: v for k, v in stored.items() if k != "type"}, path)


def _decode(hint: Any, stored: Any, path: str) -> Any:
    """Check `stored` against a type hint and return it in that type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return stored
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(hint, stored, path)
    if origin in (Union, types.UnionType):
        return _decode_union(arguments, stored, path)
    if origin is Literal:
        if stored not in arguments:
            raise _wrong(path, stored, "one of " + ", ".join(map(repr, arguments)))
        return stored
    if origin in (tuple, list):
        return _decode_sequence(origin, arguments, stored, path)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(stored, Mapping):
            raise _wrong(path, stored, "an object")
        return {k: _decode(arguments[1], v, _at(path, k)) for k, v in stored.items()}
    return _decode_plain(hint, stored, path)


def _decode_union(arguments: tuple[Any, ...], stored: Any, path: str) -> Any:
    if stored is None and type(None) in arguments:
        return None
    failures: list[ConfigError] = []
    for argument in arguments:
        try:
            if argument is not type(None):
                return _decode(argument, stored, path)
        except ConfigError as error:
            failures.append(error)
    raise failures[-1]


def _decode_sequence(origin: Any, arguments: tuple[Any, ...], stored: Any, path: str) -> Any:
    if not isinstance(stored, list):
        raise _wrong(path, stored, "a list")
    if origin is tuple and (len(arguments) != 2 or arguments[1] is not Ellipsis):
        if len(arguments) != len(stored):
            raise _wrong(path, stored, f"a list of {len(arguments)}")
        return tuple(_decode(a, v, f"{path}[{i}]") for i, (a, v) in enumerate(zip(arguments, stored, strict=True)))
    return origin(_decode(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(stored))


def _decode_plain(hint: Any, stored: Any, path: str) -> Any:
    if hint is float:
        if isinstance(stored, str) and stored in ("inf", "-inf", "nan"):
            return float(stored)
        if isinstance(stored, int | float) and not isinstance(stored, bool):
            return float(stored)
    elif hint is int:
        if isinstance(stored, int) and not isinstance(stored, bool):
            return stored
    elif isinstance(hint, type) and isinstance(stored, hint):
        return stored
    raise _wrong(path, stored, getattr(hint, "__name__", str(hint)))


def _wrong(path: str, stored: Any, expected: str) -> ConfigError:
    return ConfigError(f"config.json: {path or 'the file'} is {json.dumps(stored)[:60]}, expected {expected}")


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
