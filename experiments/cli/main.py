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
    "splits": ("metarl.experiments.studies.splits:main", "a trained run on every held-out split"),
    "reproduce": ("metarl.experiments.studies.reproduce:main", "run a published experiment again and compare"),
    "watch": ("metarl.experiments.npc.watch:main", "one HTML page on which an NPC gets to know its visitors"),
    "play": ("metarl.experiments.npc.play:main", "be the visitor whom an NPC gets to know, or the NPC"),
    "report": ("metarl.experiments.report:main", "one HTML page about one or several runs"),
    "worlds": ("metarl.experiments.worlds:main", "list task distributions, or show one"),
    "bench": (
        "metarl.experiments.bench.metaworld:main",
        "how fast worlds step, beside their peers and the bare physics",
    ),
    "profile": ("metarl.experiments.bench.profile:main", "where the time of a training iteration goes"),
    "baseline": (
        "metarl.experiments.baselines:main",
        "stable-baselines3 from scratch on each held-out task, scored strictly",
    ),
    "table": ("metarl.experiments.studies.table:main", "every agent on every world, scored side by side"),
    "coverage": ("metarl.experiments.studies.coverage:main", "which goals agents visit before they have adapted"),
    "transfer": (
        "metarl.experiments.studies.transfer:main",
        "what a metric-based run's metric and library of policies are worth",
    ),
    "parity": ("metarl.experiments.parity:main", "is the Meta-World engine upstream, number for number"),
    "doctor": ("metarl.experiments.doctor:main", "check a world against the contract"),
}


def usage() -> str:
    """Return the list of commands."""
    from metarl.commandline import command

    lines = [f"  {name:<10}{summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join([f"usage: {command()} COMMAND ...", "", *lines, "", "COMMAND --help says more."])


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
    from metarl.errors import ConfigError, MetarlError, nearest
    from metarl.registry import load_target
    from metarl.signals import STOP

    # Idle OpenMP threads that spin take the CPU from whoever works; read when torch is loaded, your own value wins.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    command, *rest = argv
    warnings.formatwarning = _one_line_warning
    try:
        if command not in COMMANDS:
            raise ConfigError(f"unknown command {command!r}; {nearest(command, COMMANDS)}")
        if command == "train":
            STOP.install()  # before torch is imported, which takes seconds
        code = load_target(COMMANDS[command][0], "command", ours=True)(rest)
        return int(code)
    except MetarlError as error:
        _show_traceback(error)
        print("error: " + one_line(" ".join(str(error).split())), file=sys.stderr)
        return 2


_TRACEBACK = "METARL_TRACEBACK"
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
