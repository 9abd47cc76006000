"""Presets: functions that return the config of a run. A preset fixes the types; the command line changes values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from metarl.containment import going_on
from metarl.errors import ConfigError, MetarlError, nearest
from metarl.registry import load_target
from metarl.stranger_probe import told

from . import bandit_mdp, gridworld, metaworld, navigation, npc, point_robot

if TYPE_CHECKING:
    from metarl.experiments.config import AnyConfig

_BY_WORLD = (gridworld, bandit_mdp, navigation, point_robot, metaworld, npc)
PRESETS: dict[str, Callable[[], AnyConfig]] = {
    make.__name__.replace("_", "-"): make for module in _BY_WORLD for make in module.PRESETS
}


def load_preset(name: str) -> AnyConfig:
    """Return the config of a preset, or of a function `package.module:function` of your own.

    Raises: ConfigError naming the nearest presets, or what the function returned instead of a config.
    """
    from metarl.experiments.config import ExperimentConfig

    make = load_target(name, "preset") if ":" in name else PRESETS.get(name)
    if make is None:
        raise ConfigError(f"unknown preset {name!r}; {nearest(name, PRESETS)}")
    try:
        with going_on():
            config = make()
    except (Exception, SystemExit) as error:
        if name in PRESETS or isinstance(error, MetarlError):
            raise
        raise ConfigError(f"preset {name!r} cannot be built: {told(error)}") from error
    if not isinstance(config, ExperimentConfig):
        raise ConfigError(f"preset {name!r} returned a {type(config).__name__}; it must return an ExperimentConfig")
    return config


def describe_presets() -> str:
    """Return one line per preset: its name and what it is."""
    width = max(map(len, PRESETS)) + 2
    return "\n".join(f"  {name:<{width}}{(make.__doc__ or '').splitlines()[0]}" for name, make in PRESETS.items())
