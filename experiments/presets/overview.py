"""What `metarl train --help` prints: the list of presets, which takes no torch."""

from __future__ import annotations

from metarl.commandline import command
from metarl.experiments.cli.help_text import fill, help_width
from metarl.signals import EXIT_STOPPED

from . import describe_presets


def main(argv: list[str]) -> int:
    """Print the list; returns 2 if it was not asked for."""
    print(overview())
    return 0 if argv else 2


def overview() -> str:
    """Return the help text of `train` without a preset."""
    prog = command("train")
    return fill(
        f"usage: {prog} PRESET [--SETTING VALUE ...] [--run-dir DIR] [--resume [auto]]\n"
        f"       {prog} --run-dir DIR --resume [--train.n-iterations N] [--log.SETTING VALUE] [--device NAME]\n"
        f"       {prog} [PRESET] --from RUN[:CHECKPOINT] [--SETTING VALUE ...]\n\n"
        f"presets:\n{describe_presets()}\n"
        f"  package.module:function   a preset of your own: a function that returns an ExperimentConfig\n\n"
        f"`{prog} PRESET --help` lists every setting, e.g. --seed, --device, --wandb, --agent.*, --train.*,\n"
        f"--world.options key=value ...  SIGTERM or Ctrl-C saves a checkpoint and exits with code {EXIT_STOPPED}.",
        help_width(),
    )
