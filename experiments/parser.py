"""Command lines whose errors are one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from metarl.errors import ConfigError, nearest


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigError, with the nearest names for an unknown flag, instead of exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        flags = [s for action in self._actions for s in action.option_strings]
        words = [w.partition("=")[0] for w in message.split() if w.startswith("--")]
        unknown = next((w for w in words if w not in flags), None)
        hint = nearest(unknown, flags) if unknown and "unrecognized" in message else f"see {self.prog} --help"
        raise ConfigError(f"{message}; {hint}")
