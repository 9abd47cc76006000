"""Price files: what they say is what is replayed, or one line says what is wrong, where, and what to do."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from metarl import envs
from metarl.envs.npc.assets import prices
from metarl.envs.npc.assets.prices import read_prices
from metarl.errors import ConfigError

DAYS = [date(2024, 1, 1) + timedelta(k) for k in range(60)]
GOOD = ["Date,A,B", *(f"{day},{100 + k},{50 + k / 2}" for k, day in enumerate(DAYS))]


def lines(*changes: tuple[int, str]) -> list[str]:
    """Return the good file with some lines (from 1) replaced."""
    changed = dict(changes)
    return [changed.get(number, line) for number, line in enumerate(GOOD, 1)]


def text(*changes: tuple[int, str]) -> bytes:
    return ("\n".join(lines(*changes)) + "\n").encode()


def dated(form: Callable[[date], str], header: str = "Date,A") -> bytes:
    return "\n".join([header, *(f'"{form(day)}",{100 + k}' for k, day in enumerate(DAYS))]).encode()


def us(day: date) -> str:
    return f"{day:%m/%d/%Y}"


SHORT = [f"{day},1" for day in DAYS[:12]]
DAMAGED: dict[str, tuple[bytes, str]] = {
    "newest first": ("\n".join([GOOD[0], *GOOD[:0:-1]]).encode(), "line 3, column 'Date': 2024-02-28 comes after 2024-"
                     "02-29: newest first, expected oldest first; reverse the rows"),
    "shuffled": (text((10, GOOD[29]), (30, GOOD[9])), "line 11, column 'Date': 2024-01-10 comes after 2024-01-29, "
                 "expected rising dates; sort"),
    "doubled": (text((10, GOOD[8])), "line 10, column 'Date': 2024-01-08 is there twice"),
    "gap": ("\n".join(GOOD[:20] + GOOD[40:]).encode(), "line 21, column 'Date': nothing between 2024-01-19 and "),
    "weekly": ("\n".join([GOOD[0], *GOOD[1::7]]).encode(), "most rows are 7 days apart, expected daily prices"),
    "no date": (text((2, "day 0,1,1")), "line 2, column 'Date': the date is 'day 0', expected 2024-01-31, "),
    "another form": (text((9, "2024/01/08,1,1")), "line 9, column 'Date': the date is '2024/01/08', expected the form"),
    "no such day": (text((9, "2024-02-30,1,1")), "the date is '2024-02-30', expected a day that exists"),
    "no such hour": (text((9, "2024-01-08 25:00,1,1")), "expected a day that exists"),
    "no such month": (dated(lambda d: f"{d:%d} Foo {d:%Y}"), "the date is '01 Foo 2024', expected a day that exists"),
    "either": ("\n".join(["Date,A", *(f"0{k}/0{k}/2024,1" for k in range(1, 5))]).encode(), "day/month or month/day"),
    "both": (b"Date,A\n13/01/2024,1\n01/14/2024,1\n", "has day and month in another order than '13/01/2024'"),
    "two digits": (dated(lambda d: f"{d:%d/%m/%y}"), "the date is '01/01/24', expected"),
    "zones": (text((2, "2024-01-01 00:00+00:00,1,1"), *((n, GOOD[n - 1].replace(",", " 00:00+08:00,", 1))
                                                      for n in range(3, 62))), "is in another time zone than"),
    "zone missing": (text((2, "2024-01-01 00:00Z,1,1"), *((n, GOOD[n - 1].replace(",", " 00:00,", 1))
                                                         for n in range(3, 62))), "is in another time zone than"),
    "empty date": (text((7, ",1,1")), "line 7, column 'Date': the date is ''"),
    "serial": (dated(lambda d: str(45292 + d.toordinal())), "expected 2024-01-31"),
    "empty cell": (text((9, "2024-01-08,,1")), "line 9, column 'A': the price is '', expected a positive number"),
    "blank cell": (text((9, "2024-01-08,1,  ")), "line 9, column 'B': the price is ''"),
    "nan": (text((9, "2024-01-08,nan,1")), "line 9, column 'A': the price is 'nan'"),
    "inf": (text((9, "2024-01-08,inf,1")), "the price is 'inf'"),
    "overflow": (text((9, "2024-01-08,1e999,1")), "the price is '1e999'"),
    "tiny": (text((9, "2024-01-08,1e-300,1")), "the price is '1e-300'"),
    "zero": (text((9, "2024-01-08,0,1")), "the price is '0', expected a positive number"),
    "negative": (text((9, "2024-01-08,1,-3")), "line 9, column 'B': the price is '-3'"),
    "word": (text((9, "2024-01-08,N/A,1")), "the price is 'N/A'"),
    "underscore": (text((9, "2024-01-08,1_00,1")), "the price is '1_00'"),
    "other digits": (text((9, "2024-01-08,١٠٠,1")), "the price is '١٠٠'"),
    "currency": (text((9, "2024-01-08,$100,1")), "the price is '$100'"),
    "hexadecimal": (text((9, "2024-01-08,0x10,1")), "the price is '0x10'"),
    "decimal comma": (b"Date;A\n2024-01-01;1,5\n2024-01-02;1,6\n", "write a decimal point and no thousands separator"),
    "thousands": (b'Date,A\n2024-01-01,"1,234.5"\n', "line 2, column 'A': the price is '1,234.5'"),
    "bare thousands": (text((9, "2024-01-08,1,234.5,1")), "line 9: 4 cells, expected 3 as in the header; write"),
    "few cells": (text((9, "2024-01-08,1")), "line 9: 2 cells, expected 3"),
    "jump": (text((9, "2024-01-08,107000,53.5")), "the price goes from 106 to 107000 in a day"),
    "no header": ("\n".join(GOOD[1:]).encode(), "line 1: it begins with the date '2024-01-01', expected a header"),
    "doubled name": (text((1, "Date,A,A")), "line 1: its header has 'A' twice"),
    "empty name": (text((1, "Date,A,")), "line 1: cell 3 of its header is empty"),
    "one column": (b"A\n1\n2\n", "line 1: its header has one column only"),
    "two delimiters": (b"Date;A,x;B\n", "line 1: its header has commas and semicolons, expected"),
    "one asset": ("\n".join(["Date,Open,High,Low,Close,Volume", *(f"{d},1,1,1,1,9" for d in DAYS)]).encode(),
                  "its columns Open, High, Low are about one asset, expected one each; pass columns=Close"),
    "header only": (b"Date,A\n", "no row after the header"),
    "empty": (b"", "it is empty"),
    "blank": (b"\n \n\n", "it is empty"),
    "few days": ("\n".join(["Date,A", *SHORT]).encode(), "has 12 days, expected more than 40"),
    "open quote": (b'Date,A\n2024-01-01,"1\n', "its quotes are damaged"),
    "quote inside": (b'Date,A\n2024-01-01,"1"2\n', "line 2: its quotes are damaged"),
    "long field": (b'Date,A\n2024-01-01,"' + b"x" * 200_000 + b'"\n', "its quotes are damaged (field larger than"),
    "UTF-16": (text().decode().encode("utf-16"), "it is UTF-16 text, expected UTF-8"),
    "UTF-16 bare": (text().decode().encode("utf-16-le"), "it is binary"),
    "Latin-1": (text((4, "2024-01-03,102,é")).decode().encode("latin-1"), "line 4: byte 0xe9 is not UTF-8"),
    "spreadsheet": (b"PK\x03\x04" + bytes(40), "it is binary (a spreadsheet, an archive?)"),
    "cut gzip": (gzip.compress(text())[:-20], "its gzip data are cut off or damaged"),
    "head of gzip": (gzip.compress(text())[:6], "its gzip data are cut off or damaged"),
    "bad gzip": (gzip.compress(text())[:-8] + bytes(8), "its gzip data are cut off or damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused_in_one_line_that_says_where_and_what_to_do(tmp_path: Path, case: str) -> None:
    content, says = DAMAGED[case]
    file = tmp_path / "prices.csv"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        envs.make("npc/assets-replay", path=str(file), n_assets=1)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert says in message
    assert "\n" not in message
    assert "; " in message  # the remedy


def test_what_is_no_readable_file_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain.csv.gz").write_bytes(text())
    for path, says in ((tmp_path, "it is a folder"), (tmp_path / "none.csv", "no file"), (tmp_path / "a\0b", "no file"),
                       (tmp_path / "plain.csv.gz", "it is not gzip")):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            envs.make("npc/assets-replay", path=str(path))
    monkeypatch.setattr(prices, "MOST_BYTES", 2**20)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(text() + b"\n" * 2**22))
    with pytest.raises(ConfigError, match="it holds more than 1 MiB"):
        envs.make("npc/assets-replay", path=str(tmp_path / "bomb.csv.gz"))


READ = {
    "ISO": dated(str), "UTF-8 mark": b"\xef\xbb\xbf" + dated(str), "gzip": gzip.compress(dated(str)),
    "time": dated(lambda d: f"{d}T00:00:00"), "zone": dated(lambda d: f"{d} 00:00:00+00:00"),
    "summer time": dated(lambda d: f"{d} 00:00:00-0{5 - (d.month > 1)}:00"),
    "slashes": dated(lambda d: f"{d:%Y/%m/%d}"),
    "digits": dated(lambda d: f"{d:%Y%m%d}"), "dots": dated(lambda d: f"{d:%d.%m.%Y}"), "American": dated(us),
    "European": dated(lambda d: f"{d:%d/%m/%Y}"), "month": dated(lambda d: f"{d:%d-%b-%Y}"),
    "long month": dated(lambda d: f"{d:%b %d, %Y}"),
    "semicolons": dated(str).replace(b'",', b'";').replace(b"e,A", b"e;A"),
    "tabs": dated(str).replace(b'",', b'"\t').replace(b"e,A", b"e\tA"), "blank lines": dated(str) + b"\r\n\r\n",
    "bars": dated(str).replace(b'",', b'"|').replace(b"e,A", b"e|A"),
    "Windows lines": dated(str).replace(b"\n", b"\r\n"),
    "nameless dates": dated(str, header=",A"), "quoted header": dated(str, header='"Date","A"'),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_every_common_way_to_write_the_same_prices_is_the_same_world(tmp_path: Path, case: str) -> None:
    for name, content in (("this", READ[case]), ("plain", READ["ISO"])):
        (tmp_path / name).write_bytes(content)
    found = read_prices(tmp_path / "this")
    assert found.names == ("A",)
    assert found.days == tuple(DAYS)
    assert found.prices[:, 0].tolist() == [100.0 + k for k in range(60)]
    assert found.digest() == read_prices(tmp_path / "plain").digest()


def fingerprint(file: Path, content: bytes, **options: object) -> str:
    file.write_bytes(content)
    return envs.make("npc/assets-replay", path=str(file), n_assets=2, horizon=2, n_episodes=1, **options).fingerprint()


def test_fingerprints_know_which_column_is_which_its_days_and_its_prices(tmp_path: Path) -> None:
    plain = fingerprint(tmp_path / "a.csv", text())
    assert fingerprint(tmp_path / "b.csv", text()) == plain  # wherever the file lies
    swapped = [f"{a},{c},{b}" for a, b, c in (line.split(",") for line in GOOD)]
    later = [GOOD[0], *(line.replace("2024-", "2028-") for line in GOOD[1:])]
    nudged = text((3, GOOD[2] + "00001"))
    others = [
        fingerprint(tmp_path / "a.csv", "\n".join(swapped).encode()),
        fingerprint(tmp_path / "a.csv", "\n".join([GOOD[0].replace("A,B", "B,A"), *GOOD[1:]]).encode()),
        fingerprint(tmp_path / "a.csv", "\n".join(later).encode()),
        fingerprint(tmp_path / "a.csv", nudged),
        fingerprint(tmp_path / "a.csv", text(), columns="B,A"),
    ]
    assert len({plain, *others}) == 5
    assert others[0] == others[4]  # the same columns in the same order, named or swapped


def test_columns_chooses_series_and_the_rest_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "yahoo.csv"
    file.write_text("\n".join(["Date,Close,Volume", *(f"{d},{100 + k}," for k, d in enumerate(DAYS))]))
    family = envs.make("npc/assets-replay", path=str(file), columns="Close", n_assets=1, horizon=2, n_episodes=1)
    assert family.series.names == ("Close",)
    with pytest.raises(ConfigError, match=r"line 2, column 'Volume'"):
        read_prices(file, ["Close", "Volume"])
    with pytest.raises(ConfigError, match=r"no series 'Clos' .*Close"):
        envs.make("npc/assets-replay", path=str(file), columns="Clos")
    for own in ({"fee": "x"}, {"columns": 3}, {"fee": True}):
        with pytest.raises(ConfigError, match="npc/assets-replay option"):
            envs.make("npc/assets-replay", path=str(file), **own)


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    first = fingerprint(tmp_path / "a.csv", text())
    assert fingerprint(tmp_path / "a.csv", text((3, "2024-01-02,101.5,50.5"))) != first
