"""What a crash, a careless colleague or a full disk does to a run directory: mended, or refused in one line."""

from __future__ import annotations

import fcntl
import json
import re
import resource
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from metarl import run
from metarl.checkpoint import MANIFEST
from metarl.experiments import train
from tests.experiments.crash.crash_points import Trial, fork, patched
from tests.experiments.crash.crash_runs import tiny_config, warm
from tests.experiments.process_settings import process_settings  # noqa: F401

pytestmark = pytest.mark.usefixtures("process_settings")
LAST = "iteration-000000004"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Trial, Path, dict[str, Any]]]:
    """Return a trial in whose place lies a finished run at first, that run, and what it left."""
    threads, fill = torch.get_num_threads(), torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    place = tmp_path_factory.mktemp("damage") / "place"
    with warm(tiny_config(), place) as trial:
        trial.reset()
        assert trial.command() == 0
        trial.before = place.with_name("finished")
        shutil.copytree(place, trial.before)
        yield trial, place / "run", trial.outcome()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


@pytest.fixture
def fresh(finished: tuple[Trial, Path, dict[str, Any]]) -> tuple[Trial, Path, dict[str, Any]]:
    """The same with nothing in its place."""
    trial, folder, outcome = finished
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.parent.mkdir()
    return trial, folder, outcome


def files(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "lock"}


# The end of a run is a step like any other.


def test_a_run_killed_between_its_last_checkpoint_and_its_end_is_repaired_before_it_is_called_finished(
    finished, capsys
):
    trial, folder, outcome = finished
    trial.reset()
    (folder / "checkpoints" / "best.json").write_text('{"iteration": null, "score": null}\n')
    (folder / "tensorboard" / "complete.json").unlink()
    [events] = (folder / "tensorboard").glob("events*")
    events.write_bytes(events.read_bytes()[:-70])
    (folder / "checkpoints" / ".old-iteration-000000001").mkdir()
    (folder / ".config.json.tmp").write_text("{")
    abandoned = folder.with_name(".run.creating-999999999-0123abcd")
    (abandoned / "checkpoints").mkdir(parents=True)
    assert trial.command() == 0
    assert "is finished: 4 iterations" in capsys.readouterr().out
    assert trial.outcome() == outcome
    before = files(folder)
    assert trial.command() == 0
    assert files(folder) == before  # nothing is left to do


