"""Methods side by side: a grid's runs under its names, one set of numbers for page, terminal and files."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from metarl.experiments.cli.main import main
from metarl.experiments.comparison.measure import COLOURS, on_common_steps
from metarl.experiments.launch.folder import prepare
from metarl.experiments.launch.grid import Job
from metarl.experiments.report import load_shown
from metarl.experiments.runs.comparison import Method, warnings
from metarl.statistics import iqm, probability_of_improvement
from tests.experiments.evaluated_runs import line_config, make_run
from tests.metarl.line_world import LearnerConfig

METHODS = {"near": LearnerConfig(), "far": LearnerConfig(memory=False, reach=4)}
EVIL = "</script><b>far"


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a grid of two methods: three seeds of one, two of the other, whose third was not evaluated."""
    folder = tmp_path_factory.mktemp("grids") / "pair"
    jobs = [
        Job(f"{method}-seed{seed}", method, "preset", seed, (), ((),)) for method in METHODS for seed in range(3)
    ]  # fmt: skip
    jobs.append(Job("far-seed3", "far", "preset", 3, (), ((),)))
    made = prepare(folder, "pair", jobs)
    for job in jobs[:-1]:
        config = line_config(METHODS[job.method], seed=job.seed, n_classes=2)
        config = replace(config, train=replace(config.train, n_iterations=8))
        run_dir = make_run(made.run_dir(job), config)
        if job.name != "far-seed2":
            assert main(["evaluate", str(run_dir), "--n-seeds", "2"]) == 0
    torch.use_deterministic_algorithms(False)
    return folder


def written(grid: Path, into: Path, *more: str) -> dict[str, Any]:
    """Return what `report GRID --json` writes."""
    assert (
        main(["report", str(grid), "--output", str(into / "page.html"), "--json", str(into / "all.json"), *more]) == 0
    )
    return dict(json.loads((into / "all.json").read_text()))  # fmt: skip


def test_a_grid_is_compared_under_its_own_names_and_nothing_is_dropped_in_silence(grid: Path, tmp_path: Path, capsys):
    found = written(grid, tmp_path)
    (one,) = found["sets"]
    assert [(m["name"], m["seeds"]) for m in one["methods"]] == [("near", [0, 1, 2]), ("far", [0, 1])]
    assert [m["colour"] for m in one["methods"]] == list(COLOURS[:2])
    missing = dict(found["missing"])
    assert missing.keys() == {"far-seed2", "far-seed3"}
    assert "has no evaluation" in missing["far-seed2"]
    assert missing["far-seed3"] == "it has not begun"
    told, page = " ".join("".join(capsys.readouterr()).split()), (tmp_path / "page.html").read_text()
    for name in missing:
        assert f"missing: {name}" in told
        assert name in page
    assert "Unequal numbers of training seeds side by side, in runs: far: 2; near: 3." in found["warnings"]


def test_the_numbers_are_those_of_the_runs_evaluations(grid: Path, tmp_path: Path):
    (one,) = written(grid, tmp_path)["sets"]
    scores = {}
    for name, seeds in (("near", 3), ("far", 2)):
        files = [grid / "runs" / f"{name}-seed{i}" / "results" for i in range(seeds)]
        returns = [json.loads(next(f.glob("evaluation-*.json")).read_text())["trials"]["returns"] for f in files]
        scores[name] = np.array(returns)  # runs, evaluation seeds, tasks, episodes
    for method in one["methods"]:
        mine, per_task = method["scores"]["return"], scores[method["name"]][..., 2:].mean((1, 3))
        assert mine["query"]["runs"] == pytest.approx(per_task.mean(1))
        assert mine["query"]["value"] == pytest.approx(per_task.mean())
        per_run = [float(iqm(x[..., 2])) for x in scores[method["name"]]]
        assert mine["iqm"]["runs"] == pytest.approx(per_run)
        if np.ptp(per_task.mean(1)) > 0:
            ends = stats.t.interval(0.95, len(per_task) - 1, loc=per_task.mean(), scale=stats.sem(per_task.mean(1)))
            assert (mine["query"]["low"], mine["query"]["high"]) == pytest.approx(ends, rel=1e-4)
        curve = scores[method["name"]].mean((1, 2))
        assert method["adaptation"]["return"]["value"] == pytest.approx(curve.mean(0))
        assert method["scores"]["success_any"]["gap"]["value"] == pytest.approx(
            1 - method["scores"]["success_any"]["query"]["value"]
        )
    near, far = (scores[m][..., 2].mean(1) for m in ("near", "far"))
    assert one["improvement"]["return"][1][0]["value"] == pytest.approx(float(probability_of_improvement(far, near)))


