"""Truth values as functions of independent ones, so that equal conditions are seen to be equal.

A function is a reduced ordered decision diagram (Bryant 1986, "Graph-based algorithms for Boolean function
manipulation"), named by a number; equal functions have equal numbers. Derived programs need it because each branch of
upstream's source repeats the conditions of those around it.
"""

from __future__ import annotations

FALSE, TRUE = 0, 1

_LAST = 1 << 30
"""Variable of the two constants: after all others."""


class Truth:
    """The functions of one program."""

    def __init__(self) -> None:
        self._nodes: list[tuple[int, int, int]] = [(_LAST, 0, 0), (_LAST, 1, 1)]
        """Variable, function where it is false, function where it is true."""
        self._number: dict[tuple[int, int, int], int] = {}
        self._chosen: dict[tuple[int, int, int], int] = {}
        self._n_variables = 0

    def __len__(self) -> int:
        """Return how many functions were needed so far."""
        return len(self._nodes)

    def atom(self) -> int:
        """Return a truth value that depends on no other."""
        self._n_variables += 1
        return self._make(self._n_variables, FALSE, TRUE)

    def choose(self, condition: int, yes: int, no: int) -> int:
        """Return "yes if condition else no"; all other connectives are cases of it."""
        if condition in (FALSE, TRUE):
            return yes if condition else no
        if yes == no:
            return yes
        key = (condition, yes, no)
        found = self._chosen.get(key)
        if found is None:
            variable = min(self._nodes[f][0] for f in key)
            low, high = (self.choose(*(self._given(f, variable, side) for f in key)) for side in (1, 2))
            found = self._chosen[key] = low if low == high else self._make(variable, low, high)
        return found

    def negate(self, f: int) -> int:
        """Return "not f"."""
        return self.choose(f, FALSE, TRUE)

    def implies(self, f: int, g: int) -> bool:
        """Return whether g holds wherever f does."""
        return self.choose(f, g, TRUE) == TRUE

    def _make(self, variable: int, low: int, high: int) -> int:
        key = (variable, low, high)
        if key not in self._number:
            self._number[key] = len(self._nodes)
            self._nodes.append(key)
        return self._number[key]

    def _given(self, f: int, variable: int, side: int) -> int:
        node = self._nodes[f]
        return node[side] if node[0] == variable else f
