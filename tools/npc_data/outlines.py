"""Letters of 23 scripts as 64x64 bitmaps, filled from the outlines in freely licensed fonts."""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs.npc.companion.glyphs import SCRIPTS, SIZE
from metarl.errors import ConfigError

from .carriers import CARRIERS, fetch, member

MOST_LETTERS = 80
"""Letters kept per script; of larger ones every k-th, so that all parts of the script are there."""
MARGIN = 4
"""Empty pixels around a letter's box."""
SAME = 0.75
"""Letters whose boxes, filled to the same size, share more than this part of their ink (intersection over union)
count as one: A in Latin, Greek and Cyrillic, or o beside O."""
WIDEST = 2.5
"""Letters wider than this many times their height are left out: at 28 pixels they cannot be read."""
_CURVE_POINTS = 8
"""Straight pieces per quadratic curve."""

DEJAVU = "DejaVuSans.ttf"
DEJAVU_SHA256 = "3fdf69cabf06049ea70a00b5919340e2ce1e6d02b0cc3c4b44fb6801bd1e0d22"


@dataclass(frozen=True)
class Script:
    """Where the letters of a script are."""

    ranges: tuple[tuple[int, int], ...]
    """Code points, both ends included; only letters (Unicode category L) that are not composed of others count."""
    package: str | None = None
    """Carrier of the font; None for matplotlib's DejaVu Sans."""
    font: str = DEJAVU
    """Path in the carrier."""


def _noto(package: str, name: str) -> tuple[str, str]:
    folder = package.replace("-", "_")
    return package, f"{folder}/fonts/ofl/{name.lower()}/{name}[wdth,wght].ttf"


_SOUTH, _SEA, _AFRICA = "justmytype-intl-south-asia", "justmytype-intl-sea", "justmytype-intl-africa"

SOURCES = {
    "latin": Script(((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0xFF))),
    "greek": Script(((0x391, 0x3A9), (0x3B1, 0x3C9))),
    "cyrillic": Script(((0x402, 0x45F), (0x48A, 0x4B0))),
    "armenian": Script(((0x531, 0x556), (0x561, 0x586))),
    "georgian": Script(((0x10D0, 0x10FA),)),
    "khutsuri": Script(((0x10A0, 0x10C5), (0x2D00, 0x2D25))),
    "hebrew": Script(((0x5D0, 0x5EA),)),
    "arabic": Script(((0x620, 0x64A), (0x671, 0x6D3))),
    "nko": Script(((0x7CA, 0x7EA),)),
    "lao": Script(((0xE81, 0xEB0), (0xEBD, 0xEC4), (0xEDC, 0xEDF))),
    "tifinagh": Script(((0x2D30, 0x2D67),)),
    "lisu": Script(((0xA4D0, 0xA4F7),)),
    "ogham": Script(((0x1681, 0x169A),)),
    "old-italic": Script(((0x10300, 0x1031F),)),
    "canadian": Script(((0x1401, 0x1676),)),
    "devanagari": Script(((0x904, 0x939), (0x960, 0x961), (0x972, 0x97F)), *_noto(_SOUTH, "NotoSansDevanagari")),
    "bengali": Script(((0x985, 0x9B9), (0x9CE, 0x9CE), (0x9E0, 0x9F1)), *_noto(_SOUTH, "NotoSansBengali")),
    "tamil": Script(((0xB83, 0xBB9),), *_noto(_SOUTH, "NotoSansTamil")),
    "telugu": Script(((0xC05, 0xC39), (0xC58, 0xC61)), *_noto(_SOUTH, "NotoSansTelugu")),
    "thai": Script(((0xE01, 0xE30), (0xE40, 0xE45)), *_noto(_SEA, "NotoSansThai")),
    "khmer": Script(((0x1780, 0x17B3),), *_noto(_SEA, "NotoSansKhmer")),
    "myanmar": Script(((0x1000, 0x1028), (0x1050, 0x1055), (0x1075, 0x1081)), *_noto(_SEA, "NotoSansMyanmar")),
    "ethiopic": Script(((0x1200, 0x1357),), *_noto(_AFRICA, "NotoSansEthiopic")),
}


def _dejavu() -> bytes:
    """Return the font that matplotlib carries; raises ConfigError if it is not the pinned one."""
    import matplotlib

    data = (Path(matplotlib.get_data_path()) / "fonts" / "ttf" / DEJAVU).read_bytes()
    if (got := hashlib.sha256(data).hexdigest()) != DEJAVU_SHA256:
        raise ConfigError(
            f"matplotlib's {DEJAVU} has sha256 {got}; expected {DEJAVU_SHA256}; install matplotlib 3.11.2"
        )
    return data


def is_letter(code: int) -> bool:
    """Return True for letters that stand for themselves: no marks, no composites such as an accented A."""
    character = chr(code)
    return unicodedata.category(character) in ("Lu", "Ll", "Lo") and not unicodedata.decomposition(character)


