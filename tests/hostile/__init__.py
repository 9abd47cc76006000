"""Damaged and hostile surroundings, as data: a name, how to bring it about, and what a user should see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Surroundings:
    """What a command is started with."""

    environment: Mapping[str, str | None] = field(default_factory=dict)
    """Variables to set; None: to unset."""
    arguments: tuple[str, ...] = ()
    folder: Path | None = None
    """Where to start it; None: anywhere."""
    user: int | None = None
    """Who starts it; None: whoever runs the tests."""
    patience_s: float | None = None
    """Longest time that a program which it starts may take; None: as long as usual."""
    killed_at: Path | None = None
    """File at whose appearance the command is killed."""


@dataclass(frozen=True)
class Case:
    """One way in which the surroundings can be wrong."""

    name: str
    make: Callable[[Path], Surroundings]
    """Brings it about in an empty folder."""
    expected: str
    """"works", "rebuilt" (works, and one line says what was made anew), "refused" (one line, nothing of it is used) or
    "listed" (in a table, with its error)."""
