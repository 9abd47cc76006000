"""`metarl study coverage RUN_DIR ...`: where do trained agents go before they have adapted to anything.

For worlds of points in the plane with a list of goals (four corners, sparse point robot): the agent plays episodes
without adaptation, and each is asked which of the split's goals it came near, which ones would have paid it, and to
which one it was nearest in the end. An agent that explores for every task does so for all goals alike. The fresh agent,
before its first meta-update, stands beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.agent import Agent
from metarl.commandline import command, recorded
from metarl.envs.classic.point_worlds import PointWorld
from metarl.errors import ConfigError
from metarl.experiments.build import build_agent, open_run
from metarl.experiments.cli.outputs import check_writable, write_json
from metarl.experiments.cli.parser import Parser, add_device, real, seed, whole
from metarl.experiments.cli.safe_text import one_line
from metarl.experiments.cli.trust import add_trust
from metarl.experiments.figures.text_tables import text_table
from metarl.provenance import provenance
from metarl.rollout import Rollout
from metarl.seeding import derive
from metarl.task_distribution import TaskDistribution
from metarl.tasks import Tasks
from metarl.trial import run_trial

PROG = command("study", "coverage")
Flags = NDArray[np.bool_]


def _parser() -> Parser:
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False)
    parser.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN_DIR", help="run directories that `train` wrote")
    parser.add_argument(
        "--episodes", type=whole(1), default=4000, help="episodes to play per agent (default %(default)s)"
    )
    parser.add_argument(
        "--radius", type=real(0, above=True), default=1.0, help="how near counts as met (default %(default)s)"
    )
    parser.add_argument("--batch", type=whole(1), default=20, help="episodes before adaptation (default %(default)s)")
    parser.add_argument("--split", default="test", help="split whose goals count (default %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="root of the noise (default %(default)s)")
    add_device(parser)
    add_trust(parser)
    parser.add_argument("--into", type=Path, help="JSON file to write")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(list(argv))
    if arguments.into is not None:
        check_writable(arguments.into, "--into")
    runs = [run_coverage(run_dir, arguments) for run_dir in arguments.run_dirs]
    header, rows = _rows(runs)
    print(text_table(header, rows))
    if arguments.into is not None:
        found = {
            "kind": "metarl.coverage", "schema_version": 1, "command": recorded("study", "coverage", *argv),
            "provenance": provenance(), "runs": runs,
        }  # fmt: skip
        write_json(arguments.into, found)
        print(f"numbers  {one_line(arguments.into)}")
    return 0


def run_coverage(run_dir: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what a run's trained agent and the fresh one visit before adaptation.

    Raises: ConfigError for a world without goals in the plane that its observations show; CheckpointError for a run
    directory that cannot be read.
    """
    loaded = open_run(run_dir, device=arguments.device, trust=arguments.trust)
    device = torch.device(loaded.config.device)
    fresh = build_agent(loaded.config, loaded.tasks, device)
    agents: dict[str, Agent] = {"trained": loaded.agent, "fresh": fresh}
    found = {
        name: coverage(
            agent, loaded.tasks, split=arguments.split, n_episodes=arguments.episodes, radius=arguments.radius,
            batch=arguments.batch, seed=arguments.seed, device=device,
        )
        for name, agent in agents.items()
    }  # fmt: skip
    about = {"run": run_dir.resolve().name, "world": loaded.tasks.name, "iteration": loaded.iteration}
    return about | {"train_seed": loaded.config.seed, "radius": arguments.radius, "batch": arguments.batch} | found


