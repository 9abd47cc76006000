"""`metarl baseline WORLD`: stable-baselines3 from scratch on each held-out task, scored strictly.

The reference that knows nothing of other tasks: a fresh model per task learns on that very task for a fixed number of
env steps, and plays the strict protocol's scored episodes before and after. Needs the extra `baselines`.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metarl.commandline import command, pip_command, recorded
from metarl.errors import ConfigError
from metarl.evaluation import Protocol, evaluate, select_tasks
from metarl.experiments.build import tried_tasks
from metarl.experiments.cli.outputs import check_writable, write_json
from metarl.experiments.cli.parser import Parser, real, seed, whole
from metarl.experiments.cli.safe_text import note, one_line
from metarl.experiments.cli.world_options import parse_options
from metarl.experiments.figures.text_tables import interval
from metarl.provenance import provenance
from metarl.results import Episodes, Evaluation, plain
from metarl.seeding import derive
from metarl.summary import summarise
from metarl.task_distribution import TaskDistribution
from metarl.tasks import Tasks
from metarl.world import World

from .sb3_options import ALGORITHMS, SB3Config

PROG = command("baseline")


class OneTask:
    """A distribution of one task: each split is that task, since learning from scratch is on the very task scored."""

    exhaustive = True
    splits: tuple[str, ...] = ("train", "validation", "test")

    def __init__(self, family: TaskDistribution, task: Tasks) -> None:
        """Narrow the distribution `family` to `task`, a batch of one."""
        self.family, self.task, self.name = family, task, family.name

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Return the task `n` times."""
        return self.task.repeat(n)

    def all(self, split: str) -> Tasks:
        """Return the task."""
        return self.task

    def fingerprint(self) -> str:
        """Return a digest of the distribution and the task."""
        return f"{self.family.fingerprint()}-{self.task.fingerprint()}"

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> World:
        """Build a world of the family."""
        return self.family.make_world(num_envs, device=device)

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return nothing: the family's values are means over its tasks."""
        return {}


