"""The page: complete, self-contained, and saying the same numbers as the file."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from scipy import stats

from metarl import run
from metarl.commandline import command
from metarl.evaluation import evaluate
from metarl.experiments import report
from metarl.experiments.build import load_run
from metarl.experiments.cli.main import main
from metarl.experiments.comparison.measure import measured
from metarl.experiments.comparison.tables import improvement_table, scores_table
from metarl.experiments.figures import plots
from metarl.experiments.figures import shots as plots_of_shots
from metarl.experiments.figures import text_tables as tables
from metarl.experiments.runs import comparison, stored
from metarl.experiments.studies.table import summary_of_row as table_summary
from metarl.experiments.studies.table_rows import Row
from metarl.protocol import Protocol
from metarl.results import Episodes, Evaluation
from metarl.summary import summarise
from tests.experiments.evaluated_runs import line_config, make_run
from tests.metarl.line_world import LearnerConfig, Line


class Page(html.parser.HTMLParser):
    """Collects what a browser would fetch, the text, and whether elements close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v and not v.startswith("#")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three evaluated runs: two training seeds of one method with memory, one of a gradient-like method."""
    root, found = tmp_path_factory.mktemp("runs"), []
    for name, config in (
        ("memory-0", line_config(n_classes=2)),
        ("memory-1", line_config(seed=1, n_classes=2)),
        ("parallel", line_config(LearnerConfig(memory=False, reach=4), n_classes=2)),
    ):
        found.append(make_run(root / name, config))
        assert main(["evaluate", str(found[-1])]) == 0
    torch.use_deterministic_algorithms(False)
    return found


def page_of(path: Path) -> Page:
    return Page(path.read_text())


def test_the_page_needs_nothing_from_the_network(folders: list[Path]):
    for folder in folders:
        page = page_of(folder / "results" / "report.html")
        assert page.fetched == []
        assert not {"script", "link", "img", "iframe"} & set(page.tags)
        assert "@import" not in "".join(page.text)
        assert "url(http" not in (folder / "results" / "report.html").read_text()


def test_where_the_page_is_is_told_as_the_run_was(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folders[0].parent)
    assert main(["report", folders[0].name]) == 0
    assert f"page     {folders[0].name}/results/report.html\n" in capsys.readouterr().out


def test_the_page_shows_scores_references_curves_tasks_classes_and_settings(folders: list[Path]):
    text = (folders[0] / "results" / "report.html").read_text()
    words = " ".join(page_of(folders[0] / "results" / "report.html").text)
    assert text.count("<svg") == 3  # adaptation, training, classes
    for expected in (
        "37.5 % [–]",
        "oracle (told the task) (computed mean)",
        "uniform random policy (measured)",
        "test/8",
        "class-1",
        "protocol.adapt_episodes",
        "task_fingerprint",
        "evaluation seeds",
        "every split holds all of its tasks",
    ):
        assert expected in words, expected


def test_labels_cannot_inject_markup(folders: list[Path], tmp_path: Path):
    shown = report.load_shown(folders[0], label="<script>alert(1)</script>")
    text = report.write_report([shown], tmp_path / "page.html").read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_a_comparison_takes_seeds_of_one_method_together_and_says_so(folders: list[Path], capsys):
    assert main(["report", *map(str, folders)]) == 0
    target = folders[0] / "results" / "comparison.html"
    out, words = capsys.readouterr().out, " ".join(" ".join(page_of(target).text).split())
    assert str(target) in out
    for text in (out, words):
        assert "95% intervals (Student's t) over training seeds, one score per run" in text
        assert "While an episode goes on adapt only: memory-0, memory-1." in text
    assert "95% intervals (Student's t) over the 2 evaluation seeds of each of these 8 tasks" in words
    assert "means, which bound a mean and not an IQM" in words
    shown = [report.load_shown(f) for f in folders]
    found = comparison.methods(shown, [run.read_json(f, run.CONFIG) for f in folders])
    assert [len(m.runs) for m in found] == [2, 1]
    (one,) = measured(found, {})
    header, rows = scores_table(one)
    assert header[:2] == ["method", "training seeds"]
    assert rows[0][:2] == ["memory-0 and 1 more", "2"]
    assert found[0].scores("success_any").shape == (2, 8)
    assert comparison.comparable(shown) == ""
    # On success, goals 4 and 5 of 8 are won by the method that reaches further; the others are ties.
    improvement = improvement_table(one)
    assert improvement is not None
    further = 0.5 + 0.5 * (3 / 8)
    assert improvement[1][1][1] == f"{tables.number(further)} [–]"  # of one run there is no interval
    assert "Probability of improvement" in words


def test_runs_that_were_scored_differently_are_flagged(folders: list[Path], tmp_path: Path):
    other = make_run(tmp_path / "other", line_config())
    assert main(["evaluate", str(other), "--n-tasks", "4"]) == 0
    shown = [report.load_shown(folders[0]), report.load_shown(other)]
    assert "different tasks" in comparison.comparable(shown)
    found = comparison.methods(shown, [run.read_json(f, run.CONFIG) for f in (folders[0], other)])
    assert [improvement_table(one) for one in measured(found, {})] == [None, None]  # a set of tasks each


def test_intervals_over_runs_are_wider_than_none_and_named(folders: list[Path]):
    shown = [report.load_shown(f) for f in folders[1:]]
    one = comparison.Method("one", (shown[0],)).estimate("return")[0]
    assert one["value"] == shown[0].summary["query"]["return"]["mean"]["value"]
    both = comparison.Method("both", tuple(shown)).estimate("return")[0]
    assert both["low"] < both["value"] < both["high"]
    assert one["low"] is one["high"] is None


def three_runs(scores: Sequence[float], steps: Sequence[int] = (100, 100, 100)) -> list[plots.Shown]:
    """Return evaluations of three training seeds with given scores per task, noise of evaluation seeds aside."""

    def evaluation(score: float, n_steps: int) -> Evaluation:
        tasks = score + np.linspace(-1.0, 1.0, 4) + np.zeros((2, 1))
        played = Episodes(returns=tasks[..., None], length=np.ones((2, 4, 1), dtype=np.int64))
        return Evaluation(
            protocol=Protocol(adapt_episodes=0, n_seeds=2), agent={"name": "x", "parallel_episodes": True},
            world={"name": "w"}, phases=(1,), pre_episodes=1, task_names=tuple("abcd"), task_groups=("a",) * 4,
            task_fingerprint="f", trials=played, without_adaptation=played, random_policy=None, references={},
            provenance={"train_env_steps": n_steps}, env_steps=8, wall_s=1.0,
        )  # fmt: skip

    pairs = zip(scores, steps, strict=True)
    return [plots.Shown(f"run-{i}", evaluation(x, n), []) for i, (x, n) in enumerate(pairs)]


def test_report_and_table_say_the_same_of_the_same_runs_and_it_is_students_interval():
    scores = (-1.87, -2.14, -2.09)
    method = comparison.Method("m", tuple(three_runs(scores)))
    t = stats.t.interval(0.95, 2, loc=np.mean(scores), scale=stats.sem(scores))
    for estimate in method.estimate("return"):  # the IQM of four scores is their mean without the ends
        assert (estimate["low"], estimate["high"]) == pytest.approx(t, abs=1e-3)
    results = [
        {
            "seed": i, "before": per_task, "after": per_task, "adapt_episodes": 0, "train_env_steps": 100,
            "task_fingerprint": "f", "references": {}, "costs": [{"wall_s": 1.0, "cpu_s": 1.0}],
            "provenance": {"git": {"commit": "0"}},
        }
        for i, per_task in enumerate(r.evaluation.trials.returns.mean((0, 2)).tolist() for r in method.runs)
    ]  # fmt: skip
    row = table_summary(Row("w", "a", "tests.experiments.tiny_presets:tiny"), results)
    assert row["after"] == pytest.approx(method.estimate("return")[0])


def test_unequal_budgets_side_by_side_are_named_and_equal_ones_are_not(folders: list[Path]):
    def apart(runs: Sequence[plots.Shown]) -> list[comparison.Method]:
        return [comparison.Method(r.label, (r,)) for r in runs]

    assert comparison.warnings(apart(three_runs((1.0, 2.0, 3.0), (100, 103, 104)))) == []
    (warning,) = comparison.warnings(apart(three_runs((1.0, 2.0, 3.0), (100, 100, 400))))
    assert warning == "Unequal training side by side, in env steps: run-0, run-1: 100; run-2: 400."
    runs = three_runs((1.0, 2.0, 3.0))
    other = dataclasses.replace(runs[2].evaluation, protocol=Protocol(adapt_episodes=20, n_seeds=2))
    found = comparison.warnings(apart([*runs[:2], plots.Shown("run-2", other, [])]))
    assert "Unequal adaptation side by side, in episodes per task: run-0, run-1: 0; run-2: 20." in found
    # Seeds of one method: their episodes differ in length, but not their iterations.
    seeds = tuple(report.load_shown(f) for f in folders[:2])
    assert comparison.warnings([comparison.Method("memory", seeds)]) == []
    shorter = dataclasses.replace(seeds[1].evaluation, agent={**seeds[1].evaluation.agent, "iteration": 1})
    (warning,) = comparison.warnings([comparison.Method("memory", (seeds[0], plots.Shown("m", shorter, [])))])
    assert warning == "Unequal training side by side, in iterations: m: 1; memory-0: 2."
    kinds = comparison.warnings([comparison.Method("memory", seeds), *apart([report.load_shown(folders[2])])])
    assert "Unequal training side by side, in env steps: parallel: 65; memory: 149." in kinds
    assert kinds[-1].startswith("While an episode goes on adapt only: memory-0, memory-1.")


def test_evaluations_with_several_numbers_of_adaptation_episodes_become_a_curve(tmp_path: Path, capsys):
    """A learner that reaches one goal further with every episode, of 8: 1, 2, 3 and 5 of them."""
    folder, config = make_run(tmp_path / "run", line_config()), line_config()
    (folder / "results").mkdir()
    for adapt, n_seeds in ((2, 2), (4, 2), (1, 2), (6, 3)):  # the last is of another curve
        protocol = dataclasses.replace(config.evaluation, adapt_episodes=adapt, n_seeds=n_seeds)
        played = evaluate(load_run(folder).agent, Line(), protocol)
        path = stored.results_path(folder, "test", stored.variant(config.evaluation, protocol))
        path.write_text(json.dumps(played.to_json(summarise(played))))
        assert len(report.shots([(folder, report.load_shown(folder))])) == int(adapt != 2)
    assert main(["report", str(folder)]) == 0
    words = " ".join(page_of(folder / "results" / "report.html").text)
    assert "Score after k adaptation episodes" in words
    (curve,) = report.shots([(folder, report.load_shown(folder))])
    figure = plots_of_shots.shots_figure([curve])
    line = figure.axes[1].containers[0].lines[0]
    np.testing.assert_allclose(line.get_xydata(), [[0, 1 / 8], [1, 2 / 8], [2, 3 / 8], [4, 5 / 8]])
    assert [row[1] for row in plots_of_shots.shots_table([curve])[1]] == ["0", "1", "2", "4"]
    capsys.readouterr()
    assert main(["report", str(folder), "--protocol", "adapt4"]) == 0
    assert "62.5 % [–] after 4 adaptation episodes" in capsys.readouterr().out
    for nothing in (["--protocol", ""], ["--split", ""]):  # is not the same as leaving the option out
        assert main(["report", str(folder), *nothing]) == 2
        assert f"{nothing[0]} is empty; give it a value, or leave it out" in capsys.readouterr().err
    assert main(["report", str(folder), "--protocol", "adapt5"]) == 2
    assert (
        "with protocol 'adapt5' (it has: test, test+adapt1, test+adapt4, test+adapt6+seeds3)" in capsys.readouterr().err
    )


def test_figures_carry_units_and_every_reference(folders: list[Path]):
    shown = report.load_shown(folders[0])
    figure = plots.adaptation_figure([shown])
    returns, success = figure.axes
    assert returns.get_ylabel() == "Mean return per episode (undiscounted)"
    assert success.get_ylabel() == "Success rate (any step)"
    assert "Episode" in returns.get_xlabel()
    labels = returns.get_legend_handles_labels()[1]
    assert "oracle (told the task), mean" in labels  # a reference bounds means, and no IQM
    assert any("oracle" in x for x in labels)
    assert any("random" in x for x in labels)
    curve = next(line for line in returns.lines if line.get_label().startswith("memory-0"))
    np.testing.assert_allclose(curve.get_ydata(), shown.summary["curve"]["return"]["mean"]["value"])
    training = plots.training_figure([shown])
    assert training is not None
    assert training.axes[0].get_xlabel() == "Env steps, adaptation included"


def test_phases_of_an_agent_without_memory_are_drawn_as_steps(folders: list[Path]):
    shown = report.load_shown(folders[2])
    axes = plots.adaptation_figure([shown]).axes[1]
    curve = next(line for line in axes.lines if line.get_label().startswith("parallel"))
    np.testing.assert_allclose(curve.get_ydata(), np.repeat([4 / 8, 5 / 8, 6 / 8], 2))


def test_an_inline_figure_is_well_formed_and_repeatable(folders: list[Path]):
    shown = report.load_shown(folders[0])
    first, second = (plots.to_svg(plots.adaptation_figure([shown])) for _ in range(2))
    assert first == second
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert not re.findall(r"https?://(?!www\.w3\.org/)", first)


def test_smoothing_keeps_a_straight_line_and_its_ends():
    line = np.arange(200.0)
    np.testing.assert_allclose(plots.smooth(line), line)
    noise = np.random.default_rng(0).normal(size=400)
    assert plots.smooth(noise).std() < 0.4 * noise.std()


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.375, "success_any", "37.5 %"),
        (-1.168, "return", "−1.17"),
        (1234.5, "return", "1234"),
        (-0.0001, "return", "0.000"),
        (None, "return", "–"),
        (float("nan"), "return", "–"),
    ],
)
def test_numbers_are_written_for_readers(value: float | None, metric: str, text: str):
    assert tables.number(value, metric) == text


def test_numbers_of_one_interval_have_equally_many_digits():
    assert tables.interval({"value": 0.915, "low": 0.38, "high": 1.45}) == "0.92 [0.38, 1.45]"
    assert tables.interval({"value": 0.5, "low": None, "high": None}) == "0.500 [–]"


def test_a_run_that_was_not_evaluated_says_how_to(tmp_path: Path, capsys):
    folder = make_run(tmp_path / "run", line_config())
    assert main(["report", str(folder)]) == 2
    assert f"run `{command('evaluate', folder, '--split', 'test')}` first" in capsys.readouterr().err
    (folder / "results").mkdir()
    (folder / "results" / "evaluation-test.json").write_text('{"schema_version": 1, ')
    assert main(["report", str(folder)]) == 2
    assert "is damaged" in capsys.readouterr().err
