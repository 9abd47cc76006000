"""One spec says what a world is; it is asked for without building one, and worlds written before it still work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from metarl import envs, seeding
from metarl.agents.baselines.random_policy import RandomConfig
from metarl.conformance import check_world
from metarl.envs.classic.gridworld import GridWorld, GridWorldTasks
from metarl.envs.film import Filmed
from metarl.envs.tensor_world import TensorWorld
from metarl.errors import ConfigError
from metarl.spec import WorldSpec
from metarl.task_distribution import about, built_spec, spec_of
from metarl.tasks import Tasks
from metarl.world import World
from tests.agents.toy_world import toy_trial
from tests.metarl.line_world import Line

PLANE, PUSH = spaces.Box(-9.0, 9.0, (2,), np.float32), spaces.Box(-1.0, 1.0, (2,), np.float32)
KNOWN = [
    ("bandit", {"n_arms": 3}), ("gridworld", {}), ("tabular-mdp", {"n_states": 4}), ("navigation", {}),
    ("point-robot", {}), ("sparse-point-robot", {}), ("corner-point", {}),
    ("revealed", {"world": "gridworld", "what": "task"}),
    ("revealed", {"world": "bandit", "what": "belief", "trial_episodes": 3}),
    ("npc/guide", {}), ("npc/guide-macro", {"reward_in_obs": True}), ("npc/guide-tiny", {}), ("npc/companion", {}),
    ("npc/assistant", {"critique": True, "limits": True}), ("npc/assistant-tiny", {}), ("npc/assets", {"n_assets": 3}),
    ("npc/assets-held", {}), ("npc/assets-regime", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), KNOWN, ids=lambda v: v if isinstance(v, str) else "")
def test_a_family_says_what_its_worlds_are_and_builds_none_to_do_so(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    family = envs.make(name, **options)
    world = family.make_world(2)
    monkeypatch.setattr(World, "__init__", lambda *_: pytest.fail("a world was built"))
    assert spec_of(family) == world.spec
    assert (world.name, world.horizon, world.n_privileged) == (
        world.spec.name,
        world.spec.horizon,
        world.spec.n_privileged,
    )


@pytest.mark.metaworld
@pytest.mark.parametrize("backend", ["engine", "upstream"])
def test_meta_world_is_the_same_world_whoever_steps_it(backend: str) -> None:
    family = envs.make("metaworld/ML1", backend=backend, horizon=20, n_workers=0)
    world = family.make_world(1)
    assert spec_of(family) == world.spec
    assert (world.spec.horizon, world.spec.has_success) == (20, True)
    world.close()


def test_a_distribution_without_a_spec_is_asked_through_a_world_that_is_closed_again() -> None:
    tasks, closed = Line(), []
    make = tasks.make_world
    tasks.make_world = lambda n, **k: (world := make(n, **k), setattr(world, "close", lambda: closed.append(n)))[0]
    assert not hasattr(tasks, "spec")
    assert spec_of(tasks).name == "line"
    assert (len(tasks.worlds), closed) == (1, [1])


def test_what_a_distribution_leaves_out_has_a_default() -> None:
    said = about(Line())
    assert (said.settings, said.notes, said.upstream_counting, said.visible_parameters) == ({}, (), False, ())
    assert about(envs.make("bandit", n_arms=3)).settings["n_arms"] == 3


class Odd(GridWorldTasks):
    """Builds other worlds than the family that it inherits its spec from."""

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> Any:
        return envs.make("bandit").make_world(num_envs)


def test_doctor_finds_a_spec_that_is_not_its_worlds() -> None:
    found = check_world(lambda: Odd(5), only=["api"])[-1]
    assert found.status == "fail"
    assert "the distribution's spec says observation_space=" in found.message
    honest = type("Honest", (GridWorldTasks,), {})
    assert check_world(lambda: honest(5), only=["api"])[-1].status == "pass"


def wind() -> type[TensorWorld]:
    class Wind(TensorWorld):
        """Written before there was a spec."""

        has_cost = carries = True

        def __init__(self, n_copies: int) -> None:
            super().__init__("wind", n_copies, PLANE, PUSH, horizon=20, fixed_horizon=False, device="cpu")
            self.n_hidden = 2

        def hidden(self) -> Tensor:
            return self.params["wind"]

        def begin(self, streams: Any, episode: Tensor) -> dict[str, Tensor]:
            return {"position": torch.zeros(self.num_envs, 2)}

        def advance(self, state: Any, actions: Tensor, streams: Any, clock: Tensor) -> Any:
            position = state["position"] + actions
            return {"position": position}, -position.norm(dim=1), None, None

        def observe(self, state: dict[str, Tensor]) -> Tensor:
            return state["position"].clone()

        def extras(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"cost": state["position"].norm(dim=1)}

    return Wind


def test_a_world_written_before_there_was_a_spec_works_for_one_release_and_is_told() -> None:
    with pytest.warns(DeprecationWarning, match="the old way goes") as told:
        world = wind()(3)
    texts = "\n".join(str(w.message) for w in told)
    for part in (
        "pass (spec, num_envs, device)",
        "has_cost=True",
        "n_hidden is now n_privileged",
        "persists_across_episodes=True",
        "begin is now initial",
        "observe is now",
    ):
        assert part in texts
    assert [w.filename for w in told if "(spec, num_envs" in str(w.message)] == [__file__]
    assert world.spec == WorldSpec(
        PLANE, PUSH, 20, name="wind", fixed_horizon=False, has_cost=True, n_privileged=2, persists_across_episodes=True
    )  # fmt: skip
    assert (world.num_envs, world.has_cost, world.n_privileged, world.horizon) == (3, True, 2, 20)
    world.set_tasks(Tasks.of("wind", wind=torch.zeros(3, 2)))
    world.reset(seed=0)
    assert world.step(torch.full((3, 2), 0.5))[0].tolist() == [[0.5, 0.5]] * 3
    assert world.privileged_info().tolist() == [[0.0, 0.0]] * 3
    with pytest.warns(DeprecationWarning, match="Wind.hold is now freeze|TensorWorld.hold is now freeze"):
        world.hold(None)  # type: ignore[attr-defined]
    with pytest.warns(DeprecationWarning, match="shows_reward=...\\) is now reward_observable"):
        spec = WorldSpec(PLANE, PUSH, 20, shows_reward=False)  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="WorldSpec.shows_reward is now reward_observable"):
        assert spec.shows_reward is spec.reward_observable is False


def test_old_and_new_names_of_methods_go_together_in_a_class_and_its_base() -> None:
    with pytest.warns(DeprecationWarning, match="is now") as told:  # noqa: PT031

        class Shy(GridWorld):
            def begin(self, streams: Any, episode: Tensor) -> dict[str, Tensor]:
                return super().begin(streams, episode) | {"age": torch.zeros(self.num_envs)}  # type: ignore[misc]

            def transition(self, state: Any, *given: Any) -> Any:
                reached, *rest = super().transition(state, *given)
                return reached | {"age": state["age"] + 1}, *rest

            def observe(self, state: Any) -> Tensor:
                return torch.where(state["age"][:, None] > 0, super().observe(state), -1.0)  # type: ignore[misc]

        world = Shy(2)
        world.set_tasks(envs.make("gridworld").all("train")[:2])  # type: ignore[index]
        seen = [world.reset(seed=0)[0], world.step(torch.tensor([2, 1]))[0]]
    assert [o.tolist() for o in seen] == [[[-1.0, -1.0]] * 2, [[1.0, 0.0], [0.0, 1.0]]]
    texts = {str(w.message).partition(" (")[0] for w in told}
    assert {
        "Shy.begin is now initial; rename it",
        "Shy.begin is now initial",
        "Shy.observe is now observation",
    } <= texts


def test_the_old_names_of_sizes_work_for_one_release() -> None:
    world = envs.make("gridworld").make_world(6)
    with pytest.warns(DeprecationWarning, match=r"World\.n_copies is now num_envs"):
        assert world.n_copies == 6
    with pytest.warns(DeprecationWarning, match=r"check_world\(n_copies=\.\.\.\) is now num_envs="):
        assert check_world(envs.make("gridworld"), n_copies=5, only=["api"])[-1].status == "pass"
    with pytest.warns(DeprecationWarning, match=r"metarl\.seeding\.CopyStreams is now metarl\.seeding\.EnvStreams"):
        assert seeding.CopyStreams is seeding.EnvStreams
    rollout = toy_trial(RandomConfig(), n=4)[1].query
    with pytest.warns(DeprecationWarning, match=r"Rollout\.n_copies is now envs_per_task"):
        assert rollout.n_copies == rollout.envs_per_task == 1
    with (
        pytest.warns(DeprecationWarning, match=r"copy=\.\.\.\) is now env="),
        pytest.raises(ConfigError, match=r"env in 0\.\.5"),
    ):
        Filmed(world, "a.gif", copy=6)  # type: ignore[call-arg]


def test_the_spec_of_a_world_is_its_own_attribute_and_the_old_way_to_it_warns() -> None:
    world = envs.make("gridworld").make_world(1)
    with pytest.warns(DeprecationWarning, match=r"WorldSpec\.of\(world\) is now world\.spec"):
        assert WorldSpec.of(world) is world.spec
    assert built_spec(envs.make("gridworld")) == world.spec
