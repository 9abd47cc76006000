"""`python -m experiments COMMAND ...`: finds the command, imports nothing else before it is known."""

from __future__ import annotations

import os
import sys
import warnings

from .siblings import shadowed

COMMANDS = {
    "train": ("experiments.train:main", "meta-train an agent, or go on with a run"),
    "evaluate": ("experiments.evaluate:main", "adapt to held-out tasks and score, strictly"),
    "reproduce": ("experiments.reproduce:main", "run a published experiment again and compare"),
    "report": ("experiments.report:main", "one HTML page about one or several runs"),
    "worlds": ("experiments.worlds:main", "list task distributions, or show one"),
    "profile": ("experiments.profile:main", "where the time of a training iteration goes"),
    "doctor": ("experiments.doctor:main", "check a world against the contract"),
}


def usage() -> str:
    """Return the list of commands."""
    lines = [f"  {name:<10}{summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(["usage: python -m experiments COMMAND ...", "", *lines, "", "COMMAND --help says more."])


def main(argv: list[str]) -> int:
    """Run one command and return its exit code: 2 for anything the user can mend, told in one line on stderr."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    stranger = shadowed()
    if stranger:
        print(f"error: {stranger}", file=sys.stderr)
        return 2
    # Only now: the kernel itself could have been the stranger.
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
        code = load_target(COMMANDS[command][0], "command")(rest)
        return int(code)
    except MetarlError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _one_line_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {message}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
