"""The conformance suite passes a sound world; each broken one fails exactly the check that is meant for its flaw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from metarl.conformance import CHECKS, Finding, check_world
from metarl.errors import ConfigError, WorldError
from metarl.seeding import EnvStreams, derive, generator
from metarl.spec import WorldSpec
from metarl.tasks import Tasks, check_split
from metarl.world import World

HORIZON = 6


class Toy(World):
    """A point in the plane that is paid for being near a hidden goal; its start is random."""

    more: Mapping[str, Any] = {}

    def __init__(self, num_envs: int, device: torch.device | str = "cpu", **options: Any) -> None:
        box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        push = options.pop("action_space", spaces.Box(-1.0, 1.0, (2,), np.float32))
        super().__init__(WorldSpec(box, push, HORIZON, name="toy", **self.more, **options), num_envs, device)
        self.pending: Tasks | None = None
        self.seed, self.streams = 0, EnvStreams(num_envs, 0)
        self.age = torch.zeros(num_envs, dtype=torch.int64)
        self.episode = torch.zeros(num_envs, dtype=torch.int64)
        self.pos = torch.zeros(num_envs, 2)
        self.goal = torch.zeros(num_envs, 2)

    def set_tasks(self, tasks: Tasks) -> None:
        self.check_tasks(tasks)
        self.pending = tasks

    def take_tasks(self) -> None:
        if self.pending is not None:
            self.tasks, self.goal, self.pending = self.pending, self.pending.values["goal"], None

    def start(self) -> Tensor:
        return 0.1 * self.streams.normal(self.episode, 2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        self.take_tasks()
        if seed is not None:
            self.seed, self.streams = seed, EnvStreams(self.num_envs, seed)
            self.episode = torch.zeros_like(self.episode) - 1
        mask = (options or {}).get("mask", torch.ones(self.num_envs, dtype=torch.bool))
        self.begin(mask)
        return self.observe(), self.info()

    def begin(self, mask: Tensor) -> None:
        self.episode = self.episode + mask.long()
        self.age = self.age * ~mask
        self.pos = torch.where(mask[:, None], self.start(), self.pos)

    def observe(self) -> Tensor:
        return self.pos.clone()

    def info(self) -> dict[str, Any]:
        return {}

    def push(self, actions: Tensor) -> Tensor:
        bad = actions.isnan().any(dim=1)
        if bool(bad.any()):
            raise WorldError(f"env {int(bad.nonzero()[0])} got a NaN action")
        return 0.3 * actions.clamp(-1.0, 1.0)

    def reward(self) -> Tensor:
        return -(self.pos - self.goal).norm(dim=1)

    def terminated(self) -> Tensor:
        return torch.zeros(self.num_envs, dtype=torch.bool)

    def truncated(self) -> Tensor:
        return self.age >= self.horizon

    def step(self, actions: Tensor) -> Any:
        self.pos = self.pos + self.push(actions)
        self.age = self.age + 1
        reward, final_obs = self.reward(), self.observe()
        terminated = self.terminated()
        truncated = self.truncated() & ~terminated
        self.begin(terminated | truncated)
        return self.observe(), reward, terminated, truncated, {"final_obs": final_obs, **self.info()}

    def state_dict(self) -> dict[str, Any]:
        names = ("age", "episode", "pos", "goal")
        tasks = None if self.tasks is None else self.tasks.to_json()
        return {"seed": self.seed, "tasks": tasks, **{n: getattr(self, n).clone() for n in names}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        state = dict(state)
        self.seed, self.tasks = state.pop("seed"), Tasks.from_json(state.pop("tasks"))
        self.streams = EnvStreams(self.num_envs, self.seed)
        for name, value in state.items():
            setattr(self, name, value.clone())


class ToyFamily:
    """Goals in the plane; forty per split."""

    name, exhaustive = "toy", False
    world: type[World] = Toy

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "validation", "test")

    def all(self, split: str) -> Tasks:
        return Tasks.of("toy", goal=torch.rand(40, 2, generator=generator(7, "goals", split)))

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        check_split(self.name, split, self.splits)
        return self.all(split)[torch.randint(40, (n,), generator=generator)]

    def fingerprint(self) -> str:
        return self.all("train").fingerprint()

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> World:
        return self.world(num_envs, device)  # type: ignore[call-arg,arg-type]

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        g = generator(1, "references")
        pos = 0.1 * torch.randn(8000, 2, generator=g)
        goal = self.all(split).values["goal"].repeat(200, 1)
        total = torch.zeros(8000)
        for _ in range(HORIZON):
            pos = pos + 0.3 * (2.0 * torch.rand(8000, 2, generator=g) - 1.0)
            total -= (pos - goal).norm(dim=1)
        return {"random": [float(total.mean())] * n_episodes, "oracle": [0.0] * n_episodes}


def family_of(world: type[World] = Toy, **members: Any) -> ToyFamily:
    """Return a family that runs `world`, with `members` replaced."""
    return type("Family", (ToyFamily,), {"world": world, **members})()


def world_with(**members: Any) -> type[World]:
    """Return the toy world with `members` replaced."""
    return type("Broken", (Toy,), members)


def statuses(findings: list[Finding]) -> dict[str, str]:
    return {f.check: f.status for f in findings}


def test_a_sound_world_passes_every_check() -> None:
    findings = check_world(lambda: ToyFamily(), n_steps=20)
    assert [f.check for f in findings] == list(CHECKS)
    assert [f for f in findings if f.status != "pass"] == []


class MaskedToy(Toy):
    """Four directions, none of them out of the square, and an end at the goal: Discrete, masked, of varying length."""

    moves = torch.tensor([[0.3, 0.0], [-0.3, 0.0], [0.0, 0.3], [0.0, -0.3]])

    def __init__(self, num_envs: int, device: torch.device | str = "cpu") -> None:
        super().__init__(num_envs, device, action_space=spaces.Discrete(4), fixed_horizon=False, has_success=True)

    def push(self, actions: Tensor) -> Tensor:
        return self.moves[self.check_actions(actions)]

    def info(self) -> dict[str, Any]:
        after = self.pos[:, None] + self.moves
        return {"action_mask": (after.abs() <= 1.0).all(dim=2), "success": self.at_goal}

    def terminated(self) -> Tensor:
        self.at_goal = (self.pos - self.goal).norm(dim=1) < 0.3
        return self.at_goal

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        self.at_goal = torch.zeros(self.num_envs, dtype=torch.bool)
        obs, info = super().reset(seed=seed, options=options)
        return obs, {"action_mask": info["action_mask"]}


def test_masked_discrete_actions_and_early_ends_pass_too() -> None:
    findings = check_world(family_of(MaskedToy, references=no_references), n_steps=20)
    found = statuses(findings)
    assert found.pop("references") == "skip"
    assert set(found.values()) == {"pass"}, findings


def reset_with_global_numbers(self: Toy, *, seed: int | None = None, options: Any = None) -> Any:
    _, info = Toy.reset(self, seed=seed, options=options)
    if seed is not None:
        self.pos = self.pos + 1e-3 * torch.rand(self.num_envs, 2)
    return self.observe(), info


class NextStep(Toy):
    """Resets one step late, as Gymnasium's default does."""

    def __init__(self, num_envs: int, device: torch.device | str = "cpu") -> None:
        super().__init__(num_envs, device)
        self.over = torch.zeros(num_envs, dtype=torch.bool)

    def step(self, actions: Tensor) -> Any:
        late = self.over.clone()
        self.pos, self.age = self.pos + self.push(actions), self.age + 1
        self.begin(late)
        self.over = self.truncated()
        return self.observe(), self.reward(), self.terminated(), self.over, {"final_obs": self.observe()}

    def begin(self, mask: Tensor) -> None:
        super().begin(mask)
        self.over = self.over & ~mask

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "over": self.over.clone()}


