"""A third party's package, written and "installed" into a folder: one world that works, one that cannot be imported."""

from __future__ import annotations

from pathlib import Path

SOURCE = '''
"""A corridor whose reward is at one of its two ends."""
import numpy as np
import torch
from gymnasium import spaces

from metarl.seeding import EnvStreams, generator
from metarl.spec import WorldSpec
from metarl.tasks import check_split
from metarl.tasks import Tasks
from metarl.world import World


class Corridor(World):
    """Go left or right for five steps; the hidden side pays."""

    def __init__(self, num_envs, device, leaky):
        spec = WorldSpec(spaces.Box(-9, 9, (2,), np.float32), spaces.Discrete(2), horizon=5, name="corridor")
        super().__init__(spec, num_envs)
        self.leaky, self.pending = leaky, None
        self.place = torch.zeros(num_envs)
        self.age = torch.zeros(num_envs)
        self.side = torch.zeros(num_envs)

    def set_tasks(self, tasks):
        self.check_tasks(tasks)
        self.pending = tasks

    def observe(self):
        return torch.stack([self.place, self.side if self.leaky else self.age], dim=1)

    def reset(self, *, seed=None, options=None):
        if self.pending is not None:
            self.tasks, self.side, self.pending = self.pending, self.pending.values["side"], None
        mask = (options or {}).get("mask", torch.ones(self.num_envs, dtype=torch.bool))
        self.place, self.age = self.place * ~mask, self.age * ~mask
        return self.observe(), {}

    def step(self, actions):
        self.place, self.age = self.place + 2.0 * self.check_actions(actions) - 1.0, self.age + 1
        final_obs, reward, over = self.observe(), self.place * self.side, self.age >= 5
        self.place, self.age = self.place * ~over, self.age * ~over
        return self.observe(), reward, torch.zeros_like(over), over, {"final_obs": final_obs}

    def state_dict(self):
        tasks = None if self.tasks is None else self.tasks.to_json()
        return {"place": self.place, "age": self.age, "side": self.side, "tasks": tasks}

    def load_state_dict(self, state):
        self.place, self.age, self.side = state["place"], state["age"], state["side"]
        self.tasks = None if state["tasks"] is None else Tasks.from_json(state["tasks"])


class Corridors:
    name, exhaustive, notes = "corridor", False, ("the two sides differ in strength",)
    splits = ("train", "validation", "test")

    def __init__(self, leaky=False):
        self.leaky = leaky

    def all(self, split):
        check_split(self.name, split, self.splits)
        strength = 1.0 + torch.rand(10, generator=generator(5, split))
        sign = torch.arange(10) % 2 * 2.0 - 1.0
        return Tasks.of("corridor", side=sign * strength)

    def sample(self, split, n, generator):
        return self.all(split)[torch.randint(10, (n,), generator=generator)]

    def fingerprint(self):
        return self.all("train").fingerprint()

    def make_world(self, num_envs, *, device="cpu"):
        return Corridor(num_envs, device, self.leaky)

    def references(self, split, n_episodes):
        best = 15.0 * float(self.all(split).values["side"].abs().mean())
        return {"random": [0.0] * n_episodes, "oracle": [best] * n_episodes}


def make(leaky: bool = False):
    return Corridors(leaky)


ready = Corridors()
'''


def install(folder: Path) -> Path:
    """Write package and metadata to `folder`, as pip would into site-packages, and return it."""
    package, metadata = folder / "corridor_pkg", folder / "corridor_pkg-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").write_text(SOURCE, encoding="utf-8")
    (package / "half_done.py").write_text("import a_package_that_nobody_has\n", encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: corridor-pkg\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(
        "[metarl.worlds]\ncorridor = corridor_pkg:make\nhalf-done = corridor_pkg.half_done:make\n"
        "gridworld = corridor_pkg:make\n",
        encoding="utf-8",
    )
    return folder
