"""Where agents go before adaptation: counted against walks that were made up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.agent import ActOutput, State, TimeStep
from metarl.errors import ConfigError
from metarl.experiments.studies.coverage import coverage, main, together


class Walker:
    """Walks straight to corners chosen at random: `corners` of the four, unless told to stand."""

    name, parallel_episodes, train_phases = "walker", True, (1,)

    def __init__(self, corners: tuple[int, ...]) -> None:
        self.goals = envs.make("corner-point").all("test").values["goal"][list(corners)]  # type: ignore[union-attr]

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        return (n_episodes,)

    def init(self, n_tasks: int) -> State:
        return {"chosen": torch.arange(n_tasks) // 4 % len(self.goals)}

    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        move = self.goals[state["chosen"]] - step.obs
        return state, ActOutput(move.clamp(-0.2, 0.2), torch.zeros(len(move)), {})


def test_a_walker_to_all_corners_meets_them_all_and_a_walker_to_one_meets_that_one() -> None:
    family = envs.make("corner-point")
    found = {
        corners: coverage(Walker(corners), family, split="test", n_episodes=64, radius=0.5, batch=16, seed=0)  # type: ignore[arg-type]
        for corners in ((0, 1, 2, 3), (2,), (0, 1))
    }
    everywhere, one, two = found.values()
    for kind in ("met", "paid"):
        assert everywhere[kind]["episodes"] == everywhere["nearest"] == [0.25] * 4
        assert everywhere[kind]["per_episode"] == 1.0
        assert one[kind]["episodes"] == one["nearest"] == [0.0, 0.0, 1.0, 0.0]
        assert (one[kind]["batch"], one[kind]["batch_all"]) == (0.25, 0.0)
        assert two[kind]["episodes"] == [0.5, 0.5, 0.0, 0.0]
        assert everywhere[kind]["batch"] > 0.9 > two[kind]["batch"] == 0.5


def test_what_a_goal_would_pay_is_the_worlds_own_reward() -> None:
    """Straight walks to a corner: paid while they move, outside the middle, and not once they stand there."""
    found = coverage(Walker((3,)), envs.make("corner-point"), split="test", n_episodes=4, radius=0.5, batch=1, seed=0)  # type: ignore[arg-type]
    assert found["steps_paid"][:3] == [0.0] * 3
    assert 0.07 <= found["steps_paid"][3] <= 0.11
    standing = coverage(
        Walker((3,)), envs.make("sparse-point-robot"), split="test", n_episodes=20, radius=0.2, batch=1, seed=0
    )  # type: ignore[arg-type]
    assert sum(standing["paid"]["episodes"]) == sum(standing["met"]["episodes"])


def test_batches_are_judged_together() -> None:
    visited = np.array([[1, 0], [0, 1], [1, 0], [1, 0], [1, 1]], dtype=bool)
    found = together(visited, 2)
    assert found["episodes"] == pytest.approx([0.8, 0.4])
    assert (found["per_episode"], found["episode_all"]) == pytest.approx((1.2, 0.2))
    assert (found["batch"], found["batch_all"]) == pytest.approx((0.75, 0.5))
    with pytest.raises(ConfigError, match="raise --episodes"):
        together(visited, 6)


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("gridworld", "test", "points in the plane"),
        ("navigation", "train", "finite list"),
        ("bandit", "test", "list of goals"),
    ],
)
def test_worlds_without_a_list_of_goals_are_refused(name: str, split: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        coverage(Walker((0,)), envs.make(name), split=split, n_episodes=4, radius=1.0, batch=1, seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [["--episodes", "0"], ["--radius", "0"], ["--batch", "0"], ["--seed", "-1"]])
def test_values_out_of_range_are_refused_before_anything_is_read(words: list[str]) -> None:
    with pytest.raises(ConfigError, match=words[0]):
        main(["nowhere", *words])


def test_a_run_is_compared_with_its_fresh_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from metarl.experiments.cli.main import main as entry

    run_dir, into = tmp_path / "run", tmp_path / "coverage.json"
    small = ["--train.n-iterations", "1", "--train.n-tasks", "4", "--agent.episodes-per-step", "2"]
    small += [
        "--train.validate-every-iters",
        "0",
        "--evaluation.adapt-episodes",
        "2",
        "--evaluation.eval-episodes",
        "2",
    ]
    assert entry(["train", "emaml-corner", *small, "--wandb", "disabled", "--run-dir", str(run_dir)]) == 0
    assert entry(["study", "coverage", str(run_dir), "--episodes", "40", "--into", str(into)]) == 0
    run = json.loads(into.read_text())["runs"][0]
    assert run["iteration"] == 1
    assert run["trained"]["n_episodes"] == run["fresh"]["n_episodes"] == 40
    assert sum(run["fresh"]["nearest"]) == pytest.approx(1.0)
    assert "trained" in capsys.readouterr().out