class Alias(Toy):
    """Hands out one buffer as `obs`, step after step."""

    def step(self, actions: Tensor) -> Any:
        obs, *rest = Toy.step(self, actions)
        if not hasattr(self, "buffer"):
            self.buffer = torch.zeros(self.num_envs, 2)
        return self.buffer.copy_(obs), *rest


def late_final_obs(self: Toy, actions: Tensor) -> Any:
    obs, reward, terminated, truncated, _ = Toy.step(self, actions)
    return obs, reward, terminated, truncated, {"final_obs": obs.clone()}


def tasks_at_once(self: Toy, tasks: Tasks) -> None:
    Toy.set_tasks(self, tasks)
    if self.tasks is not None:
        self.take_tasks()


def half_a_state(self: Toy) -> dict[str, Any]:
    return {**Toy.state_dict(self), "age": torch.zeros_like(self.age)}


def sometimes_infinite(self: Toy) -> Tensor:
    reward = Toy.reward(self)
    if self.num_envs == 8:
        reward[7] /= (self.age[7] != 3).float()
    return reward


def goal_after_the_first_step(self: Toy) -> Tensor:
    return torch.where((self.age > 1)[:, None], self.goal, self.pos)


def noisier_in_company(self: Toy) -> Tensor:
    return Toy.start(self) * (1.0 + 0.01 * self.num_envs)


