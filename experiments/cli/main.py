"""`metarl COMMAND ...`: finds the command, imports nothing else before it is known."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
import warnings

from .safe_text import one_line, set_up_streams

COMMANDS = {
    "train": ("metarl.experiments.train:main", "meta-train an agent, or go on with a run"),
    "evaluate": ("metarl.experiments.evaluate:main", "adapt to held-out tasks and score, strictly"),
    "report": ("metarl.experiments.comparison.command:main", "one HTML page about one or several runs, or a grid"),
    "track": ("metarl.experiments.sinks.track:main", "hand evaluations, pictures and films to Weights & Biases"),
    "launch": ("metarl.experiments.launch.launch:main", "many runs from one file: presets, settings, seeds"),
    "status": ("metarl.experiments.launch.status:main", "how the runs of a grid stand"),
    "stop": ("metarl.experiments.launch.status:stop", "let a grid's runs save and end"),
    "resume": ("metarl.experiments.launch.launch:resume", "go on with a grid's runs"),
    "retry": ("metarl.experiments.launch.launch:retry", "try a grid's runs again that failed"),
    "worlds list": ("metarl.experiments.worlds:list_worlds", "the task distributions there are"),
    "worlds show": ("metarl.experiments.worlds:show", "one of them in full, with known policies' returns"),
    "worlds check": ("metarl.experiments.npc.check_maps:main", "is a drawn world usable, and what is wrong where"),
    "worlds audit": ("metarl.experiments.npc.audit:main", "is each NPC world a benchmark"),
    "doctor": ("metarl.experiments.doctor:main", "check a world against the contract"),
    "reproduce": ("metarl.experiments.studies.reproduce:main", "run a published experiment again and compare"),
    "baseline": (
        "metarl.experiments.baselines:main",
        "stable-baselines3 from scratch on each held-out task, scored strictly",
    ),
    "bench agents": ("metarl.experiments.bench.agents:main", "how fast updates are at the published sizes"),
    "bench metaworld": ("metarl.experiments.bench.metaworld:main", "the engine beside its peers and the bare physics"),
    "bench npc": ("metarl.experiments.bench.npc:main", "how fast the NPC worlds step"),
    "bench processes": ("metarl.experiments.bench.processes:main", "what one run gains from several processes"),
    "bench profile": ("metarl.experiments.bench.profile:main", "where the time of a training iteration goes"),
    "bench parity": ("metarl.experiments.parity:main", "is the Meta-World engine upstream, number for number"),
    "npc watch": ("metarl.experiments.npc.watch:main", "one HTML page on which an NPC gets to know its visitors"),
    "npc play": ("metarl.experiments.npc.play:main", "be the visitor whom an NPC gets to know, or the NPC"),
    "study table": ("metarl.experiments.studies.table:main", "every agent on every world, scored side by side"),
    "study splits": ("metarl.experiments.studies.splits:main", "a trained run on every held-out split"),
    "study coverage": ("metarl.experiments.studies.coverage:main", "which goals agents visit before they have adapted"),
    "study transfer": (
        "metarl.experiments.studies.transfer:main",
        "what a metric-based run's metric and library of policies are worth",
    ),
}
OVERVIEWS = {"train": "metarl.experiments.presets.overview:main"}
"""What answers a command without words, or its --help, where the command itself takes torch."""
GROUPS = dict.fromkeys(name.split()[0] for name in COMMANDS if " " in name)
RENAMED = {
    "watch": "npc watch",
    "play": "npc play",
    "table": "study table",
    "splits": "study splits",
    "coverage": "study coverage",
    "transfer": "study transfer",
    "profile": "bench profile",
    "parity": "bench parity",
}
"""Spellings of before there were groups."""


def usage(group: str = "") -> str:
    """Return the list of commands, or of those of a group."""
    from metarl.commandline import command

    shown = {name: said for name, (_, said) in COMMANDS.items() if name.startswith(f"{group} " * bool(group))}
    width = max(map(len, shown)) + 2
    lines = [f"  {name:<{width}}{said}" for name, said in shown.items()]
    head = command(*[group] * bool(group))
    return "\n".join([f"usage: {head} COMMAND ...", "", *lines, "", "COMMAND --help says more."])


def _today(words: list[str]) -> list[str]:
    """Return the words as they are spelled today; tells on stderr if that was not so."""
    from metarl.commandline import command

    first, rest = words[0], words[1:]
    if first in RENAMED:
        now = [*RENAMED[first].split(), *rest]
    elif first == "worlds" and not rest:
        now = [first, "list"]
    elif first == "worlds" and rest[0] not in ("-h", "--help") and " ".join(words[:2]) not in COMMANDS:
        now = [first, "show", *rest]
    else:
        return words
    print(f"note: this command is `{command(*now)}` now", file=sys.stderr)
    return now


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 2 for anything the user can mend, told in one line on stderr.

    Without `argv` this is the console command: it takes the words of the command line and finds modules in the current
    folder as `python -m` does, but after all that are installed.
    """
    if argv is None:
        argv = sys.argv[1:]
        if not sys.flags.safe_path and not os.path.exists("config.json"):  # a run directory brings no modules
            sys.path.append(os.getcwd())
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # started with a closed one, as some service managers do
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # open until the process ends
    set_up_streams()
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has left, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except (Exception, SystemExit) as error:
        reason = _beyond_this_machine(error) or _by_a_stranger(error) or _of_a_path(error)
        if not reason:
            raise
        _show_traceback(error)
        print(f"error: {reason}", file=sys.stderr)
        return 2


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    from metarl.errors import ConfigError, MetarlError, nearest, shortened
    from metarl.registry import load_target
    from metarl.signals import STOP

    # Idle OpenMP threads that spin take the CPU from whoever works; read when torch is loaded, your own value wins.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.formatwarning = _one_line_warning
    words = _today(argv)
    grouped = words[0] in GROUPS
    if grouped and (len(words) == 1 or words[1] in ("-h", "--help")):
        print(usage(words[0]))
        return 0
    name, rest = " ".join(words[: 1 + grouped]), words[1 + grouped :]
    try:
        if name not in COMMANDS:
            raise ConfigError(f"unknown command {name!r}; {nearest(name, COMMANDS)}")
        if name == "train":
            STOP.install()  # before torch is imported, which takes seconds
        asked = rest in ([], ["-h"], ["--help"])
        target = OVERVIEWS[name] if asked and name in OVERVIEWS else COMMANDS[name][0]
        code = load_target(target, "command", ours=True)(rest)
        return int(code)
    except MetarlError as error:
        _show_traceback(error)
        print("error: " + one_line(shortened(error, _LONGEST)), file=sys.stderr)
        return 2


