"""A world of your own as tensors: B environments that step together, and the tasks that differ.

One learns what a world and a task distribution are. Here a wind that is never shown pushes a point away; RL² learns to
feel it and lean against it. Half a minute on one core: -1.1, second episode -0.9 (-15 untrained). `--quick`: seconds.
"""

import sys

import numpy as np
import torch
from gymnasium import spaces

import metarl
from metarl.envs.families import ContinuousFamily
from metarl.envs.tensor_world import TensorWorld
from metarl.spec import WorldSpec
from metarl.tasks import Tasks

SPEC = WorldSpec(  # what an agent sees, what it does, how many steps an episode has at most
    spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Box(-1.0, 1.0, (2,), np.float32), horizon=20, name="wind"
)


class Wind(TensorWorld):
    """Stay near the origin of a plane, in a wind that is never shown."""

    def __init__(self, num_envs, device="cpu"):
        super().__init__(SPEC, num_envs, device)

    def initial(self, streams, episode):  # a fresh episode in all envs at once
        return {"position": 0.1 * streams.normal(episode, 2)}

    def transition(self, state, actions, streams, clock):  # next state, reward, terminated, success
        position = state["position"] + 0.1 * (actions + self.params["wind"])
        return {"position": position}, -position.norm(dim=1), None, None

    def observation(self, state):
        return state["position"].clone()


class WindTasks(ContinuousFamily):
    """Winds of any direction; training, validation and test winds never meet."""

    def draw(self, n, generator):
        return Tasks.of("wind", wind=2 * torch.rand(n, 2, generator=generator) - 1)

    def make_world(self, num_envs, *, device="cpu"):
        return Wind(num_envs, device)

    def references(self, split, n_episodes):
        return {}  # return per episode of policies whose value is known


if __name__ == "__main__":
    tasks = WindTasks("wind", settings={"strongest": 1.0})
    agent = metarl.make_agent("rl2", tasks, seed=0, episodes_per_trial=2)
    metarl.train(agent, tasks, iterations=2 if "--quick" in sys.argv else 100, n_tasks=128, progress="off")
    print(metarl.evaluate(agent, tasks, adapt_episodes=1, n_tasks=100))
