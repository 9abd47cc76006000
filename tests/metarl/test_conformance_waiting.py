"""The checks of worlds whose envs wait for each other, and of those that say what is hidden."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metarl.conformance import check_world
from metarl.world import World
from tests.metarl.test_conformance import MaskedToy, family_of, no_references


class PatientToy(MaskedToy):
    """Shows at the beginning of an episode where the last one ended, and lets envs wait."""

    more = {"persists_across_episodes": True, "n_privileged": 2}  # noqa: RUF012

    def __init__(self, num_envs: int, device: torch.device | str = "cpu") -> None:
        super().__init__(num_envs, device)
        self.idle = torch.zeros(num_envs, dtype=torch.bool)

    def privileged_info(self) -> Tensor:
        return self.goal.clone()

    def freeze(self, idle: Tensor | None) -> None:
        self.idle = torch.zeros(self.num_envs, dtype=torch.bool) if idle is None else idle

    def step(self, actions: Tensor) -> Any:
        before = self.state_dict()
        obs, reward, terminated, truncated, info = super().step(actions)
        if bool(self.idle.any()):
            stay, after = self.idle, self.state_dict()
            mixed = {
                k: torch.where(stay.reshape(-1, *[1] * (v.dim() - 1)), before[k], v) if torch.is_tensor(v) else v
                for k, v in after.items()
            }
            self.load_state_dict(mixed)
            obs, reward = self.observe(), torch.where(stay, 0.0, reward)
            info = info | {"final_obs": torch.where(stay[:, None], obs, info["final_obs"])}
            info["action_mask"] = self.info()["action_mask"]
            terminated, truncated = terminated & ~stay, truncated & ~stay
        return obs, reward, terminated, truncated, info


def test_a_world_whose_copies_can_wait_passes_and_is_found_out_if_they_cannot() -> None:
    def finding(world: type[World], check: str) -> str:
        found = check_world(family_of(world, references=no_references), n_steps=20, only=[check])[-1]
        return f"{found.status}: {found.message}"

    assert finding(PatientToy, "waiting").startswith("pass: ")
    assert "2 numbers" in finding(PatientToy, "hidden numbers")
    deaf = type("Deaf", (PatientToy,), {"freeze": lambda self, idle: None})
    assert "did not stand still" in finding(deaf, "waiting")
    mute = type("Mute", (MaskedToy,), {"more": {"persists_across_episodes": True}})
    assert "write freeze(idle)" in finding(mute, "api")

    def all_wait(self: PatientToy, idle: Tensor | None) -> None:
        PatientToy.freeze(self, None if idle is None else torch.ones_like(idle))

    assert "moved others" in finding(type("Contagious", (PatientToy,), {"freeze": all_wait}), "waiting")
    wide = type("Wide", (PatientToy,), {"more": {"persists_across_episodes": True, "n_privileged": 3}})
    assert "privileged_info() is torch.float32 (4, 2), expected torch.float32 (4, 3)" in finding(wide, "api")

    def looking_moves(self: PatientToy) -> Tensor:
        self.pos = self.pos + 0.01
        return self.goal.clone()

    assert "only reads" in finding(type("Touchy", (PatientToy,), {"privileged_info": looking_moves}), "hidden numbers")
