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
from metarl.experiments.cli.main import main
from metarl.experiments.train import load_run
from tests.experiments.process_settings import process_settings  # noqa: F401

EARLIER = Path(__file__).with_name("earlier_run")

pytestmark = [
    pytest.mark.usefixtures("process_settings"),
    pytest.mark.filterwarnings("ignore:this run was started with"),  # other versions, another CPU
]


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EARLIER, tmp_path / "run"))


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
    for part in ("protocol", "phases", "task_names", "task_fingerprint", "references"):
        assert now[part] == then[part], part
    # Actions are drawn from a policy's products, which round in another way on another CPU.
    returns = [np.array(found["trials"]["returns"]) for found in (then, now)]
    assert returns[0].shape == returns[1].shape
    assert abs(returns[0].mean() - returns[1].mean()) < 0.5


def test_a_report_reads_what_an_earlier_version_measured(earlier: Path, tmp_path: Path) -> None:
    assert main(["report", str(earlier), "--output", str(tmp_path / "page.html")]) == 0
    assert "without earlier episodes" in (tmp_path / "page.html").read_text()
