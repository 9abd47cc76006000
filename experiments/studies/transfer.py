"""`metarl study transfer RUN_DIR`: transfer by a metric-based run's task metric and policy library.

Two questions. Known tasks: are tasks that look alike those whose policies can be exchanged (rank correlation of
distance and transfer regret)? Held-out tasks: what does each way to start earn, beside the average-task policy, on the
same tasks and with the same number of adaptation episodes? Writes `results/transfer.json` in the
run directory; what is asked for besides the usual stands in the file's name.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from metarl import statistics
from metarl.agents.metric.agent import Metric
from metarl.agents.metric.config import Initial
from metarl.agents.metric.transfer_regret import others, rank_correlation, transfer_regret
from metarl.collect import collect, first_step
from metarl.commandline import command
from metarl.episodes import episode_table
from metarl.errors import ConfigError
from metarl.experiments.build import open_run
from metarl.experiments.cli.outputs import check_folder, write_json
from metarl.experiments.cli.parser import Parser, add_device, seed, whole
from metarl.experiments.cli.safe_text import one_line
from metarl.experiments.cli.trust import add_trust
from metarl.experiments.figures.text_tables import text_table
from metarl.experiments.runs.stored import FOLDER, changed
from metarl.provenance import provenance
from metarl.rollout import Rollout
from metarl.seeding import derive, generator
from metarl.task_distribution import TaskDistribution
from metarl.tasks import Tasks
from metarl.trial import run_trial
from metarl.world import World

LEAST_TASKS = 3
"""Fewest tasks of which an order can be asked for: two to compare besides the own one."""
INTERVALS = (
    "95 % intervals over tasks (Student's t; of the rank correlation, by leaving out task by task); other training "
    "seeds are not covered; [–]: too few tasks, or all alike"
)


def main(argv: Sequence[str]) -> int:
    """Measure one run and return the exit code."""
    parser = Parser(prog=command("study", "transfer"), description=__doc__, allow_abbrev=False)
    parser.add_argument("run_dir", type=Path, help="run directory of a metric-based agent")
    parser.add_argument("--episodes", type=whole(1), default=10, help="episodes per value, >= 1 (default %(default)s)")
    parser.add_argument("--n-tasks", type=whole(1), default=100, help="held-out tasks, >= 1 (default %(default)s)")
    parser.add_argument("--split", default="test", help="where they come from (default %(default)s)")
    parser.add_argument("--finetunings", type=whole(0), default=2, help="phases of fine-tuning after the start, >= 0")
    parser.add_argument("--seed", type=seed, default=0, help="root of the noise")
    add_device(parser)
    add_trust(parser)
    arguments = parser.parse_args(list(argv))
    check_folder(arguments.run_dir, "RUN_DIR")
    loaded = open_run(arguments.run_dir, device=arguments.device, trust=arguments.trust)
    if not isinstance(loaded.agent, Metric):
        raise ConfigError(f"{arguments.run_dir} holds a {loaded.agent.name!r} agent; transfer needs a metric-based one")
    found = measure(loaded.agent, loaded.tasks, arguments)
    result = {"iteration": loaded.iteration, "provenance": provenance(), **found}
    end = changed(vars(arguments), {k: parser.get_default(k) for k in found["settings"]})
    target = arguments.run_dir / FOLDER / f"transfer{end}.json"
    target.parent.mkdir(exist_ok=True)
    write_json(target, result)
    print(_show(found))
    print(f"written: {one_line(target)}")
    return 0


def measure(agent: Metric, tasks: TaskDistribution, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return both answers as nested dicts of numbers."""
    settings = {k: v for k, v in vars(arguments).items() if k not in ("run_dir", "device")}
    return {
        "settings": settings,
        "intervals": INTERVALS,
        "known_tasks": known_tasks(agent, tasks, arguments.episodes, arguments.seed),
        "held_out_tasks": held_out_tasks(agent, tasks, arguments),
    }


