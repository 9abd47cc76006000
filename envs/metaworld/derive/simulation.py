"""What upstream's code sees of the simulation and of the environment object: reads and slots instead of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metarl.envs.metaworld.program import Attribute, Read

from .algebra import Algebra, NotUnderstoodError, concrete
from .source import assigned_by, assigned_outside_init
from .values import (
    DTYPE,
    UNBOUND,
    Kind,
    Scalar,
    UpstreamRaisesError,
    Value,
    Vector,
    alternatives,
    group_of,
    kind_of,
    object_array,
)

_DATA_FIELDS = (
    "xpos", "xquat", "xmat", "xipos", "ximat", "site_xpos", "site_xmat", "geom_xpos", "geom_xmat", "qpos", "qvel",
    "mocap_pos", "mocap_quat", "ctrl", "qacc", "sensordata",
)  # fmt: skip
_MODEL_FIELDS = ("body_pos", "body_quat", "site_pos", "site_quat", "geom_pos", "geom_size")
_LOOKUPS = ("body", "geom", "site", "joint")


@dataclass(frozen=True)
class Handle:
    """MuJoCo's data or model, or one of their named bodies, sites, geoms, joints."""

    target: Any
    name: str
    """For the reader of the program: "body:hand"."""


@dataclass(frozen=True)
class Lookup:
    """`data.body` and its like, before the call with a name."""

    owner: Handle
    kind: str


class Simulation:
    """Turns arrays that live in MuJoCo's memory into reads."""

    def __init__(self, env: Any, algebra: Algebra) -> None:
        self.env = env
        self.algebra = algebra
        self._fields = [(f, getattr(env.data, f)) for f in _DATA_FIELDS]
        self._fields += [(f"model.{f}", getattr(env.model, f)) for f in _MODEL_FIELDS]

    def attribute(self, handle: Handle, name: str) -> Value:
        """Return an attribute of the simulation as upstream's code would see it."""
        if handle.target in (self.env.data, self.env.model) and name in _LOOKUPS:
            return Lookup(handle, name)
        value = concrete(getattr, handle.target, name)
        if isinstance(value, np.ndarray):
            found = self.view(value, f"{handle.name}.{name}" if handle.name else name)
            if found is not None:
                return found
        if name == "id":
            return int(value)
        raise NotUnderstoodError(f"{handle.name or type(handle.target).__name__}.{name} of the simulation")

    def look_up(self, lookup: Lookup, name: str) -> Handle:
        """Return the body, site, geom or joint called `name`."""
        found = concrete(getattr(lookup.owner.target, lookup.kind), name)
        return Handle(found, f"{lookup.kind}:{name}")

    def view(self, array: np.ndarray[Any, Any], name: str) -> Vector | None:
        """Return reads for an array in MuJoCo's memory, None for any other array."""
        place = self._place(array)
        if place is None:
            return None
        owner, start = place
        many = array.size > 1
        items = [
            self.algebra.build.read(Read(owner, start + i, name=f"{name}[{i}]" if many else name))
            for i in range(array.size)
        ]
        return Vector(object_array([Scalar(i, "f64") for i in items], array.shape), "f64", writable=False)

    def touching(self, geom: int) -> Scalar:
        """Return upstream's `touching_object(geom)`, which reads the contact list."""
        pads = (int(self.env.data.geom("leftpad_geom").id), int(self.env.data.geom("rightpad_geom").id))
        name = f"touching:{self.env.model.geom(geom).name or geom}"
        return Scalar(self.algebra.build.read(Read("touching", geom, pads, name), "bool"), "bool")

    def _place(self, array: np.ndarray[Any, Any]) -> tuple[str, int] | None:
        if array.dtype != np.float64 or array.flags.owndata or not array.size:
            return None
        address = array.__array_interface__["data"][0]
        for name, owner in self._fields:
            begin = owner.__array_interface__["data"][0]
            if begin <= address < begin + owner.nbytes:
                if not array.flags.c_contiguous:
                    raise NotUnderstoodError(f"a view with gaps into {name}")
                return name, (address - begin) // array.itemsize
        return None


@dataclass
class Declared:
    """What is known about an attribute that the program may keep in slots."""

    kind: Kind
    shape: tuple[int, ...]
    is_array: bool
    may_be_none: bool