def run_baseline(
    family: TaskDistribution,
    protocol: Protocol,
    config: SB3Config,
    *,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train one fresh model per held-out task and return JSON values: settings, costs, and both evaluations.

    `before` and `after` are `Evaluation`s over all tasks with 0 adaptation episodes; `train_env_steps` counts each
    task's own training. Everything random follows from `seed` and `protocol.seed`.

    Raises: ConfigError without SB3, or for a world or setting that it cannot use.
    """
    _need_sb3()
    protocol, began = replace(protocol, adapt_episodes=0), time.perf_counter()
    chosen = select_tasks(family, protocol)
    pairs: list[tuple[Evaluation, Evaluation]] = []
    steps: list[int] = []
    for i in range(len(chosen)):
        one = replace(protocol, n_tasks=None, seed=derive(protocol.seed, "baseline", i))
        before, after, taken = _learn_one(OneTask(family, chosen[i]), one, config, derive(seed, "baseline", i))
        pairs.append((before, after))
        steps.append(taken)
        if progress is not None:
            scores = [float(e.trials.returns.mean()) for e in (before, after)]
            progress(f"{chosen.names[i]}: return {scores[0]:.3f} before, {scores[1]:.3f} after {taken} env steps")
    joined = [_join(parts, family, protocol, chosen) for parts in zip(*pairs, strict=True)]
    return {
        "kind": "metarl.baseline",
        "schema_version": 1,
        "config": plain(asdict(config)),
        "seed": seed,
        "provenance": provenance(),
        "train_env_steps": steps,
        "wall_s": time.perf_counter() - began,
        "before": joined[0].to_json(summarise(joined[0])),
        "after": joined[1].to_json(summarise(joined[1])),
    }


def _learn_one(task: OneTask, protocol: Protocol, config: SB3Config, seed: int) -> tuple[Evaluation, Evaluation, int]:
    """Return the scores of a fresh model before and after its training on one task, and its env steps."""
    from .sb3_agent import SB3Agent, build_model, own_random_streams
    from .sb3_world import WorldVecEnv

    world = task.make_world(config.num_envs)
    try:
        env = WorldVecEnv(world, task.task.repeat(config.num_envs), seed=derive(seed, "world") % 2**31)
        model = build_model(config, env, seed=derive(seed, "model"))
        agent = SB3Agent(model, world.spec, f"sb3-{config.algorithm}")
        before = evaluate(agent, task, protocol)
        with own_random_streams(derive(seed, "learn")):
            model.learn(total_timesteps=config.steps)
        return before, evaluate(agent, task, protocol), int(model.num_timesteps)
    finally:
        world.close()


def _join(parts: Sequence[Evaluation], family: TaskDistribution, protocol: Protocol, chosen: Tasks) -> Evaluation:
    """Return single-task evaluations as one over all of `chosen`."""

    def stack(name: str) -> Episodes:
        episodes = [getattr(p, name) for p in parts]
        columns: dict[str, list[Any]] = {f.name: [getattr(e, f.name) for e in episodes] for f in fields(Episodes)}
        joined: dict[str, Any] = {k: None if v[0] is None else np.concatenate(v, axis=1) for k, v in columns.items()}
        return Episodes(**joined)

    return replace(
        parts[0],
        protocol=protocol,
        world={**parts[0].world, "fingerprint": family.fingerprint(), "exhaustive": family.exhaustive},
        task_names=chosen.names,
        task_groups=chosen.groups,
        task_fingerprint=chosen.fingerprint(),
        trials=stack("trials"),
        without_adaptation=stack("without_adaptation"),
        references=family.references(protocol.split, protocol.eval_episodes),
        env_steps=sum(p.env_steps for p in parts),
        wall_s=sum(p.wall_s for p in parts),
    )


def _need_sb3() -> None:
    if importlib.util.find_spec("stable_baselines3") is None:
        raise ConfigError(f"stable-baselines3 is not installed; {pip_command('metarl-worlds[baselines]')}")


def _parser() -> Parser:
    default = SB3Config()
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False, renamed={"--copies": "--num-envs"})
    parser.add_argument("world", help=f"a name that `{command('worlds', 'list')}` lists")
    parser.add_argument("--options", nargs="*", default=[], metavar="KEY=VALUE", help="options of the world")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default=default.algorithm)
    for name, what in (
        ("steps", "env steps of training per task"),
        ("num_envs", "envs that collect side by side"),
        ("rollout_steps", "PPO: steps per env between two updates"),
        ("minibatches", "PPO: minibatches per epoch"),
    ):
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=whole(1), default=getattr(default, name), help=f"{what} (default %(default)s)")
    parser.add_argument(
        "--hidden", type=whole(1), nargs="*", default=list(default.hidden), help="units per hidden layer"
    )
    parser.add_argument("--lr", type=real(0, above=True), default=default.lr, help="step size (default %(default)s)")
    parser.add_argument("--gamma", type=real(0, 1), default=default.gamma, help="discount (default %(default)s)")
    parser.add_argument("--split", default="test", help="split to take tasks from (default %(default)s)")
    parser.add_argument("--n-tasks", type=whole(1), metavar="N", help="tasks to play (default: all of a finite split)")
    parser.add_argument(
        "--eval-episodes", type=whole(1), default=1, metavar="E", help="scored episodes per task and seed"
    )
    parser.add_argument("--n-seeds", type=whole(1), default=3, metavar="S", help="times each task is scored")
    parser.add_argument("--greedy", action="store_true", help="scored episodes take the mode")
    parser.add_argument("--seed", type=seed, default=0, help="root of training's noise (default %(default)s)")
    parser.add_argument("--into", type=Path, help="JSON file to write")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(list(argv))
    _need_sb3()
    settings = {f.name: getattr(arguments, f.name) for f in fields(SB3Config)}
    config = SB3Config(**{**settings, "hidden": tuple(arguments.hidden)})
    protocol = Protocol(
        split=arguments.split, adapt_episodes=0, eval_episodes=arguments.eval_episodes, n_seeds=arguments.n_seeds,
        n_tasks=arguments.n_tasks, greedy=arguments.greedy,
    )  # fmt: skip
    if arguments.into is not None:
        check_writable(arguments.into, "--into")
    torch.set_num_threads(1)
    family = tried_tasks(arguments.world, parse_options(arguments.options), torch.device("cpu"))
    found = run_baseline(family, protocol, config, seed=arguments.seed, progress=lambda line: print(line, flush=True))
    found["command"] = recorded("baseline", *argv)
    for part in ("before", "after"):
        scores = found[part]["summary"]["query"]
        print(f"{part + ' training:':<17}" + ", ".join(f"{k} {interval(v['mean'], k)}" for k, v in scores.items()))
    note(f"brackets are {found['after']['summary']['intervals']['text']}")
    if arguments.into is not None:
        write_json(arguments.into, found, indent=None)
        print(f"numbers  {one_line(arguments.into)}")
    return 0
