"""The command line of `train`: a preset or a run directory, and typed overrides of its config."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_type_hints

import tyro

from metarl import run
from metarl.commandline import command, spoken
from metarl.deprecated import field_names
from metarl.errors import ConfigError, nearest

from . import codec
from .build import read_config
from .cli import trust
from .cli.help_text import reflow
from .cli.parser import flags_of_today
from .config import AgentConfig, AnyConfig, ExperimentConfig, WorldConfig
from .presets import load_preset
from .runs.warm_start import flat, split_source

PROG = command("train")
A_co = TypeVar("A_co", bound=AgentConfig, covariant=True)
Resume = Literal["no", "yes", "auto"]

HELP = {"-h", "--help"}
CHANGEABLE = tuple(f"{name}." for name in run.CHANGEABLE)


@dataclass(frozen=True)
class TrainArguments(Generic[A_co]):
    """Meta-train an agent. Everything below is a setting of the preset that you may change."""

    config: Annotated[ExperimentConfig[A_co], tyro.conf.arg(name="")]
    run_dir: Path | None = None
    """Directory of the run (default: runs/PRESET-SEED-TIME)."""
    resume: Resume = "no"
    """`--resume`: go on with the run in --run-dir; `--resume auto`: go on if there is one, else start it."""
    start_from: Annotated[str | None, tyro.conf.arg(name="from", metavar="RUN[:CHECKPOINT]")] = None
    """Start with the parameters and running statistics of an earlier run (its last checkpoint, or last, best or an
    iteration after a colon); optimiser, schedules and stored experience begin anew."""
    trust: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODULE:ATTRIBUTE"), tyro.conf.UseAppendAction] = ()
    """Code of your own that the config of an existing run may call (repeatable; or METARL_TRUST)."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    config: AnyConfig
    run_dir: Path | None
    going_on: bool
    """True: `run_dir` is a run that shall go on."""
    start_from: str | None = None
    """The earlier run that a new one starts from: RUN[:CHECKPOINT]."""
    trust: tuple[str, ...] = ()
    """Code that the earlier run's config may name."""


def parse(argv: Sequence[str]) -> Request:
    """Read the arguments of `train`.

    Raises: ConfigError for an unknown preset or setting (with the nearest names), a value out of range, or a change
    that a run that goes on cannot take; CheckpointError for a run directory that is missing or damaged; SystemExit(0)
    after `PRESET --help`.
    """
    words = _spell_out_resume(argv)
    preset = words.pop(0) if words and not words[0].startswith("-") else None
    arguments = parse_overrides(_base(preset, words), words)
    config, where, source = arguments.config, arguments.run_dir, arguments.start_from
    if arguments.resume == "no":
        return Request(config, where, going_on=False, start_from=source, trust=arguments.trust)
    if where is None:
        raise ConfigError(f"--resume {arguments.resume} needs --run-dir DIR: which run shall go on?")
    if arguments.resume == "auto" and not run.is_run(where):
        return Request(config, where, going_on=False, start_from=source, trust=arguments.trust)
    if source is not None:
        _check_source(where, source)
    # What a preset of the user's names, the user trusts: it must be the same.
    names = {*arguments.trust, *trust.named(codec.to_json(config))} if preset else arguments.trust
    return Request(check_changes(read_config(where, names), config), where, going_on=True)


def _base(preset: str | None, words: Sequence[str]) -> AnyConfig:
    """Return the config that the command line changes: a preset's, or that of the run which goes on or is started from.

    Raises: ConfigError if none is named.
    """
    run_dir, resume, source = (next(iter(_peek(words, f)), None) for f in ("--run-dir", "--resume", "--from"))
    resume, trusted = resume or "no", _peek(words, "--trust")
    if preset is not None:
        return load_preset(preset)
    if source is not None and not (resume != "no" and run_dir is not None and run.is_run(Path(run_dir))):
        return read_config(split_source(source)[0], trusted)
    if not HELP & set(words) and (run_dir is None or resume == "no"):
        raise ConfigError(f"name a preset first ({PROG} PRESET ...), or add --run-dir DIR --resume to go on with a run")
    return read_config(Path(run_dir or ""), trusted)


def _check_source(run_dir: Path, source: str) -> None:
    """Raise ConfigError unless the run that goes on was started from `source`; that run need not be there any more."""
    before = run.read_json(run_dir, run.FACTS).get("warm_start", {}).get("from")
    if before != source:
        raise ConfigError(
            f"{run_dir} was started from {before or 'fresh parameters'} and cannot become one from {source} when it "
            f"goes on; leave out --from, or choose another --run-dir"
        )


