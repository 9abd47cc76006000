"""Gymnasium environments with one thing broken each, as task distributions that `doctor`, `train` and `evaluate` take.

`BROKEN` maps the name of a fault to what builds its family, `says` to a pattern of the sentence that must refuse it;
`whole()` is the same family with nothing broken. The three tables say what became of each as long as nothing was held
to its declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from metarl.envs.families import FiniteFamily, shuffled_split_indices
from metarl.envs.gym.world import GymWorld
from metarl.task_distribution import TaskDistribution
from metarl.tasks import Tasks
from metarl.world import World
from tests.envs.gym.walk_gym import (
    Case,
    Damaged,
    Limited,
    TwoPlayers,
    Unseeded,
    Walk,
    energy,
    fail,
    float32,
    obs,
    of_two_kinds,
    part,
    said,
    with_limit,
)

HORIZON = 6


def ends_the_process(seen: Any) -> Any:
    raise SystemExit(0)


def complains(seen: Any) -> Any:
    raise RuntimeError("x" * 5000)


def build(name: str, task: Tasks) -> Any:
    """Return the environment of a case for a task; a function of this module, so that processes can call it."""
    case = CASES[name]
    return case.make(task) if case.make is not None else Damaged(case)


def put(env: Any, task: Tasks) -> None:
    """Give an environment its task."""
    env.unwrapped.goal = float(task.values["goal"][0])


class Walks(FiniteFamily):
    """Nine goals: five to train on, two each for validation and test."""

    def __init__(self, case: str, n_workers: int = 0) -> None:
        tasks = Tasks.of("walk", goal=torch.linspace(-0.8, 0.8, 9, dtype=torch.float64))
        super().__init__("walk", tasks, shuffled_split_indices("walk", 9, 2), settings={"case": case})
        self.case, self.n_workers = case, n_workers

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> World:
        options = {"horizon": HORIZON, "fixed_horizon": True, "example": self.all("train")[:1], "name": "walk"}
        options |= {"make_env": partial(build, self.case), "apply_task": put} | CASES[self.case].options
        return GymWorld(num_envs=num_envs, n_workers=self.n_workers, device=device, **options)

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        return {}


_SHARED = Walk()
_NAN, _INF = float("nan"), float("inf")
_DICT = spaces.Dict(
    {
        "body": spaces.Dict({"energy": spaces.Box(-20.0, 20.0, (2,)), "mood": spaces.MultiDiscrete([2, 2])}),
        "clock": spaces.Discrete(8),
    }
)
_EIGHT, _TABLE = spaces.Discrete(8), spaces.Box(-20.0, 20.0, (2, 3))
_IMAGE, _GRID = spaces.Box(0, 255, (3,), np.uint8), spaces.Box(-9, 9, (3,), np.int64)
_SUCCESS, _MASK = {"has_success": True}, {"has_action_mask": True}


TRAINED: dict[str, Case] = {
    "obs of one number for three": Case(
        r"the observation is \[1.0\], float64 of shape \(1,\), expected shape \(3,\)", obs(np.ones(1))
    ),
    "obs a plain number": Case(r"the observation is 1.0 \(float\), expected shape \(3,\)", obs(1.0)),
    "obs with an axis too many": Case(r"shape \(1, 3\), expected shape \(3,\)", obs(lambda o: o[None])),
    "obs of text": Case(
        r"<U1 of shape \(3,\), expected the numbers of Box|'1', '2'.* expected the numbers of Box",
        obs(np.array(["1", "2", "3"])),
    ),
    "obs of objects": Case(r"object of shape \(3,\), expected the numbers", obs(lambda o: o.astype(object))),
    "obs with a masked entry": Case(
        r"the observation is .*expected the numbers", obs(lambda o: np.ma.masked_array(o, mask=[0, 1, 0]))
    ),
    "step ends the process": Case(r"SystemExit: 0", obs(ends_the_process, "step")),
    "step complains at length": Case(r"RuntimeError: x{300}\.\.\.", obs(complains, "step")),
    "obs complex": Case(r"complex64 of shape \(3,\), expected the numbers", obs(lambda o: o.astype(np.complex64))),
    "entry undeclared": Case(r"has undeclared \['goal'\]", obs(lambda o: o | {"goal": 0.5}), space=_DICT),
    "entry of another shape": Case(r"observation entry 'body/energy' is \[1.0\]", obs(energy(np.ones(1))), space=_DICT),
    "choice and a half": Case(
        r"the observation is 1.5 \(float\), expected integers of Discrete", obs(1.5), space=_EIGHT
    ),
    "binary two": Case(
        r"\[2, 0\], int64 of shape \(2,\), which lies outside MultiBinary",
        obs(np.array([2, 0])),
        space=spaces.MultiBinary(2),
    ),
    "binary one half": Case(
        r"expected integers of MultiBinary", obs(np.array([0.5, 0.0])), space=spaces.MultiBinary(2)
    ),
    "image of floats": Case(
        r"float64 of shape \(3,\), expected integers of Box\(0, 255", obs(lambda o: o / 255.0), space=_IMAGE
    ),
    "image below zero": Case(
        r"\[-1, 0, 0\], int64 of shape \(3,\), which lies outside Box\(0, 255", obs(np.array([-1, 0, 0])), space=_IMAGE
    ),
    "grid outside its bounds": Case(
        r"\[10, 0, 0\], int64 of shape \(3,\), which lies outside Box\(-9, 9", obs(np.array([10, 0, 0])), space=_GRID
    ),
    "first obs NaN": Case(
        r"failed at step 0 .*the observation of the reset is nan at index \[1\]", obs(float32([0, _NAN, 0]), at="reset")
    ),
    "reset of the old API": Case(
        r"reset\(\) returned .*float32 of shape \(2,\), expected the pair \(observation, info\)",
        lambda env, call, r: r[0] if call == "reset" else tuple(r),
        space=spaces.Box(-20, 20, (2,)),
    ),
    "reset a list": Case(
        r"reset\(\) returned \[array.*\(list\), expected the pair",
        lambda env, call, r: r if call == "reset" else tuple(r),
    ),
    "reset without a dict": Case(
        r"reset\(\) returned None \(NoneType\) as info, expected a dict",
        lambda env, call, r: (r[0], None) if call == "reset" else tuple(r),
    ),
    "step without a dict": Case(r"step\(\) returned None \(NoneType\) as info", part(4, None)),
    "reward of text": Case(r"the reward is '1.0' \(str\), expected one number", part(1, "1.0")),
    "terminated in a list": Case(r"terminated is \[False\] \(list\), expected one bool", part(2, [False])),
    "terminated in an array": Case(
        r"terminated is \[False\], bool of shape \(1,\), expected one bool", part(2, np.zeros(1, bool))
    ),
    "terminated none": Case(r"terminated is None", part(2, None)),
    "terminated of text": Case(r"terminated is 'no' \(str\)", part(2, "no")),
    "terminated two": Case(r"terminated is 2 \(int\)", part(2, 2)),
    "terminated a float": Case(r"terminated is 0.0 \(float\), expected one bool \(or 0 or 1\)", part(2, 0.0)),
    "truncated in a list": Case(r"truncated is \[False\] \(list\)", part(3, [False])),
    "truncated a dict": Case(r"truncated is \{\} \(dict\)", part(3, {})),
    "success in a list": Case(
        r"info\['success'\] is \[0.0\] \(list\), expected one bool", said("success", [0.0]), options=_SUCCESS
    ),
    "success NaN": Case(r"info\['success'\] is nan \(float\)", said("success", _NAN), options=_SUCCESS),
    "success a share": Case(
        r"info\['success'\] is 0.3 \(float\), expected one bool \(or 0.0 or 1.0\)",
        said("success", 0.3),
        options=_SUCCESS,
    ),
    "success of text": Case(r"info\['success'\] is 'False' \(str\)", said("success", "False"), options=_SUCCESS),
    "mask to be added": Case(
        r"info\['action_mask'\] is \[0.0, -inf, 0.0\], float64 of shape \(3,\), expected 3 bools",
        said("action_mask", np.array([0.0, -_INF, 0.0])),
        options=_MASK,
    ),
    "mask of one": Case(r"info\['action_mask'\] is 1 \(int\), expected 3 bools", said("action_mask", 1), options=_MASK),
    "mask of counts": Case(r"\[0, 2, 1\] \(list\), expected 3 bools", said("action_mask", [0, 2, 1]), options=_MASK),
    "ends early": Case(
        r"the environment terminated its episode after 1 steps, expected 6 of a world with fixed_horizon=True",
        part(2, True),
    ),
    "cut early": Case(
        r"the environment truncated its episode after 4 steps, expected 6",
        make=lambda task: Limited(CASES["cut early"]),
    ),
    "time limit below the horizon": Case(
        r"the environment's max_episode_steps is 4, expected at least the horizon 6", make=with_limit(4)
    ),
    "time limit below the horizon, spaces given": Case(
        r"max_episode_steps is 4, expected at least the horizon 6",
        make=with_limit(4),
        options={"observation_space": Walk().observation_space, "action_space": spaces.Discrete(3)},
    ),
    "actions without a number": Case(r"it holds no number", actions=spaces.Box(-1, 1, (0,))),
    "actions of one value": Case(r"action \[0\] has one value only", actions=spaces.Box(1, 1, (2,))),
    "entry without a number": Case(
        r"entry 'a' of the observation space is Box.* holds no number",
        space=spaces.Dict({"a": spaces.Box(-1, 1, (0,))}),
    ),
    "one environment for all": Case(
        r"make_env\(\) returned an environment that it had returned before", make=lambda task: _SHARED
    ),
    "two kinds of action": Case(
        r"an environment with the action space Discrete\(5\), expected Discrete\(3\)", make=of_two_kinds
    ),
}
"""Trained without a word, on something else than the environment showed or meant."""

TRACEBACK: dict[str, Case] = {
    "choice above its range": Case(
        r"the observation is 8 \(int\), which lies outside Discrete\(8\)", obs(8), space=_EIGHT
    ),
    "choice below its range": Case(r"is -1 \(int\), which lies outside Discrete\(8\)", obs(-1), space=_EIGHT),
    "choice below its start": Case(
        r"is 0 \(int\), which lies outside Discrete\(8, start=1\)", obs(0), space=spaces.Discrete(8, start=1)
    ),
    "choices above their range": Case(
        r"\[0, 2\], int64 of shape \(2,\), which lies outside MultiDiscrete",
        obs(np.array([0, 2])),
        space=spaces.MultiDiscrete([2, 2]),
    ),
    "mask that leaves nothing": Case(
        r"expected at least one legal action", said("action_mask", np.zeros(3, np.int8)), options=_MASK
    ),
    "actions of two axes": Case(
        r"a MultiDiscrete needs one axis, not 2", actions=spaces.MultiDiscrete([[2, 2], [2, 2]])
    ),
    "entries none": Case(r"it has no entries", space=spaces.Dict({})),
    "several agents": Case(r"the observation space is a method.*PettingZoo", make=lambda task: TwoPlayers()),
    "no environment": Case(
        r"make_env\(\) returned None \(NoneType\), expected one gymnasium.Env", make=lambda task: None
    ),
    "make_env fails": Case(r"make_env raised RuntimeError for the example task: no such level", make=fail),
    "make_env a class": Case(
        r"make_env is the class Walk, whose constructor asks for no task", options={"make_env": Walk}
    ),
    "make_env an environment": Case(r"make_env is <.*Walk.*expected a function of task", options={"make_env": _SHARED}),
}
"""Ended in a traceback that named neither the environment's fault nor what to do."""