def coverage(
    agent: Agent, tasks: TaskDistribution, *, split: str, n_episodes: int, radius: float, batch: int, seed: int,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:  # fmt: skip
    """Return which goals the agent, which is on `device`, visits in at least `n_episodes` episodes, each its own trial.

    Each task is played equally often. "steps_paid": share of all steps that would pay something other than 0, were that
    the goal. "nearest": share of episodes that end nearest to each goal. "met" and "paid": share of episodes that come
    within `radius` of each goal, or have a step that it would pay; for both also "per_episode", the mean number of such
    goals, "episode_all", how often an episode has all of them, "batch", the mean share of goals that `batch` episodes
    together have, and "batch_all", how often they have all.

    Raises: ConfigError for a world that is none of points in the plane, or has no finite list of goals.
    """
    chosen = tasks.all(split)
    if chosen is None or "goal" not in chosen.values:
        raise ConfigError(f"coverage needs a finite list of goals; split {split!r} of {tasks.name!r} has none")
    chosen = chosen.to(torch.device(device))
    rows = chosen.repeat(-(-n_episodes // len(chosen)))
    world = tasks.make_world(len(rows), device=device)
    try:
        if not isinstance(world, PointWorld):
            raise ConfigError(f"coverage needs a world of points in the plane; {tasks.name!r} is none")
        query = run_trial(world, agent, rows, (1,), seed=derive(seed, "coverage")).query
        paying = _paying(world, chosen, query)
    finally:
        world.close()
    away = torch.linalg.vector_norm(query.next_obs[:, :, None] - chosen.values["goal"], dim=-1)  # [T, B, goals]
    met = ((away <= radius) & query.valid[..., None]).any(0)
    last = query.valid.sum(0) - 1
    nearest = away[last, torch.arange(len(last), device=last.device)].argmin(-1)
    # Groups must mix the tasks, of which an agent with memory may have learnt something within the episode.
    order = torch.randperm(len(met), generator=torch.Generator().manual_seed(derive(seed, "coverage-groups")))
    return {
        "goals": list(chosen.names),
        "n_episodes": len(met),
        "steps_paid": (paying.sum((0, 1)) / query.valid.sum()).tolist(),
        "nearest": (nearest.bincount(minlength=len(chosen)) / len(met)).tolist(),
        "met": together(met.cpu()[order].numpy(), batch),
        "paid": together(paying.any(0).cpu()[order].numpy(), batch),
    }


def _paying(world: PointWorld, goals: Tasks, played: Rollout) -> Tensor:
    """Return which valid steps would pay something other than 0, were each of `goals` the task: bool [T, B, goals]."""
    columns = []
    for i in range(len(goals)):
        world.set_tasks(goals[i].repeat(world.num_envs))
        world.reset(seed=0)
        moves = zip(played.obs, played.next_obs, strict=True)
        columns.append(torch.stack([world.pay(before, after)[0] != 0.0 for before, after in moves]))
    return torch.stack(columns, dim=-1) & played.valid[..., None]


def together(visited: Flags, batch: int) -> dict[str, Any]:
    """Return shares over episodes and over groups of `batch` of them, from flags [episodes, goals].

    Raises: ConfigError if there are fewer episodes than a group has.
    """
    whole = len(visited) // batch
    if not whole:
        raise ConfigError(f"--batch {batch} is more than the {len(visited)} episodes played; raise --episodes")
    groups = visited[: whole * batch].reshape(whole, batch, -1).any(1)
    return {
        "episodes": visited.mean(0).tolist(),
        "per_episode": float(visited.sum(1).mean()),
        "episode_all": float(visited.all(1).mean()),
        "batch": float(groups.mean()),
        "batch_all": float(np.all(groups, axis=1).mean()),
    }


def _rows(runs: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the table that is printed: a line per agent, shares of the goals that are visited least and most."""
    header = [
        "run",
        "agent",
        "steps paid",
        "nearest at the end",
        "goals met",
        "goals paid",
        "episode paid by all",
        "batch meets all",
    ]
    rows = []
    for run in runs:
        for name in ("trained", "fresh"):
            found = run[name]
            ends = [f"{min(found[k]):.3f} to {max(found[k]):.3f}" for k in ("steps_paid", "nearest")]
            counts = [f"{found[k]['per_episode']:.2f}" for k in ("met", "paid")]
            whole = [f"{found['paid']['episode_all']:.3f}", f"{found['met']['batch_all']:.3f}"]
            rows.append([run["run"], name, *ends, *counts, *whole])
    return header, rows
