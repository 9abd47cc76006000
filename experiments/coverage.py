"""`python -m experiments coverage RUN_DIR ...`: where do trained agents go before they have adapted to anything.

For worlds of points in the plane with goals (navigation, point robots, four corners): the agent plays episodes without
adaptation, and each episode is asked which of the split's goals it came near, and to which one it was nearest in the
end. An agent whose exploration finds every task meets all goals, within one batch of adaptation episodes at any rate.
The fresh agent, before its first meta-update, stands beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.agent import Agent
from metarl.checkpoint import replace_file
from metarl.errors import ConfigError
from metarl.provenance import provenance
from metarl.seeding import derive
from metarl.tasks import TaskDistribution
from metarl.trial import run_trial

from .build import build_agent, configure_torch, load_run, read_config
from .parser import Parser, check_writable
from .tables import text_table

PROG = "python -m experiments coverage"
Flags = NDArray[np.bool_]
Array = NDArray[np.float64]


def _parser() -> Parser:
    parser = Parser(
        prog=PROG, description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN_DIR", help="run directories that `train` wrote")
    parser.add_argument("--episodes", type=int, default=4000, help="episodes to play per agent (default %(default)s)")
    parser.add_argument("--radius", type=float, default=1.0, help="how near counts as met (default %(default)s)")
    parser.add_argument("--batch", type=int, default=20, help="episodes before adaptation (default %(default)s)")
    parser.add_argument("--split", default="test", help="split whose goals count (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="root of the noise (default %(default)s)")
    parser.add_argument("--into", type=Path, help="JSON file to write")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(list(argv))
    for name, low in (("episodes", 1), ("batch", 1), ("seed", 0)):
        if getattr(arguments, name) < low:
            raise ConfigError(f"--{name} must be >= {low}, got {getattr(arguments, name)}")
    if not 0 < arguments.radius < float("inf"):
        raise ConfigError(f"--radius must be > 0 and finite, got {arguments.radius}")
    if arguments.into is not None:
        check_writable(arguments.into, "--into")
    runs = [run_coverage(run_dir, arguments) for run_dir in arguments.run_dirs]
    header, rows = _rows(runs)
    print(text_table(header, rows))
    if arguments.into is not None:
        found = {
            "kind": "metarl.coverage", "schema_version": 1, "command": " ".join([PROG, *argv]),
            "provenance": provenance(), "runs": runs,
        }  # fmt: skip
        replace_file(arguments.into, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
        print(f"numbers  {arguments.into}")
    return 0


def run_coverage(run_dir: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what a run's trained agent and the fresh one visit before adaptation.

    Raises: ConfigError for a world without goals in the plane that its observations show; CheckpointError for a run
    directory that cannot be read.
    """
    device = configure_torch(read_config(run_dir))
    loaded = load_run(run_dir)
    fresh = build_agent(loaded.config, loaded.tasks, device)
    agents: dict[str, Agent] = {"trained": loaded.agent, "fresh": fresh}
    found = {
        name: coverage(
            agent, loaded.tasks, split=arguments.split, n_episodes=arguments.episodes, radius=arguments.radius,
            batch=arguments.batch, seed=arguments.seed,
        )
        for name, agent in agents.items()
    }  # fmt: skip
    about = {"run": run_dir.resolve().name, "world": loaded.tasks.name, "iteration": loaded.iteration}
    return about | {"train_seed": loaded.config.seed, "radius": arguments.radius, "batch": arguments.batch} | found


def coverage(
    agent: Agent, tasks: TaskDistribution, *, split: str, n_episodes: int, radius: float, batch: int, seed: int
) -> dict[str, Any]:
    """Return which goals the agent meets in at least `n_episodes` episodes, each a trial of its own.

    Each task is played equally often. "met": share of episodes that come within `radius` of each goal. "nearest": share
    of episodes that end nearest to each goal. "goals_per_episode": mean number met. "batch_meets_all": probability that
    `batch` independent episodes together meet every goal, and "batch_meets": mean share of goals that they meet, both
    over groups of `batch` of the episodes played.
    """
    chosen = tasks.all(split)
    if chosen is None or "goal" not in chosen.values or chosen.values["goal"].shape[1:] != (2,):
        raise ConfigError(
            f"coverage needs a finite list of goals in the plane; split {split!r} of {tasks.name!r} has none"
        )
    goals = chosen.values["goal"]
    rows = chosen.repeat(-(-n_episodes // len(chosen)))
    world = tasks.make_world(len(rows))
    try:
        if world.single_observation_space.shape != (2,):
            raise ConfigError(f"coverage reads positions off observations, which {tasks.name!r} does not show as such")
        query = run_trial(world, agent, rows, (1,), seed=derive(seed, "coverage")).query
    finally:
        world.close()
    away = torch.linalg.vector_norm(query.next_obs[:, :, None] - goals, dim=-1)  # [T, B, goals]
    met = ((away <= radius) & query.valid[..., None]).any(0)
    last = query.valid.sum(0) - 1
    nearest = away[last, torch.arange(len(last))].argmin(-1)
    # Groups must mix the tasks, of which an agent with memory may have learnt something within the episode.
    order = torch.randperm(len(met), generator=torch.Generator().manual_seed(derive(seed, "coverage-groups")))
    return _summary(
        met[order].numpy(), np.bincount(nearest.numpy(), minlength=len(goals)) / len(met), batch, chosen.names
    )


def _summary(met: Flags, nearest: Array, batch: int, names: Sequence[str]) -> dict[str, Any]:
    """Return the figures of `coverage` from flags [episodes, goals] and the shares of the nearest goals [goals]."""
    whole = len(met) // batch
    if not whole:
        raise ConfigError(f"--batch {batch} is more than the {len(met)} episodes played; raise --episodes")
    together = met[: whole * batch].reshape(whole, batch, -1).any(1)
    return {
        "goals": list(names),
        "n_episodes": len(met),
        "met": [float(x) for x in met.mean(0)],
        "nearest": [float(x) for x in nearest],
        "goals_per_episode": float(met.sum(1).mean()),
        "batch_meets": float(together.mean()),
        "batch_meets_all": float(np.all(together, axis=1).mean()),
    }


def _rows(runs: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the table that is printed: a line per agent."""
    header = ["run", "agent", "met, least", "met, most", "nearest, least", "nearest, most", "all met by a batch"]
    rows = []
    for run in runs:
        for name in ("trained", "fresh"):
            found = run[name]
            ends = [f(found[k]) for k in ("met", "nearest") for f in (min, max)]
            rows.append([run["run"], name, *(f"{x:.3f}" for x in (*ends, found["batch_meets_all"]))])
    return header, rows
