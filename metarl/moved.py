"""Names that have moved to another module: the old place answers for one release, with a DeprecationWarning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any


def moved(old: str, new: str, names: Collection[str] | Mapping[str, str] | None = None) -> Callable[[str], Any]:
    """Return a `__getattr__` for the module `old`, whose `names` (None: all) now stand in the module `new`.

    A mapping says what they are called there.
    """

    def find(name: str) -> Any:
        if name.startswith("__") or (names is not None and name not in names):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        now = names[name] if isinstance(names, Mapping) else name
        found = getattr(import_module(new), now)
        warnings.warn(f"{old}.{name} is now {new}.{now}; import it from there", DeprecationWarning, stacklevel=2)
        return found

    return find
