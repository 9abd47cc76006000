"""What rliable answers on random score matrices, kept as the reference of our statistics.

pip install "rliable==1.2.0" "pandas<3" "arch<8"      # into an environment of its own
python -m tools.rliable_answers tests/metarl/rliable_answers.json
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

N_MATRICES = 20
PACKAGES = ("rliable", "numpy", "scipy", "arch", "pandas")


def matrices() -> list[tuple[Any, Any]]:
    """Return pairs of score matrices [runs, tasks] and [runs', tasks]: Gaussian, skewed, bimodal, rates with ties."""
    found = []
    for i in range(N_MATRICES):
        source = np.random.default_rng(i)
        runs, others, tasks = (int(source.integers(*ends)) for ends in ((2, 11), (2, 11), (1, 13)))
        found.append((_scores(i % 4, (runs, tasks), source), _scores(i % 4, (others, tasks), source)))
    return found


def _scores(kind: int, shape: tuple[int, int], source: np.random.Generator) -> Any:
    if kind == 0:
        found = source.normal(0.5, 0.5, shape)
    elif kind == 1:
        found = source.exponential(0.6, shape)
    elif kind == 2:
        found = (source.uniform(size=shape) < 0.4) + 0.1 * source.normal(size=shape)
    else:
        found = source.binomial(5, 0.7, shape) / 5
    return np.round(found, 6)


def answers(x: Any, y: Any) -> dict[str, Any]:
    """Return rliable's statistics of x, and the probability that x improves on y."""
    from rliable import library, metrics

    thresholds = np.linspace(-0.5, 1.5, 21)
    profiles, _ = library.create_performance_profile({"x": x}, thresholds, reps=2)
    return {
        "mean": float(metrics.aggregate_mean(x)),
        "median": float(metrics.aggregate_median(x)),
        "iqm": float(metrics.aggregate_iqm(x)),
        "optimality_gap": float(metrics.aggregate_optimality_gap(x)),
        "probability_of_improvement": float(metrics.probability_of_improvement(x, y)),
        "thresholds": thresholds.tolist(),
        "performance_profile": [float(v) for v in profiles["x"]],
    }


def main() -> None:
    """Write the answers to the file that is named."""
    entries = [{"x": x.tolist(), "y": y.tolist(), **answers(x, y)} for x, y in matrices()]
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    Path(sys.argv[1]).write_text(json.dumps({"versions": versions, "matrices": entries}) + "\n")


if __name__ == "__main__":
    main()