@dataclass
class Attributes:
    """Attributes of the environment: read from slots, assigned, or known to be constant."""

    simulation: Simulation
    overrides: dict[str, Value]
    """Values to use instead of the template's."""
    declared: dict[str, Declared] = field(default_factory=dict)
    """Kept from one pass over the source to the next, until a pass adds nothing."""
    values: dict[str, Value] = field(default_factory=dict)
    """What has been assigned."""

    def __post_init__(self) -> None:
        self._initial: dict[str, Value] = {}
        self._starts: dict[str, int] = {}
        self._n_slots = 0
        self._env = self.simulation.env
        cls: Any = type(self._env)
        self._changing = assigned_outside_init(cls)
        self._by_step = assigned_by(cls.step)

    def has(self, name: str) -> bool:
        """Tell whether the environment object itself has the attribute (its class aside)."""
        return name in self.values or name in vars(self._env)

    def get(self, name: str) -> Value:
        """Return the attribute's value at this point of the program."""
        value = self.values[name] if name in self.values else self.initial(name)
        if value is UNBOUND:
            raise UpstreamRaisesError(f"attribute {name} is not set")
        return value

    def initial(self, name: str) -> Value:
        """Return the attribute's value from before the step."""
        if name not in self._initial:
            self._initial[name] = self._at_start(name)
        return self._initial[name]

    def note_none_test(self, name: str) -> None:
        """Upstream asks whether the attribute is None, so it may be."""
        if name in self.declared:
            self.declared[name].may_be_none = True

    def _at_start(self, name: str) -> Value:
        if name in self.overrides:
            return self.overrides[name]
        value = vars(self._env).get(name, UNBOUND)
        if isinstance(value, np.ndarray):
            view = self.simulation.view(value, name)
            if view is not None:
                return view
        if name in self._by_step:
            raise NotUnderstoodError(f"attribute {name}, which upstream's step itself changes")
        if name in self.declared or (name in self._changing and _is_numeric(value)):
            return self._slots(name, value)
        return self.simulation.algebra.wrap(value, writable=False)

    def _slots(self, name: str, value: Value) -> Value:
        if name not in self.declared:
            self.declared[name] = _declare(value)
        spec, algebra = self.declared[name], self.simulation.algebra
        start = self._starts[name] = self._n_slots
        size = int(np.prod(spec.shape))
        self._n_slots += size + 1  # one in reserve for None
        many = size > 1
        leaves = [algebra.build.leaf("slot", "f64", start + i, f"{name}[{i}]" if many else name) for i in range(size)]
        scalars = [algebra.convert(Scalar(leaf, "f64"), spec.kind) for leaf in leaves]
        found: Value = Vector(object_array(scalars, spec.shape), spec.kind) if spec.is_array else scalars[0]
        if spec.may_be_none:
            flag = algebra.build.leaf("slot", "f64", start + size, f"{name} is None")
            found = algebra.join(algebra.build.cast(flag, "bool"), None, found)
        return found

    # ------------------------------------------------------------ after the last statement

    def slots(self) -> list[tuple[Attribute, list[int]]]:
        """Return the attributes kept in slots, and for each of their slots the float64 node of its new value."""
        algebra, out = self.simulation.algebra, []
        for name, start in self._starts.items():
            spec = self.declared[name]
            size = int(np.prod(spec.shape))
            attribute = Attribute(name, start, spec.shape, DTYPE[spec.kind], start + size if spec.may_be_none else -1)
            parts = alternatives(self.values.get(name, self._initial[name]), algebra.always)
            none = [g for g, v in parts if v is None]
            rest = [v for _, v in parts if v is not None]
            if len(rest) > 1:
                raise NotUnderstoodError(f"attribute {name}, which changes its type from step to step")
            old = [algebra.build.leaf("slot", "f64", start + i, "") for i in range(size)]
            new = [algebra.node(s, "f64") for s in algebra.vector(rest[0]).items.ravel()] if rest else old
            if spec.may_be_none:
                new.append(algebra.build.cast(none[0], "f64") if none else algebra.build.const(0.0, "f64"))
            out.append((attribute, new))
        return out

    def redeclared(self) -> dict[str, Declared]:
        """Return what the next pass must assume, after seeing what upstream assigned.

        Raises NotUnderstoodError for an attribute that is read and then gets another type.
        """
        out = dict(self.declared)
        for name, value in self.values.items():
            was_none = vars(self._env).get(name, UNBOUND) is None and name in self._initial
            parts = [v for _, v in alternatives(value, self.simulation.algebra.always) if v is not None]
            if not (was_none or name in self._starts) or not parts:
                continue
            found = _declare(parts[0])
            found.may_be_none = was_none or (name in self.declared and self.declared[name].may_be_none)
            if name in self._starts and (group_of(parts[0]), found.shape) != (
                group_of(_value_like(self.declared[name])),
                self.declared[name].shape,
            ):
                raise NotUnderstoodError(f"attribute {name}, which is read and then gets another type")
            out[name] = found
        return out


def _is_numeric(value: Value) -> bool:
    return isinstance(value, np.ndarray) or kind_of(value) is not None


def _declare(value: Value) -> Declared:
    if isinstance(value, Vector):
        return Declared(value.kind, value.items.shape, True, False)
    if isinstance(value, np.ndarray):
        kind = kind_of(value.dtype.type(0))
        if kind is None:
            raise NotUnderstoodError(f"an attribute that is an array of {value.dtype}")
        return Declared(kind, value.shape, True, False)
    kind = kind_of(value)
    if kind is None:
        raise NotUnderstoodError(f"an attribute that is a {type(value).__name__}")
    return Declared(kind, (), False, False)


def _value_like(spec: Declared) -> Value:
    scalar = Scalar(0, spec.kind)
    size = int(np.prod(spec.shape))
    return Vector(object_array([scalar] * size, spec.shape), spec.kind) if spec.is_array else scalar
