"""Dates of a price file: one form for the whole column, never a guess, strictly rising days."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from itertools import pairwise

MOST_GAP_DAYS = 14
"""Longest time between two rows of daily prices; exchanges have closed for a week."""
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_TIME = r"(?:[T ](?P<h>\d{2}):(?P<min>\d{2})(?::(?P<s>\d{2})(?:\.\d{1,9})?)?\s?(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?)?"
_FORMS = {
    "2024-01-31": re.compile(r"(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})" + _TIME),
    "2024/01/31": re.compile(r"(?P<y>\d{4})/(?P<m>\d{1,2})/(?P<d>\d{1,2})" + _TIME),
    "20240131": re.compile(r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})"),
    "31.01.2024": re.compile(r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})"),
    "31 Jan 2024": re.compile(r"(?P<d>\d{1,2})[ -](?P<month>[A-Za-z]{3,9})\.?[ -](?P<y>\d{4})"),
    "Jan 31, 2024": re.compile(r"(?P<month>[A-Za-z]{3,9})\.? (?P<d>\d{1,2}),? (?P<y>\d{4})"),
    "31/01/2024 or 01/31/2024": re.compile(r"(?P<a>\d{1,2})(?P<by>[/-])(?P<b>\d{1,2})(?P=by)(?P<y>\d{4})"),
}
_KNOWN = "2024-01-31, 2024/01/31, 20240131, 31.01.2024, 31 Jan 2024, Jan 31, 2024 or 31/01/2024"

Blame = Callable[[int, str], Exception]
"""Returns the error for what is wrong with the date in row k."""


def looks_like_date(text: str) -> bool:
    """Return whether a cell has the form of a date."""
    return any(form.fullmatch(text.strip()) for form in _FORMS.values())


def read_dates(cells: Sequence[str], blame: Blame) -> list[date]:
    """Return the days of a column, which rise strictly, without long gaps; raises what `blame` returns otherwise."""
    form = next((name for name, pattern in _FORMS.items() if pattern.fullmatch(cells[0])), None)
    if form is None:
        raise blame(0, f"the date is {cells[0][:40]!r}, expected {_KNOWN}; write dates as 2024-01-31")
    matches = []
    for row, cell in enumerate(cells):
        match = _FORMS[form].fullmatch(cell)
        if match is None:
            raise blame(row, f"the date is {cell[:40]!r}, expected the form of the first one, {form}; use one form")
        matches.append(match.groupdict())
    if "a" in matches[0]:
        _decide_order(matches, cells, blame)
    _check_zones(matches, cells, blame)
    days = [_day(parts, cells[row], row, blame) for row, parts in enumerate(matches)]
    _check_rising(days, blame)
    return days


def _decide_order(matches: list[dict[str, str]], cells: Sequence[str], blame: Blame) -> None:
    """Say which number is the month: the one that never exceeds 12, if the other does somewhere."""
    day_first = next((row for row, parts in enumerate(matches) if int(parts["a"]) > 12), None)
    month_first = next((row for row, parts in enumerate(matches) if int(parts["b"]) > 12), None)
    if day_first is None and month_first is None:
        what = f"the date {cells[0]!r} may be day/month or month/day, and no other date tells"
        raise blame(0, f"{what}, expected one meaning; write dates as 2024-01-31")
    if day_first is not None and month_first is not None:
        row = max(day_first, month_first)
        other = cells[min(day_first, month_first)]
        raise blame(row, f"the date {cells[row]!r} has day and month in another order than {other!r}; use one order")
    for parts in matches:
        parts["d"], parts["m"] = (parts["a"], parts["b"]) if day_first is not None else (parts["b"], parts["a"])


def _check_zones(matches: list[dict[str, str]], cells: Sequence[str], blame: Blame) -> None:
    """Refuse a mixture of time zones; summer time, an hour's difference, is none."""
    zones = [_minutes(parts.get("zone")) for parts in matches]
    for row, zone in enumerate(zones):
        first = zones[0]
        if (zone is None) != (first is None) or (zone is not None and first is not None and abs(zone - first) > 60):
            what = f"the date {cells[row]!r} is in another time zone than {cells[0]!r}"
            raise blame(row, f"{what}, expected one zone; write plain dates as 2024-01-31")


def _minutes(zone: str | None) -> int | None:
    if zone is None:
        return None
    digits = zone[1:].replace(":", "")
    return int(zone[0] + "1") * (int(digits[:2]) * 60 + int(digits[2:])) if zone[0] in "+-" else 0


def _day(parts: dict[str, str], cell: str, row: int, blame: Blame) -> date:
    month = parts.get("month")
    try:
        number = int(parts["m"]) if month is None else _month(month)
        if int(parts.get("h") or 0) > 23 or int(parts.get("min") or 0) > 59 or int(parts.get("s") or 0) > 59:
            raise ValueError
        return date(int(parts["y"]), number, int(parts["d"]))
    except ValueError:
        raise blame(row, f"the date is {cell[:40]!r}, expected a day that exists; correct it") from None


def _month(word: str) -> int:
    """Return 1 to 12 for an English name or its beginning, else 0, which no date has."""
    return next((k for k, name in enumerate(_MONTHS, 1) if name.startswith(word.lower())), 0)


def _check_rising(days: Sequence[date], blame: Blame) -> None:
    """Refuse days that fall, repeat or are far apart."""
    pairs = list(pairwise(days))
    if len(days) > 1 and all(late < early for early, late in pairs):
        raise blame(1, f"{days[1]} comes after {days[0]}: newest first, expected oldest first; reverse the rows")
    for row, (early, late) in enumerate(pairs, start=1):
        if late < early:
            raise blame(row, f"{late} comes after {early}, expected rising dates; sort the rows by date")
        if late == early:
            raise blame(row, f"{late} is there twice, expected one price a day; keep one of the two rows")
    for row, (early, late) in enumerate(pairs, start=1):
        if late - early > timedelta(MOST_GAP_DAYS):
            what = (
                f"nothing between {early} and {late}, expected daily prices with at most {MOST_GAP_DAYS} days between"
            )
            raise blame(row, f"{what}; fill the gap, or begin after it")
    gaps = sorted(late - early for early, late in pairs)
    if gaps and gaps[len(gaps) // 2] > timedelta(3):
        what = f"most rows are {gaps[len(gaps) // 2].days} days apart, expected daily prices"
        raise blame(1, f"{what}; take daily data")
