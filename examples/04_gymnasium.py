"""Somebody's Gymnasium environment as a task distribution: poles on carts whose motor may be wired the wrong way round.

One learns to wrap what exists: a function that builds the environment, one that puts a task into it, and the splits.
Half a minute on one core: 87 of 100 steps, second episode 97 (23 untrained). `--quick`: seconds.
"""

import sys

import gymnasium as gym
import torch

import metarl
from metarl.envs.families import ContinuousFamily
from metarl.envs.gym.world import GymWorld
from metarl.tasks import Tasks


def build(task):
    return gym.make("CartPole-v1").unwrapped  # without its time limit: the world has one of its own


def put(env, task):  # newtons to the right for action 1; the observation does not tell
    env.force_mag = float(task.values["force"][0])


class Poles(ContinuousFamily):
    """Motors of 5 to 15 N, half of them the wrong way round: which push is right one finds out by pushing."""

    def draw(self, n, generator):
        side = torch.randint(2, (n,), generator=generator) * 2 - 1
        return Tasks.of("pole", force=side * (5 + 10 * torch.rand(n, generator=generator)))

    def make_world(self, num_envs, *, device="cpu"):
        return GymWorld(build, put, num_envs, horizon=100, example=self.all("test")[:1], name="poles", device=device)

    def references(self, split, n_episodes):
        return {}


if __name__ == "__main__":
    quick = "--quick" in sys.argv
    tasks = Poles("poles", settings={"newtons": [5, 15], "horizon": 100}, n_test=8 if quick else 100)
    agent = metarl.make_agent("rl2", tasks, seed=0, episodes_per_trial=2)
    run = metarl.train(
        agent, tasks, iterations=1 if quick else 60, n_tasks=4 if quick else 32, validate_every_iters=0, progress="off"
    )
    print("steps balanced in the first training trials", run.series("train/pre_return")[:5].mean().round(1))
    print("after training, held-out poles:", metarl.evaluate(agent, tasks, adapt_episodes=1, n_seeds=1))
