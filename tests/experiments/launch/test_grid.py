"""A grid file becomes the runs that one would write down by hand, or one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from metarl.errors import ConfigError
from metarl.experiments.launch.grid import Job, expand
from metarl.experiments.launch.grid_file import parse_grid, read_grid


def jobs_of(**entries: Any) -> list[Job]:
    return expand(parse_grid(entries, "g"))


def test_presets_settings_and_seeds_are_multiplied_in_the_order_of_the_file() -> None:
    jobs = jobs_of(
        presets=["rl2-gridworld", "maml-navigation"],
        seeds="1..2",
        settings={"train.n_tasks": [4, 8], "log.wandb": "disabled"},
    )
    assert [job.name for job in jobs] == [
        "rl2-gridworld-n-tasks-4-seed1", "rl2-gridworld-n-tasks-4-seed2",
        "rl2-gridworld-n-tasks-8-seed1", "rl2-gridworld-n-tasks-8-seed2",
        "maml-navigation-n-tasks-4-seed1", "maml-navigation-n-tasks-4-seed2",
        "maml-navigation-n-tasks-8-seed1", "maml-navigation-n-tasks-8-seed2",
    ]  # fmt: skip
    assert jobs[3].train_words(Path("d")) == [
        "train", "rl2-gridworld", "--seed", "2", "--train.n-tasks", "8", "--log.wandb", "disabled",
        "--log.wandb-group", "g/rl2-gridworld-n-tasks-8", "--run-dir", "d", "--resume", "auto",
    ]  # fmt: skip
    assert [job.method for job in jobs[::2]] == [job.method for job in jobs[1::2]]


def test_groups_name_methods_and_override_what_all_share() -> None:
    shared = {"train.n-iterations": 5, "agent.hidden": 32}
    groups = {
        "small": {"presets": "rl2-gridworld", "settings": {"agent.hidden": 16}, "seeds": 7},
        "wide nets": {"presets": ["maml-navigation"], "settings": {"agent.hidden": [[64, 64], "32 32"]}},
    }
    jobs = jobs_of(groups=groups, seeds=[0], settings=shared)
    assert [job.name for job in jobs] == [
        "small-seed7", "wide-nets-hidden-64-64-seed0", "wide-nets-hidden-32-32-seed0",
    ]  # fmt: skip
    assert dict(jobs[0].settings)["agent.hidden"] == ("16",)
    assert dict(jobs[1].settings)["agent.hidden"] == ("64", "64")
    assert dict(jobs[2].settings)["train.n-iterations"] == ("5",)


def test_what_is_excluded_is_left_out_and_nothing_else() -> None:
    entries = {"presets": ["rl2-gridworld"], "seeds": "0..3", "settings": {"agent.hidden": [16, 32]}}
    left = jobs_of(**entries, exclude=[{"agent.hidden": 32, "seed": [1, 3]}, {"seed": "0..0", "agent.hidden": 16}])
    assert [(dict(job.settings)["agent.hidden"][0], job.seed) for job in left] == [
        ("16", 1), ("16", 2), ("16", 3), ("32", 0), ("32", 2),
    ]  # fmt: skip


def test_switches_words_with_spaces_and_options_are_words_that_train_takes() -> None:
    settings = {"agent.normalise-inputs": False, "world.options": "held_out=3"}
    (job,) = jobs_of(presets="rl2-gridworld", settings=settings, evaluate=["", "--adapt-episodes 2 --greedy"])
    words = job.train_words(Path("d"))
    assert "--agent.no-normalise-inputs" in words
    assert words[words.index("--world.options") + 1] == "held_out=3"
    assert job.evaluate == ((), ("--adapt-episodes", "2", "--greedy"))
    assert Job.from_json(job.to_json()) == job


def test_long_names_stay_names_of_files_and_apart() -> None:
    values = [" ".join(str(32 + i + k) for k in range(40)) for i in range(2)]
    jobs = jobs_of(presets="maml-navigation", settings={"agent.hidden": values})
    assert len({job.name for job in jobs}) == 2
    assert max(len(job.name) for job in jobs) <= 100


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({}, "names no presets"),
        ({"presets": "rl2-gridworl"}, "did you mean 'rl2-gridworld'"),
        ({"preset": "rl2-gridworld"}, "no entry 'preset'; did you mean 'presets'"),
        ({"presets": "rl2-gridworld", "groups": {}}, "both presets and groups"),
        ({"groups": {"a": {"presets": "rl2-gridworld", "seed": 3}}}, "'a' has no entry 'seed'; did you mean 'seeds'"),
        ({"presets": "rl2-gridworld", "seeds": [0, 0]}, "stands twice"),
        ({"presets": "rl2-gridworld", "seeds": -1}, "seeds is -1"),
        ({"presets": "rl2-gridworld", "seeds": "0..999999999"}, "has 1,000,000,000 runs, at most 10000"),
        ({"presets": "rl2-gridworld", "seeds": "0..1" + "0" * 30}, "has more than 10^30 runs"),
        ({"presets": "rl2-gridworld", "settings": {"agent.hiden": 3}}, "did you mean '--agent.hidden'"),
        ({"presets": "rl2-gridworld", "settings": {"agent.hidden": "many"}}, "rl2-gridworld-seed0: "),
        ({"presets": "rl2-gridworld", "settings": {"seed": 3}}, "seeds go under `seeds`"),
        ({"presets": "rl2-gridworld", "settings": {"agent.hidden": {"a": 1}}}, "give numbers, words, or lists"),
        ({"presets": "rl2-gridworld", "settings": {"agent.hidden": []}}, "is an empty list"),
        ({"presets": "rl2-gridworld", "settings": {"world.options": "a='b"}}, "mend the quotes"),
        ({"presets": "rl2-gridworld", "evaluate": "--adapt-episods 3"}, "did you mean '--adapt-episodes'"),
        ({"presets": "rl2-gridworld", "evaluate": "--split train"}, "measures no generalisation"),
        ({"presets": "rl2-gridworld", "exclude": [{"sed": 1}]}, "did you mean 'seed'"),
        ({"presets": "rl2-gridworld", "exclude": [{"seed": 1}]}, "which no run of the grid is"),
        ({"presets": "rl2-gridworld", "exclude": [{"seed": 0}]}, "everything is excluded"),
        (
            {"groups": {"a b": {"presets": "rl2-gridworld"}, "a-b": {"presets": "rl2-gridworld"}}},
            "two runs would write one directory, runs/a-b-seed0",
        ),
    ],
)  # fmt: skip
def test_a_wrong_grid_is_told_in_one_line(entries: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        jobs_of(**entries)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("presets: [a\n", "is not YAML"),
        ("seeds: 1\nseeds: 2\npresets: x\n", "key 'seeds' is given twice"),
        ("a: &a [1, 2]\nb: &b [*a, *a]\n", "aliases are not taken"),
        ("- a\n", "must be entries of the form key: value"),
        ("presets: !!python/object/apply:os.system ['true']\n", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("x" * 2**20 + "yy", "is larger than"),
    ],
)
def test_a_file_that_is_no_grid_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_grid(path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_grid_that_is_missing_a_folder_or_a_pipe_is_told(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "pipe"):
        with pytest.raises(Exception, match=r"cannot be read|expected a file|is a (pipe|folder)"):
            read_grid(path)


@pytest.mark.parametrize(("name", "n_runs"), [("grid.yaml", 8), ("metaworld-grid.yaml", 15)])
def test_the_example_grids_expand(name: str, n_runs: int) -> None:
    jobs = expand(read_grid(Path(__file__).parents[3] / "examples" / name))
    assert len(jobs) == n_runs
    assert len({job.method for job in jobs}) == 3
