from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from metarl import envs
from metarl.checkpoint import join_state, split_state, state_fingerprint
from metarl.errors import ConfigError, NumericalError, WorldError
from metarl.log import WALL_CLOCK_KEYS
from metarl.loop import LoopSettings, NullRecorder, Plan, Worlds, meta_train
from metarl.seeding import generator
from metarl.tasks import Tasks
from tests.metarl.tiny import Tiny, TinyConfig

SETTINGS = LoopSettings(
    n_iterations=6, n_tasks=5, validate_every_iters=3, n_validation_tasks=4, validation_adapt_episodes=2,
    validation_eval_episodes=2, checkpoint_every_iters=2,
)  # fmt: skip


class Kept:
    """A recorder in memory; asks to stop after `stop_after` iterations."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.records: list[dict[str, Any]] = []
        self.states: dict[int, Any] = {}
        self.stop_after = stop_after

    @property
    def stop_requested(self) -> bool:
        return self.stop_after is not None and len(self.records) >= self.stop_after

    def log(self, record: dict[str, Any]) -> None:
        self.records.append(record)

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        self.states[iteration] = split_state(state)  # a copy: the agent goes on changing its tensors

    def state(self, iteration: int) -> Any:
        return join_state(*self.states[iteration])


def tiny(tasks: Any, **changes: Any) -> Tiny:
    return TinyConfig(**changes).build(tasks.spec, seed=0)


def numbers(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k not in WALL_CLOCK_KEYS} for r in records]


def train(recorder: Kept | None = None, settings: LoopSettings = SETTINGS, **options: Any) -> tuple[Kept, Tiny]:
    recorder, tasks = recorder or Kept(), envs.make("gridworld", held_out=4)
    agent = tiny(tasks)
    meta_train(agent, tasks, settings, recorder, seed=options.pop("seed", 0), **options)
    return recorder, agent


def test_records_have_the_documented_keys_and_counts():
    recorder, _ = train()
    first, third = recorder.records[0], recorder.records[2]
    plain = {
        "iteration", "env_steps", "wall_s", "steps_per_s", "time/collect_s", "time/update_s", "train/pre_return",
        "train/post_return", "update/loss",
    }  # fmt: skip
    assert first.keys() == plain
    assert third.keys() == plain | {"validation/pre_return", "validation/post_return"}
    assert [r["iteration"] for r in recorder.records] == [1, 2, 3, 4, 5, 6]
    per_iteration = 5 * (2 + 2) * 15  # tasks, episodes with those of adaptation, steps; validation does not count
    assert [r["env_steps"] for r in recorder.records] == [per_iteration * i for i in range(1, 7)]


def test_it_saves_at_intervals_after_validation_and_at_the_end():
    assert list(train()[0].states) == [2, 3, 4, 6]
    settings = dataclasses.replace(SETTINGS, n_iterations=5, validate_every_iters=0, checkpoint_every_iters=50)
    recorder, _ = train(settings=settings)
    assert list(recorder.states) == [5]
    assert not [k for r in recorder.records for k in r if k.startswith("validation/")]


@pytest.mark.parametrize("at", [1, 2, 4])
def test_stopping_and_going_on_equals_never_stopping_bit_for_bit(at):
    whole, agent = train()
    part, _ = train(Kept(stop_after=at))
    assert list(part.states)[-1] == at == len(part.records)
    state = part.state(at)
    rest, tasks = Kept(), envs.make("gridworld", held_out=4)
    other = tiny(tasks)
    other.load_state_dict(state["agent"])
    outcome = meta_train(
        other, tasks, SETTINGS, rest, seed=0, start_iteration=state["iteration"], env_steps=state["env_steps"]
    )
    assert outcome == {"iteration": 6, "env_steps": whole.records[-1]["env_steps"], "finished": True}
    assert state_fingerprint(other.state_dict()) == state_fingerprint(agent.state_dict())
    assert numbers(part.records + rest.records) == numbers(whole.records)


def test_the_seed_matters():
    assert numbers(train(seed=0)[0].records) != numbers(train(seed=1)[0].records)


def test_global_random_state_does_not_matter():
    first = numbers(train()[0].records)
    torch.manual_seed(99)
    torch.rand(5)
    assert numbers(train()[0].records) == first


def test_validation_changes_nothing_in_training():
    """Validation uses streams of its own: with and without it the agent ends up equal, bit for bit."""
    _, often = train(settings=dataclasses.replace(SETTINGS, validate_every_iters=1))
    _, never = train(settings=dataclasses.replace(SETTINGS, validate_every_iters=0))
    assert state_fingerprint(often.state_dict()) == state_fingerprint(never.state_dict())


def test_training_never_asks_for_test_tasks():
    tasks = envs.make("gridworld", held_out=4)
    asked: list[str] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(tasks, name)

        def sample(self, split: str, n: int, noise: torch.Generator) -> Tasks:
            asked.append(split)
            return tasks.sample(split, n, noise)

    meta_train(tiny(tasks), Watched(), SETTINGS, NullRecorder(), seed=0)  # type: ignore[arg-type]
    assert asked.count("train") == 6
    assert asked.count("validation") == 2
    assert set(asked) == {"train", "validation"}


def test_a_nan_in_the_parameters_stops_before_it_is_logged_or_saved():
    recorder, tasks = Kept(), envs.make("gridworld", held_out=4)
    with pytest.raises(NumericalError, match=r"iteration 4: tensor 'weights/1' of the agent is not finite"):
        meta_train(tiny(tasks, nan_at_update=4), tasks, SETTINGS, recorder, seed=0)
    assert [r["iteration"] for r in recorder.records] == [1, 2, 3]
    assert list(recorder.states) == [2, 3]


def test_a_nan_in_a_metric_stops_and_is_named():
    tasks = envs.make("gridworld", held_out=4)

    class Bad(Tiny):
        def update(self, trial: Any, *, generator: torch.Generator) -> dict[str, float]:
            return super().update(trial, generator=generator) | {"kl": float("nan")}

    agent = Bad(TinyConfig(), tasks.spec, 0, "cpu")
    with pytest.raises(NumericalError, match="iteration 1: update metric kl=nan is not finite"):
        meta_train(agent, tasks, SETTINGS, NullRecorder(), seed=0)


def test_a_nan_in_the_policy_names_task_phase_and_step():
    tasks = envs.make("gridworld", held_out=4)

    class Bad(Tiny):
        def act(self, state: Any, step: Any, **options: Any) -> Any:
            state, decision = super().act(state, step, **options)
            log_prob = decision.log_prob.clone()
            log_prob[3] = float("nan")  # 5 tasks of 2 envs: env 3 belongs to the second task
            return state, decision._replace(log_prob=log_prob)

    agent = Bad(TinyConfig(), tasks.spec, 0, "cpu")
    batch = tasks.sample("train", 5, generator(0, "tasks", 0))
    with pytest.raises(NumericalError) as caught:
        meta_train(agent, tasks, SETTINGS, NullRecorder(), seed=0)
    assert f"iteration 1: log_prob is nan for task {batch.names[1]!r}, phase 0, step 0" in str(caught.value)


def test_a_failing_world_is_told_with_the_iteration_and_closed():
    tasks = envs.make("gridworld", held_out=4)
    agent = tiny(tasks)
    worlds = Worlds.build(agent, tasks, SETTINGS)
    steps = 0
    real = worlds.train.step

    def fail(actions: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 40:  # an iteration is 30 steps of every env: two phases of one episode each
            raise WorldError("env 3 fell over")
        return real(actions)

    worlds.train.step = fail  # type: ignore[method-assign]
    with pytest.raises(WorldError, match="iteration 2: env 3 fell over"):
        meta_train(agent, tasks, SETTINGS, NullRecorder(), seed=0, worlds=worlds)
    assert worlds.train.closed


class Memory:
    """The part of an agent with memory that planning looks at."""

    name, parallel_episodes, train_phases = "memory", False, (4,)

    def phases(self, n: int) -> tuple[int, ...]:
        return (n,)


def test_copies_follow_from_the_agent_and_impossible_ones_are_refused():
    tasks = envs.make("gridworld")
    agent = tiny(tasks, episodes=6)
    assert Plan.of(agent, SETTINGS).train_envs == 6
    assert Plan.of(agent, SETTINGS).validation_envs == 2
    assert Plan.of(agent, dataclasses.replace(SETTINGS, envs_per_task=3)).train_envs == 3
    with pytest.raises(ConfigError, match=r"envs_per_task=4 does not divide the phases \(6, 6\)"):
        Plan.of(agent, dataclasses.replace(SETTINGS, envs_per_task=4))
    assert Plan.of(Memory(), SETTINGS).train_envs == 1  # type: ignore[arg-type]
    assert Plan.of(Memory(), SETTINGS).validation_phases == (2, 2)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"carries memory.*leave it at None"):
        Plan.of(Memory(), dataclasses.replace(SETTINGS, envs_per_task=2))  # type: ignore[arg-type]


def test_no_adaptation_before_validation_is_one_phase():
    settings = dataclasses.replace(SETTINGS, validation_adapt_episodes=0)
    assert Plan.of(tiny(envs.make("gridworld")), settings).validation_phases == (2,)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_iterations", 0), ("n_tasks", 0), ("envs_per_task", 0), ("validate_every_iters", -1),
     ("checkpoint_every_iters", 0), ("validation_adapt_episodes", -1), ("validation_eval_episodes", 0)],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"train.{name} must be >= .*, got {value}"):
        LoopSettings(**{name: value})


def test_a_run_is_planned_once_however_many_iterations_it_has(monkeypatch):
    plans, plan = [], Plan.of
    monkeypatch.setattr(Plan, "of", lambda *args: plans.append(args) or plan(*args))
    train(settings=dataclasses.replace(SETTINGS, n_iterations=1))
    once = len(plans)
    train(settings=dataclasses.replace(SETTINGS, n_iterations=6))
    assert len(plans) == 2 * once


def test_settings_by_their_old_names_work_on_with_a_warning():
    with pytest.warns(DeprecationWarning, match=r"LoopSettings\(copies_per_task=\.\.\.\) is now envs_per_task="):
        settings = LoopSettings(copies_per_task=3)  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match=r"LoopSettings\.copies_per_task is now envs_per_task"):
        assert settings.copies_per_task == settings.envs_per_task == 3  # type: ignore[attr-defined]


def test_it_learns():
    """The tiny agent walks towards the goals' half of the grid: later returns beat the first ones."""
    settings = dataclasses.replace(SETTINGS, n_iterations=60, n_tasks=40, validate_every_iters=0)
    recorder, _ = train(settings=settings)
    returns = [r["train/post_return"] for r in recorder.records]
    assert sum(returns[-10:]) / 10 > sum(returns[:10]) / 10 + 0.3
