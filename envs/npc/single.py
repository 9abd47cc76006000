"""The NPC worlds as plain Gymnasium environments, one visitor at a time: `gymnasium.make("MetaverseNPC/Companion-v0")`.

Importing this module registers the ids; `gymnasium.make("metarl.envs.npc.single:MetaverseNPC/Companion-v0")` does both.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from metarl import envs
from metarl.errors import ConfigError, WorldError, nearest
from metarl.tasks import Tasks, check_split

from .family import NpcFamily

IDS = {
    "MetaverseNPC/Guide-v0": "npc/guide",
    "MetaverseNPC/GuideMacro-v0": "npc/guide-macro",
    "MetaverseNPC/Guide-Tiny-v0": "npc/guide-tiny",
    "MetaverseNPC/Assistant-v0": "npc/assistant",
    "MetaverseNPC/Assistant-Tiny-v0": "npc/assistant-tiny",
    "MetaverseNPC/Companion-v0": "npc/companion",
    "MetaverseNPC/Companion-Tiny-v0": "npc/companion-tiny",
    "MetaverseNPC/Assets-v0": "npc/assets",
    "MetaverseNPC/Assets-Tiny-v0": "npc/assets-tiny",
}
"""Gymnasium id -> name of the task distribution."""


class NpcEnv(gym.Env[Any, Any]):
    """One env of an NPC world; what Gymnasium calls an episode is a whole trial with one visitor.

    `terminated` comes with the last step of the last episode. `info["inner_done"]` marks the last step of each
    episode, `info["episode_index"]` is the number of the present one, `info["cost"]` is what a step cost in safety;
    `info["action_mask"]` is there where some actions are illegal. The reward is returned as usual: it is for learning,
    and an NPC that acts on it knows more than a real one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 (the base class declares it so)

    def __init__(self, world: str, split: str = "train", render_mode: str | None = None, **options: Any) -> None:
        """Build the world `world` (a name that `envs.make` knows) with its `options`; visitors come from `split`.

        Raises: ConfigError for an unknown name, split, option or render mode.
        """
        family = envs.make(world, **options)
        if not isinstance(family, NpcFamily):
            raise ConfigError(f"{world!r} is no NPC world; {nearest(world, set(IDS.values()))}")
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode {render_mode!r} does not exist here; choose 'rgb_array' or None")
        check_split(family.name, split, family.splits)
        self.family, self.split, self.render_mode = family, split, render_mode
        self.world = family.make_world(1)
        self.observation_space = self.world.single_observation_space
        self.action_space = self.world.single_action_space
        self._episode: int | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a trial with a visitor drawn from the split, or with number `options["task"]` of its fixed list.

        Raises: ConfigError for a task that the split does not have.
        """
        super().reset(seed=seed)
        draw = int(self.np_random.integers(2**63 - 1))
        self.world.set_tasks(self._visitor((options or {}).get("task"), draw))
        obs, info = self.world.reset(seed=draw)
        self._episode = 0
        return _row(obs), self._info(info, inner_done=False)

    def _visitor(self, number: Any, draw: int) -> Tasks:
        if number is None:
            return self.family.sample(self.split, 1, torch.Generator().manual_seed(draw))
        listed = self.family.fixed_tasks(self.split)
        if not isinstance(number, int) or not 0 <= number < len(listed):
            raise ConfigError(
                f"{self.family.name!r} has tasks 0 to {len(listed) - 1} in {self.split!r}, got {number!r}"
            )
        return listed[number]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act once.

        Raises: WorldError before the first reset, after the trial's end, or for an action outside the space.
        """
        if self._episode is None:
            raise WorldError(f"{self.family.name!r}: no trial is going on; call reset first")
        obs, reward, terminated, truncated, info = self.world.step(np.asarray(action)[None])
        inner_done = bool(terminated[0] | truncated[0])
        episode = self._episode + inner_done
        over = episode >= self.family.n_episodes
        self._episode = None if over else episode
        shown = info["final_obs"] if over else obs
        return _row(shown), float(reward[0]), over, False, self._info(info, inner_done=inner_done, episode=episode)

    def _info(self, info: dict[str, Any], *, inner_done: bool, episode: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = {"inner_done": inner_done, "episode_index": episode, "cost": 0.0}
        if "cost" in info:
            found["cost"] = float(info["cost"][0])
        if "action_mask" in info:
            found["action_mask"] = info["action_mask"][0].numpy().astype(np.int8)
        assert self.world.tasks is not None
        return found | {"task": self.world.tasks.names[0]}

    def render(self) -> Any:
        """Return a picture (uint8 [H, W, 3]) of what is going on, or None without a render mode."""
        return self.world.render() if self.render_mode else None

    def close(self) -> None:
        """Close the world."""
        self.world.close()


def _row(obs: Tensor | dict[str, Tensor]) -> Any:
    """Return the only row as NumPy arrays."""
    return {k: v[0].numpy() for k, v in obs.items()} if isinstance(obs, dict) else obs[0].numpy()


for _id, _world in IDS.items():
    if _id not in gym.registry:
        gym.register(_id, entry_point="metarl.envs.npc.single:NpcEnv", kwargs={"world": _world})
