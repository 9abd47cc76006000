"""The command line of `train`: a preset or a run directory, and typed overrides of its config."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro

from metarl import run
from metarl.commandline import command
from metarl.errors import ConfigError, nearest

from . import codec
from .build import read_config
from .config import AgentConfig, AnyConfig, ExperimentConfig, WorldConfig
from .presets import load_preset

PROG = command("train")
A_co = TypeVar("A_co", bound=AgentConfig, covariant=True)
Resume = Literal["no", "yes", "auto"]

CHANGEABLE = ("train.n_iterations", "log.")
"""What may differ when a run goes on; anything else would make it another run."""


@dataclass(frozen=True)
class TrainArguments(Generic[A_co]):
    """Meta-train an agent. Everything below is a setting of the preset that you may change."""

    config: Annotated[ExperimentConfig[A_co], tyro.conf.arg(name="")]
    run_dir: Path | None = None
    """Directory of the run (default: runs/PRESET-SEED-TIME)."""
    resume: Resume = "no"
    """`--resume`: go on with the run in --run-dir; `--resume auto`: go on if there is one, else start it."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    config: AnyConfig
    run_dir: Path | None
    going_on: bool
    """True: `run_dir` is a run that shall go on."""


def parse(argv: Sequence[str]) -> Request:
    """Read the arguments of `train`.

    Raises: ConfigError for an unknown preset or setting (with the nearest names), a value out of range, or a change
    that a run that goes on cannot take; CheckpointError for a run directory that is missing or damaged; SystemExit(0)
    after `PRESET --help`.
    """
    words = _spell_out_resume(argv)
    preset = words.pop(0) if words and not words[0].startswith("-") else None
    run_dir, resume = _peek(words, "--run-dir"), _peek(words, "--resume") or "no"
    if preset is None and not {"-h", "--help"} & set(words) and (run_dir is None or resume == "no"):
        raise ConfigError(f"name a preset first ({PROG} PRESET ...), or add --run-dir DIR --resume to go on with a run")
    base = load_preset(preset) if preset is not None else read_config(Path(run_dir or ""))
    arguments = parse_overrides(base, words)
    config, where = arguments.config, arguments.run_dir
    if arguments.resume == "no":
        return Request(config, where, going_on=False)
    if where is None:
        raise ConfigError(f"--resume {arguments.resume} needs --run-dir DIR: which run shall go on?")
    if arguments.resume == "auto" and not run.is_run(where):
        return Request(config, where, going_on=False)
    return Request(check_changes(read_config(where), config), where, going_on=True)


def parse_overrides(base: AnyConfig, words: Sequence[str]) -> TrainArguments[Any]:
    """Return `base` with the typed overrides in `words`; raises ConfigError in one line, or SystemExit(0) for help."""
    kind: Any = TrainArguments[type(base.agent)]  # type: ignore[misc]  # the agent's type makes flags
    default = TrainArguments(base)
    _check_names(kind, default, words)
    with _one_line_errors():
        parsed: TrainArguments[Any] = tyro.cli(kind, prog=f"{PROG} PRESET", args=list(words), default=default)
    options = {**base.world.options, **parsed.config.world.options}
    world = WorldConfig(parsed.config.world.name, options)
    return dataclasses.replace(parsed, config=dataclasses.replace(parsed.config, world=world))


def check_changes(stored: AnyConfig, wanted: AnyConfig) -> AnyConfig:
    """Return `wanted`, the config with which the run `stored` goes on.

    Raises: ConfigError naming a setting that may not change.
    """
    if wanted.threads is None:
        wanted = dataclasses.replace(wanted, threads=stored.threads)
    before, after = _flat(codec.to_json(stored)), _flat(codec.to_json(wanted))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key) and not key.startswith(CHANGEABLE):
            raise ConfigError(
                f"{key} is {before.get(key)!r} in this run and cannot become {after.get(key)!r} when it goes on; only "
                f"train.n_iterations and log.* can. Start a new run for other values"
            )
    return wanted


def _flat(stored: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(stored, dict):
        return {path: stored}
    return {k: v for key, value in stored.items() for k, v in _flat(value, f"{path}.{key}" if path else key).items()}


def _spell_out_resume(argv: Sequence[str]) -> list[str]:
    """Write a bare `--resume` as `--resume yes`."""
    words: list[str] = []
    for i, word in enumerate(argv):
        words.append(word)
        if word == "--resume" and (i + 1 == len(argv) or argv[i + 1].startswith("-")):
            words.append("yes")
    return words


def _peek(words: Sequence[str], flag: str) -> str | None:
    """Return the value of a flag that must be known before the others can be parsed."""
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag:
            return value if equals else (words[i + 1] if i + 1 < len(words) else None)
    return None


def _check_names(kind: Any, default: Any, words: Sequence[str]) -> None:
    """Raise ConfigError naming the first word that is no setting, with the nearest ones that are."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            _, unknown = tyro.cli(kind, args=list(words), default=default, return_unknown_args=True)
        except SystemExit:
            return  # --help, or a value that is wrong: the real parse says so
    if unknown:
        known = [f"--{name}" for name in _flat(_names(default))] + ["--wandb"]
        first = unknown[0].partition("=")[0]
        if first.startswith("-"):
            raise ConfigError(f"unknown setting {first!r}; {nearest(first.replace('_', '-'), known)}")
        raise ConfigError(f"cannot place the word {first!r}; settings are written --name value ({PROG} PRESET --help)")


def _names(value: Any) -> dict[str, Any]:
    """Return the settings of nested dataclasses as nested dicts, in the spelling of the command line."""
    names: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        nested = _names(inner) if dataclasses.is_dataclass(inner) else None
        if field.name == "config" and nested is not None:
            names |= nested
        else:
            names[field.name.replace("_", "-")] = nested
    return names


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn tyro's boxed messages into one ConfigError; its help passes through."""
    caught = io.StringIO()
    try:
        with contextlib.redirect_stderr(caught):
            yield
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [re.sub(r"[│╭╮╰╯]|^[─ ]*|─{2,}.*─{2,}", "", line).strip() for line in caught.getvalue().splitlines()]
        rule = next((i for i, line in enumerate(caught.getvalue().splitlines()) if "│ ──" in line), len(lines))
        text = " ".join(line for line in lines[1:rule] if line)
        raise ConfigError(text or "the command line cannot be understood; see --help") from None
