"""Strict evaluation: adapt on each held-out task, then score, every episode counted exactly once.

The published way to count Meta-World successes takes the first few *finished* episodes per class; solved goals finish
early, restart and are counted again. Here each (task, seed) has exactly A adaptation and E scored episodes, whatever
their length, and a mean over them is a mean over tasks.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .agent import Agent, adapts_within_episode
from .episodes import EpisodeTable, join_tables, pre_post_columns
from .errors import ConfigError, MetarlError
from .protocol import Protocol
from .provenance import package_versions
from .results import Episodes, Evaluation
from .seeding import derive, generator
from .task_distribution import TaskDistribution, about, checked_references
from .tasks import Tasks, check_split
from .trial import envs_per_task, run_trial
from .world import World

__all__ = ["Evaluation", "Protocol", "evaluate", "select_tasks"]

Progress = Callable[[int, int, str], None]
"""Called with (batches done, batches in all, what is being played)."""


def evaluate(
    agent: Agent,
    tasks: TaskDistribution,
    protocol: Protocol,
    *,
    device: torch.device | str = "cpu",
    references: bool = True,
    random_policy: Agent | None = None,
    about_agent: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Play `protocol` on held-out tasks and return every episode.

    Three things are played: the strict trials; the same agent with each episode a trial of its own (no adaptation);
    and `random_policy`, unless `references` is on and the distribution knows that value exactly. Noise comes from
    streams of `protocol.seed` that training never uses. `about_agent` and `provenance` are stored as given.

    Raises: ConfigError for a split, count or number of adaptation episodes that cannot be played; MetarlError if the
    agent's parameters changed, for then the scores belong to no agent in particular.
    """
    begin = time.monotonic()
    chosen = select_tasks(tasks, protocol)
    phases = _phases(agent, protocol)
    known = checked_references(tasks, protocol.split, protocol.n_episodes) if references else {}
    before = _digest(agent.state_dict())
    player = _Player(tasks, protocol, device, progress)
    plan: list[tuple[str, Agent, Tasks, Sequence[int]]] = [
        ("evaluation", agent, chosen, phases),
        ("evaluation-without-adaptation", agent, chosen.repeat(protocol.eval_episodes), (1,)),
    ]
    if random_policy is not None and "random" not in known:
        plan.append(("evaluation-random", random_policy, chosen.repeat(protocol.eval_episodes), (1,)))
    try:
        player.expect(plan)
        played = [player.play(*item) for item in plan]
        world = player.facts()
    finally:
        player.close()
    if _digest(agent.state_dict()) != before:
        raise MetarlError(
            f"evaluating changed the parameters of agent {agent.name!r}; its init, act and adapt must leave them alone"
        )
    once = (protocol.n_seeds, len(chosen), protocol.eval_episodes)
    return Evaluation(
        protocol=protocol,
        agent={**_facts(agent), **(about_agent or {})},
        world={**_about(tasks), **world},
        phases=phases,
        pre_episodes=pre_post_columns(phases, agent)[0].stop,
        task_names=chosen.names,
        task_groups=chosen.groups,
        task_fingerprint=chosen.fingerprint(),
        trials=played[0],
        without_adaptation=played[1].reshape(*once),
        random_policy=played[2].reshape(*once) if len(played) > 2 else None,
        references={k: [float(x) for x in v] for k, v in known.items()},
        provenance={"packages": package_versions(), **(provenance or {})},
        env_steps=player.env_steps,
        wall_s=time.monotonic() - begin,
    )


def _facts(agent: Agent) -> dict[str, Any]:
    """Return what a stored evaluation says of every agent."""
    return {
        "name": agent.name,
        "parallel_episodes": agent.parallel_episodes,
        "adapts_within_episode": adapts_within_episode(agent),
    }


def _phases(agent: Agent, protocol: Protocol) -> tuple[int, ...]:
    """Return the episodes per phase of a trial, the scored ones last; raises ConfigError if they do not add up."""
    phases = (*(agent.phases(protocol.adapt_episodes) if protocol.adapt_episodes else ()), protocol.eval_episodes)
    if sum(phases) != protocol.n_episodes or min(phases) < 1:
        raise ConfigError(
            f"agent {agent.name!r} split {protocol.adapt_episodes} adaptation episodes into phases of {phases[:-1]}; "
            f"phases() must return counts of at least 1 that add up"
        )
    return phases


def select_tasks(tasks: TaskDistribution, protocol: Protocol) -> Tasks:
    """Return the tasks that `protocol` plays, the same ones for every agent and seed.

    All of a finite split; or n_tasks of it, shared evenly by its classes; or n_tasks drawn from an infinite split.
    Raises ConfigError if there are not as many, or the split is infinite and n_tasks is None.
    """
    check_split(tasks.name, protocol.split, tasks.splits)
    everything, n = tasks.all(protocol.split), protocol.n_tasks
    stream = generator(protocol.seed, "evaluation-tasks")
    if everything is None:
        if n is None:
            raise ConfigError(
                f"split {protocol.split!r} of {tasks.name!r} is infinite, so the evaluation needs a number of tasks; "
                f"set n_tasks (--n-tasks 100)"
            )
        return tasks.sample(protocol.split, n, stream)
    if n is None or n == len(everything):
        return everything
    if n > len(everything):
        raise ConfigError(
            f"split {protocol.split!r} of {tasks.name!r} has {len(everything)} tasks, but n_tasks is {n}; lower it, or "
            f"leave it out to play them all"
        )
    shuffled = torch.randperm(len(everything), generator=stream).tolist()
    seen: dict[str, int] = {}
    rank = {}
    for i in shuffled:  # the k-th task of each class comes before the (k + 1)-th of any
        group = everything.groups[i]
        rank[i] = seen[group] = seen.get(group, -1) + 1
    return everything[sorted(sorted(shuffled, key=lambda i: rank[i])[:n])]


