"""`metarl bench parity`: is the Meta-World engine upstream, number for number?

Upstream's own environments are run and recorded class by class; the engine then plays the recordings, in mixed-task
batches of several sizes, orders and thread counts, with every core, and all numbers are compared in float64. Exit code
1 if an observation is not bit-equal, or reward or info is more than 1e-12 off.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from metarl.commandline import command, recorded
from metarl.errors import CheckpointError, ConfigError
from metarl.experiments.cli.outputs import check_writable, write_json
from metarl.experiments.cli.parser import Parser, seed, whole
from metarl.experiments.runs.locks import lock_problem
from metarl.provenance import provenance
from metarl.reading import read_object

from .recording import BEHAVIOURS, Recording, record_class
from .replay import Arrangement, Tallies, make_engine, replay
from .report import markdown, summary, within_bounds

PROG = command("bench", "parity")
CORES = ("compiled", "python")
REWARDS = ("v2", "v1")

BLOCK = 5
"""Classes whose recordings share batches. Blocks are dealt out with a stride, so that each mixes unlike classes."""


@dataclass(frozen=True)
class Settings:
    """How much to compare."""

    goals: int
    """Goals per class; each starts a chain of episodes."""
    goals_v1: int
    """The same for the old reward, which changes neither physics nor observations."""
    episodes: int
    """Consecutive episodes per recording; the goal changes between them."""
    steps: int
    """Env steps per episode, at most 500."""
    rewards: tuple[str, ...]
    cores: tuple[str, ...]
    classes: tuple[str, ...]
    seed: int

    def units(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield (reward version, classes) of each piece of work."""
        n_blocks = -(-len(self.classes) // BLOCK)
        for version in self.rewards:
            for i in range(n_blocks):
                yield version, self.classes[i::n_blocks]

    def goals_for(self, reward_version: str) -> int:
        """Return how many goals per class are played with this reward."""
        return self.goals if reward_version == "v2" else self.goals_v1

    def arrangements(self) -> list[Arrangement]:
        """Return the ways in which each piece of work is played: all of it by the first core, samples by the second."""
        whole = BLOCK * len(BEHAVIOURS) * self.goals
        return [
            arrangement
            for i, core in enumerate(self.cores)
            for arrangement in (
                Arrangement(core, n_threads=1, batch=whole, through="core", shuffle=1, every=1 + 2 * i),
                Arrangement(core, n_threads=2, batch=16, through="world", shuffle=2, every=1 + i),
                Arrangement(core, n_threads=1, batch=1, through="world", shuffle=3, every=20),
            )
        ]


@dataclass(frozen=True)
class UnitResult:
    """What one piece of work found."""

    reward_version: str
    tallies: dict[str, Tallies]
    """Per arrangement, per class."""
    upstream: dict[str, dict[str, int]]
    """Per class: upstream's episodes and steps, and how often its expert succeeded."""
    cpu_s: float


def _stored_table(path: Path) -> str:
    remedy = f"name a file that `{command('bench', 'parity', '--out', 'FILE')}` wrote"
    try:
        return markdown(read_object(path, remedy=remedy))
    except OSError as error:
        raise CheckpointError(f"--table {path} cannot be read ({error.strerror}); {remedy}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"--table {path} is no result of parity ({type(error).__name__}: {error}); {remedy}"
        ) from error


def main(argv: Sequence[str]) -> int:
    """Run the comparison, print a summary and write it as JSON; returns 1 if the engine is not upstream."""
    arguments = _parser().parse_args(list(argv))
    if arguments.table:
        print(_stored_table(arguments.table))
        return 0
    settings = Settings(
        arguments.goals, arguments.goals_v1, arguments.episodes, arguments.steps, tuple(arguments.rewards),
        tuple(arguments.cores), _classes(arguments.classes), arguments.seed,
    )  # fmt: skip
    problem = lock_problem()
    if problem:
        raise ConfigError(f"parity spreads its work over processes, and {problem}")
    if arguments.out is not None:
        check_writable(arguments.out, "--out")
    result = compare(settings, arguments.workers, recorded("bench", "parity", *argv), arguments.out)
    if arguments.leak:
        result["leak"] = [_leak(core, arguments.leak) for core in settings.cores]
        _write(result, arguments.out)
    print(markdown(result))
    return int(not within_bounds(result))


def compare(settings: Settings, n_workers: int, command: str, out: Path | None) -> dict[str, Any]:
    """Do all the work; the result so far is written after each piece, for it takes long."""
    origin, began = provenance(), time.perf_counter()
    n_units = len(list(settings.units()))
    done: list[UnitResult] = []
    result: dict[str, Any] = {}
    for unit in run(settings, n_workers):
        done.append(unit)
        wall_s = time.perf_counter() - began
        result = {
            "command": command,
            "complete": len(done) == n_units,
            "provenance": origin,
            "cpus": len(os.sched_getaffinity(0)),
            "settings": {**asdict(settings), "classes": len(settings.classes), "behaviours": list(BEHAVIOURS)},
            "costs": {"wall_s": wall_s, "cpu_s": sum(unit.cpu_s for unit in done)},
            **summary([(unit.reward_version, unit.tallies, unit.upstream) for unit in done]),
            "leak": [],
        }
        _write(result, out)
        different = sorted({name for t in unit.tallies.values() for name, tally in t.items() if not tally.exact})
        verdict = f"differences in {', '.join(different)}" if different else "all equal"
        print(f"{len(done):3}/{n_units}  {wall_s:6.0f} s  reward {unit.reward_version}: {verdict}", flush=True)
    return result


def _write(result: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        write_json(out, result)


def run(settings: Settings, n_workers: int) -> Iterator[UnitResult]:
    """Do all pieces of work, spread over processes; yield each one's result as it comes."""
    units = list(settings.units())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=min(n_workers, len(units)), mp_context=context) as pool:
        for future in as_completed([pool.submit(run_unit, settings, *unit) for unit in units]):
            yield future.result()


def run_unit(settings: Settings, reward_version: str, names: tuple[str, ...]) -> UnitResult:
    """Record upstream for some classes, then play the recordings in every arrangement."""
    import torch

    torch.set_num_threads(1)
    began = time.process_time()
    recordings = [
        recording
        for name in names
        for recording in record_class(
            name,
            reward_version,
            BEHAVIOURS,
            settings.goals_for(reward_version),
            settings.episodes,
            settings.steps,
            settings.seed,
        )
    ]
    make_world = partial(make_engine, reward_version=reward_version)
    tallies = {a.name: replay(a, recordings, make_world) for a in settings.arrangements()}
    return UnitResult(reward_version, tallies, count_upstream(recordings), time.process_time() - began)


def count_upstream(recordings: Sequence[Recording]) -> dict[str, dict[str, int]]:
    """Return per class how much upstream was run, and in how many of the expert's episodes it reported success."""
    counts: dict[str, dict[str, int]] = {}
    for recording in recordings:
        of_class = counts.setdefault(
            recording.name, {"episodes": 0, "steps": 0, "expert_episodes": 0, "expert_successes": 0}
        )
        of_class["episodes"] += len(recording.tasks)
        of_class["steps"] += recording.n_steps
        if recording.behaviour == "expert":
            of_class["expert_episodes"] += len(recording.tasks)
            of_class["expert_successes"] += int((recording.info[..., 0] > 0).any(axis=1).sum())
    return counts


def _leak(core: str, n_steps: int) -> dict[str, Any]:
    from .leak import measure_leak

    found = measure_leak(core, n_steps, n_threads=2)
    print(f"{core} core: {found['steps']:,} steps, memory {found['growth_mb']:+.2f} MB from half time to the end")
    return found


def _classes(wanted: Sequence[str]) -> tuple[str, ...]:
    from metarl.envs.metaworld.tasks import check_classes, class_names

    if not wanted:
        return class_names()
    check_classes(list(wanted), "--classes")
    return tuple(wanted)


def _parser() -> Parser:
    parser = Parser(allow_abbrev=False, prog=PROG, description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--goals", type=whole(1, 50), default=5, help="goals per class (default %(default)s)")
    parser.add_argument("--goals-v1", type=whole(1, 50), default=2, help="so with reward v1 (default %(default)s)")
    parser.add_argument(
        "--episodes", type=whole(1, 100), default=2, help="consecutive episodes per goal (default %(default)s)"
    )
    parser.add_argument("--steps", type=whole(1, 500), default=500, help="env steps per episode (default %(default)s)")
    parser.add_argument("--classes", nargs="*", default=[], metavar="NAME", help="task classes (default: all 50)")
    parser.add_argument("--rewards", nargs="+", default=REWARDS, choices=REWARDS, help="reward versions (default both)")
    parser.add_argument("--cores", nargs="+", default=CORES, choices=CORES, help="cores (default both)")
    parser.add_argument("--seed", type=seed, default=0, help="of goals and actions (default %(default)s)")
    parser.add_argument(
        "--workers", type=whole(1), default=len(os.sched_getaffinity(0)), help="processes (default: one per usable CPU)"
    )
    parser.add_argument(
        "--leak", type=whole(0), default=0, metavar="STEPS", help="also watch the memory over so many steps"
    )
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--table", type=Path, metavar="JSON", help="only print a written result as Markdown")
    return parser
