"""What a comparison with upstream found, as JSON and as a Markdown table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metarl.envs.metaworld.program import INFO

from .replay import Tallies, Tally

TOLERANCE = 1e-12
"""Largest absolute difference allowed in rewards and info; observations and success must be the same bits."""

Found = Sequence[tuple[str, Mapping[str, Tallies], Mapping[str, Mapping[str, int]]]]
"""Per piece of work: reward version, tallies per arrangement and class, what upstream did per class."""


def summary(found: Found) -> dict[str, Any]:
    """Return totals, and the same per arrangement and per class and reward version."""
    arrangements: dict[str, list[Tally]] = {}
    classes: dict[str, dict[str, Any]] = {}
    for version, tallies, upstream in found:
        for name, of_classes in tallies.items():
            arrangements.setdefault(name, []).extend(of_classes.values())
        for name, counts in upstream.items():
            own = [of_classes[name] for of_classes in tallies.values() if name in of_classes]
            classes.setdefault(name, {})[version] = {"upstream": dict(counts), **row(own, examples=True)}
    everything = [tally for tallies_ in arrangements.values() for tally in tallies_]
    return {
        "total": {"upstream": _upstream_total(found), **row(everything)},
        "arrangements": {name: row(tallies_) for name, tallies_ in arrangements.items()},
        "classes": classes,
    }


def row(tallies: Iterable[Tally], *, examples: bool = False) -> dict[str, Any]:
    """Return the sum of tallies: obs, reward, success and the other info fields apart."""
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    out: dict[str, Any] = {
        "episodes": total.episodes,
        "steps": total.steps,
        "not_bit_equal": {
            "obs": total.unequal["obs"],
            "reward": total.unequal["reward"],
            "success": total.unequal["success"],
            "info": sum(total.unequal[key] for key in INFO if key != "success"),
            "tensors": total.boundary,
        },
        "largest_difference": {
            "obs": total.worst["obs"],
            "reward": total.worst["reward"],
            "info": max(total.worst[key] for key in INFO),
        },
    }
    if examples and total.examples:
        out["examples"] = total.examples
    return out


def within_bounds(result: Mapping[str, Any]) -> bool:
    """Return whether the engine counts as upstream: see `TOLERANCE`. Nothing compared is not a pass."""
    total = result["total"]
    unequal, largest = total["not_bit_equal"], total["largest_difference"]
    exact = not unequal["obs"] and not unequal["success"]
    return bool(total["steps"] and exact and max(largest.values()) <= TOLERANCE)


def markdown(result: Mapping[str, Any]) -> str:
    """Return the table of the documentation: one row per arrangement, and the classes that are not bit-equal."""
    lines = [
        "| how it was played | env steps compared | observations not bit-equal | rewards not bit-equal (largest "
        "difference) | info not bit-equal (largest difference) | success differs |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    rows = {**result["arrangements"], "**all**": result["total"]}
    for name, found in rows.items():
        unequal, largest = found["not_bit_equal"], found["largest_difference"]
        cells = [
            f"{found['steps']:,}",
            f"{unequal['obs']:,}",
            _with_size(unequal["reward"], largest["reward"]),
            _with_size(unequal["info"], largest["info"]),
            f"{unequal['success']:,}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    different = {
        f"{name} ({version})": found
        for name, versions in result["classes"].items()
        for version, found in versions.items()
        if any(found["not_bit_equal"].values())
    }
    lines += ["", f"Not bit-equal in every number: {', '.join(different) or 'no class'}."]
    return "\n".join(lines)


def _with_size(count: int, largest: float) -> str:
    return f"{count:,} ({largest:.1e})" if count else "0"


def _upstream_total(found: Found) -> dict[str, int]:
    total: dict[str, int] = {}
    for _, _, upstream in found:
        for counts in upstream.values():
            for key, value in counts.items():
                total[key] = total.get(key, 0) + value
    return total