class _Player:
    """Plays task batches on one world at a time and counts what it did."""

    def __init__(
        self, tasks: TaskDistribution, protocol: Protocol, device: torch.device | str, progress: Progress | None
    ) -> None:
        self.tasks, self.protocol, self.device, self.progress = tasks, protocol, device, progress
        self.world: World | None = None
        self.env_steps = self.done = self.total = 0

    def expect(self, plan: Sequence[tuple[str, Agent, Tasks, Sequence[int]]]) -> None:
        """Count the batches ahead."""
        batches = [len(self._batches(agent, tasks, phases)[1]) for _, agent, tasks, phases in plan]
        self.total = self.protocol.n_seeds * sum(batches)

    def play(self, stream: str, agent: Agent, tasks: Tasks, phases: Sequence[int]) -> Episodes:
        """Run one trial per (seed, task) with noise from `stream`: arrays [S, N, sum(phases)]."""
        per_task, batches = self._batches(agent, tasks, phases)
        world = self._world(per_task * len(batches[0]))
        flags = [self.protocol.greedy_adaptation] * (len(phases) - 1) + [self.protocol.greedy]
        per_seed: list[list[EpisodeTable]] = []
        for s in range(self.protocol.n_seeds):
            tables = []
            for b, rows in enumerate(batches):
                seed = derive(self.protocol.seed, stream, s, b)
                trial = run_trial(world, agent, tasks[rows].to(self.device), phases, seed=seed, greedy=flags)
                self.env_steps += trial.n_steps
                tables.append(_first_rows(join_tables(trial.rollouts), min(len(rows), len(tasks) - b * len(rows))))
                self.done += 1
                if self.progress is not None:
                    self.progress(self.done, self.total, stream)
            per_seed.append(tables)
        return Episodes.of(per_seed)

    def _batches(self, agent: Agent, tasks: Tasks, phases: Sequence[int]) -> tuple[int, list[list[int]]]:
        """Return envs per task, and equally long batches of task rows, the last one filled up from the front."""
        per_task = envs_per_task(agent, phases, self.protocol.max_envs)
        n = len(tasks)
        n_batches = math.ceil(n / max(1, self.protocol.max_envs // per_task))
        size = math.ceil(n / n_batches)
        return per_task, [[i % n for i in range(b * size, (b + 1) * size)] for b in range(math.ceil(n / size))]

    def _world(self, num_envs: int) -> World:
        if self.world is None or self.world.num_envs != num_envs:
            self.close()
            self.world = self.tasks.make_world(num_envs, device=self.device)
        return self.world

    def facts(self) -> dict[str, Any]:
        """Return the constants of the world that was played on."""
        assert self.world is not None  # play came first
        return {
            "horizon": self.world.horizon,
            "fixed_horizon": self.world.fixed_horizon,
            "has_success": self.world.has_success,
        }

    def close(self) -> None:
        """Close the world, with its worker processes if it has any."""
        if self.world is not None:
            self.world.close()
            self.world = None


def _first_rows(table: EpisodeTable, n: int) -> EpisodeTable:
    """Return the first `n` tasks of a table: the rest fill up a batch and are not counted."""
    parts: Mapping[str, Any] = vars(table)

    def cut(name: str) -> Any:
        return None if parts[name] is None else parts[name][:n]

    return EpisodeTable(**{name: cut(name) for name in parts})


def _about(tasks: TaskDistribution) -> dict[str, Any]:
    """Return what identifies a distribution; `settings`, `notes` and `upstream_counting` where it has them."""
    said = about(tasks)
    return {
        "name": tasks.name,
        "fingerprint": tasks.fingerprint(),
        "exhaustive": tasks.exhaustive,
        "settings": dict(said.settings),
        "notes": list(said.notes),
        "upstream_counting": bool(said.upstream_counting),
    }


def _digest(value: Any) -> str:
    """Return a digest of a nested state: tensors bit by bit, other leaves by their repr."""
    digest = hashlib.sha256()

    def feed(part: Any) -> None:
        if isinstance(part, Tensor):
            flat = part.detach().cpu().contiguous().reshape(-1)
            digest.update(f"{flat.dtype}{tuple(part.shape)}".encode() + flat.view(torch.uint8).numpy().tobytes())
        elif isinstance(part, Mapping):
            for key in part:
                digest.update(repr(key).encode())
                feed(part[key])
        elif isinstance(part, list | tuple):
            for item in part:
                feed(item)
        else:
            digest.update(repr(part).encode())

    feed(value)
    return digest.hexdigest()
