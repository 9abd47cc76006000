"""A grid as a sweep of Weights & Biases, whose agents take its runs one by one and carry them out as `launch` does."""

from __future__ import annotations

import yaml

from .folder import GridFolder


def sweep_yaml(grid: GridFolder) -> str:
    """Return what `wandb sweep FILE` takes; `wandb agent` then runs the grid's own idempotent command per run."""
    sweep = {
        "name": grid.name,
        "method": "grid",
        "parameters": {"run": {"values": [job.name for job in grid.jobs]}},
        "command": [
            "${env}", "${interpreter}", "-m", "metarl.experiments.launch.job", str(grid.path.resolve()), "${args}",
        ],
    }  # fmt: skip
    return str(yaml.safe_dump(sweep, sort_keys=False, width=1000))
