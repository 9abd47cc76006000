"""How many files does one have to read? Those that one training iteration runs, and those a setting goes through.

`python -m tools.files_executed [PRESET ...]` trains each preset for three small iterations and lists, by tracing calls,
what of ours the second one executed (all caches warm, nothing saved yet), and which files stand on the stack, from the
command line down, where an overridden setting arrives in the agent's config and where the update computes its loss.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from metarl.experiments.cli.main import main as command_line

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("metarl", "envs", "agents", "experiments")
SMALL = (
    "--train.n-iterations", "3", "--train.n-tasks", "4", "--train.validate-every-iters", "0", "--log.progress", "off",
    "--log.wandb", "disabled", "--threads", "1",
)  # fmt: skip
"""Settings of a run that is over soon and takes the very same way."""


@dataclass(frozen=True)
class Setting:
    """A setting to follow: its flag, where it shall arrive, and which function computes the loss."""

    flag: str
    value: str
    config: str
    """File in whose `__post_init__` the config checks itself."""
    name: str
    loss: tuple[str, str]
    """File and function; what counts is its call from an update that is reached the shortest way."""


SETTINGS = {
    "rl2-gridworld": Setting("--agent.ppo.clip", "0.125", "agents/ppo.py", "clip", ("agents/ppo.py", "ppo_loss")),
    "maml-navigation": Setting(
        "--agent.kl-limit", "0.0125", "agents/maml/config.py", "kl_limit", ("agents/maml/inner_loop.py", "ratio_loss")
    ),
}


@dataclass
class Trace:
    """What a run was seen to execute."""

    setting: Setting
    iterations: list[dict[str, set[str]]] = field(default_factory=list)
    """Per iteration the functions that were called, by file."""
    to_config: list[str] = field(default_factory=list)
    """Files on the stack, outermost first, where the config met the value."""
    to_loss: list[str] = field(default_factory=list)

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Look at a call; the hook of `sys.setprofile`."""
        if event != "call":
            return
        path = _KNOWN.get(frame.f_code.co_filename)  # most calls are somebody else's, and end here
        if path is None:
            path = ours(frame)
        if not path:
            return
        function = frame.f_code.co_name
        if (path, function) == ("metarl/loop.py", "_iterate"):
            self.iterations.append({})
        if self.iterations:
            self.iterations[-1].setdefault(path, set()).add(function)
        where = self.setting
        if not self.to_config and (path, function) == (where.config, "__post_init__"):
            if getattr(frame.f_locals["self"], where.name, None) == float(where.value):
                self.to_config = stack(frame)
        elif (path, function) == where.loss and "update" in [one.f_code.co_name for one in frames(frame)]:
            self.to_loss = min(filter(None, (self.to_loss, stack(frame))), key=len)


def ours(frame: FrameType) -> str:
    """Return the file of a frame relative to the repository, "" if it belongs to somebody else."""
    name = frame.f_code.co_filename
    if name not in _KNOWN:
        path = Path(name).resolve()
        inside = name[0] != "<" and path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ROOMS
        _KNOWN[name] = str(path.relative_to(ROOT)) if inside else ""
    return _KNOWN[name]


_KNOWN: dict[str, str] = {}


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def stack(frame: FrameType) -> list[str]:
    """Return our files on the stack, each once, outermost first."""
    return list(dict.fromkeys(path for one in reversed(list(frames(frame))) if (path := ours(one))))


def trace(preset: str) -> Trace:
    """Train `preset` for three small iterations from the command line and return what was seen."""
    found = Trace(SETTINGS[preset])
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = ["train", preset, "--run-dir", f"{folder}/run", *SMALL, found.setting.flag, found.setting.value]
        sys.setprofile(found)
        try:
            status = command_line(arguments)
        finally:
            sys.setprofile(None)
    if status:
        raise SystemExit(f"{preset} ended with status {status}")
    return found


def main() -> None:
    """Print the counts and the files."""
    for preset in sys.argv[1:] or SETTINGS:
        found = trace(preset)
        lists = {
            "an iteration executes": [f"{k:36} {', '.join(sorted(v))}" for k, v in sorted(found.iterations[1].items())],
            f"{found.setting.flag} reaches the config through": found.to_config,
            f"{found.setting.flag} reaches the loss through": found.to_loss,
        }
        for what, files in lists.items():
            print(f"{preset}: {what} {len(files)} files\n  " + "\n  ".join(files))


if __name__ == "__main__":
    main()