def test_a_directory_that_another_process_is_creating_is_left_alone(finished):
    trial, folder, _ = finished
    trial.reset()
    other = folder.with_name(".run.creating-999999999-0123abcd")
    other.mkdir()
    with (other / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert trial.command() == 0
        assert other.is_dir()
    assert trial.command() == 0
    assert not other.exists()


def test_a_finished_run_that_another_process_holds_is_not_touched(finished, capsys):
    trial, folder, _ = finished
    trial.reset()
    with (folder / "lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert trial.command() == 2
    assert "another process" in capsys.readouterr().err


# What is open may no longer be there.


class Deed:
    """A sink that does something to the run directory after one of the iterations."""

    def __init__(self, deed: Callable[[], object], iteration: int) -> None:
        self.deed, self.iteration = deed, iteration

    def log(self, record: Mapping[str, Any]) -> None:
        if record["iteration"] == self.iteration:
            self.deed()

    def close(self, exit_code: int = 0) -> None:
        self.exit_code = exit_code


def while_it_trains(trial: Trial, deed: Callable[[], object], iteration: int) -> int:
    sink = Deed(deed, iteration)
    with patched(train.sinks, make_sinks=lambda *_: [sink]):
        code = trial.command()
    assert bool(sink.exit_code) == bool(code)
    return code


def moved(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def replaced(folder: Path) -> None:
    moved(folder)
    shutil.copytree(folder.with_name("elsewhere"), folder)


@pytest.mark.parametrize("iteration", [1, 4])
@pytest.mark.parametrize(
    ("deed", "name", "what"),
    [
        (moved, "", "was moved or deleted"),
        (replaced, "", "was replaced"),
        (shutil.rmtree, "", "was moved or deleted"),
        (lambda folder: (folder / "metrics.jsonl").unlink(), "metrics.jsonl", "was moved or deleted"),
        (lambda folder: (folder / "metrics.jsonl").rename(folder / "m"), "metrics.jsonl", "was moved or deleted"),
        (lambda folder: shutil.copy(folder / "run.json", folder / "lock.new").replace(folder / "lock"), "lock",
         "was replaced"),
        (lambda folder: (folder / "lock").unlink(), "lock", "was moved or deleted"),
        (lambda folder: (folder / "checkpoints").rename(folder / "c"), "checkpoints", "was moved or deleted"),
    ],
)  # fmt: skip
def test_a_run_whose_files_go_away_stops_and_says_which(deed, name, what, iteration, fresh, capsys):
    trial, folder, outcome = fresh
    assert while_it_trains(trial, lambda: deed(folder), iteration) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {folder / name if name else folder} {what}")
    assert said.count("\n") == 1
    if deed is moved:
        assert not folder.exists()  # nothing grows where it was
        folder.with_name("elsewhere").rename(folder)
        assert trial.command() == 0
        assert trial.outcome() == outcome


@pytest.mark.parametrize("content", [b"", b'{"iteration": 2}\n'])
def test_a_history_that_is_overwritten_while_a_run_trains_stops_it(content, fresh, capsys):
    trial, folder, _ = fresh
    assert while_it_trains(trial, lambda: (folder / "metrics.jsonl").write_bytes(content), 1) == 2
    assert f"metrics.jsonl has {len(content)} bytes instead of" in capsys.readouterr().err


def test_of_two_trainers_only_the_one_with_the_lock_goes_on(fresh, capsys):
    """Someone deletes `lock` and starts a second process: it finishes the run, the first stops and spoils nothing."""
    trial, folder, outcome = fresh
    usual = train.sinks.make_sinks

    def second() -> None:
        (folder / "lock").unlink()
        with patched(train.sinks, make_sinks=usual):
            assert trial.run().code == 0

    assert while_it_trains(trial, second, 2) == 2
    assert f"{folder / 'lock'} was replaced" in capsys.readouterr().err
    assert trial.command() == 0
    assert trial.outcome() == outcome


# Every refusal of the disk is one line.


@pytest.mark.parametrize("limit", [300, 700, 1000])
def test_a_file_that_may_not_grow_is_one_line_and_the_run_goes_on_later(limit, fresh):
    trial, _, outcome = fresh

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return trial.command()

    ended = fork(limited, trial.place.with_name("said.txt"))
    assert ended.code == 2, ended.said
    assert ended.said.splitlines()[-1].startswith("error: ")
    assert "File too large" in ended.said
    assert "Traceback" not in ended.said
    assert trial.command() == 0
    assert trial.outcome() == outcome


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "checkpoints/best.json", "lock", "run.json"])
def test_a_folder_in_the_place_of_a_file_or_the_other_way_round_is_one_line(name, finished, capsys):
    trial, folder, _ = finished
    trial.reset()
    path = folder / name
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("")
    else:
        path.unlink()
        path.mkdir()
    assert trial.command() == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert str(folder) in said


# The history is checked.


def lines_of(folder: Path) -> list[bytes]:
    return (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)


def rewrite(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path, Path], None]:
    def damage(folder: Path, other: Path) -> None:
        (folder / "metrics.jsonl").write_bytes(b"".join(change(lines_of(folder))))

    return damage


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def copied(folder: Path, other: Path, source: str, target: str) -> None:
    shutil.rmtree(folder / "checkpoints" / target)
    shutil.copytree(other / "checkpoints" / source, folder / "checkpoints" / target)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder, other: (folder / "metrics.jsonl").unlink(), "iteration 1 is missing"),
        (rewrite(lambda lines: []), "iteration 1 is missing"),
        (rewrite(lambda lines: lines[:2]), "iteration 3 is missing"),
        (rewrite(lambda lines: [*lines[:-1], lines[-1][:9]]), "iteration 4 is missing"),
        (rewrite(lambda lines: [*lines[:2], *lines[1:]]), "line 3 is the record of iteration 2"),
        (rewrite(lambda lines: [lines[0], lines[2], lines[1], lines[3]]), "line 2 is the record of iteration 3"),
        (rewrite(lambda lines: lines[1:]), "line 1 is the record of iteration 2"),
        (rewrite(lambda lines: [lines[0].replace(b"iteration", b"Iteration"), *lines[1:]]), "line 1 is damaged"),
        (rewrite(lambda lines: [lines[0].replace(b'_s": ', b'_s": 1'), *lines[1:]]), "iterations 1 to 4 was changed"),
        (lambda folder, other: shutil.copy(other / "metrics.jsonl", folder), "iterations 1 to 4 was changed"),
        (lambda folder, other: copied(folder, other, LAST, LAST), "is a checkpoint of run 0123456789ab, and"),
        (lambda folder, other: copied(folder, folder, "iteration-000000003", LAST), "holds iteration 3 with"),
        (lambda folder, other: edit(folder / "config.json", seed=7), "config.json is not what iteration-000000004"),
        (lambda folder, other: edit(folder / "run.json", run_id="x"), "and .* holds run x"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_history_is_refused_by_its_first_wrong_iteration(damage, message, finished, capsys):
    trial, folder, _ = finished
    trial.reset()
    other = folder.parent.with_name("other")
    if not other.exists():  # the run of another seed
        request = train.parse([])
        with patched(train, facts=lambda *_: {"run_id": "0123456789ab", "task_fingerprint": "0"}):
            assert train.start(replace(request, config=replace(request.config, seed=1), run_dir=other, going_on=False),
                               train.StopSignals()) == 0  # fmt: skip
    damage(folder, other)
    before = files(folder)
    capsys.readouterr()
    assert trial.command() == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert re.search(message, said), said
    assert files(folder) == before


def strip(folder: Path) -> None:
    """Take out what binds the checkpoints of a run to it: earlier versions did not write it."""
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({k: v for k, v in facts.items() if k != "bound_checkpoints"}))
    for manifest in folder.glob(f"checkpoints/*/{MANIFEST}"):
        kept = {k: v for k, v in json.loads(manifest.read_text()).items() if k != "run"}
        manifest.write_text(json.dumps(kept))


