"""What is read from a disk is what it should be, or an error in one line; what is written replaces plain files only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from metarl.checkpoint import replace_file
from metarl.errors import CheckpointError, ConfigError
from metarl.reading import MOST_DEPTH, check_real_folder, read_bytes, read_json, read_object, strict_json


def test_json_that_is_in_order_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null, true, "\\u00e9\\udcff"], "b": {}}')
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None, True, "é\udcff"], "b": {}}
    assert strict_json(b"[" * MOST_DEPTH + b"]" * MOST_DEPTH)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "a": 1}', "the key 'a' stands there twice"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b"[1e999]", "1e999 is too large a number"),
        (b"[" * (MOST_DEPTH + 1) + b"]" * (MOST_DEPTH + 1), f"nested deeper than {MOST_DEPTH}"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'"\xff"', "byte 1 is no UTF-8"),
        ("[1]".encode("utf-16"), "byte 0 is no UTF-8"),
        (b"9" * 5_000, "digits"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_may_mean_anything_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_json(tmp_path / "a.json", remedy="write it again")
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'} is damaged")
    assert str(caught.value).endswith("write it again")
    assert "\n" not in str(caught.value)


def test_the_type_of_each_key_is_held_to_and_truth_values_are_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"n": 3, "flag": true, "score": null}')
    assert read_object(tmp_path / "a.json", {"n": int, "flag": bool, "score": float | None, "absent": dict})["n"] == 3
    for kinds in ({"flag": int}, {"flag": int | float}, {"n": str}, {"score": int}):
        with pytest.raises(CheckpointError, match=f"{next(iter(kinds))} is .*, expected"):
            read_object(tmp_path / "a.json", kinds)
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(CheckpointError, match="a list, expected an object"):
        read_object(tmp_path / "b.json")


def _device(path: Path) -> None:
    os.symlink("/dev/zero", path)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a pipe"),
        (Path.mkdir, "a folder"),
        (_device, "a symbolic link"),
        (lambda path: path.symlink_to("whole"), "a symbolic link"),
        (lambda path: path.symlink_to("nowhere"), "a symbolic link"),
        (lambda path: path.symlink_to(path.name), "a symbolic link"),
    ],
)
def test_what_is_no_plain_file_is_neither_read_nor_replaced(tmp_path: Path, make: object, kind: str) -> None:
    (tmp_path / "whole").write_bytes(b"whole")
    make(tmp_path / "file")  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=f"is {kind}, expected a plain file"):
        read_bytes(tmp_path / "file")
    with pytest.raises(ConfigError, match=f"is {kind}, which a file would replace"):
        replace_file(tmp_path / "file", b"new")
    assert (tmp_path / "whole").read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_large_file_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.truncate(tmp_path / "file", 2**40)
    with pytest.raises(CheckpointError, match=f"has {2**40} bytes, expected at most"):
        read_bytes(tmp_path / "file")
    assert read_bytes(tmp_path / "other", most=3) == b"abc" if (tmp_path / "other").write_bytes(b"abc") else False
    with pytest.raises(CheckpointError, match="has 3 bytes, expected at most 2"):
        read_bytes(tmp_path / "other", most=2)


def test_the_null_device_stays_what_it_is(tmp_path: Path) -> None:
    before = os.lstat(os.devnull)
    replace_file(Path(os.devnull), b"gone")
    assert (os.lstat(os.devnull).st_mode, os.lstat(os.devnull).st_ino) == (before.st_mode, before.st_ino)


def test_a_file_is_replaced_whole_past_links_that_were_planted_for_its_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / ".file.tmp").symlink_to("precious")
    replace_file(tmp_path / "file", b"one")
    replace_file(tmp_path / "file", b"two")
    assert (tmp_path / "file").read_bytes() == b"two"
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".file.tmp", "file", "precious"]
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    os.umask(found := os.umask(0o022))
    return found


def test_a_folder_that_is_a_link_is_no_place_for_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    check_real_folder(tmp_path / "real")
    check_real_folder(tmp_path / "absent")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(CheckpointError, match="is a symbolic link, expected a folder"):
        check_real_folder(tmp_path / "link")