def known_tasks(agent: Metric, tasks: TaskDistribution, n_episodes: int, seed: int) -> dict[str, Any]:
    """Return how well distances order the library's tasks by transfer regret.

    A task's distances are those of a fresh support phase of it; its own policy is left out, because finding it again
    is another question (`own_found`). Raises: ConfigError if the library's tasks cannot be had or are too few.
    """
    library, slots = library_tasks(agent, tasks)
    world = tasks.make_world(len(library) * n_episodes, device=agent.device)
    try:
        values = value_matrix(agent, world, library, slots, derive(seed, "known-values"))
        average = torch.full_like(slots, agent.library.average)
        support = _play(agent, world, library, average, derive(seed, "known-support"))
    finally:
        world.close()
    similarity = agent.similarity(support)[:, slots]
    own = torch.arange(len(slots), device=slots.device)
    regret, unit = transfer_regret(values, own)
    distance, cost = -others(similarity, own), others(regret, own)
    return {
        "n_tasks": len(slots),
        "regret": unit,
        "spearman": rank_agreement(-similarity, regret),
        "spearman_pooled": float(rank_correlation(distance.flatten(), cost.flatten())),
        "own_found": float((similarity.argmax(1) == own).double().mean()),
        "own_return": float(values.diagonal().mean()),
        "average_policy_return": float(_returns(support).mean()),
        "nearest_other_regret": float(cost.gather(1, distance.argmin(1, keepdim=True)).mean()),
        "random_other_regret": float(cost.mean()),
    }


