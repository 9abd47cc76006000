"""Puts together the program of a class: what upstream's `step` does after `mj_forward`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from metarl.envs.metaworld.program import ACTION_SIZE, INFO, OBS_SIZE, Attribute, Node, Program
from metarl.envs.metaworld.tasks import metaworld_module
from metarl.errors import ConfigError

from .algebra import Algebra, NotUnderstoodError
from .builder import Builder, live_nodes
from .interpreter import Interpreter
from .machine import Machine
from .simulation import Attributes, Declared, Simulation
from .values import Scalar, UpstreamRaisesError, Value, Vector, object_array

_MOST_PASSES = 4

REWARD_VERSIONS = ("v1", "v2")


def derive_program(env: Any, reward_version: str) -> Program:
    """Return the program of the class of `env` for upstream's reward "v1" or "v2".

    `env` is an upstream environment with a task and after a reset; it is read as a template and not stepped. The
    program holds for every goal of the class, goal hidden.

    Raises: ConfigError, with file and line, for what is not understood, or if upstream's code always raises.
    """
    if reward_version not in REWARD_VERSIONS:
        raise ConfigError(f"reward version {reward_version!r} is not known; choose one of {REWARD_VERSIONS}")
    upstream = env.unwrapped
    task = _class_name(upstream)
    declared: dict[str, Declared] = {}
    for _ in range(_MOST_PASSES):
        try:
            derivation = _Derivation(upstream, reward_version, declared)
            found = derivation.attributes.redeclared()
            if found == declared:
                return derivation.program(task, reward_version)
        except UpstreamRaisesError as error:
            raise ConfigError(
                f"{task} has no reward {reward_version}: upstream's own code always raises at {error.where}: {error}"
            ) from error
        except NotUnderstoodError as error:
            raise ConfigError(f"cannot derive a program of {task}, reward {reward_version}: {error}") from error
        declared = found
    raise ConfigError(f"cannot derive a program of {task}, reward {reward_version}: its attributes keep changing type")


class _Derivation:
    """One pass over upstream's source."""

    def __init__(self, env: Any, reward_version: str, declared: dict[str, Declared]) -> None:
        self.build = Builder()
        self.algebra = Algebra(self.build)
        simulation = Simulation(env, self.algebra)
        overrides = {"reward_function_version": reward_version, "_partially_observable": True}
        kept = {name: replace(spec) for name, spec in declared.items()}
        self.attributes = Attributes(simulation, overrides, kept)
        interpreter = Interpreter(Machine(self.algebra, self.attributes), simulation)
        self.obs = self._clipped(interpreter, interpreter.method("_get_obs"), env.sawyer_observation_space)
        action = [Scalar(self.build.leaf("action", "f32", i, f"action[{i}]"), "f32") for i in range(ACTION_SIZE)]
        outcome = interpreter.method("evaluate_state", self.obs, Vector(object_array(action), "f32", writable=False))
        self.reward, self.info = outcome

    def _clipped(self, interpreter: Interpreter, obs: Value, space: Any) -> Vector:
        if not isinstance(obs, Vector) or obs.items.shape != (OBS_SIZE,):
            raise NotUnderstoodError(f"an observation other than {OBS_SIZE} numbers")
        self.build.source = "sawyer_xyz_env.py:step"
        bounds = (self.algebra.wrap(np.asarray(bound, dtype=np.float64)) for bound in (space.low, space.high))
        clipped = interpreter.expressions.call(np.clip, (obs, *bounds), {})
        assert isinstance(clipped, Vector)
        return clipped

    def program(self, task: str, reward_version: str) -> Program:
        """Return the finished program, without anything that nothing depends on."""
        missing = [name for name in INFO if name not in self.info]
        if missing:
            raise NotUnderstoodError(f"an info without {missing}")
        obs = [self.algebra.node(s, "f64") for s in self.obs.items]
        reward = self.algebra.node(self.reward, "f64")
        info = [self.algebra.node(self.info[name], "f64") for name in INFO]
        kept, updates = self._live_attributes([*obs, reward, *info])
        slot_of, attributes = _packed(kept)
        live = live_nodes(self.build.nodes, [*obs, reward, *info, *(node for _, node in updates)])
        number = {node: i for i, node in enumerate(live)}
        read_of = {index: i for i, index in enumerate(_used(self.build.nodes, live, "read"))}
        places = {"slot": slot_of, "read": read_of}
        nodes = []
        for old in live:
            node = self.build.nodes[old]
            index = places[node.op][node.index] if node.op in places else node.index
            nodes.append(replace(node, args=tuple(number[a] for a in node.args), index=index))
        return Program(
            task=task,
            reward_version=reward_version,
            nodes=tuple(nodes),
            reads=tuple(self.build.reads[i] for i in read_of),
            attributes=attributes,
            n_slots=len(slot_of),
            obs=tuple(number[n] for n in obs),
            reward=number[reward],
            info=tuple(number[n] for n in info),
            updates=tuple((slot_of[slot], number[node]) for slot, node in updates),
        )

    def _live_attributes(self, roots: list[int]) -> tuple[list[Attribute], list[tuple[int, int]]]:
        """Return the attributes that matter for any later output, and their (slot, node) updates."""
        all_slots = self.attributes.slots()
        while True:
            used = set(_used(self.build.nodes, live_nodes(self.build.nodes, roots), "slot"))
            kept = [(a, new) for a, new in all_slots if used & set(range(a.start, a.start + len(new)))]
            updates = [
                (a.start + i, node)
                for a, new in kept
                for i, node in enumerate(new)
                if (self.build.nodes[node].op, self.build.nodes[node].index) != ("slot", a.start + i)
            ]
            more = [node for _, node in updates if node not in roots]
            if not more:
                return [a for a, _ in kept], updates
            roots = [*roots, *more]


def _used(nodes: list[Node], live: list[int], op: str) -> list[int]:
    return sorted({nodes[n].index for n in live if nodes[n].op == op})


def _packed(kept: list[Attribute]) -> tuple[dict[int, int], tuple[Attribute, ...]]:
    """Number the slots of the attributes that are left without gaps."""
    slot_of: dict[int, int] = {}
    attributes = []
    for attribute in kept:
        size = int(np.prod(attribute.shape))
        old = [*range(attribute.start, attribute.start + size), *([attribute.none_slot] * (attribute.none_slot >= 0))]
        for slot in old:
            slot_of[slot] = len(slot_of)
        none_slot = slot_of[attribute.none_slot] if attribute.none_slot >= 0 else -1
        attributes.append(replace(attribute, start=slot_of[attribute.start], none_slot=none_slot))
    return slot_of, tuple(attributes)


def _class_name(upstream: Any) -> str:
    for name, cls in metaworld_module().ALL_V3_ENVIRONMENTS.items():
        if type(upstream) is cls:
            return str(name)
    raise ConfigError(f"{type(upstream).__name__} is none of Meta-World's task classes")
