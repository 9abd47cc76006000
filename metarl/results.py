"""What an evaluation measured, as a value that is written to JSON and read back."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .commandline import command
from .deprecated import today
from .episodes import EpisodeTable, concatenate_tables
from .errors import CheckpointError, shortened
from .protocol import Protocol

SCHEMA_VERSION = 2
"""What is written. Version 1, which is read as well, has the old names of the protocol's settings."""
_READ = (1, SCHEMA_VERSION)


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
        read = {k: None if v is None else _numbers(k, v).astype(kinds.get(k, np.int64)) for k, v in stored.items()}
        return _episodes(read)

    def check_shape(self, *shape: int) -> None:
        """Raise ValueError naming a part that has another shape."""
        for field in fields(self):
            part = getattr(self, field.name)
            if part is not None and part.shape != shape:
                raise ValueError(f"{field.name} has shape {part.shape}, expected {shape}")


def _numbers(name: str, stored: Any) -> NDArray[Any]:
    found = np.array(stored)
    if found.size and found.dtype.kind not in "biuf":
        raise TypeError(f"{name} holds something that is no number")
    return found


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

    def to_json(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return plain JSON values (no NaN: they become null).

        `summary`, for readers of the file, is what `metarl.summary.summarise` says of this evaluation.
        """
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
        whole = {**plain(out), "summary": plain(summary)}
        return {**whole, "sha256": _digest(whole)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Evaluation:
        """Rebuild what `to_json` wrote; the summary is computed anew, not read.

        Raises: CheckpointError for another schema version, or a part that is missing, unknown or was changed since it
        was written.
        """
        if not isinstance(stored, Mapping):
            raise CheckpointError(f"this is a {type(stored).__name__}, not an evaluation; {_again()}")
        version = stored.get("schema_version")
        if type(version) is not int or version not in _READ or stored.get("kind") != "metarl.evaluation":
            raise CheckpointError(
                f"this is not an evaluation of schema version {' or '.join(map(str, _READ))} (it says {version!r}, "
                f"kind {stored.get('kind')!r}); {_again()}"
            )
        try:
            parts = {f.name: stored[f.name] for f in fields(cls)}
            for name in ("trials", "without_adaptation", "random_policy"):
                parts[name] = None if parts[name] is None else Episodes.from_json(parts[name])
            parts["protocol"] = _protocol(parts["protocol"], version)
            for name in ("phases", "task_names", "task_groups"):
                parts[name] = tuple(parts[name])
            parts["references"] = {k: [math.nan if x is None else x for x in v] for k, v in parts["references"].items()}
            found = cls(**parts)
            found._check()
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"the evaluation file is incomplete or damaged ({type(error).__name__}: {shortened(error)}); {_again()}"
            ) from error
        if "sha256" in stored and stored["sha256"] != _digest(stored):  # files of earlier versions have none
            raise CheckpointError(f"the evaluation was changed after it was written (another sha256); {_again()}")
        return found

    def _check(self) -> None:
        """Raise ValueError or TypeError unless the parts fit each other."""
        n_tasks, episodes, protocol = len(self.task_names), self.protocol.n_episodes, self.protocol
        self.trials.check_shape(protocol.n_seeds, n_tasks, episodes)
        for part in (self.without_adaptation, self.random_policy):
            if part is not None:
                part.check_shape(protocol.n_seeds, n_tasks, protocol.eval_episodes)
        if len(self.task_groups) != n_tasks or not all(
            isinstance(t, str) for t in (*self.task_names, *self.task_groups)
        ):
            raise ValueError(f"task_names and task_groups are not {n_tasks} words each")
        if sum(self.phases) != episodes or not 1 <= self.pre_episodes <= episodes:
            raise ValueError(
                f"phases {self.phases} and pre_episodes {self.pre_episodes} are not of {episodes} episodes"
            )
        if any(len(v) != episodes or not all(isinstance(x, int | float) for x in v) for v in self.references.values()):
            raise ValueError(f"references are not {episodes} numbers each")
        for name in ("agent", "world", "provenance"):
            if not isinstance(getattr(self, name), dict):
                raise TypeError(f"{name} is no object")


def _protocol(stored: Mapping[str, Any], version: int) -> Protocol:
    given = today(Protocol, stored) if version == 1 else stored
    if unknown := given.keys() - {field.name for field in fields(Protocol)}:
        raise TypeError(f"protocol holds {sorted(unknown)[0]!r}, which it does not know")
    found = Protocol(**given)
    for field in fields(found):
        value, kind = getattr(found, field.name), type(field.default)
        if type(value) is not (int if field.name == "n_tasks" and value is not None else kind):
            raise TypeError(f"protocol.{field.name} is {value!r}")
    return found


def _digest(stored: Mapping[str, Any]) -> str:
    """Return a digest of all that an evaluation's JSON says."""
    content = {key: value for key, value in stored.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _again() -> str:
    return f"write it again with `{command('evaluate', 'RUN_DIR')}`"


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