def stuck_random(self: ToyFamily, split: str, n: int, generator: torch.Generator) -> Tasks:
    check_split(self.name, split, self.splits)
    return self.all(split)[torch.arange(n) % 40]


def global_random(self: ToyFamily, split: str, n: int, generator: torch.Generator) -> Tasks:
    check_split(self.name, split, self.splits)
    return self.all(split)[torch.randint(40, (n,))]


def foreign_tasks(self: ToyFamily, split: str, n: int, generator: torch.Generator) -> Tasks:
    check_split(self.name, split, self.splits)
    return Tasks.of("toy", goal=torch.rand(n, 2, generator=generator))


def any_split(self: ToyFamily, split: str, n: int, generator: torch.Generator) -> Tasks:
    return self.all(split)[torch.randint(40, (n,), generator=generator)]


def counting_fingerprint(self: ToyFamily) -> str:
    type(self).calls = getattr(type(self), "calls", 0) + 1  # type: ignore[attr-defined]
    return f"build-{type(self).calls}"  # type: ignore[attr-defined]


def one_goal_table(self: ToyFamily, split: str) -> Tasks:
    return ToyFamily.all(self, "train")


def no_references(self: ToyFamily, split: str, n: int) -> dict[str, list[float]]:
    return {}


def wrong_oracle(self: ToyFamily, split: str, n: int) -> dict[str, list[float]]:
    return ToyFamily.references(self, split, n) | {"oracle": [-10.0] * n}


def wrong_random(self: ToyFamily, split: str, n: int) -> dict[str, list[float]]:
    return {"random": [-2.0] * n, "oracle": [0.0] * n}


BROKEN = {
    "api: reward in double precision": family_of(world_with(reward=lambda self: Toy.reward(self).double())),
    "api: no final_obs": family_of(world_with(step=lambda self, a: (*Toy.step(self, a)[:4], {}))),
    "api: a dense reward not announced": family_of(world_with(info=lambda self: {"dense_reward": self.reward()})),
    "api: a negative cost": family_of(world_with(more={"has_cost": True}, info=lambda self: {"cost": self.reward()})),
    "gymnasium: wrong autoreset mode": family_of(world_with(metadata={"autoreset_mode": AutoresetMode.NEXT_STEP})),
    "splits: test tasks are training tasks": family_of(all=one_goal_table),
    "splits: exhaustive is untrue": family_of(exhaustive=True),
    "splits: draws what all() does not list": family_of(sample=foreign_tasks),
    "splits: any name is a split": family_of(sample=any_split),
    "sampling: global generator": family_of(sample=global_random),
    "sampling: generator ignored": family_of(sample=stuck_random),
    "fingerprint: not stable": family_of(fingerprint=counting_fingerprint),
    "determinism: global generator": family_of(world_with(reset=reset_with_global_numbers)),
    "batch size: envs disturb each other": family_of(world_with(start=noisier_in_company)),
    "autoreset: final_obs is the next first one": family_of(world_with(step=late_final_obs)),
    "autoreset: resets a step late": family_of(NextStep),
    "autoreset: ends early": family_of(
        world_with(truncated=lambda self: self.age >= self.horizon - 1), references=no_references
    ),
    "autoreset: ends late": family_of(world_with(truncated=lambda self: self.age >= self.horizon + 1)),
    "masked reset: mask ignored": family_of(
        world_with(reset=lambda self, *, seed=None, options=None: Toy.reset(self, seed=seed))
    ),
    "aliasing: one buffer for all observations": family_of(Alias),
    "set tasks: at once": family_of(world_with(set_tasks=tasks_at_once)),
    "tasks: too few accepted": family_of(world_with(check_tasks=lambda self, tasks: None)),
    "hidden tasks: goal in the observation": family_of(world_with(observe=lambda self: self.goal.clone())),
    "hidden tasks: goal shows later": family_of(world_with(observe=goal_after_the_first_step)),
    "snapshot: age forgotten": family_of(world_with(state_dict=half_a_state)),
    "snapshot: not plain": family_of(world_with(state_dict=lambda self: {**Toy.state_dict(self), "x": object})),
    "finite: division by zero": family_of(world_with(reward=sometimes_infinite)),
    "action effect: second dimension unused": family_of(
        world_with(push=lambda self, a: Toy.push(self, a) * torch.tensor([1.0, 0.0]))
    ),
    "action bounds: not clipped": family_of(
        world_with(push=lambda self, a: Toy.push(self, a) + 0.3 * (a - a.clamp(-1.0, 1.0)))
    ),
    "action bounds: NaN taken": family_of(world_with(push=lambda self, a: 0.3 * a.nan_to_num().clamp(-1.0, 1.0))),
    "references: the oracle is beaten": family_of(references=wrong_oracle),
    "references: random is not random": family_of(references=wrong_random),
}