def test_a_run_of_an_earlier_version_goes_on_and_is_bound_from_then_on(finished, capsys):
    trial, folder, outcome = finished
    trial.reset()
    strip(folder)
    assert not any("run" in json.loads(m.read_text()) for m in folder.glob(f"checkpoints/*/{MANIFEST}"))
    shutil.rmtree(folder / "checkpoints" / LAST)
    assert trial.command() == 0
    assert "not bound to its history; the next ones will be" in " ".join(capsys.readouterr().out.split())
    found = trial.outcome()
    assert (found["history"], found["best"]) == (outcome["history"], outcome["best"])
    assert found[f"{LAST}/tensors.safetensors"] == outcome[f"{LAST}/tensors.safetensors"]
    bound = [m.parent.name for m in folder.glob(f"checkpoints/*/{MANIFEST}") if "run" in json.loads(m.read_text())]
    assert bound == [LAST]
    (folder / "metrics.jsonl").write_bytes(b"".join(lines_of(folder)[:2]))
    assert trial.command() == 2
    assert "iteration 3 is missing" in capsys.readouterr().err


def test_a_checkpoint_that_names_no_run_is_refused_where_all_others_do(finished, capsys):
    trial, folder, _ = finished
    trial.reset()
    facts = (folder / "run.json").read_bytes()
    strip(folder)
    (folder / "run.json").write_bytes(facts)
    assert trial.command() == 2
    assert "is a checkpoint of run unknown" in capsys.readouterr().err


def test_settings_that_may_change_do_not_unbind_a_run(finished):
    trial, folder, _ = finished
    trial.reset()
    config = json.loads((folder / "config.json").read_text())
    config["train"]["n_iterations"] = 9
    edit(folder / "config.json", train=config["train"], log=config["log"] | {"wandb_project": "other"}, device="cuda")
    assert run.newest_point(folder).iteration == 4
    config["train"]["n_tasks"] += 1
    edit(folder / "config.json", train=config["train"])
    with pytest.raises(run.CheckpointError, match=r"a setting other than train\.n_iterations, log, device was"):
        run.newest_point(folder)
