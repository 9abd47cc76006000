"""Warm starts: a new run that begins with the parameters and running statistics of an earlier one, and nothing else.

Optimiser moments, counters of schedules and stored experience belong to the earlier run's way of learning. Which
entries of an agent's state those are the agent says in `learning_state`; without it everything is taken over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from .agent import Agent, learning_state
from .errors import ConfigError


def warm_state(agent: Agent, stored: Any) -> Any:
    """Return the state of the fresh `agent` with what `stored`, a state of an earlier one, has learnt.

    What is empty in a fresh agent (a library, the statistics of classes yet to come) may have any length. Raises:
    ConfigError naming the first entry that differs in kind or shape, or if nothing at all was learnt.
    """
    own: Any = agent.state_dict()
    merged, n_tensors = _merge(own, stored, "", learning_state(agent))
    if not n_tensors:
        raise ConfigError(f"agent {agent.name!r} keeps nothing between tasks that another run could start from")
    return merged


def _merge(own: Any, stored: Any, path: str, skipped: Collection[str]) -> tuple[Any, int]:
    """Return the merged value at `path` and how many tensors of it are the stored ones."""
    if path in skipped:
        return own, 0
    if isinstance(own, Tensor) and isinstance(stored, Tensor):
        grows = own.dim() > 0 and len(own) == 0 and own.shape[1:] == stored.shape[1:]
        if (own.shape == stored.shape or grows) and own.dtype == stored.dtype:
            return stored, 1
    elif isinstance(own, Mapping) and isinstance(stored, Mapping):
        if not own:
            return stored, len(stored)
        for key in [*own, *stored]:
            if (key in own) != (key in stored) and _at(path, key) not in skipped:
                has, lacks = ("this agent", "the earlier run") if key in own else ("the earlier run", "this agent")
                raise ConfigError(f"{_at(path, key)!r} is in {has} and not in {lacks}")
        parts = {k: _merge(v, stored.get(k), _at(path, k), skipped) for k, v in own.items()}
        return {k: v for k, (v, _) in parts.items()}, sum(n for _, n in parts.values())
    elif isinstance(own, list | tuple) and isinstance(stored, list | tuple):
        if not own:
            return stored, 0
        if len(own) == len(stored):
            items = [_merge(a, b, _at(path, i), skipped) for i, (a, b) in enumerate(zip(own, stored, strict=True))]
            return type(own)(v for v, _ in items), sum(n for _, n in items)
    elif type(own) is type(stored):
        return stored, 0
    raise ConfigError(f"{path!r} is {_kind(stored)} in the earlier run and {_kind(own)} here")


def _at(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, list | tuple) else "")
