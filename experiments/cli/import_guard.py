"""Find out whether `metarl`, `envs` and `agents` are this project's own.

The names are short enough for other distributions to install packages of the same name, silently; what follows is an
ImportError far from its cause. This module imports nothing of the project: the kernel itself may be the one shadowed.
"""

from __future__ import annotations

from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

SIBLINGS = ("metarl", "envs", "agents")
DISTRIBUTION = "metarl-worlds"


def shadowed() -> str:
    """Return one line naming the distribution that shadows one of the packages, or "" if none does."""
    root = Path(__file__).resolve().parents[1]
    for name in SIBLINGS:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve().parent if spec is not None and spec.origin else None
        if origin is None:
            return f"package {name!r} of {DISTRIBUTION} is missing from {root}; install the project again"
        if origin != root / name:
            owners = sorted(set(packages_distributions().get(name, [])) - {DISTRIBUTION})
            stranger = " or ".join(map(repr, owners)) or "no installed distribution"
            return (
                f"package {name!r} comes from {origin}, which belongs to {stranger}, instead of {root / name}; "
                f"uninstall that or run from {root}"
            )
    return ""
