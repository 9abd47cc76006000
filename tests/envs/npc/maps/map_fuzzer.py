"""Drawn worlds damaged in every way we could think of: `python -m tests.envs.npc.maps.map_fuzzer --files 10000`.

Every damaged file must load as a valid world or raise MapError within a few seconds; anything else is a finding.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metarl.envs.npc.maps.decentraland import read_decentraland
from metarl.envs.npc.maps.faults import MapError
from metarl.envs.npc.maps.samples import FOLDER, SAMPLES, SCENE, load_sample
from metarl.envs.npc.maps.scene import COMPOSITE
from metarl.envs.npc.maps.tiled import read_tiled
from metarl.envs.npc.maps.tiled_save import save_tiled
from metarl.provenance import provenance
from tests.envs.npc.maps.tiled_whole import save, whole_map

LIMIT_S = 10.0
"""A file that takes more CPU time hangs."""
KINDS = ("tmx", "tmj", "tsx", "scene", "composite", "glb")

NASTY: list[Any] = [
    0, -1, 1, 3, 65, 255, 4096, 2**31 - 1, 2**31, 2**32, 2**63, 10**19, 0.5, -0.0, 1e-320, 1e9, 1e308, True, False,
    None, "", " ", "0", "-7", "1e999", "nan", "inf", "9" * 5000, "../../../../etc/passwd", "/dev/zero", "npcworld.tsx",
    "csv", "base64", "zlib", "gzip", "zstd", "exhibit", "spawn", "exibit", "music:1e309", "\ud800", "\x00", "é" * 300,
    "a\nb", [], {}, [[]], [0], ["x"], {"x": 1}, [1e9, 1e9, 1e9], {"x": float("1e300"), "y": 0, "z": 0},
]  # fmt: skip
"""Values that no map should have where it has others."""


class HangError(BaseException):
    """A file took longer than LIMIT_S; nothing catches it by accident."""


@dataclass
class Findings:
    """What the damaged files came to."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """{"kind: loaded" or "kind: refused" or "kind: FINDING ...": files}"""
    bad: list[tuple[str, str]] = field(default_factory=list)
    """(kind and number of the file, what happened)"""
    slowest_s: float = 0.0
    """CPU time of the slowest file"""
    messages: set[str] = field(default_factory=set)
    """kinds of message, numbers and names left out"""


class Corpus:
    """Good files to damage, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(FOLDER, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        worlds = [load_sample(name) for name in SAMPLES]
        for number, encoding in enumerate(("csv", "base64", "zlib", "gzip")):
            for ending in ("tmx", "tmj"):
                path = folder / f"more-{encoding}.{ending}"
                save_tiled(worlds[number % 3], path, encoding=encoding, infinite=bool(number % 2))
        for ending in ("tmx", "tmj"):  # offsets, alignments, polygons, collections, nearly all that the format can say
            save(whole_map(), folder / f"whole.{ending}")
        self.maps = {e: [p.read_bytes() for p in sorted(folder.glob(f"*.{e}"))] for e in ("tmx", "tmj", "tsx")}
        self.scene = folder / SCENE
        self.parts = {"scene": Path("scene.json"), "composite": Path(COMPOSITE)}
        self.models = sorted((self.scene / "assets").rglob("*.glb"))
        self.good = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def try_one(self, kind: str, rng: np.random.Generator) -> None:
        """Damage one file of a kind and load it; raises whatever loading raises."""
        if kind in ("tmx", "tmj"):
            content = self.maps[kind][rng.integers(len(self.maps[kind]))]
            path = self.folder / f"damaged.{kind}"
            path.write_bytes(damage(content, kind, rng))
            read_tiled(path)
            return
        if kind == "tsx":
            path, read = self.folder / "npcworld.tsx", lambda: read_tiled(self.folder / SAMPLES["plaza-market"])
        else:
            path = self.models[rng.integers(len(self.models))] if kind == "glb" else self.scene / self.parts[kind]
            read = lambda: read_decentraland(self.scene)  # noqa: E731
        try:
            path.write_bytes(damage(self.good[path], "tmx" if kind == "tsx" else kind, rng))
            read()
        finally:
            path.write_bytes(self.good[path])


def damage(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Return a damaged copy: one to four rounds of damage to bytes, to words, or to the structure."""
    structure = {"tmx": _damage_xml, "glb": _damage_glb}.get(kind, _damage_json)
    ways: list[Callable[[bytes, np.random.Generator], bytes]] = [_damage_bytes, _damage_words, structure, structure]
    for _ in range(int(rng.integers(1, 5))):
        content = ways[rng.integers(len(ways))](content, rng)
    return content


def _damage_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    if not content:
        return b"<"
    work, at = bytearray(content), int(rng.integers(len(content)))
    length = int(rng.integers(1, 64))
    way = int(rng.integers(5))
    if way == 0:
        for place in rng.integers(len(work), size=int(rng.integers(1, 9))):
            work[place] ^= 1 << int(rng.integers(8))
    elif way == 1:
        del work[at:]
    elif way == 2:
        del work[at : at + length]
    elif way == 3:
        work[at:at] = work[at : at + length] * int(rng.integers(1, 5))
    else:
        work[at:at] = rng.integers(256, size=length, dtype=np.uint8).tobytes()
    return bytes(work)


def _damage_words(content: bytes, rng: np.random.Generator) -> bytes:
    """Put something else for one number or quoted word."""
    marks = [k for k, byte in enumerate(content) if byte in b'"0123456789,']
    if not marks:
        return content
    at = marks[rng.integers(len(marks))]
    end = at + 1
    while end < len(content) and content[end] not in b'",<>{}[] \n':
        end += 1
    value = _nasty(rng)
    text = value if isinstance(value, str) else json.dumps(value)
    return content[:at] + text.encode("utf-8", "surrogatepass") + content[end:]


def _nasty(rng: np.random.Generator) -> Any:
    return NASTY[rng.integers(len(NASTY))]


def _damage_json(content: bytes, rng: np.random.Generator) -> bytes:
    try:
        root = json.loads(content)
    except (ValueError, RecursionError):
        return content
    parent, key = None, None
    here = root
    while isinstance(here, dict | list) and here and (parent is None or rng.random() < 0.8):
        keys = list(here) if isinstance(here, dict) else range(len(here))
        parent, key = here, keys[rng.integers(len(keys))]
        here = here[key]
    if parent is None:
        return content
    way = int(rng.integers(5))
    if way == 0:
        del parent[key]
    elif way == 1 and isinstance(parent, list):
        parent.extend([here] * int(rng.integers(1, 40)))
    elif way == 2:
        for _ in range(int(rng.integers(1, 60))):
            here = [here] if rng.random() < 0.5 else {"layers": [here], "x": here}
            if len(json.dumps(here)) > 100_000:
                break
        parent[key] = here
    elif way == 3 and isinstance(parent, dict):
        parent[str(_nasty(rng))] = parent.pop(key)
    else:
        parent[key] = _nasty(rng)
    return json.dumps(root).encode()


def _damage_xml(content: bytes, rng: np.random.Generator) -> bytes:
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError):
        return content
    elements = list(root.iter())
    element, other = (elements[rng.integers(len(elements))] for _ in range(2))
    names = list(element.attrib)
    way = int(rng.integers(6))
    if way == 0 and names:
        del element.attrib[names[rng.integers(len(names))]]
    elif way == 1 and names:
        element.attrib[names[rng.integers(len(names))]] = str(_nasty(rng))
    elif way == 2 and len(element):
        element.remove(element[rng.integers(len(element))])
    elif way == 3 and len(elements) < 5000 and other not in set(element.iter()):
        other.append(element)  # now in two places, or below another parent
    elif way == 4:
        element.text = str(_nasty(rng))
    else:
        element.tag = ("map", "layer", "data", "chunk", "object", "tile", "group", "template")[rng.integers(8)]
    if len(list(_bounded(root))) > 20_000:
        return content
    return ElementTree.tostring(root).decode("utf-8", "replace").encode()


def _bounded(root: ElementTree.Element) -> Any:
    for count, element in enumerate(root.iter()):
        if count > 20_000:
            return
        yield element


def _damage_glb(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage the description of a model, or only its corners, and pack it again with lengths that fit."""
    if len(content) < 20 or content[:4] != b"glTF":
        return content
    (size,) = struct.unpack_from("<I", content, 12)
    text, rest = content[20 : 20 + size], content[20 + size :]
    if rng.random() < 0.8:
        text = _damage_json(text, rng)
    elif len(rest) > 8:
        rest = rest[:8] + _damage_bytes(rest[8:], rng)
        rest = struct.pack("<I", len(rest) - 8) + rest[4:]
    body = struct.pack("<II", len(text), 0x4E4F534A) + text + rest
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


@contextmanager
def time_limit(seconds: float) -> Any:
    """Raise HangError after some seconds of CPU time, or six times as many of wall clock (a busy machine is no hang).

    Main thread only.
    """

    def hang(*_: object) -> None:
        raise HangError(f"longer than {seconds} s")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, 6 * seconds)}
    before = {number: signal.signal(number, hang) for number in timers}
    try:
        for timer, limit in timers.values():
            signal.setitimer(timer, limit)
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def fuzz(folder: Path, files: int, seed: int) -> Findings:
    """Damage and load `files` files, the kinds in turn."""
    corpus, findings = Corpus(folder), Findings()
    for number in range(files):
        kind = KINDS[number % len(KINDS)]
        began = time.process_time()
        try:
            with time_limit(LIMIT_S):
                corpus.try_one(kind, np.random.default_rng([seed, number]))
            outcome = "loaded"
        except MapError as error:
            outcome = "refused"
            for fault in error.faults:
                findings.messages.add("".join(c for c in fault.what.split("'")[0] if not c.isdigit())[:60])
            text = "\n".join([str(error), *map(str, error.faults)])
            if not text.isascii() and text.encode("utf-8", "replace").decode() != text:
                findings.bad.append((f"{kind} {number}", f"unprintable message {text!r}"))
            if any("\n" in line for line in (str(error), *map(str, error.faults))):
                findings.bad.append((f"{kind} {number}", f"message of several lines {text!r}"))
        except (Exception, HangError) as error:
            outcome = f"FINDING {type(error).__name__}"
            findings.bad.append((f"{kind} {number}", f"{type(error).__name__}: {error}"))
        findings.slowest_s = max(findings.slowest_s, time.process_time() - began)
        findings.outcomes[f"{kind}: {outcome}"] += 1
    return findings


