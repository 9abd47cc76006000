"""Presets of the NPC worlds: an NPC that gets to know unknown visitors."""

from __future__ import annotations

from collections.abc import Callable

from .config import AnyConfig

NPC_PRESETS: dict[str, Callable[[], AnyConfig]] = {}