@pytest.mark.parametrize("flaw", BROKEN)
def test_a_flaw_fails_its_own_check_and_no_other(flaw: str) -> None:
    findings = check_world(BROKEN[flaw], n_steps=20)
    failed = [f.check for f in findings if f.status == "fail"]
    assert failed == [flaw.partition(":")[0]], findings
    message = next(f.message for f in findings if f.status == "fail")
    assert "raised" not in message
    assert "\n" not in message


def test_two_builds_with_different_fingerprints_are_found() -> None:
    builds = iter(range(9))

    def build() -> ToyFamily:
        n = next(builds)
        return family_of(fingerprint=lambda self: f"build {n}")

    assert statuses(check_world(build, only=["fingerprint"])) == {"fingerprint": "fail"}
    assert statuses(check_world(family_of(), only=["fingerprint"])) == {"fingerprint": "pass"}


def test_a_world_that_ignores_its_tasks_is_reported_as_unproven() -> None:
    numb = family_of(world_with(reward=lambda self: self.pos.sum(dim=1)), references=no_references)
    finding = next(f for f in check_world(numb, n_steps=20) if f.check == "task effect")
    assert finding.status == "skip"
    assert "no effect of the task" in finding.message


def test_a_world_without_snapshots_is_skipped_with_its_own_words() -> None:
    def refuse(self: Toy) -> dict[str, Any]:
        raise ConfigError("this simulator cannot be stored")

    findings = check_world(family_of(world_with(state_dict=refuse)), n_steps=20, only=["snapshot"])
    assert statuses(findings) == {"api": "pass", "snapshot": "skip"}
    assert "this simulator cannot be stored" in findings[-1].message


def test_a_reward_too_rare_to_be_seen_does_not_contradict_its_reference() -> None:
    def jackpot(self: Toy) -> Tensor:
        return 20.0 * ((self.pos - self.goal).norm(dim=1) < 0.01).float()

    def rare(self: ToyFamily, split: str, n: int) -> dict[str, list[float]]:
        return {"random": [0.02] * n, "oracle": [20.0] * n}

    finding = check_world(family_of(world_with(reward=jackpot), references=rare), only=["references"])[-1]
    assert finding.status == "pass", finding


def test_declared_visible_parameters_may_show() -> None:
    def observe(self: Toy) -> Tensor:
        return self.goal.clone()

    findings = check_world(family_of(world_with(observe=observe), visible_parameters=("goal",)), only=["hidden tasks"])
    assert statuses(findings)["hidden tasks"] == "skip"


def test_a_scaled_hidden_parameter_shows_among_visible_ones() -> None:
    def all_(self: ToyFamily, split: str) -> Tasks:
        values = torch.rand(40, 2, generator=generator(7, "goals", split))
        secret = torch.rand(40, generator=generator(8, "secret", split))
        return Tasks.of("toy", goal=values, secret=secret)

    def observe(self: Toy) -> Tensor:
        secret = (self.tasks.values["secret"] if self.tasks is not None else torch.zeros(self.num_envs)) * 5.0 - 1.0
        return torch.stack([self.goal[:, 0], secret], dim=1)

    family = family_of(world_with(observe=observe), all=all_, visible_parameters=("goal",))
    finding = check_world(family, only=["hidden tasks"])[-1]
    assert (finding.status, "secret[0]" in finding.message) == ("fail", True), finding


def test_an_exception_in_a_world_becomes_a_finding_with_its_place() -> None:
    def step(self: Toy, actions: Tensor) -> Any:
        raise RuntimeError("wheels came off")

    findings = check_world(family_of(world_with(step=step)), n_steps=20)
    api = next(f for f in findings if f.check == "api")
    assert api.status == "fail"
    assert api.message.startswith("step() raised RuntimeError at ")
    assert "wheels came off" in api.message
    assert "test_conformance.py" in api.message
    assert {f.status for f in findings if f.check in ("determinism", "snapshot", "speed")} == {"skip"}


def test_the_speed_line_counts_steps_per_cpu_second() -> None:
    finding = check_world(ToyFamily(), only=["speed"])[-1]
    number = float(finding.message.split()[0].replace(",", ""))
    assert number > 100.0
    assert "env steps per CPU second" in finding.message


def test_global_generators_are_left_as_they_were() -> None:
    torch.manual_seed(derive(3, "outer"))
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    check_world(family_of(world_with(start=lambda self: torch.rand(self.num_envs, 2))), n_steps=20)
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002