OTHER_WORDS: dict[str, Case] = {
    "obs transposed": Case(r"shape \(3, 2\), expected shape \(2, 3\)", obs(lambda o: o.T), space=_TABLE),
    "obs cut short": Case(r"shape \(2,\), expected shape \(3,\)", obs(lambda o: o[:2])),
    "obs of nothing": Case(r"the observation is None", obs(None)),
    "obs ragged": Case(
        r"the observation is \[\[1.0\], \[2.0, 3.0\], 1.0\] \(list\), expected the numbers",
        obs([[1.0], [2.0, 3.0], 1.0]),
    ),
    "obs a dict for a Box": Case(r"expected the numbers of Box", obs(lambda o: {"x": o})),
    "obs a Box for a Dict": Case(
        r"expected a dict with the entries \['body', 'clock'\]", obs(np.zeros(3)), space=_DICT
    ),
    "entry missing": Case(r"the observation lacks \['clock'\]", obs(lambda o: {"body": o["body"]}), space=_DICT),
    "entry misspelt": Case(
        r"lacks \['clock'\] and has undeclared \['time'\]", obs(lambda o: {"body": o["body"], "time": 0}), space=_DICT
    ),
    "entry missing further down": Case(
        r"observation entry 'body' lacks \['mood'\]",
        obs(lambda o: o | {"body": {"energy": o["body"]["energy"]}}),
        space=_DICT,
    ),
    "entry NaN": Case(
        r"observation entry 'body/energy' of the reset is nan at index \[1\]",
        obs(energy(np.array([0.0, _NAN], np.float32))),
        space=_DICT,
    ),
    "choice one-hot": Case(r"shape \(8,\), expected shape \(\) of Discrete", obs(np.eye(8)[0]), space=_EIGHT),
    "choice in a list": Case(r"is \[1\] \(list\), expected shape \(\)", obs([1]), space=_EIGHT),
    "later obs NaN": Case(
        r"failed at step 2 .*the observation is nan at index \[0\]", obs(float32([_NAN, 0, 0]), age=3)
    ),
    "last obs infinite": Case(
        r"failed at step 5 .*the observation is -inf at index \[2\]", obs(float32([0, 0, -_INF]), age=HORIZON)
    ),
    "obs beyond float32": Case(r"the observation of the reset is inf at index \[0\]", obs(np.array([1e300, 0, 0]))),
    "reset without a seed": Case(r"reset\(\) of the environment takes no keyword seed", make=lambda task: Unseeded()),
    "reset of three values": Case(
        r"reset\(\) returned 3 values, expected the pair",
        lambda env, call, r: (*r, {}) if call == "reset" else tuple(r),
    ),
    "step of the old API": Case(
        r"step\(\) returned 4 values, expected the five",
        lambda env, call, r: (*r[:3], r[4]) if call == "step" else tuple(r),
    ),
    "reward NaN": Case(r"the reward is nan \(float\), expected a finite number", part(1, _NAN)),
    "reward infinite": Case(r"the reward is -inf \(float\)", part(1, -_INF)),
    "reward beyond float32": Case(r"the reward is 1e\+39 \(float\), expected a finite number", part(1, 1e39)),
    "reward none": Case(r"the reward is None", part(1, None)),
    "reward in a list": Case(r"the reward is \[1.0\] \(list\), expected one number", part(1, [1.0])),
    "reward in an array": Case(
        r"the reward is \[1.0\], float64 of shape \(1,\), expected one number", part(1, np.ones(1))
    ),
    "reward complex": Case(r"the reward is \(1\+1j\)", part(1, 1 + 1j)),
    "success missing": Case(
        r"gave info with \['action_mask'\], expected 'success' among it", said("success", None), options=_SUCCESS
    ),
    "mask too long": Case(r"shape \(4,\), expected 3 bools", said("action_mask", np.ones(4)), options=_MASK),
    "mask missing at steps": Case(
        r"expected 'action_mask' among it at every reset and step", said("action_mask", None, at="step"), options=_MASK
    ),
    "actions a Dict": Case(
        r"the action space is a Dict, and actions are one Box", actions=spaces.Dict({"a": spaces.Discrete(3)})
    ),
    "actions binary": Case(r"use MultiDiscrete\(\[2\] \* 3\)", actions=spaces.MultiBinary(3)),
    "actions a Tuple": Case(r"the action space is Tuple.*not supported", actions=spaces.Tuple([spaces.Discrete(3)])),
    "actions of a range that overflows": Case(r"its range overflows float32", actions=spaces.Box(-3e38, 3e38, (2,))),
    "entry of text": Case(
        r"entry 'body/words' of the observation space is Text.*not supported",
        space=spaces.Dict({"body": spaces.Dict({"words": spaces.Text(5)})}),
    ),
    "obs a Tuple": Case(r"the observation space is Tuple", space=spaces.Tuple([spaces.Discrete(3)])),
    "obs a Sequence": Case(r"the observation space is Sequence", space=spaces.Sequence(spaces.Discrete(3))),
    "several envs": Case(
        r"make_env\(\) returned a VectorEnv, expected one gymnasium.Env",
        make=lambda task: gym.vector.SyncVectorEnv([Walk, Walk]),
    ),
    "env_key fails": Case(
        r"failed at step 0 .*KeyError: 'level'", options={"env_key": lambda task: task.values["level"]}
    ),
    "env_key of nothing": Case(
        r"env_key has the arguments \(\), expected a function of task", options={"env_key": lambda: "a"}
    ),
    "apply_task none": Case(
        r"apply_task is None \(NoneType\), expected a function of env, task", options={"apply_task": None}
    ),
    "apply_task without a task": Case(
        r"apply_task has the arguments \(env\), expected a function of env, task",
        options={"apply_task": lambda env: None},
    ),
}
"""Were refused, but late or in words of numpy's or Python's that say nothing of the declaration."""

CASES = {"nothing": Case(""), **TRAINED, **TRACEBACK, **OTHER_WORDS}


BROKEN: dict[str, Callable[[], TaskDistribution]] = {name: partial(Walks, name) for name in CASES if name != "nothing"}


def says(name: str) -> str:
    """Return a pattern of the sentence that refuses a case."""
    return CASES[name].says


def whole(n_workers: int = 0) -> TaskDistribution:
    """Return the family with nothing broken."""
    return Walks("nothing", n_workers)
