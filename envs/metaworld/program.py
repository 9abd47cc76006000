"""What one task class computes after each physics step, as a small typed program.

Upstream defines observation, reward and info of each class in Python that handles one environment at a time. `derive`
reads that source once and writes it down as a `Program`: scalar operations in execution order, both sides of every
branch, joined by `select`. From a program follow compiled code (`emit_cpp`) and array code for a whole batch
(`emit_arrays`); both do the same IEEE operations in the same order, so they agree with upstream and with each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

DType = Literal["f64", "f32", "i64", "bool"]

OBS_SIZE = 39
"""Entries of an observation: this frame (18), the frame before (18), the goal (3, zeros while hidden)."""

ACTION_SIZE = 4

INFO = (
    "success",
    "near_object",
    "grasp_success",
    "grasp_reward",
    "in_place_reward",
    "obj_to_target",
    "unscaled_reward",
)
"""What upstream's info carries, in the order in which it is stored."""

ARITY: Mapping[str, int | None] = {
    # leaves
    "const": 0,  # `value`
    "read": 0,  # `index` into Program.reads
    "slot": 0,  # `index` into the env's slots, as it was before this step
    "action": 0,  # `index` 0..3 of the action as it was passed in, float32, not clipped
    # arithmetic; operands and result have one dtype, conversions are explicit
    "add": 2, "sub": 2, "mul": 2, "div": 2, "neg": 1, "abs": 1, "sqrt": 1, "pow": 2, "exp": 1, "log": 1,
    "sin": 1, "cos": 1, "tan": 1, "arcsin": 1, "arccos": 1, "arctan2": 2, "tanh": 1, "arctanh": 1, "cosh": 1,
    "minimum": 2, "maximum": 2,  # NumPy's: NaN wins. Python's min and max are `lt` and `select`
    "dot": None,  # 2k operands x1..xk, y1..yk: NumPy's (BLAS) inner product, whose rounding is the platform's
    "cast": 1,
    # logic
    "lt": 2, "le": 2, "eq": 2, "ne": 2,  # operands of one dtype; bool result. a > b is lt(b, a)
    "and": 2, "or": 2, "not": 1,
    "select": 3,  # condition, value if true, value if false
}  # fmt: skip
"""Operations and how many operands they take (None: any even number)."""


@dataclass(frozen=True)
class Node:
    """One scalar operation; `args` are indices of earlier nodes."""

    op: str
    dtype: DType
    args: tuple[int, ...] = ()
    value: float | int | bool | None = None
    """Of a `const`."""
    index: int = 0
    """Of a `read`, `slot` or `action`."""
    label: str = ""
    """Name of the upstream variable that holds the result, with its component ("tcp_to_obj", "obj[1]"), or empty."""
    source: str = ""
    """Where upstream computes it: "sawyer_pick_place_v3.py:301", or empty."""


@dataclass(frozen=True)
class Read:
    """One number of the simulation, as it is after the step."""

    field: str
    """An array of mjData ("xpos", "xquat", "site_xpos", "geom_xmat", "qpos", ...), of mjModel ("model.site_pos", ...),
    or "touching": whether both finger pads press on a geom (upstream's `touching_object`), 0 or 1."""
    index: int
    """Flat position in that array; for "touching" the geom."""
    pads: tuple[int, int] = (-1, -1)
    """Of "touching": the geoms of the left and the right pad."""
    name: str = ""
    """For the reader: "body:leftpad.xpos[1]"."""


@dataclass(frozen=True)
class Attribute:
    """An attribute of the upstream environment that the program reads or writes, kept in the env's slots.

    Attributes that upstream holds as live views into the simulation are no attributes here but reads.
    """

    name: str
    start: int
    """First of its slots. Slots are float64; integers and truth values are stored as such numbers."""
    shape: tuple[int, ...]
    """() for a scalar."""
    dtype: DType
    none_slot: int = -1
    """Slot that is 1 while the attribute is None (its other slots are then meaningless); -1 if it never is."""


@dataclass(frozen=True)
class Program:
    """Observation, reward, info and attribute updates of one task class, right after a physics step.

    All slots that the nodes read have their values from before the step; `updates` are written at its end.
    """

    task: str
    """Class name, "pick-place-v3"."""
    reward_version: str
    nodes: tuple[Node, ...]
    reads: tuple[Read, ...]
    attributes: tuple[Attribute, ...]
    n_slots: int
    obs: tuple[int, ...]
    """Nodes (float64) of the 39 entries of the clipped observation."""
    reward: int
    """Node, float64."""
    info: tuple[int, ...]
    """Nodes (float64) in the order of `INFO`."""
    updates: tuple[tuple[int, int], ...]
    """(slot, node of float64) pairs."""

    @property
    def key(self) -> str:
        """Name that is also an identifier: "pick_place_v3_v2"."""
        return f"{self.task.replace('-', '_')}_{self.reward_version}"
