from __future__ import annotations

import json

import pytest

from metarl.errors import CheckpointError, NumericalError
from metarl.log import MetricsLog, cut, read_records


def records(n: int) -> list[dict[str, object]]:
    return [{"iteration": i, "train/post_return": 0.1 * i, "wall_s": 1.0 / i} for i in range(1, n + 1)]


def write(path, n: int) -> None:
    with MetricsLog(path) as log:
        for record in records(n):
            log.append(record)


def test_records_come_back_with_every_bit(tmp_path):
    write(tmp_path / "m.jsonl", 4)
    write(tmp_path / "m.jsonl", 2)  # appends
    assert read_records(tmp_path / "m.jsonl") == records(4) + records(2)


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
    with MetricsLog(path):
        pass
    assert cut(path, 9) == records(2)
    assert path.read_bytes().endswith(b"}\n")  # so that what is appended next starts a line of its own


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


def test_cut_drops_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "m.jsonl"
    write(path, 5)
    assert cut(path, 3) == records(3)
    assert [json.loads(line) for line in path.read_text().splitlines()] == records(3)
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_a_number_that_is_not_finite_is_refused_by_name(tmp_path):
    with (
        MetricsLog(tmp_path / "m.jsonl") as log,
        pytest.raises(NumericalError, match=r"iteration 7: 'update/kl' of the log record is not finite"),
    ):
        log.append({"iteration": 7, "update/kl": float("nan"), "update/loss": 1.0})
    assert read_records(tmp_path / "m.jsonl") == []
