"""A run directory as the layout before this one wrote it: `earlier_run`, two iterations of RL² on the gridworld.

Written at commit 88aa8ac by `metarl train rl2-gridworld --agent.hidden 4 --agent.episodes-per-trial 2
--train.n-iterations 2 --train.n-tasks 2 --train.n-validation-tasks 2 --evaluation.adapt-episodes 1
--evaluation.n-seeds 1 --log.wandb disabled`, then evaluated; its picture and page were left out.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from metarl import run
from metarl.errors import ConfigError
from metarl.experiments import codec
from metarl.experiments.build import stored_config
from metarl.experiments.cli.main import main
from metarl.experiments.figures.plots import Shown
from metarl.experiments.runs.comparison import methods
from metarl.experiments.train import load_run
from metarl.results import Evaluation
from tests.experiments.process_settings import process_settings  # noqa: F401

EARLIER = Path(__file__).with_name("earlier_run")

pytestmark = [
    pytest.mark.usefixtures("process_settings"),
    pytest.mark.filterwarnings("ignore:this run was started with"),  # other versions, another CPU
]


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EARLIER, tmp_path / "run"))


def test_the_files_of_a_run_keep_the_names_of_settings_that_its_checkpoints_are_bound_to(earlier: Path) -> None:
    then, was = run.read_json(earlier, run.CONFIG), run.identity(earlier)
    assert "copies_per_task" in then["train"]
    assert main(["train", "--run-dir", str(earlier), "--resume", "--train.n-iterations", "3"]) == 0
    now = run.read_json(earlier, run.CONFIG)
    assert now | {"log": then["log"]} == then | {"train": {**then["train"], "n_iterations": 3}}
    assert run.identity(earlier) == was
    assert run.newest_point(earlier).history is not None


def test_settings_of_an_earlier_version_are_read_by_their_names_of_today(earlier: Path, capsys) -> None:
    stored = json.loads((earlier / "config.json").read_text())
    stored["train"]["copies_per_task"], stored["evaluation"]["max_copies"] = 2, 7
    config = codec.from_json(stored)
    assert (config.train.envs_per_task, config.evaluation.max_envs) == (2, 7)
    spelled = codec.first_spelling(config)
    assert spelled | {"log": stored["log"]} == stored  # logging has more settings by now
    again = codec.to_json(config)
    assert (again["train"]["envs_per_task"], again["evaluation"]["max_envs"]) == (2, 7)
    assert codec.from_json(again) == config
    with pytest.raises(ConfigError, match=r"unknown key '(agent.foresight_coef|train.copies_per_task)'"):
        codec.from_json({**stored, "schema_version": 2})


def test_a_page_puts_runs_of_both_versions_under_one_method(earlier: Path) -> None:
    before = stored_config(earlier)
    now = {**codec.to_json(codec.from_json(before)), "seed": 1}
    evaluation = earlier / "results" / "evaluation-test.json"
    shown = Shown("a", Evaluation.from_json(json.loads(evaluation.read_text())), run.history(earlier))
    assert [len(m.runs) for m in methods([shown, shown], [before, json.loads(json.dumps(now))])] == [2]


def test_a_run_of_an_earlier_version_goes_on(earlier: Path) -> None:
    before = run.history(earlier)
    assert main(["train", "--run-dir", str(earlier), "--resume", "--train.n-iterations", "4"]) == 0
    after = run.history(earlier)
    assert after[:2] == before
    assert [record["iteration"] for record in after] == [1, 2, 3, 4]
    assert load_run(earlier).iteration == 4


def test_a_run_of_an_earlier_version_is_evaluated_as_it_was(earlier: Path) -> None:
    stored = earlier / "results" / "evaluation-test.json"
    then = json.loads(stored.read_text())
    stored.unlink()
    assert main(["evaluate", str(earlier)]) == 0
    now = json.loads(stored.read_text())
    assert (then["schema_version"], now["schema_version"]) == (1, 2)
    then["protocol"]["max_envs"] = then["protocol"].pop("max_copies")
    for part in ("protocol", "phases", "task_names", "task_fingerprint", "references"):
        assert now[part] == then[part], part
    # Actions are drawn from a policy's products, which round in another way on another CPU.
    returns = [np.array(found["trials"]["returns"]) for found in (then, now)]
    assert returns[0].shape == returns[1].shape
    assert abs(returns[0].mean() - returns[1].mean()) < 0.5


def test_a_report_reads_what_an_earlier_version_measured(earlier: Path, tmp_path: Path) -> None:
    assert main(["report", str(earlier), "--output", str(tmp_path / "page.html")]) == 0
    assert "without earlier episodes" in (tmp_path / "page.html").read_text()
