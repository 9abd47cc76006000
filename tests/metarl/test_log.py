from __future__ import annotations

import hashlib
import os

import pytest

from metarl.errors import CheckpointError, NumericalError
from metarl.log import MetricsLog, read_records


def records(n: int) -> list[dict[str, object]]:
    return [{"iteration": i, "train/post_return": 0.1 * i, "wall_s": 1.0 / i} for i in range(1, n + 1)]


def write(path, n: int, after: int = 0) -> str:
    with MetricsLog(path, after) as log:
        for record in records(n)[after:]:
            log.append(record)
    return log.digest


def test_records_come_back_with_every_bit(tmp_path):
    write(tmp_path / "m.jsonl", 4)
    write(tmp_path / "m.jsonl", 6, after=4)
    assert read_records(tmp_path / "m.jsonl") == records(6)


def test_a_record_is_readable_before_the_log_is_closed(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append(records(1)[0])
    assert read_records(tmp_path / "m.jsonl") == records(1)
    log.close()


def test_no_file_is_no_history(tmp_path):
    assert read_records(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("lost", range(1, 30, 4))
def test_a_last_line_torn_off_by_a_kill_is_dropped(tmp_path, lost):
    path = tmp_path / "m.jsonl"
    write(path, 3)
    path.write_bytes(path.read_bytes()[:-lost])
    assert read_records(path) == records(2)
    write(path, 4, after=2)
    assert read_records(path) == records(4)  # what is appended next starts a line of its own


def test_a_last_line_of_zeros_after_a_power_cut_is_dropped(tmp_path):
    path = tmp_path / "m.jsonl"
    write(path, 2)
    path.write_bytes(path.read_bytes() + b"\0" * 50 + b"\n")
    assert read_records(path) == records(2)


def test_damage_in_the_middle_is_an_error_that_names_the_line(tmp_path):
    path = tmp_path / "m.jsonl"
    write(path, 3)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:-5], lines[2], ""]))
    with pytest.raises(CheckpointError, match="line 2 is damaged"):
        read_records(path)


def test_going_on_drops_what_came_after_the_checkpoint_and_keeps_the_rest_to_the_bit(tmp_path):
    path = tmp_path / "m.jsonl"
    write(path, 5)
    before = path.read_bytes().splitlines(keepends=True)
    with MetricsLog(path, 3) as log:
        assert log.kept == records(3)
    assert path.read_bytes() == b"".join(before[:3])
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_the_digest_is_the_sha256_of_the_lines_and_goes_on_across_resumes(tmp_path):
    path = tmp_path / "m.jsonl"
    third, fifth = write(path, 3), write(path, 5, after=3)
    lines = path.read_bytes().splitlines(keepends=True)
    assert [third, fifth] == [hashlib.sha256(b"".join(lines[:n])).hexdigest() for n in (3, 5)]
    with MetricsLog(path, 3, third):
        pass


def swap(lines: list[bytes]) -> list[bytes]:
    return [lines[1], lines[0], *lines[2:]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: [], "ends after iteration 0, .* checkpoint of iteration 4: iteration 1 is missing"),
        (lambda lines: lines[:2], "ends after iteration 2, .* iteration 3 is missing"),
        (lambda lines: [*lines[:3], lines[3][:-9]], "ends after iteration 3, .* iteration 4 is missing"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 is the record of iteration 3, not of iteration 2"),
        (lambda lines: [*lines[:2], *lines[1:]], "line 3 is the record of iteration 2, not of iteration 3"),
        (swap, "line 1 is the record of iteration 2, not of iteration 1"),
        (lambda lines: [lines[0].replace(b"0.1", b"0.2"), *lines[1:]], "a record of iterations 1 to 4 was changed"),
        (lambda lines: [*lines[:3], b"[" * 9999 + b"\n", *lines[3:]], "line 4 is damaged"),
        (lambda lines: [lines[0].replace(b"1", b"true", 1), *lines[1:]], "line 1 is damaged"),
    ],
)  # fmt: skip
def test_a_history_that_is_not_the_one_is_refused_and_left_alone(damage, message, tmp_path):
    path = tmp_path / "m.jsonl"
    digest = write(path, 4)
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        MetricsLog(path, 4, digest)
    assert path.read_bytes() == before


@pytest.mark.parametrize("taken", [0, 7])
def test_a_record_that_the_disk_takes_only_in_part_is_taken_back(taken, tmp_path, monkeypatch):
    path, real = tmp_path / "m.jsonl", os.write
    log = MetricsLog(path)
    log.append(records(1)[0])
    parts = iter([taken, 0])
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda handle, content: real(handle, bytes(content)[: next(parts)]))
        with pytest.raises(OSError, match="No space left"):
            log.append(records(2)[1])
    assert read_records(path) == records(1)
    assert path.read_bytes().endswith(b"}\n")
    log.append(records(2)[1])  # there is space again
    log.close()
    assert read_records(path) == records(2)


def test_a_record_that_the_disk_takes_in_small_parts_is_whole(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: real(handle, bytes(content)[:5]))
    write(tmp_path / "m.jsonl", 3)
    assert read_records(tmp_path / "m.jsonl") == records(3)


@pytest.mark.parametrize("change", [b"", b'{"iteration": 3}\n'])
def test_a_file_that_someone_else_changes_is_not_written_any_more(change, tmp_path):
    with MetricsLog(tmp_path / "m.jsonl") as log:
        log.append(records(1)[0])
        (tmp_path / "m.jsonl").write_bytes(change)
        with pytest.raises(CheckpointError, match=rf"has {len(change)} bytes instead of the .*another process"):
            log.append(records(2)[1])
    assert (tmp_path / "m.jsonl").read_bytes() == change


def test_a_number_that_is_not_finite_is_refused_by_name(tmp_path):
    with (
        MetricsLog(tmp_path / "m.jsonl") as log,
        pytest.raises(NumericalError, match=r"iteration 7: 'update/kl' of the log record is not finite"),
    ):
        log.append({"iteration": 7, "update/kl": float("nan"), "update/loss": 1.0})
    assert read_records(tmp_path / "m.jsonl") == []
