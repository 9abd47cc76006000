"""What is wrong with a drawn world, where, and what to do about it; all of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metarl.commandline import command
from metarl.errors import ConfigError

_MOST_CELLS = 6
"""Most tile coordinates that one message lists."""


@dataclass(frozen=True)
class Fault:
    """One thing to mend."""

    file: str
    """path of the file, as it was given"""
    what: str
    """what is there and what was expected, in one sentence without a full stop"""
    remedy: str
    """what to do about it"""
    layer: str = ""
    """name of the layer in the editor; "" where the fault is in no layer"""
    cells: tuple[tuple[int, int], ...] = ()
    """tile coordinates (x, y) as the editor's status bar shows them"""

    def located(self) -> str:
        """Return one line without the file: layer, tiles, what, remedy."""
        shown = ", ".join(f"(x={x}, y={y})" for x, y in self.cells[:_MOST_CELLS])
        more = len(self.cells) - _MOST_CELLS
        places = [f"layer {self.layer!r}"] if self.layer else []
        if shown:
            places.append(("tiles " if len(self.cells) > 1 else "tile ") + shown + (f" and {more} more" * (more > 0)))
        where = ", ".join(places)
        return f"{where}{': ' * bool(where)}{self.what}; {self.remedy}"

    def __str__(self) -> str:
        """Return one line: file, layer, tiles, what, remedy."""
        return f"{self.file}: {self.located()}"


class MapError(ConfigError):
    """A drawn world that cannot be used; `faults` has everything that was found, the message begins with the first."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        more = len(self.faults) - 1
        check = command("worlds", "check", "FILE")
        tail = f" ... and {more} more fault{'s' * (more > 1)}; `{check}` lists all" if more else ""
        super().__init__(f"{self.faults[0]}{tail}")


class Faults:
    """Collects the faults of one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Fault] = []

    def add(self, what: str, remedy: str, *, layer: str = "", cells: Sequence[tuple[int, int]] = ()) -> None:
        """Note one fault."""
        self.found.append(Fault(self.file, what, remedy, layer, tuple(cells)))

    def fatal(self, what: str, remedy: str, *, layer: str = "") -> MapError:
        """Note a fault that nothing can be read after; returns the error to raise."""
        self.add(what, remedy, layer=layer)
        return MapError(self.found)

    def stop_if_any(self) -> None:
        """Raise MapError with all faults, if there are any."""
        if self.found:
            raise MapError(self.found)