def test_csv_json_figures_and_terminal_say_the_same(grid: Path, tmp_path: Path, capsys):
    found = written(
        grid, tmp_path, "--csv", str(tmp_path / "t.csv"), "--png", str(tmp_path / "png"), "--svg", str(tmp_path / "svg")
    )
    (one,) = found["sets"]
    with (tmp_path / "t.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    for method in one["methods"]:
        (row,) = (r for r in rows if (r["method"], r["metric"], r["what"]) == (method["name"], "success_any", "query"))
        e = method["scores"]["success_any"]["query"]
        assert [float(row["value"]), row["low"]] == [e["value"], "" if e["low"] is None else str(e["low"])]
        assert f"{100 * e['value']:.1f} %" in capsys.readouterr().out or method["name"] == "far"
    png, svg = ({p.stem for p in (tmp_path / kind).glob(f"*.{kind}")} for kind in ("png", "svg"))
    assert png == svg
    assert {"scores-return", "adaptation-success", "training-return", "profile-success", "tasks-return"} <= png


def test_a_grid_of_which_nothing_was_evaluated_says_so_in_one_line(tmp_path: Path, capsys):
    prepare(tmp_path / "grid", "grid", [Job("a-seed0", "a", "preset", 0, (), ((),))])
    assert main(["report", str(tmp_path / "grid")]) == 2
    error = capsys.readouterr().err
    assert "no run of the grid can be compared yet; a-seed0, for one: it has not begun" in error
    assert error.count("\n") == 1


def test_files_of_a_comparison_need_something_to_compare(grid: Path, tmp_path: Path, capsys):
    assert main(["report", str(grid / "runs" / "near-seed0"), "--csv", str(tmp_path / "t.csv")]) == 2
    assert "name several runs, or a grid's directory" in capsys.readouterr().err


def test_runs_that_are_listed_by_hand_give_the_same_comparison_as_their_grid(grid: Path, tmp_path: Path):
    whole = written(grid, tmp_path)["sets"][0]["methods"]
    runs = [str(grid / "runs" / name) for m in whole for name in m["runs"]]
    assert main(["report", *runs, "--output", str(tmp_path / "page.html"), "--json", str(tmp_path / "all.json")]) == 0
    by_hand = json.loads((tmp_path / "all.json").read_text())["sets"][0]["methods"]
    assert [m["scores"] for m in by_hand] == [m["scores"] for m in whole]
    assert [m["name"] for m in by_hand] == ["near-seed0 and 2 more", "far-seed0 and 1 more"]


def test_curves_are_read_off_where_all_runs_have_been():
    a = (np.array([0.0, 10.0, 20.0]), np.array([0.0, 1.0, 2.0]))
    b = (np.array([5.0, 15.0]), np.array([3.0, 5.0]))
    steps, values = on_common_steps([a, b])
    assert (steps[0], steps[-1]) == (5.0, 15.0)
    np.testing.assert_allclose(values[:, 0], steps / 10)
    np.testing.assert_allclose(values[:, 1], 3.0 + (steps - 5.0) / 5)
    assert on_common_steps([a, a])[0].tolist() == [0.0, 10.0, 20.0]
    assert len(on_common_steps([a, (a[0] + 20.0, a[1])])[0]) == 0


def test_code_of_several_commits_is_warned_of(grid: Path):
    near, far = (load_shown(grid / "runs" / f"{name}-seed0") for name in METHODS)
    assert not any("code" in w for w in warnings([Method("near", (near,)), Method("far", (far,))]))
    origin = {**far.evaluation.provenance, "git": {"commit": "f" * 40, "dirty": False}}
    other = replace(far, evaluation=replace(far.evaluation, provenance=origin))
    (warning,) = (w for w in warnings([Method("near", (near,)), Method("far", (other,))]) if "code" in w)
    assert warning.startswith("The runs were evaluated by different code: near-seed0: ")
    assert warning.endswith(f"far-seed0: {'f' * 10}.")


def test_a_browser_hides_a_method_everywhere_shows_numbers_and_zooms_without_a_request(
    grid: Path, tmp_path: Path, browser: Any
):
    (one,) = written(grid, tmp_path)["sets"]
    path = tmp_path / "page.html"
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    errors: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    plots = ("scores", "adaptation", "training", "profile", "improvement", "heat")
    assert page.locator("#legend button").all_inner_texts() == ["near", "far"]

    def marks(plot: str) -> int:
        return int(page.locator(f'[data-plot="{plot}"] [data-method*="far"]').count())

    before = {plot: marks(plot) for plot in plots}
    assert min(before.values()) > 0
    page.click("#legend button:nth-child(2)")
    assert {plot: marks(plot) for plot in plots} == dict.fromkeys(plots, 0)
    assert page.locator('[data-plot="adaptation"] [data-method="near"]').count() > 0
    visible = page.locator("table.scores tbody tr:visible td:first-child").all_inner_texts()
    assert visible == ["near"]
    assert page.locator("table.improvement th:visible").count() == 2
    page.click("#legend button:nth-child(2)")
    assert {plot: marks(plot) for plot in plots} == before

    sheet = page.locator('[data-plot="adaptation"] svg .sheet').first  # success: what the page draws first
    box = sheet.bounding_box()
    sheet.hover(position={"x": box["width"] - 1, "y": box["height"] / 2})  # the last episode
    tip = page.inner_text("#tip")
    for method in one["methods"]:
        assert f"{method['name']}  {100 * method['adaptation']['success_any']['value'][-1]:.1f} %" in tip
    ticks = page.locator('[data-plot="profile"] svg').first.text_content()
    page.locator('[data-plot="profile"] svg .sheet').first.hover()
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(50)
    assert page.locator('[data-plot="profile"] svg').first.text_content() != ticks
    page.locator('[data-plot="profile"] svg .sheet').first.dblclick()
    assert page.locator('[data-plot="profile"] svg').first.text_content() == ticks
    assert errors == []
    assert requests == [path.as_uri()]
    page.close()


def test_names_cannot_break_out_of_the_page(tmp_path: Path):
    made = prepare(tmp_path / "grid", "grid", [Job("a-seed0", EVIL, "preset", 0, (), ((),))])
    run_dir = make_run(made.run_dir(made.jobs[0]), line_config())
    assert main(["evaluate", str(run_dir)]) == 0
    torch.use_deterministic_algorithms(False)
    assert main(["report", str(tmp_path / "grid")]) == 0
    text = (tmp_path / "grid" / "report.html").read_text()
    assert EVIL not in text
    data = re.search(r'id="comparison-data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    assert json.loads(data.group(1))[0]["methods"][0]["name"] == EVIL
