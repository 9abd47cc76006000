"""A small Gymnasium environment whose every number depends on something a World must get right.

It lives in a module of its own so that worker processes can import it without the tests around it.
"""

import os
import time

import gymnasium as gym
import numpy as np
import torch

from metarl.tasks import Tasks

RAISE, DIE, HANG = 1, 2, 3


class Toy(gym.Env):
    """Adds up actions; the episode ends by itself after `length` steps, with a bonus of 100 in the last reward."""

    built = 0

    def __init__(self, kind: str = "a") -> None:
        type(self).built += 1
        self.kind, self.goal, self.length, self.fault = kind, 0.0, 0, 0
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.total, self.age, self.noise = 0.0, 0, 0.0

    def _obs(self) -> np.ndarray:
        return np.array([self.total, self.age, self.noise])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.total, self.age, self.noise = 0.0, 0, float(self.np_random.normal())
        return self._obs(), {}

    def step(self, action):
        if self.age == 2 and self.fault == RAISE:
            raise ValueError("the toy broke")
        if self.age == 2 and self.fault == DIE:
            os._exit(7)
        if self.age == 2 and self.fault == HANG:
            time.sleep(1000)
        self.age += 1
        self.total += float(action.sum()) + 0.1 * float(self.np_random.normal())
        ended = self.age == self.length
        reward = self.goal - self.total + (100.0 if ended else 0.0)
        return self._obs(), reward, ended, False, {"success": float(self.age == 2)}


class Talker(gym.Env):
    """Dict observations, Discrete actions starting at 1 of which one is illegal at each step."""

    observation_space = gym.spaces.Dict(
        {
            "place": gym.spaces.Discrete(4),
            "body": gym.spaces.Dict({"mood": gym.spaces.MultiDiscrete([3, 2]), "energy": gym.spaces.Box(0, 1, (1,))}),
        }
    )
    action_space = gym.spaces.Discrete(3, start=1)

    def _look(self):
        mask = np.ones(3, np.int8)
        mask[self.age % 3] = 0
        body = {"mood": np.array([self.age % 3, 1]), "energy": np.array([0.5], np.float32)}
        return {"place": self.age % 4, "body": body}, {"action_mask": mask}

    def reset(self, *, seed=None, options=None):
        self.age = 0
        return self._look()

    def step(self, action):
        assert type(action) is int
        self.age += 1
        obs, info = self._look()
        return obs, float(action), False, False, info


def make(task: Tasks) -> Toy:
    return Toy(kind(task))


def apply(env: Toy, task: Tasks) -> None:
    env.goal, env.length = float(task.values["goal"][0]), int(task.values["length"][0])
    env.fault = int(task.values["fault"][0])


def kind(task: Tasks) -> str:
    return "a" if float(task.values["goal"][0]) < 10 else "b"


def snapshot(env: Toy) -> dict:
    generator = env.np_random.bit_generator.state["state"]
    return {
        "numbers": torch.tensor([env.total, env.age, env.noise], dtype=torch.float64),
        "rng": {k: str(v) for k, v in generator.items()},
    }


def restore(env: Toy, state: dict) -> None:
    env.total, env.noise = float(state["numbers"][0]), float(state["numbers"][2])
    env.age = int(state["numbers"][1])
    full = env.np_random.bit_generator.state
    full["state"] = {k: int(v) for k, v in state["rng"].items()}
    env.np_random.bit_generator.state = full


def tasks(goals: list[float], length: int = 0, faults: list[int] | None = None) -> Tasks:
    n = len(goals)
    return Tasks.of(
        "toy",
        goal=torch.tensor(goals, dtype=torch.float64),
        length=torch.full((n,), length),
        fault=torch.tensor(faults if faults is not None else [0] * n),
    )
