"""Tensor worlds and task distributions that break the contract, one way each, and the sound ones they are made of.

`tests.envs.broken_worlds:make` with option `kind=...` is a world's name for commands: a key of BROKEN or of SOUND.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from metarl.spec import WorldSpec
from metarl.tasks import Tasks
from metarl.world import World
from tests.envs.gym.lamps import BOX, Buttons, Drive, Family, Lamps, Rooms, Walls


def family(**members: Any) -> Callable[[], Any]:
    """Return what builds the family with `members` replaced."""
    return type("Broken", (Family,), members)


def world(base: type[Lamps] = Lamps, **members: Any) -> Callable[[], Any]:
    """Return what builds the family of the world `base` with `members` replaced."""
    return family(world=type("Broken", (base,), members))


def begin(change: Callable[[Any], Any]) -> Callable[[], Any]:
    return world(initial=lambda self, streams, episode: change(Lamps.initial(self, streams, episode)))


def advance(change: Callable[[Any, Any, Any, Any], Any], base: type[Lamps] = Lamps) -> Callable[[], Any]:
    """Replace (state, reward, terminated, success) by what `change` makes of them."""
    return world(base, transition=lambda self, *given: change(*base.transition(self, *given)))


def state_of(change: Callable[[Any], Any]) -> Callable[[], Any]:
    return advance(lambda s, r, e, w: (change(s), r, e, w))


def reward_of(change: Callable[[Tensor], Any]) -> Callable[[], Any]:
    return advance(lambda s, r, e, w: (s, change(r), e, w))


def observe(change: Callable[[Any], Any], base: type[Lamps] = Lamps, **members: Any) -> Callable[[], Any]:
    return world(base, observation=lambda self, state: change(base.observation(self, state)), **members)


def step(change: Callable[..., Any], base: type[Lamps] = Lamps, **members: Any) -> Callable[[], Any]:
    """Replace what `step` returns: change(obs, reward, terminated, truncated, info)."""
    return world(base, step=lambda self, actions: change(*base.step(self, actions)), **members)


def writes_into(name: str) -> Callable[[], Any]:
    def spoiling(self: Lamps, state: Any, actions: Tensor, streams: Any, clock: Tensor) -> Any:
        {"state": state["place"], "params": self.params["lamp"], "actions": actions}[name].mul_(1)
        return Lamps.transition(self, state, actions, streams, clock)

    return world(transition=spoiling)


class LateBuffer(Lamps):
    """Keeps one buffer and returns it at each step."""

    def step(self, actions: Any) -> Any:
        obs, *rest = super().step(actions)
        self.buffer = getattr(self, "buffer", torch.zeros_like(obs)).copy_(obs)
        return (self.buffer, *rest)


class Unchecked(World):
    """A world of its own kind, no TensorWorld, which takes whatever action it is given."""

    more: Mapping[str, Any] = {}

    def __init__(self, num_envs: int, actions: spaces.Space[Any]) -> None:
        super().__init__(WorldSpec(BOX, actions, 5, name="unchecked", **self.more), num_envs)
        self.place, self.age, self.last = torch.zeros(num_envs, 2), 0, self.horizon
        self.pending: Tasks | None = None

    def set_tasks(self, tasks: Tasks) -> None:
        self.check_tasks(tasks)
        self.pending = tasks

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.tasks, self.place, self.age = self.pending, torch.zeros(self.num_envs, 2), 0
        return self.place.clone(), {}

    def taken(self, actions: Any) -> Tensor:
        return torch.as_tensor(actions).nan_to_num().reshape(self.num_envs, -1).float()

    def step(self, actions: Any) -> Any:
        assert self.tasks is not None
        self.place, self.age = (self.place + 0.1 * self.taken(actions)[:, :1]).clamp(-9, 9), self.age + 1
        final_obs, reward = self.place.clone(), -(self.place[:, 0] - self.tasks.values["lamp"]).abs()
        over = torch.full((self.num_envs,), self.age == self.last)
        if self.age == self.last:
            self.place, self.age = torch.zeros(self.num_envs, 2), 0
        return self.place.clone(), reward, torch.zeros_like(over), over, {"final_obs": final_obs}

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place, "age": self.age}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place, self.age = state["place"], state["age"]


class Clipping(Unchecked):
    """Clips, but takes a NaN."""

    def taken(self, actions: Any) -> Tensor:
        return super().taken(actions).clamp(-1.0, 1.0)


class Restless(Unchecked):
    """Says that something outlives an episode, and cannot hold an env."""

    more: Mapping[str, Any] = {"persists_across_episodes": True, "fixed_horizon": False}


class Late(Unchecked):
    """Ends a step later than it says."""

    def __init__(self, num_envs: int, actions: spaces.Space[Any]) -> None:
        super().__init__(num_envs, actions)
        self.last = self.horizon + 1


def own(kind: type[Unchecked], actions: spaces.Space[Any]) -> Callable[[], Any]:
    return family(make_world=lambda self, num_envs, *, device="cpu": kind(num_envs, actions))


def deaf_to_tasks(self: Lamps, tasks: Tasks) -> None:
    self.check_tasks(tasks)
    if self.tasks is None:
        Lamps.set_tasks(self, tasks)


def sampled(change: Callable[[Tasks], Any]) -> Callable[[], Any]:
    return family(sample=lambda self, split, n, generator: change(Family.sample(self, split, n, generator)))


def overlapping(self: Family, split: str) -> Tasks:
    return Family.all(self, "train" if split == "test" else split)


def counting(self: Family) -> str:
    self.asked = getattr(self, "asked", 0) + 1
    return f"asked {self.asked} times"


def moving_away(self: Lamps, state: Any) -> Any:
    os.chdir("/")
    return Lamps.observation(self, state)


def raising(error: BaseException) -> Callable[..., Any]:
    def method(*arguments: Any, **options: Any) -> Any:
        raise error

    return method


BUILDS = cycle((0, 1))


def numbered() -> Any:
    n = next(BUILDS)
    return family(fingerprint=lambda self: f"build {n}")()


def without(name: str) -> Any:
    """Return a family, no subclass of one, that has everything but the member `name`."""
    return family_like({name})


def family_like(missing: set[str]) -> Any:
    inner = Family()
    names = {"name", "exhaustive", "splits", "sample", "all", "fingerprint", "make_world", "references"} - missing
    return type("Own", (), {n: getattr(inner, n) for n in names})()


nan_reward = reward_of(lambda r: torch.full_like(r, torch.nan))


BROKEN: dict[str, Callable[[], Any]] = {
    # What `begin` returns.
    "api: begin returns nothing": begin(lambda s: None),
    "api: begin returns a tuple": begin(lambda s: (s["place"],)),
    "api: begin returns an empty state": begin(lambda s: {}),
    "api: begin returns arrays": begin(lambda s: {"place": s["place"].numpy()}),
    "api: begin returns a row too many": begin(lambda s: {"place": torch.cat([s["place"], s["place"][:1]])}),
    "api: begin returns a number for all": begin(lambda s: {"place": torch.tensor(0.0)}),
    "api: begin returns gradients": begin(lambda s: {"place": s["place"].requires_grad_()}),
    "api: begin raises": world(initial=raising(IndexError("no such row"))),
    "api: it moves to another folder": world(observation=moving_away),
    "api: begin ends the process": world(initial=raising(SystemExit(0))),
    # What `advance` returns.
    "api: transition returns nothing": advance(lambda *all: None),
    "api: transition returns three values": advance(lambda *all: all[:3]),
    "api: transition returns a list": advance(lambda *all: list(all)),
    "api: the state loses an entry": state_of(lambda s: {}),
    "api: the state has an entry more": state_of(lambda s: {**s, "more": s["place"]}),
    "api: the state has another dtype": state_of(lambda s: {"place": s["place"].double()}),
    "api: the state has another shape": state_of(lambda s: {"place": s["place"][:, :1]}),
    "api: the state is an array": state_of(lambda s: {"place": s["place"].numpy()}),
    "api: reward in double precision": reward_of(lambda r: r.double()),
    "api: reward [B, 1]": reward_of(lambda r: r[:, None]),
    "api: reward a single number": reward_of(lambda r: r.mean()),
    "api: reward a Python number": reward_of(lambda r: 0.5),
    "api: reward an integer": reward_of(lambda r: r.long()),
    "api: reward an array": reward_of(lambda r: r.numpy()),
    "api: reward with a gradient": reward_of(lambda r: r.clone().requires_grad_()),
    "api: no reward": reward_of(lambda r: None),
    "api: reward elsewhere": reward_of(lambda r: r.to("meta")),
    "api: terminated as 0.0 and 1.0": advance(lambda s, r, e, w: (s, r, e.float(), w), Rooms),
    "api: terminated [B, 1]": advance(lambda s, r, e, w: (s, r, e[:, None], w), Rooms),
    "api: terminated an array": advance(lambda s, r, e, w: (s, r, e.numpy(), w), Rooms),
    "api: terminated a bool for all": advance(lambda s, r, e, w: (s, r, False, w), Rooms),
    "api: success promised, not given": advance(lambda s, r, e, w: (s, r, e, None), Rooms),
    "api: success as 0.0 and 1.0": advance(lambda s, r, e, w: (s, r, e, w.float()), Rooms),
    "api: success not announced": advance(lambda s, r, e, w: (s, r, e, r > 0)),
    "api: transition writes into the state": writes_into("state"),
    "api: transition writes into the tasks": writes_into("params"),
    "api: transition writes into the actions": writes_into("actions"),
    "api: transition multiplies what does not fit": world(transition=lambda self, s, a, *_: s["place"] @ s["place"]),
    "api: transition uses what is not there": world(transition=lambda self, *given: self.no_such_thing),
    # What `observe` returns.
    "api: observation [B] for (2,)": observe(lambda o: o[:, 0]),
    "api: observation of another width": observe(lambda o: torch.cat([o, o], 1)),
    "api: observation without envs": observe(lambda o: o[0]),
    "api: observation in double precision": observe(lambda o: o.double()),
    "api: observation an array": observe(lambda o: o.numpy()),
    "api: no observation": observe(lambda o: None),
    "api: observation elsewhere": observe(lambda o: o.to("meta")),
    "api: observation with a gradient": observe(lambda o: o.requires_grad_()),
    "api: observation a dict": observe(lambda o: {"place": o}),
    "api: observation lacks a key": observe(lambda o: {"place": o["place"]}, Rooms),
    "api: observation has a key more": observe(lambda o: {**o, "more": o["place"]}, Rooms),
    "api: observation a tensor for a Dict": observe(lambda o: o["place"], Rooms),
    "api: a choice as a float": observe(lambda o: {**o, "third": o["third"].float()}, Rooms),
    "api: a choice out of range": observe(lambda o: {**o, "third": o["third"] + 3}, Rooms),
    "finite: observation NaN": observe(lambda o: o * torch.nan),
    "finite: reward NaN": nan_reward,
    "finite: reward infinite": reward_of(lambda r: r / 0.0),
    # Masks and extras.
    "api: mask of numbers": world(Walls, action_mask=lambda self, s: Walls.action_mask(self, s).float()),
    "api: mask too narrow": world(Walls, action_mask=lambda self, s: Walls.action_mask(self, s)[:, :2]),
    "api: mask forbids all": world(Walls, action_mask=lambda self, s: Walls.action_mask(self, s) & False),
    "api: mask now and then": world(
        Walls, action_mask=lambda self, s: Walls.action_mask(self, s) if self._clock[0] > 1 else None
    ),
    "api: mask for two choices": world(Buttons, action_mask=Walls.action_mask),
    "api: extras are nothing": world(extras=lambda self, state: None),
    "api: cost negative": world(more={"has_cost": True}, extras=lambda self, s: {"cost": -torch.ones(self.num_envs)}),
    "api: cost not announced": world(extras=lambda self, s: {"cost": torch.ones(self.num_envs)}),
    "api: shaped reward announced only": world(more={"has_dense_reward": True}),
    "api: a reaction that is lost": world(
        more={"persists_across_episodes": True}, persist=lambda self, ended, fresh: None
    ),
    "api: hidden numbers promised": world(more={"n_privileged": 2}),
    "api: one hidden number in place of two": world(
        more={"n_privileged": 2}, privileged_info=lambda self: self.params["lamp"]
    ),
    "api: minus one hidden number": world(more={"n_privileged": -1}),
    # What `step` and `reset` return, where a world writes its own.
    "api: step returns four values": step(lambda o, r, e, t, i: (o, r, e | t, i)),
    "api: info is nothing": step(lambda o, r, e, t, i: (o, r, e, t, None)),
    "api: no final_obs": step(lambda o, r, e, t, i: (o, r, e, t, {})),
    "api: truncated as 0 and 1": step(lambda o, r, e, t, i: (o, r, e, t.long(), i)),
    "api: reset returns the observation only": world(reset=lambda self, **k: Lamps.reset(self, **k)[0]),
    "api: reset takes no seed": world(reset=lambda self: Lamps.reset(self)),
    "api: step takes no action": world(step=lambda self: None),
    "gymnasium: says that it resets a step later": world(metadata={"autoreset_mode": AutoresetMode.NEXT_STEP}),
    "tasks: too few are taken": world(check_tasks=lambda self, tasks: None, set_tasks=lambda self, tasks: (
        Lamps.set_tasks(self, tasks.repeat(self.num_envs)[: self.num_envs]) if len(tasks) < self.num_envs
        else Lamps.set_tasks(self, tasks))),
    "tasks: only the first ones count": world(set_tasks=deaf_to_tasks),
    "autoreset: never ends": step(lambda o, r, e, t, i: (o, r, e, t & False, i)),
    "autoreset: ends late": own(Late, spaces.Discrete(3)),
    "autoreset: ends early, says it never does": advance(
        lambda s, r, e, w: (s, r, s["place"][:, 0].abs() > 0.5, w)
    ),
    "autoreset: does not begin anew": step(lambda o, r, e, t, i: (i["final_obs"], r, e, t, i)),
    "autoreset: final_obs is that of the next episode": step(
        lambda o, r, e, t, i: (o, r, e, t, {**i, "final_obs": o.clone()})
    ),
    "autoreset: two observations of one moment": step(
        lambda o, r, e, t, i: (o, r, e, t, {**i, "final_obs": i["final_obs"].clamp(-1, 1) * 0.5})
    ),
    "aliasing: one buffer for all observations": family(world=LateBuffer),
    "api: envs cannot wait": family(make_world=lambda self, n, *, device="cpu": Restless(n, spaces.Discrete(3))),
    "action bounds: any choice is taken": own(Unchecked, spaces.Discrete(3)),
    "action bounds: any two choices are taken": own(Unchecked, spaces.MultiDiscrete([3, 2])),
    "action bounds: a push beyond the Box goes further": own(Unchecked, spaces.Box(-1, 1, (1,), np.float32)),
    "action bounds: NaN is taken": own(Clipping, spaces.Box(-1, 1, (1,), np.float32)),
    # What a world says of itself.
    "api: horizon of 2.5 steps": world(length=2.5),
    "api: success perhaps": world(knows_success="perhaps"),
    "api: no name": world(name=property(lambda self: "", lambda self, value: None)),
    "api: constructor left out": world(__init__=lambda self, num_envs, device: None),
    "api: an env more than asked": family(make_world=lambda self, n, *, device="cpu": Lamps(n + 1, device)),
    "api: no world": family(make_world=lambda self, n, *, device="cpu": object()),
    "api: a world that cannot be built": family(make_world=raising(OSError("no such scene"))),
    "api: MultiBinary actions": world(actions=spaces.MultiBinary(2)),
    # What a task distribution is and does.
    "family: a name that is none": family(name=property(lambda self: 3, lambda self, value: None)),
    "family: exhaustive perhaps": family(exhaustive=property(lambda self: "no", lambda self, value: None)),
    "family: splits as one text": family(splits="train"),
    "family: splits raises": family(splits=property(raising(KeyError("splits")))),
    "family: sample takes no generator": family(sample=lambda self, split, n: None),
    "family: make_world takes no device": family(make_world=lambda self, num_envs: Lamps(num_envs)),
    "family: references is a table": family(references={"random": [0.0]}),
    "family: settings of no JSON kind": family(settings=property(lambda self: {"x": object()}, lambda self, v: None)),
    "family: notes are one text": family(notes="mind the gap"),
    "splits: test is missing": family(splits=("train", "validation")),
    "splits: test tasks are training tasks": family(all=overlapping),
    "splits: exhaustive is untrue": family(exhaustive=property(lambda self: True, lambda self, value: None)),
    "splits: too few tasks": sampled(lambda tasks: tasks[:2]),
    "splits: a list of numbers": sampled(lambda tasks: [1, 2]),
    "splits: nothing is drawn": sampled(lambda tasks: None),
    "splits: tasks of arrays": sampled(
        lambda tasks: Tasks({"lamp": tasks.values["lamp"].numpy()}, tasks.names, tasks.groups)  # type: ignore[dict-item]
    ),
    "splits: tasks with numbers for names": sampled(
        lambda tasks: Tasks(tasks.values, tuple(range(len(tasks))), tasks.groups)  # type: ignore[arg-type]
    ),
    "splits: draws what all does not list": sampled(
        lambda tasks: Tasks({"lamp": tasks.values["lamp"] + 0.01}, tasks.names, tasks.groups)
    ),
    "splits: all returns a list": family(all=lambda self, split: [1, 2, 3]),
    "splits: an empty split": family(all=lambda self, split: Family.all(self, split)[:0]),
    "splits: sample raises": family(sample=raising(ZeroDivisionError("division by zero"))),
    "splits: any name is a split": family(
        sample=lambda self, split, n, generator: Family.sample(
            self, split if split in self.splits else "train", n, generator
        )
    ),
    "sampling: the same tasks again and again": family(
        sample=lambda self, split, n, generator: self.all(split)[[i % len(self.all(split)) for i in range(n)]]
    ),
    "sampling: another generator": family(
        sample=lambda self, split, n, generator: Family.sample(self, split, n, torch.default_generator)
    ),
    "fingerprint: another each time": family(fingerprint=counting),
    "fingerprint: another for each build": numbered,
    "fingerprint: none": family(fingerprint=lambda self: None),
    "fingerprint: raises": family(fingerprint=raising(FileNotFoundError("tasks.csv"))),
}  # fmt: skip
"""Name, which begins with the check that refuses it, -> what builds it."""

NOT_BUILT: dict[str, tuple[Callable[[], Any], str]] = {
    "no sample": (lambda: without("sample"), "Own is no task distribution: it lacks sample"),
    "no splits": (lambda: without("splits"), "Own is no task distribution: it lacks splits"),
    "nothing at all": (lambda: None, "NoneType is no task distribution: it lacks name"),
    "a class": (lambda: Family, "ABCMeta is no task distribution: it lacks name"),
    "it raises": (raising(RuntimeError("no such file")), "cannot be built: RuntimeError: no such file"),
}
"""Name -> what fails to build a task distribution, and what is said about it."""

SOUND: dict[str, Callable[[], Any]] = {
    "lamps": Family,
    "two choices": family(world=Buttons),
    "box": family(world=Drive),
    "dict": family(world=Rooms),
    "mask": family(world=Walls),
    "own": lambda: family_like(set()),
    "out of bounds": observe(lambda o: o + 20.0),
}
"""What the broken ones are before they are broken, and one whose fault spoils no training."""


def make(kind: str) -> Any:
    """Build one of the families above."""
    if kind in NOT_BUILT:
        return NOT_BUILT[kind][0]()
    return {**BROKEN, **SOUND}[kind]()
