"""`python -m tools.preset_costs`: from the committed results, what each preset's runs cost, for `launch --dry-run`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from metarl.experiments.launch.costs import write_known

RESULTS = Path(__file__).resolve().parents[1] / "experiments" / "results"


def measured() -> dict[str, dict[str, float]]:
    """Return medians over the table's runs of each preset that were trained in one go with the preset as it stands."""
    found: dict[str, list[tuple[float, float]]] = {}
    for path in sorted((RESULTS / "table" / "runs").glob("*.json")):
        stored = json.loads(path.read_text())
        settings = stored["settings"]
        if not settings["preset"] or settings["train"] or settings["evaluate"] or stored.get("resumed"):
            continue
        train, evaluate = stored["costs"][:2]
        size = stored["preset_config"]["train"]
        each = train["cpu_s"] / (size["n_iterations"] * size["n_tasks"])
        found.setdefault(settings["preset"], []).append((each, evaluate["cpu_s"]))
    return {
        preset: {
            "cpu_s_per_iteration_and_task": float(f"{statistics.median(t for t, _ in costs):.4g}"),
            "evaluate_cpu_s": float(f"{statistics.median(e for _, e in costs):.4g}"),
            "n_runs": len(costs),
        }
        for preset, costs in sorted(found.items())
    }


if __name__ == "__main__":
    write_known(measured())
