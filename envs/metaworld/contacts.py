"""Upstream's `touching_object` for many envs, read from MuJoCo's contacts where they lie."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from metarl.errors import ConfigError

from .core_protocol import Floats
from .memory import Memory, layout, offset
from .program import Read

_Hit = tuple[int, int, int, int]
"""Row of the reads, pad (0 left, 1 right), env, contact."""


class PadContacts:
    """Which geoms both finger pads press on, in each env of one class.

    A pad presses if the constraint forces of its contacts with the geom add up to more than 0, added in the order of
    the contacts as upstream's Python does. A contact outside of the constraints has `efc_address` -1, and so counts
    with the last of all constraint forces, as it does there.

    An env has few contacts, so lists are faster here than arrays, which take a dozen more NumPy calls.
    """

    def __init__(self, reads: Sequence[Read], datas: Sequence[Any], memory: Memory) -> None:
        """Look up where the simulations `datas` (mujoco.MjData) of one class keep what "touching" `reads` need."""
        self._memory = memory
        self._rows = [row for row, read in enumerate(reads) if read.field == "touching"]
        self._watched: dict[tuple[int, int], list[tuple[int, int]]] = {}  # geoms in contact -> (row, pad)
        for row in self._rows:
            read = reads[row]
            if read.index in read.pads:
                raise ConfigError(f"engine: a pad cannot touch itself: geom {read.index}, pads {read.pads}")
            for pad, geom in enumerate(read.pads):
                for pair in ((geom, read.index), (read.index, geom)):
                    self._watched.setdefault(pair, []).append((row, pad))
        address = np.array([data._address for data in datas], np.intp)
        self._n_contacts = memory.ints(address + offset("mjData", "ncon"))
        self._n_forces = memory.ints(address + offset("mjData", "nefc"))
        self._forces = memory.doubles(address + offset("mjData", "efc_force"))
        self._contacts = memory.i64[
            memory.doubles(address + offset("mjData", "contact"))
        ]  # the arena's start, for ever
        self._reserve(8)

    def __call__(self, out: Floats) -> None:
        """Write 1.0 where it touches and 0.0 elsewhere into the rows of `out`, [reads of the program, envs]."""
        for row in self._rows:
            out[row] = 0.0
        ints = self._memory.i32
        n_contacts = ints.take(self._n_contacts).tolist()
        most = max(n_contacts)
        if most > self._geoms.shape[1]:
            self._reserve(2 * most)
        firsts, seconds = ints.take(self._geoms[:, :most]).tolist()
        watched = self._watched
        hits: list[_Hit] = []
        for contact, pairs in enumerate(zip(firsts, seconds, strict=True)):
            for env, pair in enumerate(zip(*pairs, strict=True)):
                if pair in watched and contact < n_contacts[env]:  # beyond lies anything
                    hits += [(row, pad, env, contact) for row, pad in watched[pair]]
        if hits:
            self._press(hits, out)

    def _press(self, hits: Sequence[_Hit], out: Floats) -> None:
        """Add the forces of contacts, which come in their order, and write 1.0 where both pads press."""
        memory = self._memory
        envs, contacts = [hit[2] for hit in hits], [hit[3] for hit in hits]
        rows = memory.i32.take(self._efc_address[contacts, envs])
        outside = rows < 0
        if outside.any():
            rows[outside] += memory.i32.take(self._n_forces[envs][outside])
        forces = memory.f64.take(memory.doubles(memory.i64.take(self._forces[envs])) + rows).tolist()
        total: dict[tuple[int, int, int], float] = {}
        for (row, pad, env, _), force in zip(hits, forces, strict=True):
            total[row, env, pad] = total.get((row, env, pad), 0.0) + force
        for (row, env, pad), force in total.items():
            if pad == 0 and force > 0.0 and total.get((row, env, 1), 0.0) > 0.0:
                out[row, env] = 1.0

    def _reserve(self, n: int) -> None:
        """Prepare to look at the first `n` contacts of each env."""
        contact = self._contacts + ctypes.sizeof(layout("mjContact")) * np.arange(n)[:, None]
        self._geoms = self._memory.ints([contact + offset("mjContact", name) for name in ("geom1", "geom2")])
        self._efc_address = self._memory.ints(contact + offset("mjContact", "efc_address"))
