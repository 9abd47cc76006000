"""Three worlds that we drew by hand, to walk in, to test on and to begin your own from. CC0: take them."""

from __future__ import annotations

from pathlib import Path

from metarl.envs.npc.maps.layout import Layout
from metarl.envs.npc.maps.tiled import load_tiled
from metarl.errors import ConfigError, nearest

FOLDER = Path(__file__).parent
SAMPLES = {"plaza-market": "plaza-market.tmx", "old-town": "old-town.tmj", "museum": "museum.tmx"}
"""{name: file}; each is written another way: CSV, base64 with zlib, an infinite map in chunks."""

SCENE = "gallery-scene"
"""Folder of a small Decentraland scene."""


def sample_path(name: str) -> Path:
    """Return the file of a sample world; raises ConfigError for an unknown name."""
    if name not in SAMPLES:
        raise ConfigError(f"unknown sample world {name!r}; {nearest(name, SAMPLES)}")
    return FOLDER / SAMPLES[name]


def load_sample(name: str) -> Layout:
    """Return a sample world; raises ConfigError for an unknown name."""
    return load_tiled(sample_path(name))
