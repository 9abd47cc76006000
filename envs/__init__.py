"""Task distributions and the worlds that run them. `envs.make(name)` builds one."""

from __future__ import annotations

if __name__ != "metarl.envs":  # a second copy of every class under another name
    raise ImportError(f"{__name__!r} is a folder of metarl's checkout; its import name is metarl.envs")

from collections.abc import Callable
from functools import partial
from typing import Any

from metarl.errors import ConfigError
from metarl.registry import ENTRY_POINT_GROUP, Registry
from metarl.task_distribution import TaskDistribution, check_distribution

WORLDS = Registry(
    "world",
    {
        "bandit": ("metarl.envs.classic.bandit:make", "k-armed Bernoulli bandits, n pulls per trial (RL² paper)"),
        "tabular-mdp": ("metarl.envs.classic.tabular_mdp:make", "random 10-state, 5-action MDPs (RL² paper)"),
        "gridworld": ("metarl.envs.classic.gridworld:make", "5x5 grid with a hidden goal (VariBAD paper)"),
        "navigation": (
            "metarl.envs.classic.point_tasks:make_navigation",
            "2-D point that must find a hidden goal (MAML paper)",
        ),
        "point-robot": (
            "metarl.envs.classic.point_tasks:make_point_robot",
            "2-D point, goals in a square, dense reward (PEARL)",
        ),
        "sparse-point-robot": (
            "metarl.envs.classic.point_tasks:make_sparse_point_robot",
            "2-D point, goals on a half-circle, sparse reward (PEARL)",
        ),
        "corner-point": (
            "metarl.envs.classic.point_tasks:make_corner_point",
            "2-D point, one of 4 corners rewarded (ProMP)",
        ),
        "revealed": ("metarl.envs.revealed:make", "another world that shows the task or the exact belief: for oracles"),
        "npc/guide": ("metarl.envs.npc.guide.tasks:make", "lead an unknown visitor through a map, step by step"),
        "npc/guide-macro": (
            "metarl.envs.npc.guide.tasks:make_macro",
            "which exhibit next? six episodes with an unknown visitor",
        ),
        "npc/guide-tiny": ("metarl.envs.npc.guide.tiny:make", "three kinds of visitors, two exhibits; solved exactly"),
        "npc/companion": (
            "metarl.envs.npc.companion.tasks:make",
            "visitors who come again and show a glyph: get to know each (identity=id for a number)",
        ),
        "npc/companion-tiny": ("metarl.envs.npc.companion.tasks:make_tiny", "one visitor, six styles, solved exactly"),
        "metaworld/ML1": ("metarl.envs.metaworld:make_ml1", "one Meta-World task class, goals held out (task=...)"),
        "metaworld/ML10": ("metarl.envs.metaworld:make_ml10", "10 train and 5 test Meta-World classes"),
        "metaworld/ML25": ("metarl.envs.metaworld:make_ml25", "25 train and 4 test Meta-World classes"),
        "metaworld/ML45": ("metarl.envs.metaworld:make_ml45", "45 train and 5 test Meta-World classes"),
        "metaworld/custom": ("metarl.envs.metaworld:make_custom", "Meta-World classes of your choice"),
        "npc/assets": ("metarl.envs.npc.assets.tasks:make", "virtual assets with hidden ways, all prices seen"),
        "npc/assets-regime": (
            "metarl.envs.npc.assets.regime_tasks:make",
            "virtual assets that go through good and bad times",
        ),
        "npc/assets-replay": (
            "metarl.envs.npc.assets.replay:make",
            "real daily prices, of your own skfolio or a CSV file",
        ),
        "npc/assets-tiny": (
            "metarl.envs.npc.assets.regime_tasks:make_tiny",
            "one asset in good and bad times; solved exactly",
        ),
        "npc/assets-held": (
            "metarl.envs.npc.assets.tasks:make_held",
            "virtual assets, only the price of the one held shows",
        ),
        "npc/assistant-tiny": ("metarl.envs.npc.assistant.tiny:make", "three dialogues of two turns; solved exactly"),
        "npc/assistant": ("metarl.envs.npc.assistant.tasks:make", "a dialogue to find the offer that suits a visitor"),
    },
    group=ENTRY_POINT_GROUP,
)


def source(name: str, **options: Any) -> TaskDistribution | Callable[[], TaskDistribution]:
    """Return what builds the task distribution `name`, or the distribution itself if `name` points at one.

    Raises: ConfigError for an unknown name, or options for something that is built already.
    """
    found = WORLDS.factory(name)
    if ":" not in name or isinstance(found, type) or (callable(found) and not hasattr(found, "fingerprint")):
        return partial(WORLDS.make, name, **options)
    if options:
        raise ConfigError(f"{name!r} is already built and takes no options; point at the function that builds it")
    return check_distribution(found)


def make(name: str, **options: Any) -> TaskDistribution:
    """Build the task distribution `name` (`metarl worlds list` lists them).

    Raises: ConfigError naming the nearest known names, or what a foreign object lacks to be a task distribution.
    """
    found = source(name, **options)
    return check_distribution(found() if isinstance(found, partial) else found)
