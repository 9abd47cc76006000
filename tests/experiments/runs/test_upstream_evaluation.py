"""`evaluate --upstream`: Meta-World's own evaluation plays a trained agent; its number stands beside the strict one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.experiments.build import load_run
from metarl.experiments.cli.main import main
from metarl.experiments.config import ExperimentConfig, LogConfig, WorldConfig
from metarl.experiments.runs.upstream_evaluation import DEFAULTS, LABEL, target_path
from metarl.loop import LoopSettings
from metarl.protocol import Protocol
from tests.experiments.evaluated_runs import line_config, make_run

HORIZON = 25
FLAGS = ["--upstream", "--upstream-goals", "3", "--upstream-evals", "2", "--upstream-episodes", "2"]


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of RL² on ML1 reach, trained for two iterations."""
    before = torch.are_deterministic_algorithms_enabled()
    config = ExperimentConfig(
        name="reach",
        world=WorldConfig("metaworld/ML1", {"task": "reach-v3", "n_workers": 0, "horizon": HORIZON}),
        agent=RL2Config(episodes_per_trial=2, hidden=8, ppo=PPOConfig(epochs=1, minibatches=1)),
        train=LoopSettings(n_iterations=2, n_tasks=2, validate_every_iters=0),
        evaluation=Protocol(adapt_episodes=1, eval_episodes=1, n_seeds=1, n_tasks=2, max_envs=2),
        log=LogConfig(wandb="disabled", progress="off"),
        threads=1,
    )
    folder = make_run(tmp_path_factory.mktemp("upstream") / "run", config)
    torch.use_deterministic_algorithms(before)
    return folder


@pytest.mark.metaworld
def test_upstreams_own_evaluation_drives_a_trained_agent(
    trained: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    import metaworld.evaluation as upstream

    from metarl.envs.metaworld.upstream_evaluation import evaluate_upstream, make_test_envs

    calls: list[dict] = []
    original = upstream.metalearning_evaluation

    def spy(agent, envs, **settings):
        calls.append({"targets": [t.data for ts in envs.get_attr("tasks") for t in ts], **settings})
        result = original(agent, envs, **settings)
        calls[-1]["result"] = result
        return result

    monkeypatch.setattr(upstream, "metalearning_evaluation", spy)
    assert main(["evaluate", str(trained), *FLAGS]) == 0
    out = capsys.readouterr().out
    (call,) = calls  # it was upstream's function that ran, once, as asked
    assert len(set(call["targets"])) == 6
    assert (call["num_evals"], call["adaptation_steps"], call["adaptation_episodes"]) == (2, 1, 1)
    asked = {"upstream_goals": 3, "upstream_evals": 2, "upstream_episodes": 2}
    stored = json.loads(target_path(trained, asked, "").read_text())
    strict = json.loads((trained / "results" / "evaluation-test.json").read_text())
    assert stored["label"] == LABEL
    assert [stored["success_rate"], stored["mean_return"]] == list(call["result"][:2])
    assert stored["strict"]["return"] == strict["summary"]["query"]["return"]["mean"]["value"]
    assert stored["agent"]["iteration"] == 2
    assert [line.split("  ")[0] for line in out.splitlines() if line.startswith(("strict", LABEL))] == ["strict", LABEL]
    assert "no strict score" in out

    # It was the trained agent that played: fresh parameters earn another return on the same goals and noise.
    loaded = load_run(trained)
    blank = loaded.config.agent.build(loaded.agent.spec, seed=5)
    environments = make_test_envs(loaded.tasks, goals_per_class=3, num_evals=2)
    assert evaluate_upstream(blank, environments, **stored["settings"]).mean_return != stored["mean_return"]
    environments.close()


@pytest.mark.metaworld
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--upstream-goals", "51"], "must be at most 50, the goals of a class"),
        (["--upstream-evals", "0"], "--upstream-evals must be a whole number from 1 to"),
        (["--split", "validation"], "plays upstream's test split"),
    ],
)
def test_what_upstream_cannot_play_is_refused_in_one_line(
    trained: Path, capsys, flags: list[str], message: str
) -> None:
    before = sorted(trained.rglob("*"))
    capsys.readouterr()
    assert main(["evaluate", str(trained), "--upstream", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(trained.rglob("*")) == before


def test_each_way_to_ask_upstream_has_a_file_of_its_own(tmp_path: Path) -> None:
    usual = target_path(tmp_path, DEFAULTS, "")
    assert usual == tmp_path / "results" / "upstream-evaluation.json"
    others = {target_path(tmp_path, {**DEFAULTS, key: 2}, "") for key in DEFAULTS}
    assert len({usual, *others, target_path(tmp_path, DEFAULTS, "+adapt2")}) == 5


def test_upstream_is_for_meta_world_only(tmp_path: Path, capsys) -> None:
    folder = make_run(tmp_path / "run", line_config())
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--upstream"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --upstream is Meta-World's own evaluation, but this run's world is ")
    assert error.count("\n") == 1
    assert not (folder / "results").exists()