def contours(glyphs: Any, name: str) -> list[NDArray[np.float64]]:
    """Return the closed polygons [k, 2] of one glyph, its curves cut into straight pieces."""
    from fontTools.pens.recordingPen import DecomposingRecordingPen

    pen = DecomposingRecordingPen(glyphs)
    glyphs[name].draw(pen)
    done: list[NDArray[np.float64]] = []
    points: list[tuple[float, float]] = []
    for verb, args in pen.value:
        if verb in ("closePath", "endPath"):
            done.append(np.array(points, float))
            points = []
        elif verb == "qCurveTo":
            points += _quadratic(points[-1] if points else None, args)
        else:
            points += args
    return [c for c in done if len(c) >= 3]


def _quadratic(start: tuple[float, float] | None, args: tuple[Any, ...]) -> list[tuple[float, float]]:
    """Return points along a TrueType spline; between two off-curve points there is one on the curve."""
    off = list(args[:-1])
    end = args[-1]
    if end is None:  # a contour of off-curve points alone
        end = tuple((np.array(off[-1]) + off[0]) / 2)
        start = end
    assert start is not None
    out: list[tuple[float, float]] = [] if args[-1] is not None else [start]
    begin = np.array(start, float)
    for k, control in enumerate(off):
        middle = np.array(control, float)
        last = np.array(end if k == len(off) - 1 else (middle + off[k + 1]) / 2, float)
        t = np.arange(1, _CURVE_POINTS + 1)[:, None] / _CURVE_POINTS
        out += [tuple(p) for p in (1 - t) ** 2 * begin + 2 * t * (1 - t) * middle + t**2 * last]
        begin = last
    return out if off else [*out, end]


def fill(polygons: list[NDArray[np.float64]], size: int, margin: int, *, stretch: bool = False) -> NDArray[np.bool_]:
    """Return bool [size, size]: the inside of polygons (non-zero winding) fitted into the middle of a square.

    With `stretch` the box is filled in both directions; otherwise the letter keeps its proportions.
    """
    everything = np.concatenate(polygons)
    low, high = everything.min(0), everything.max(0)
    extent = np.maximum(high - low, 1e-9)
    scale = (size - 2 * margin) / (extent if stretch else extent.max())
    centre = (low + high) / 2
    pixel = np.arange(size) + 0.5
    winding = np.zeros((size, size), int)
    for polygon in polygons:
        placed = (polygon - centre) * scale * (1, -1) + size / 2
        x0, y0 = placed.T
        x1, y1 = np.roll(placed, -1, 0).T
        for ax, ay, bx, by in zip(x0, y0, x1, y1, strict=True):
            if ay == by:
                continue
            rows = np.nonzero((pixel >= min(ay, by)) & (pixel < max(ay, by)))[0]
            crossing = ax + (pixel[rows] - ay) * (bx - ax) / (by - ay)
            winding[rows] += np.where(pixel[None] > crossing[:, None], np.sign(by - ay).astype(int), 0)
    inside: NDArray[np.bool_] = winding != 0
    return inside


def _candidates(font: bytes, ranges: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, list[NDArray[np.float64]]]]:
    """Yield (code point, polygons) of the letters a font has in `ranges`."""
    from fontTools.ttLib import TTFont

    face = TTFont(io.BytesIO(font), lazy=True)
    names, glyphs = face.getBestCmap(), face.getGlyphSet()
    for first, last in ranges:
        for code in range(first, last + 1):
            if code in names and is_letter(code):
                polygons = contours(glyphs, names[code])
                if polygons and _proportion(polygons) <= WIDEST:
                    yield code, polygons


def _proportion(polygons: list[NDArray[np.float64]]) -> float:
    """Return width over height."""
    everything = np.concatenate(polygons)
    width, height = everything.max(0) - everything.min(0)
    return float(width / max(height, 1e-9))


def _thin(n: int) -> list[int]:
    """Return which of n letters are kept."""
    return sorted({k * n // min(n, MOST_LETTERS) for k in range(min(n, MOST_LETTERS))})


def _overlap(shape: NDArray[np.bool_], others: NDArray[np.bool_]) -> float:
    """Return the largest intersection over union of `shape` [S, S] with `others` [K, S, S]."""
    if not len(others):
        return 0.0
    both = (shape & others).sum((1, 2))
    return float((both / (shape | others).sum((1, 2))).max())


def glyph_arrays(carriers: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of glyphs.npz: "bits" uint8 [L, 512], "script" uint8 [L], "code" int32 [L].

    Scripts are in the order of `glyphs.SCRIPTS`, letters in that of their code points; of two letters of one shape
    the first stays.
    """
    bits, scripts, codes = [], [], []
    shapes = np.zeros((0, 32, 32), bool)
    for number, name in enumerate(SCRIPTS):
        source = SOURCES[name]
        font = member(fetch(CARRIERS[source.package], carriers), source.font) if source.package else _dejavu()
        new = []
        for code, polygons in _candidates(font, source.ranges):
            shape = fill(polygons, 32, 0, stretch=True)
            if _overlap(shape, shapes) < SAME:
                shapes = np.concatenate([shapes, shape[None]])
                new.append((code, fill(polygons, SIZE, MARGIN)))
        for k in _thin(len(new)):
            codes.append(new[k][0])
            bits.append(np.packbits(new[k][1]))
            scripts.append(number)
    return {"bits": np.stack(bits), "script": np.array(scripts, np.uint8), "code": np.array(codes, np.int32)}
