"""An mjModel that shares everything with another one but a few small arrays of its own.

Tasks write a handful of body and site positions into the model. A full copy of a Meta-World model is 21 MB, nearly all
of it meshes; here a copy is the C struct, a few kilobytes, whose pointers lead into the original's arrays.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from metarl.errors import ConfigError

from .core_protocol import Floats, ModelEntry
from .memory import address_of, layout


class ShallowModel:
    """A model like `original`, with private arrays for `fields`.

    `model` goes into MuJoCo's functions only: its Python attributes are those of an empty model. It must not outlive
    this object, which keeps alive what it points to.
    """

    def __init__(self, original: Any, fields: Iterable[str]) -> None:
        """Copy the struct of `original` (mujoco.MjModel).

        Raises: ConfigError if this mujoco lays the struct out differently from its own description.
        """
        theirs = layout("mjModel").from_address(original._address)
        sources = {field: getattr(original, field) for field in fields}
        for field in ("body_pos", "site_pos", *sources):
            array = getattr(original, field)
            if array.size and getattr(theirs, field) != address_of(array):
                raise ConfigError(
                    f"mujoco {mujoco.__version__} describes mjModel.{field} wrongly, so the Python core cannot share "
                    "models; use core='compiled' or backend='upstream'"
                )
        self.original = original
        self.arrays: dict[str, NDArray[Any]] = {field: array.copy() for field, array in sources.items()}
        self.model = copy.copy(_empty_model())
        struct = layout("mjModel").from_address(self.model._address)
        owned = struct.buffer  # all that mj_deleteModel frees besides the struct
        ctypes.memmove(self.model._address, original._address, ctypes.sizeof(struct))
        struct.buffer = owned
        for field, array in self.arrays.items():
            setattr(struct, field, address_of(array))

    def array(self, field: str) -> NDArray[Any]:
        """Return the model's array `field`, private or shared."""
        return self.arrays[field] if field in self.arrays else getattr(self.original, field)

    def write(self, entries: Sequence[ModelEntry], values: Floats) -> None:
        """Set the entries to `values`, one after the other."""
        at = 0
        for entry in entries:
            self.arrays[entry.field].reshape(-1)[entry.start : entry.start + entry.size] = values[at : at + entry.size]
            at += entry.size

    def read(self, entries: Sequence[ModelEntry]) -> Floats:
        """Return the values of the entries, one after the other."""
        parts = [self.arrays[entry.field].reshape(-1)[entry.start : entry.start + entry.size] for entry in entries]
        return np.concatenate([np.zeros(0), *parts])


@cache
def _empty_model() -> Any:
    return mujoco.MjModel.from_xml_string("<mujoco/>")
