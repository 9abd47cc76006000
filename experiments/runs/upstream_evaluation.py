"""`evaluate RUN_DIR --upstream`: Meta-World's own `metaworld.evaluation`, unchanged, on a trained agent.

Its number is not the strict one: see docs/evaluation.md. It is printed and stored beside it, never instead of it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl.agent import Agent
from metarl.errors import ConfigError
from metarl.evaluation import Evaluation, Protocol
from metarl.experiments.cli.outputs import write_json
from metarl.experiments.cli.parser import whole
from metarl.experiments.cli.safe_text import note, one_line
from metarl.experiments.figures.text_tables import number, text_table
from metarl.results import plain
from metarl.summary import summarise
from metarl.task_distribution import TaskDistribution

from .stored import FOLDER, named

NAME = "upstream-evaluation"
DEFAULTS = {"upstream_evals": 1, "upstream_goals": None, "upstream_episodes": 3}
SCHEMA_VERSION = 1
LABEL = "metaworld.evaluation (upstream)"
WARNING = (
    "metaworld.evaluation counts the first episodes to finish per class, so goals that are solved fast count several "
    "times; it is no strict score and must not be compared with one"
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--upstream` and the settings of upstream's evaluation."""
    group = parser.add_argument_group("Meta-World's own evaluation (benchmarks of Meta-World only)")
    group.add_argument(
        "--upstream", action="store_true", help="also let upstream's metaworld.evaluation play the agent"
    )
    for name, letter, what in (
        ("evals", "N", "its num_evals: rounds, each on new goals (%(default)s)"),
        ("goals", "G", "goals per class side by side (10 for one test class, else 4)"),
        ("episodes", "E", "its evaluation_episodes per class (%(default)s)"),
    ):
        default = DEFAULTS[f"upstream_{name}"]
        group.add_argument(f"--upstream-{name}", type=whole(1), default=default, metavar=letter, help=what)


class Request:
    """What `--upstream` asks for, checked against the run before anything is played."""

    def __init__(
        self, arguments: argparse.Namespace, agent: Agent, tasks: TaskDistribution, protocol: Protocol
    ) -> None:
        """Check everything. Raises: ConfigError for another world, split, or numbers that upstream cannot play."""
        from metarl.envs.metaworld import N_GOALS, MetaWorldTasks
        from metarl.envs.metaworld.upstream_evaluation import refuse_repeats

        if not isinstance(tasks, MetaWorldTasks):
            raise ConfigError(
                f"--upstream is Meta-World's own evaluation, but this run's world is {tasks.name!r}; leave it out"
            )
        refuse_repeats(tasks)
        if protocol.split != "test":
            raise ConfigError(
                f"--upstream plays upstream's test split, but the split is {protocol.split!r}; leave one out"
            )
        one_class = len(tasks.settings["test_classes"]) == 1
        goals = (10 if one_class else 4) if arguments.upstream_goals is None else arguments.upstream_goals
        n_evals, episodes = arguments.upstream_evals, arguments.upstream_episodes
        if goals * n_evals > N_GOALS:
            raise ConfigError(
                f"--upstream-evals {n_evals} times --upstream-goals {goals} must be at most {N_GOALS}, the goals of a "
                f"class"
            )
        phases = agent.phases(protocol.adapt_episodes) if protocol.adapt_episodes else ()
        if len(set(phases)) > 1:
            raise ConfigError(
                f"--upstream adapts on equally many episodes each time, but agent {agent.name!r} splits "
                f"{protocol.adapt_episodes} into {phases}; choose another --adapt-episodes"
            )
        self.tasks, self.goals, self.protocol = tasks, goals, protocol
        self.asked = {key: getattr(arguments, key) for key in DEFAULTS}
        self.settings = {
            "num_evals": n_evals,
            "adaptation_steps": len(phases),
            "adaptation_episodes": phases[0] if phases else 1,
            "evaluation_episodes": episodes,
        }

    def play(self, agent: Agent) -> dict[str, Any]:
        """Run upstream's evaluation of `agent` (on the CPU) and return what it said and how it was asked, for JSON."""
        from metarl.envs.metaworld.upstream_evaluation import evaluate_upstream, make_test_envs

        begin = time.monotonic()
        environments = make_test_envs(self.tasks, goals_per_class=self.goals, num_evals=self.settings["num_evals"])
        try:
            score = evaluate_upstream(
                agent, environments, **self.settings, seed=self.protocol.seed, greedy=self.protocol.greedy
            )
            n_envs = int(environments.num_envs)
        finally:
            environments.close()
        return {
            "success_rate": score.success_rate,
            "mean_return": score.mean_return,
            "per_class": score.per_class,
            "asked": self.asked,
            "settings": {**self.settings, "greedy": self.protocol.greedy, "seed": self.protocol.seed},
            "environments": {"goals_per_class": self.goals, "n_envs": n_envs, "horizon": self.tasks.horizon},
            "wall_s": time.monotonic() - begin,
        }


def to_json(played: Mapping[str, Any], strict: Evaluation) -> Any:
    """Return the file: upstream's numbers with a warning, and the strict ones of the same agent beside them."""
    score = summarise(strict)["query"]
    found = {
        "schema_version": SCHEMA_VERSION,
        "kind": "metarl.upstream-evaluation",
        "label": LABEL,
        "warning": WARNING,
        **played,
        "strict": {
            "success_any": score["success_any"]["mean"]["value"],
            "return": score["return"]["mean"]["value"],
            "n_tasks": len(strict.task_names),
            "protocol": vars(strict.protocol),
        },
        "agent": strict.agent,
        "world": strict.world,
        "provenance": strict.provenance,
    }
    return plain(found)


def target_path(run_dir: Path, asked: Mapping[str, int | None], variant: str) -> Path:
    """Return where the result lies: what was asked for besides the usual stands in its name, as does the protocol's."""
    parts = [f"{key.replace('_', '-')}{value}" for key in DEFAULTS if (value := asked[key]) != DEFAULTS[key]]
    return run_dir / FOLDER / f"{NAME}{variant}{named(parts)}.json"


def show(run_dir: Path, played: Mapping[str, Any], strict: Evaluation, variant: str = "") -> None:
    """Write the file under the run's results/ and print both numbers, one above the other."""
    found = to_json(played, strict)
    target = target_path(run_dir, played["asked"], variant)
    write_json(target, found, indent=2)
    protocol, settings = strict.protocol, played["settings"]
    counted = settings["num_evals"] * settings["evaluation_episodes"] * len(played["per_class"])
    rows = [
        ("strict", found["strict"], protocol.n_seeds * len(strict.task_names) * protocol.eval_episodes),
        (LABEL, {"success_any": played["success_rate"], "return": played["mean_return"]}, counted),
    ]
    cells = [[n, number(s["success_any"], "success"), number(s["return"]), str(k)] for n, s, k in rows]
    print("\n" + text_table(["success by", "success", "return", "episodes counted"], cells))
    note(f"{WARNING}; its returns are of episodes cut at the first success")
    print(f"upstream {one_line(target)}")
