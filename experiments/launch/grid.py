"""A grid's runs: every combination of preset, settings and seed, each with the commands that carry it out."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl.errors import ConfigError, nearest

from .grid_file import GridFile, Group, size, split_words, values_of

MOST_RUNS = 10_000
"""More runs than this in one grid are refused."""
_LONGEST_NAME = 90
NOWHERE = Path("runs-that-are-not-there")
"""Where no run lies, for commands that are only parsed."""
_GROUP = "log.wandb-group"
_KEPT_BY_US = ("seed", "run-dir", "resume", "from", "trust")


@dataclass(frozen=True)
class Job:
    """One run of a grid. What it is called is where it lies."""

    name: str
    method: str
    """What runs with other seeds share: the name that tables give them."""
    preset: str
    seed: int
    settings: tuple[tuple[str, tuple[str, ...]], ...]
    """Settings of `train` and the words of their values."""
    evaluate: tuple[tuple[str, ...], ...]
    """Flags of each evaluation after training."""

    def train_words(self, run_dir: Path) -> list[str]:
        """Return the command that trains it, or goes on with it: safe to repeat, whatever happened before."""
        words = [word for key, values in self.settings for word in _flag(key, values)]
        return ["train", self.preset, "--seed", str(self.seed), *words, "--run-dir", str(run_dir), "--resume", "auto"]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "name": self.name, "method": self.method, "preset": self.preset, "seed": self.seed,
            "settings": [[key, list(words)] for key, words in self.settings],
            "evaluate": [list(words) for words in self.evaluate],
        }  # fmt: skip

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Job:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        name, method, preset = (str(stored[key]) for key in ("name", "method", "preset"))
        if type(stored["seed"]) is not int or name != _safe(name):
            raise ValueError(f"{stored['name']!r} is no run of a grid")
        settings = tuple((str(key), tuple(map(str, values))) for key, values in stored["settings"])
        evaluate = tuple(tuple(map(str, flags)) for flags in stored["evaluate"])
        return cls(name, method, preset, stored["seed"], settings, evaluate)


def _flag(key: str, words: Sequence[str]) -> list[str]:
    if list(words) in (["True"], ["False"]):  # switches are spelled --a.b and --a.no-b
        *path, last = key.split(".")
        return ["--" + ".".join([*path, last if words[0] == "True" else f"no-{last}"])]
    return [f"--{key}", *words]


def expand(grid: GridFile) -> list[Job]:
    """Return the grid's runs, in the order of the file, seeds first to last.

    Raises: ConfigError for too many runs (counted before any is made), a setting that is ours to give, an exclusion
    that names nothing, two runs of one name, or a command that `train` would not take: with its own words.
    """
    count = sum(_count(group) for group in grid.groups)
    if count > MOST_RUNS:
        raise ConfigError(f"the grid has {_in_digits(count)} runs, at most {MOST_RUNS} are launched; cut its lists")
    used = [False] * len(grid.exclude)
    jobs = [job for group in grid.groups for job in _of_group(grid, group, used)]
    if not all(used):
        entry = dict(grid.exclude[used.index(False)])
        raise ConfigError(f"exclude names {entry}, which no run of the grid is; mend or delete the entry")
    if not jobs:
        raise ConfigError("the grid has no runs: everything is excluded")
    names: dict[str, Job] = {}
    for job in jobs:
        if job.name in names:
            other = names[job.name]
            raise ConfigError(
                f"two runs would write one directory, runs/{job.name} (method {other.method!r} and {job.method!r}); "
                f"give their groups other names"
            )
        names[job.name] = job
    _check_commands(jobs)
    return jobs


def _in_digits(count: int) -> str:
    return f"{count:,}" if count < 10**15 else f"more than 10^{int(math.log10(count))}"


def _axes(group: Group) -> dict[str, list[Any] | range]:
    return {key: values_of(value) for key, value in group.settings.items()}


def _count(group: Group) -> int:
    seeds = list(group.seeds) if isinstance(group.seeds, tuple) else group.seeds
    return math.prod(map(size, _axes(group).values())) * len(group.presets) * size(seeds)


def _of_group(grid: GridFile, group: Group, used: list[bool]) -> Iterator[Job]:
    axes = _axes(group)
    for key, values in axes.items():
        if key in _KEPT_BY_US:
            raise ConfigError(f"settings name {key}, which the launcher gives each run; seeds go under `seeds`")
        if not size(values):
            raise ConfigError(f"settings, {key} is an empty list; give values or leave it out")
    varying = [key for key, values in axes.items() if size(values) > 1]
    for preset in group.presets:
        for point in itertools.product(*axes.values()):
            chosen = dict(zip(axes, point, strict=True))
            label = "-".join(_label(key, chosen[key]) for key in varying)
            several = group.name and len(group.presets) > 1
            parts = [group.name or preset, preset if several else "", label]
            method = _bounded("-".join(_safe(part) for part in parts if part))
            words = tuple((key, _value_words(key, value)) for key, value in chosen.items())
            if _GROUP not in chosen:
                words += ((_GROUP, (f"{grid.name}/{method}",)),)
            evaluate = tuple(split_words(line, "evaluate") for line in group.evaluate)
            for seed in group.seeds:
                if not _excluded(grid, {"group": group.name, "preset": preset, "seed": seed, **chosen}, used):
                    yield Job(f"{method}-seed{seed}", method, preset, seed, words, evaluate)


def _excluded(grid: GridFile, run: Mapping[str, Any], used: list[bool]) -> bool:
    hit = False
    for i, entry in enumerate(grid.exclude):
        wanted = {key.removeprefix("--").replace("_", "-"): value for key, value in entry.items()}
        unknown = next((key for key in wanted if key not in run), None)
        if unknown is not None and not any(unknown in ("group", "preset", "seed", *g.settings) for g in grid.groups):
            names = {"group", "preset", "seed", *(key for g in grid.groups for key in g.settings)}
            raise ConfigError(f"exclude[{i}] names {unknown!r}, which no group sets; {nearest(unknown, names)}")
        if unknown is None and all(run[k] in values_of(v) for k, v in wanted.items()):
            hit = used[i] = True
    return hit


def _value_words(key: str, value: Any) -> tuple[str, ...]:
    """Return a value as words of the command line."""
    if isinstance(value, str):
        return split_words(value, f"settings, {key}")
    if isinstance(value, list):
        return tuple(word for entry in value for word in _value_words(key, entry))
    if isinstance(value, bool | int | float) or value is None:
        return (str(value),)
    raise ConfigError(f"settings, {key} is {value!r}; give numbers, words, or lists of them")


def _label(key: str, value: Any) -> str:
    """Return what tells a run's setting in its name: the setting's last word and the value."""
    words = "-".join(_value_words(key, value)) or "empty"
    last = key.rpartition(".")[2]
    return words if last == "options" else f"{last}-{words}"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.") or "run"


def _bounded(name: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _check_commands(jobs: Sequence[Job]) -> None:
    """Raise ConfigError naming the run whose command `train` or `evaluate` would refuse, with their reason."""
    from metarl.experiments.evaluate import check_flags
    from metarl.experiments.overrides import parse

    checked = set()
    for job in jobs:
        what = (job.preset, job.settings, job.evaluate)
        if what in checked:  # seeds change nothing that could be wrong
            continue
        checked.add(what)
        try:
            config = parse(job.train_words(NOWHERE / job.name)[1:]).config
            for flags in job.evaluate:
                check_flags(flags, config.evaluation)
        except ConfigError as error:
            raise ConfigError(f"run {job.name}: {error}") from error