def main() -> int:
    """Run and report; 1 if there is any finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write what was found")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        fuzz(Path(folder) / "warm-up", len(KINDS), 0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        findings = fuzz(Path(folder) / "run", arguments.files, arguments.seed)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    for outcome, count in sorted(findings.outcomes.items()):
        print(f"{count:>7}  {outcome}")
    for file, what in findings.bad[:20]:
        print(f"seed {arguments.seed}, {file}: {what}")
    print(f"{arguments.files} damaged files in {time.perf_counter() - began:.0f} s: {len(findings.bad)} findings")
    print(
        f"slowest {findings.slowest_s:.2f} s, peak memory {grown:+.0f} MiB, {len(findings.messages)} kinds of message"
    )
    if arguments.json is not None:
        stored = {
            "command": f"python -m tests.envs.npc.maps.map_fuzzer --files {arguments.files} --seed {arguments.seed}",
            "outcomes": dict(sorted(findings.outcomes.items())),
            "findings": [{"file": str(file), "what": what} for file, what in findings.bad],
            "slowest_s": findings.slowest_s,
            "memory_grown_mib": grown,
            "kinds_of_message": len(findings.messages),
            "provenance": provenance(),
        }
        arguments.json.write_text(json.dumps(stored, indent=1) + "\n")
    return bool(findings.bad)


if __name__ == "__main__":
    sys.exit(main())
