"""What an evaluation measured, as a value that is written to JSON and read back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .commandline import command
from .episodes import EpisodeTable, concatenate_tables
from .errors import CheckpointError, ConfigError
from .protocol import Protocol

SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class Episodes:
    """Every episode once: arrays [S, N, E] over seeds, tasks and episodes in the order they were played."""

    returns: NDArray[np.float64]
    """Undiscounted sum of rewards."""
    length: NDArray[np.int64]
    """Env steps."""
    success_any: NDArray[np.bool_] | None = None
    """Success at any step; None if the world has no such notion."""
    success_last: NDArray[np.bool_] | None = None
    """Success at the last step."""
    first_success: NDArray[np.int64] | None = None
    """Env steps up to and including the first successful one; 0 if there was none."""
    cost: NDArray[np.float64] | None = None
    """Sum of what the steps cost in safety; None if the world has no such notion."""

    @classmethod
    def of(cls, per_seed: Sequence[Sequence[EpisodeTable]]) -> Episodes:
        """Stack tables [N', E]: one list per seed, whose tables hold consecutive tasks."""
        tables = [concatenate_tables(parts, dim=0) for parts in per_seed]

        def stack(name: str) -> Any:
            parts = [getattr(t, name) for t in tables]
            return None if parts[0] is None else np.stack([p.cpu().numpy() for p in parts])

        return cls(**{f.name: stack(f.name) for f in fields(cls)})

    def reshape(self, *shape: int) -> Episodes:
        """Return the same episodes as arrays of `shape`."""
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return _episodes({k: None if v is None else v.reshape(shape) for k, v in parts.items()})

    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """Return what is averaged, by name: "return", and "success_any", "success_last" and "cost" where known."""
        found: dict[str, NDArray[np.float64]] = {"return": self.returns}
        for name in ("success_any", "success_last", "cost"):
            value = getattr(self, name)
            if value is not None:
                found[name] = value.astype(np.float64)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return nested lists; success flags as 0 and 1."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: None if v is None else (v * 1).tolist() for k, v in parts.items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Episodes:
        """Rebuild what `to_json` wrote, bit for bit."""
        real, flag = np.float64, np.bool_
        kinds: dict[str, Any] = {"returns": real, "cost": real, "success_any": flag, "success_last": flag}
        read = {k: None if v is None else np.array(v, dtype=kinds.get(k, np.int64)) for k, v in stored.items()}
        return _episodes(read)


def _episodes(parts: Mapping[str, Any]) -> Episodes:
    return Episodes(**parts)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A strict evaluation: the protocol, every episode it played, and every setting that decides the numbers."""

    protocol: Protocol
    agent: dict[str, Any]
    """`name`, `parallel_episodes`, `adapts_within_episode`, and what the caller knows (`config`, `checkpoint`)."""
    world: dict[str, Any]
    """`name`, `fingerprint`, `exhaustive`, `horizon`, `has_success`, `settings` and `notes` of the distribution."""
    phases: tuple[int, ...]
    """Episodes per phase; `adapt` ran between phases. The last one is scored."""
    pre_episodes: int
    """How many of the first episodes were played before any adaptation."""
    task_names: tuple[str, ...]
    task_groups: tuple[str, ...]
    task_fingerprint: str
    """Digest of the N tasks' parameters."""
    trials: Episodes
    """[S, N, A + E]: the strict trials."""
    without_adaptation: Episodes
    """[S, N, E]: the same agent, each episode a trial of its own."""
    random_policy: Episodes | None
    """[S, N, E] of the uniform policy, where the world has no exact value for it and one was passed in."""
    references: dict[str, list[float]]
    """Known policies' expected return per episode index 0 ... A + E - 1."""
    provenance: dict[str, Any]
    """Package versions, commit, training steps: what the caller knows about where the agent came from."""
    env_steps: int
    """Env steps played by this evaluation, all policies together."""
    wall_s: float
    """Seconds of wall-clock time."""

    @property
    def query(self) -> slice:
        """Columns of `trials` that are scored."""
        return slice(self.protocol.adapt_episodes, self.protocol.n_episodes)

    @property
    def adapts_within_episode(self) -> bool:
        """Whether the agent adapts while an episode goes on; of files that do not say so, whether it has a memory."""
        return bool(self.agent.get("adapts_within_episode", not self.agent["parallel_episodes"]))

    @property
    def counts_upstream(self) -> bool:
        """Whether counting the first episodes to finish means something here.

        It does where published scores are counted so, and where a success ends the episode, as that counting takes it.
        """
        first, length = self.trials.first_success, self.trials.length
        if first is None:
            return False
        solved = first > 0
        ends = (
            not self.world.get("fixed_horizon", True) and bool(solved.any()) and bool((first == length)[solved].all())
        )
        return ends or bool(self.world.get("upstream_counting", False))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The numbers, see `metarl.summary.summarise`; computed once."""
        from .summary import summarise  # summary reads this module's types

        return summarise(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values (no NaN: they become null), with a `summary` for readers of the file."""
        out: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "kind": "metarl.evaluation"}
        for field in fields(self):
            value = getattr(self, field.name)
            out[field.name] = (
                asdict(value)
                if isinstance(value, Protocol)
                else value.to_json()
                if isinstance(value, Episodes)
                else value
            )
        return {**plain(out), "summary": plain(self.summary)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Evaluation:
        """Rebuild what `to_json` wrote; the summary is computed anew, not read.

        Raises: CheckpointError for another schema version, or a part that is missing or unknown.
        """
        version = stored.get("schema_version")
        if version != SCHEMA_VERSION or stored.get("kind") != "metarl.evaluation":
            raise CheckpointError(
                f"this is not an evaluation of schema version {SCHEMA_VERSION} (it says {version!r}, kind "
                f"{stored.get('kind')!r}); write it again with `{command('evaluate', 'RUN_DIR')}`"
            )
        try:
            parts = {f.name: stored[f.name] for f in fields(cls)}
            for name in ("trials", "without_adaptation", "random_policy"):
                parts[name] = None if parts[name] is None else Episodes.from_json(parts[name])
            parts["protocol"] = Protocol(**parts["protocol"])
            for name in ("phases", "task_names", "task_groups"):
                parts[name] = tuple(parts[name])
            parts["references"] = {k: [math.nan if x is None else x for x in v] for k, v in parts["references"].items()}
            return cls(**parts)
        except (KeyError, TypeError, ConfigError) as error:
            raise CheckpointError(
                f"the evaluation file is incomplete or damaged ({type(error).__name__}: {error}); "
                f"write it again with `{command('evaluate', 'RUN_DIR')}`"
            ) from error


def plain(value: Any) -> Any:
    """Return `value` as strict JSON: arrays and tuples as lists, NaN and Inf as None, keys as strings."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)
