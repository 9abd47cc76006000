"""Files of daily prices that people download: each cell is what it says, or one line says what is wrong and where."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import stat
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from metarl.errors import ConfigError, nearest

from .price_dates import looks_like_date, read_dates

MOST_BYTES = 32 * 2**20
"""Largest file, unpacked."""
MOST_SERIES = 2000
"""Most columns of prices."""
LEAST_PRICE, MOST_PRICE = 1e-9, 1e12
MOST_RATIO = 100.0
"""Largest ratio of two prices that follow each other; more is a slipped decimal or a split that was not adjusted."""
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_PRICE = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ONE_ASSET = ("open", "high", "low", "close", "adj close", "adj. close", "volume")
"""Columns of a table about one asset, which are no series of their own."""


@dataclass(frozen=True, eq=False)
class Prices:
    """What a file says."""

    names: tuple[str, ...]
    days: tuple[date, ...]
    prices: Tensor
    """float64 [T, S]"""

    def digest(self) -> str:
        """Return 16 hex digits that differ if any name, day or price does, or their order."""
        said = "\0".join((*self.names, "", *(day.isoformat() for day in self.days)))
        return hashlib.sha256(said.encode() + self.prices.contiguous().numpy().astype("<f8").tobytes()).hexdigest()[:16]


class _File:
    """A file, and how to blame it."""

    def __init__(self, shown: str) -> None:
        self.shown = shown

    def error(self, what: str, line: int = 0, column: str = "") -> ConfigError:
        """Return the error for a place: one line."""
        where = f" line {line}" * bool(line) + f", column {column[:40]!r}" * bool(column)
        return ConfigError(f"{self.shown}{where}: {what}")


def read_prices(path: Path, columns: Sequence[str] = ()) -> Prices:
    """Return the prices in a CSV file: a header, then rows of a date and one price per series, oldest first.

    columns: names of the series to use, in this order; all of them if none is named. Raises: ConfigError with file,
    line and column of the first thing that is not as expected.
    """
    file = _File(str(path))
    text = _text(_content(path, file), file)
    rows = _rows(text, file)
    header = [name.strip() for name in rows[0][1]]
    chosen = _choose(header, columns, file)
    body = rows[1:]
    for line, row in body:
        if len(row) != len(header):
            what = f"{len(row)} cells, expected {len(header)} as in the header"
            raise file.error(f"{what}; write prices without thousands separators and quote names that hold one", line)
    if not body:
        raise file.error("no row after the header, expected a date and prices in each; add rows")
    days = read_dates([row[0].strip() for _, row in body], lambda k, what: file.error(what, body[k][0], header[0]))
    values = [[_price(row[at], header[at], line, file) for at in chosen] for line, row in body]
    names, prices = [header[at] for at in chosen], torch.tensor(values, dtype=torch.float64)
    _check_ratios(prices, [line for line, _ in body], names, file)
    return Prices(tuple(names), tuple(days), prices)


def _content(path: Path, file: _File) -> bytes:
    """Return the bytes of a plain file, unpacked if gzip, bounded."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if path.is_dir() else "no plain file"
            raise file.error(f"it is {kind}, expected a CSV file; name the file")
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        if path.suffix == ".gz" and not packed:
            raise file.error("its name ends in .gz, but it is not gzip; rename or pack it")
        with gzip.open(path) if packed else path.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise file.error(f"its gzip data are cut off or damaged ({error}); download it again") from error
    except OSError as error:
        raise file.error(f"it cannot be read ({error.strerror or error}); check its name and permissions") from error
    if len(content) > MOST_BYTES:
        raise file.error(
            f"it holds more than {MOST_BYTES // 2**20} MiB, at most that is read; keep fewer series or days"
        )
    return content


def _text(content: bytes, file: _File) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise file.error("it is UTF-16 text, expected UTF-8; save it again as 'CSV UTF-8'")
    if b"\0" in content or content.startswith((b"PK\x03\x04", b"PAR1", b"%PDF")):
        raise file.error("it is binary (a spreadsheet, an archive?), expected CSV text; export it as CSV")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"byte {content[error.start]:#04x} is not UTF-8 (Latin-1 or Windows text?)"
        raise file.error(f"{what}, expected UTF-8; save it again as 'CSV UTF-8'", line) from error


def _rows(text: str, file: _File) -> list[tuple[int, list[str]]]:
    """Return (line, cells) of every row that is not blank; the first is the header."""
    head = next((line for line in text.splitlines() if line.strip()), "")
    if not head:
        raise file.error("it is empty, expected a header and rows of a date and prices; name another file")
    bare = re.sub(r'"(?:[^"]|"")*"', "", head)
    found = [mark for mark in DELIMITERS if mark in bare]
    if len(found) != 1:
        got = " and ".join(DELIMITERS[mark] for mark in found) if found else "one column only"
        what = f"its header has {got}, expected a date and prices with {', '.join(DELIMITERS.values())} between"
        raise file.error(f"{what}; use one of these, and quote names that hold another", 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=found[0], strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                rows.append((reader.line_num, row))
    except csv.Error as error:
        raise file.error(f"its quotes are damaged ({error}); close every quote", reader.line_num) from error
    return rows


def _choose(header: list[str], columns: Sequence[str], file: _File) -> list[int]:
    """Return the places of the series in a header that names each of them once."""
    if looks_like_date(header[0]):
        raise file.error(f"it begins with the date {header[0]!r}, expected a header that names the series; add one", 1)
    names = header[1:]
    if len(names) > MOST_SERIES:
        raise file.error(f"its header names {len(names)} series, at most {MOST_SERIES} are read; keep fewer", 1)
    if "" in names:
        raise file.error(f"cell {names.index('') + 2} of its header is empty, expected a name; name every series", 1)
    doubled = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if doubled is not None:
        raise file.error(f"its header has {doubled!r} twice, expected each name once; rename one", 1)
    for name in columns:
        if name not in names:
            raise file.error(f"no series {name!r} (option columns); {nearest(name, names)}", 1)
    mixed = [name for name in names if name.casefold() in _ONE_ASSET]
    if not columns and len(mixed) > 1:
        what = f"its columns {', '.join(mixed[:3])} are about one asset, expected one each"
        raise file.error(f"{what}; pass columns={mixed[-2] if mixed[-1].casefold() == 'volume' else mixed[-1]}", 1)
    return [names.index(name) + 1 for name in columns] if columns else list(range(1, len(header)))


def _price(cell: str, column: str, line: int, file: _File) -> float:
    text = cell.strip()
    value = float(text) if len(text) < 40 and _PRICE.fullmatch(text) else None
    if value is not None and LEAST_PRICE <= value <= MOST_PRICE:
        return value
    if not text:
        remedy = "fill it in, or leave the day or the series out"
    elif "," in text:
        remedy = "write a decimal point and no thousands separator"
    else:
        remedy = f"write a plain number from {LEAST_PRICE:g} to {MOST_PRICE:g}, or leave the day or the series out"
    raise file.error(f"the price is {text[:40]!r}, expected a positive number such as 1234.5; {remedy}", line, column)


def _check_ratios(prices: Tensor, lines: list[int], names: list[str], file: _File) -> None:
    ratio = prices[1:] / prices[:-1]
    for row, at in ((ratio > MOST_RATIO) | (ratio < 1 / MOST_RATIO)).nonzero()[:1].tolist():
        old, new = prices[row : row + 2, at].tolist()
        what = f"the price goes from {old:g} to {new:g} in a day, expected at most a factor {MOST_RATIO:g}"
        raise file.error(f"{what}; mend the decimal point, or adjust for splits", lines[row + 1], names[at])