def held_out_tasks(agent: Metric, tasks: TaskDistribution, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what each way to start earns per phase, and its lead over the average-task policy, task by task.

    Every way sees the same tasks, and the same worlds and noise in the first phase, which the average-task policy
    plays. "random policy" is the mean over the whole library, "best policy" the one of it that does best on the task in
    hindsight (a maximum over noisy means, hence a little too high).
    """
    chosen = tasks.sample(arguments.split, arguments.n_tasks, generator(arguments.seed, "held-out")).to(agent.device)
    episodes, seed = arguments.episodes, derive(arguments.seed, "held-out")
    world = tasks.make_world(len(chosen) * episodes, device=agent.device)
    try:
        phases = {}
        for initial in get_args(Initial):
            config = replace(agent.config, initial=initial)
            player = config.build(agent.spec, seed=0, device=agent.device)
            player.load_state_dict(agent.state_dict())
            trial = run_trial(world, player, chosen, (episodes,) * (2 + arguments.finetunings), seed=seed)
            phases[initial] = torch.stack([_returns(rollout) for rollout in trial.rollouts])
        slots = torch.arange(len(agent.library.keys), device=agent.device)
        values = value_matrix(agent, world, chosen, slots, derive(arguments.seed, "held-out-values"))
    finally:
        world.close()
    average = phases["average"]
    starts = {k: v[1] for k, v in phases.items() if k != "average"}
    starts |= {"random policy": values.mean(1), "best policy": values.amax(1)}
    return {
        "n_tasks": len(chosen),
        "phases": {k: v.mean(1).tolist() for k, v in phases.items()},
        "lead_of_start": {k: _interval(v - average[0]) for k, v in starts.items()},
        "lead_at_equal_episodes": {k: _interval(v[-1] - average[-1]) for k, v in phases.items() if k != "average"},
    }


def library_tasks(agent: Metric, tasks: TaskDistribution) -> tuple[Tasks, Tensor]:
    """Return the training tasks that have a policy of their own, and their slots (int64 [S]).

    Raises: ConfigError for an endless training split, whose tasks nobody kept, or too few tasks.
    """
    everything = tasks.all("train")
    if everything is None:
        raise ConfigError(
            f"the training tasks of {tasks.name!r} are endless, so those of the library cannot be played again; train "
            f"on a fixed list of them (navigation: --world.options n_train 80)"
        )
    where = {key: slot for slot, key in enumerate(agent.library.keys)}
    keys = everything.keys()
    rows = [i for i, key in enumerate(keys) if key in where]
    if len(rows) < LEAST_TASKS:
        raise ConfigError(
            f"the library holds {len(rows)} tasks of the training split, fewer than {LEAST_TASKS}; train longer"
        )
    slots = torch.tensor([where[keys[i]] for i in rows], device=agent.device)
    return everything[rows].to(agent.device), slots


def value_matrix(agent: Metric, world: World, tasks: Tasks, slots: Tensor, seed: int) -> Tensor:
    """Return V(pi_j; task i), the mean return of the policy in slot `slots[j]` on task i: float64 [N, S].

    All policies of a task play in the same worlds with the same noise.
    """
    columns = [_returns(_play(agent, world, tasks, slot.expand(len(tasks)), seed)) for slot in slots]
    return torch.stack(columns, dim=1)


def _play(agent: Metric, world: World, tasks: Tasks, rows: Tensor, seed: int) -> Rollout:
    """Play one episode per env of the policies in `rows` of the library, one for each task."""
    envs_per_task = world.num_envs // len(tasks)
    world.set_tasks(tasks.repeat(envs_per_task))
    obs, info = world.reset(seed=derive(seed, "world"))
    step = first_step(world, obs, info.get("action_mask"))
    noise = generator(seed, "policy", device=world.device)
    return collect(world, agent, agent.playing(rows), step, envs_per_task, n_tasks=len(tasks), generator=noise)[2]


def _returns(rollout: Rollout) -> Tensor:
    """Return each task's mean return, float64 [N]."""
    return episode_table(rollout).returns.mean(1)


def _interval(per_task: Tensor) -> dict[str, float | None]:
    """Return the mean over tasks with its interval over them."""
    found = statistics.student(per_task.cpu().numpy()[None], over="tasks")
    return {k: None if np.isnan(v) else float(v) for k, v in found._asdict().items()}


def rank_agreement(distance: Tensor, cost: Tensor) -> dict[str, float | None]:
    """Return the mean over tasks of the rank correlation of distance and cost of the others' policies, both [N, N].

    Each task stands in its own row and, through its policy, in all others, so that rows are no independent draws: the
    interval comes from leaving out task by task (jackknife), row and column.
    """

    def mean_of(kept: Tensor) -> Tensor:
        own = torch.arange(len(kept), device=kept.device)
        return rank_correlation(*(others(m[kept][:, kept], own) for m in (distance, cost))).mean()

    every = torch.arange(len(distance), device=distance.device)
    value, n = mean_of(every), len(every)
    found: dict[str, float | None] = {"value": float(value), "low": None, "high": None}
    if n - 2 >= LEAST_TASKS:
        left_out = torch.stack([mean_of(every[every != i]) for i in every])
        ends = _interval(n * value - (n - 1) * left_out)
        if ends["value"] is not None and ends["high"] is not None:
            half = ends["high"] - ends["value"]
            found |= {"low": max(-1.0, float(value) - half), "high": min(1.0, float(value) + half)}
    return found


def _show(found: dict[str, Any]) -> str:
    known, held_out = found["known_tasks"], found["held_out_tasks"]

    def text(found: dict[str, Any]) -> str:
        if found["low"] is None:
            return f"{found['value']:.2f} [–]"
        return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"

    lines = [
        f"known tasks ({known['n_tasks']}): rank correlation of distance and regret ({known['regret']}) "
        f"{text(known['spearman'])}; own policy found {known['own_found']:.0%}; regret of the nearest other "
        f"{known['nearest_other_regret']:.2f}, of a random other {known['random_other_regret']:.2f}",
        f"held-out tasks ({held_out['n_tasks']}), lead over the average-task policy:",
    ]
    after = held_out["lead_at_equal_episodes"]
    rows = [
        [name, text(lead), text(after[name]) if name in after else "–"]
        for name, lead in held_out["lead_of_start"].items()
    ]
    table = text_table(["start", "at the start", "after as many fine-tunings"], rows)
    return "\n".join([*lines, table, f"note: brackets are {INTERVALS}"])