def parse_overrides(base: AnyConfig, words: Sequence[str]) -> TrainArguments[Any]:
    """Return `base` with the typed overrides in `words`; raises ConfigError in one line, or SystemExit(0) for help."""
    kind: Any = TrainArguments[type(base.agent)]  # type: ignore[misc]  # the agent's type makes flags
    default = TrainArguments(base)
    words = flags_of_today(words, {f"--{old}": f"--{new}" for old, new in _renamed(base)})
    _check_names(kind, default, words)
    asking = [word for word in words if word not in HELP]
    if len(asking) < len(words):
        kind, default = _shown(parse_overrides(base, asking) if asking else default)
    with _one_line_errors():
        parsed: TrainArguments[Any] = tyro.cli(kind, prog=f"{PROG} PRESET", args=list(words), default=default)
    options = {**base.world.options, **parsed.config.world.options}
    world = WorldConfig(parsed.config.world.name, options)
    return dataclasses.replace(parsed, config=dataclasses.replace(parsed.config, world=world))


def _shown(arguments: TrainArguments[Any]) -> tuple[Any, TrainArguments[Any]]:
    """Return what help is made of: the arguments without the settings of the agent that mean nothing beside others."""
    agent = arguments.config.agent
    unused = {f.name: f for f in dataclasses.fields(agent) if f.name in getattr(agent, "unused_settings", ())}
    if not unused:
        return TrainArguments[type(agent)], arguments  # type: ignore[misc]
    hints = get_type_hints(type(agent))
    fields = [(name, Annotated[hints[name], tyro.conf.Suppress], field) for name, field in unused.items()]
    kind = dataclasses.make_dataclass(type(agent).__name__, fields, bases=(type(agent),), frozen=True)
    shown = kind(**{f.name: getattr(agent, f.name) for f in dataclasses.fields(agent)})
    config = dataclasses.replace(arguments.config, agent=shown)
    return TrainArguments[kind], dataclasses.replace(arguments, config=config)  # type: ignore[valid-type]


def check_changes(stored: AnyConfig, wanted: AnyConfig) -> AnyConfig:
    """Return `wanted`, the config with which the run `stored` goes on.

    Raises: ConfigError naming a setting that may not change.
    """
    if wanted.threads is None:
        wanted = dataclasses.replace(wanted, threads=stored.threads)
    before, after = flat(codec.to_json(stored)), flat(codec.to_json(wanted))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key) and not f"{key}.".startswith(CHANGEABLE):
            raise ConfigError(
                f"{key} is {before.get(key)!r} in this run and cannot become {after.get(key)!r} when it goes on; only "
                + spoken(
                    "train.n_iterations, log.* and device can. For other values start a new run; --from keeps what was "
                    "learnt",
                    "iterations, progress, wandb and device can; for other values pass another run_dir",
                )
            )
    return wanted


def _spell_out_resume(argv: Sequence[str]) -> list[str]:
    """Write a bare `--resume` as `--resume yes`."""
    words: list[str] = []
    for i, word in enumerate(argv):
        words.append(word)
        if word == "--resume" and (i + 1 == len(argv) or argv[i + 1].startswith("-")):
            words.append("yes")
    return words


def _peek(words: Sequence[str], flag: str) -> list[str]:
    """Return the values of a flag that must be known before the others can be parsed."""
    found: list[str] = []
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag:
            found += [value] if equals else words[i + 1 : i + 2]
    return found


def _check_names(kind: Any, default: Any, words: Sequence[str]) -> None:
    """Raise ConfigError naming the first word that is no setting, with the nearest ones that are."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            _, unknown = tyro.cli(kind, args=list(words), default=default, return_unknown_args=True)
        except SystemExit:
            return  # --help, or a value that is wrong: the real parse says so
    if unknown:
        known = [f"--{name}" for name in flat(_names(default))] + ["--wandb"]
        first = unknown[0].partition("=")[0]
        if first.startswith("-"):
            asked = first.replace("_", "-")
            same = [name for name in known if name.endswith(f".{asked.lstrip('-')}")][:3]
            hint = f"did you mean {' or '.join(map(repr, same))}?" if same else nearest(asked, known)
            raise ConfigError(f"unknown setting {first!r}; {hint}")
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
            names["from" if field.name == "start_from" else field.name.replace("_", "-")] = nested
    return names


def _renamed(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (old, new) of the settings of nested dataclasses that were renamed, as the command line spells them."""
    for old, new in field_names(value).items():
        yield f"{path}{old}".replace("_", "-"), f"{path}{new}".replace("_", "-")
    for field in dataclasses.fields(value):
        if dataclasses.is_dataclass(inner := getattr(value, field.name)):
            yield from _renamed(inner, f"{path}{field.name}.")


_RULE = re.compile("[─-]{5,}")


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn tyro's boxed messages into one ConfigError, and print its help in whole sentences."""
    caught, said = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(caught), contextlib.redirect_stdout(said):
            yield
    except SystemExit as stop:
        if not stop.code:
            print(reflow(said.getvalue()))
            raise
        # A title, the message, a rule, help: in a box, or with rules of "-" where the stream is not one of UTF-8.
        lines = [line.strip(" │╭╮╰╯") for line in caught.getvalue().splitlines()[1:]]
        told = list(takewhile(lambda line: not _RULE.fullmatch(line), dropwhile(_RULE.fullmatch, lines)))
        text = " ".join(line for line in told if line)
        raise ConfigError(text or "the command line cannot be understood; see --help") from None
