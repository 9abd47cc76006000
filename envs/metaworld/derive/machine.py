"""What running both sides of an `if` needs: writes that can be undone, and joined afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .algebra import Algebra, NotUnderstoodError
from .simulation import Attributes
from .values import UNBOUND, UpstreamRaisesError, Value, Vector

_Write = tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]


class Machine:
    """The state that upstream's code changes besides its local variables: arrays and attributes."""

    def __init__(self, algebra: Algebra, attributes: Attributes) -> None:
        self.algebra = algebra
        self.attributes = attributes
        self._journal: list[_Write] = []

    def write(self, vector: Vector, index: Any, value: Value) -> None:
        """Assign to part of a vector, as NumPy does: slices share memory, numbers take the vector's type."""
        if not vector.writable:
            raise NotUnderstoodError("a write into an array that is shared with the simulation or another branch")
        try:
            part = vector.items[index]
        except IndexError as error:
            raise UpstreamRaisesError(str(error)) from error
        shape = part.shape if isinstance(part, np.ndarray) else ()
        source = self.algebra.vector(value)
        cells = [self.algebra.convert(s, vector.kind) for s in source.items.ravel()]
        new = np.empty(source.items.shape, dtype=object)
        new[...] = np.array([*cells, None], dtype=object)[:-1].reshape(source.items.shape)
        self._journal.append((vector.items, vector.items.copy()))
        vector.items[index] = np.broadcast_to(new, shape) if shape else new.ravel()[0]

    def branch(
        self,
        condition: int,
        yes: Callable[[], Value],
        no: Callable[[], Value],
        join: Callable[[int, Value, Value], Value] | None = None,
    ) -> Value:
        """Run `yes` and `no` each from the present state and join their results and everything they wrote.

        A side on which upstream raises is taken to be never entered; only the other one counts then.
        """
        known = self.algebra.build.value_of(condition)
        if known is not None:
            return yes() if known else no()
        sides = [self._try(side) for side in (yes, no)]
        (value_yes, error_yes, attributes_yes, writes_yes), (value_no, error_no, attributes_no, writes_no) = sides
        if error_yes is not None and error_no is not None:
            raise error_yes
        if error_yes is not None or error_no is not None:
            value, _, self.attributes.values, writes = sides[error_yes is not None]
            self._redo(writes)
            return value
        self._join_writes(condition, writes_yes, writes_no)
        for name in dict.fromkeys([*attributes_yes, *attributes_no]):
            pair = (a.get(name, UNBOUND) for a in (attributes_yes, attributes_no))
            old = self.attributes.initial(name) if attributes_yes.keys() != attributes_no.keys() else UNBOUND
            first, second = (old if v is UNBOUND else v for v in pair)
            self.attributes.values[name] = self.algebra.join(condition, first, second)
        return (join or self.algebra.join)(condition, value_yes, value_no)

    def _try(
        self, run: Callable[[], Value]
    ) -> tuple[Value, UpstreamRaisesError | None, dict[str, Value], list[_Write]]:
        """Run one side; return its result or error, its attributes and its writes, and undo both."""
        outer, self._journal = self._journal, []
        before, self.attributes.values = self.attributes.values, dict(self.attributes.values)
        value, error = UNBOUND, None
        try:
            value = run()
        except UpstreamRaisesError as raised:
            error = raised
        after, self.attributes.values = self.attributes.values, dict(before)
        writes = [(array, array.copy()) for array, _ in self._journal]
        for array, old in reversed(self._journal):
            array[...] = old
        self._journal = outer
        return value, error, after, writes

    def _redo(self, writes: list[_Write]) -> None:
        for array, new in writes:
            self._journal.append((array, array.copy()))
            array[...] = new

    def _join_writes(self, condition: int, writes_yes: list[_Write], writes_no: list[_Write]) -> None:
        arrays = [array for array, _ in [*writes_yes, *writes_no]]
        results = []
        for writes in (writes_yes, writes_no):
            kept = [array.copy() for array in arrays]
            for array, new in writes:
                array[...] = new
            results.append([array.copy() for array in arrays])
            for array, old in zip(reversed(arrays), reversed(kept), strict=True):
                array[...] = old
        for array, first, second in zip(arrays, *results, strict=True):
            self._journal.append((array, array.copy()))
            cells = array.reshape(-1) if array.flags.c_contiguous else array.flat
            for i, (a, b) in enumerate(zip(first.flat, second.flat, strict=True)):
                cells[i] = self.algebra.join(condition, a, b)