_TRACEBACK = "METARL_TRACEBACK"
_LONGEST = 2000
"""Characters of an error's line: what was typed or read may be of any length."""
_TORCH_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Storage size calculation")


def _beyond_this_machine(error: BaseException) -> str:
    """Return one line about an error that means that memory or disk is too small, or "" for any other error."""
    from metarl.errors import shortened

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return f"cannot write{f' {error.filename}' if error.filename else ''}: {error.strerror}; free space, then go on"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        found = True
    else:
        found = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _TORCH_OUT_OF_MEMORY)
    if not found:
        return ""
    what = shortened(error) or "allocation refused"
    return f"not enough memory ({what}); lower the number of tasks, envs, episodes or units"


def _of_a_path(error: BaseException) -> str:
    """Return one line about a path that the system does not take, "" for any other error."""
    from metarl.errors import shortened

    if not isinstance(error, OSError) or not error.filename:
        return ""
    return f"{shortened(one_line(error.filename), 200)}: {error.strerror}; name another path"


def _by_a_stranger(error: BaseException) -> str:
    """Return one line about an error that came out of a world or task distribution not of ours, or ""."""
    from metarl.commandline import command
    from metarl.conformance import blame

    found = blame(error, lambda kind: kind.__module__.partition(".")[0] != "metarl")
    if found is None:
        return ""
    owner, told = found
    name = getattr(owner, "name", type(owner).__name__)
    return f"world {name!r}: {told}; check it with `{command('doctor', 'NAME')}` ({_TRACEBACK}=1 shows the traceback)"


def _show_traceback(error: BaseException) -> None:
    """Print where an error came from if METARL_TRACEBACK asks for it; whoever writes a world wants to see that."""
    if os.environ.get(_TRACEBACK, "0") not in ("", "0"):
        traceback.print_exception(error)


def _one_line_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {one_line(' '.join(str(message).split()))}\n"
