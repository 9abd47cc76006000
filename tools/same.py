"""Does a change keep every number? `make same` holds this tree to the commit that added this file, bit for bit.

Both are measured on this machine in one call, each by its own `tools.digests` (names of code may differ between them,
names of what is measured may not) and with its own packages. `--base COMMIT` takes another commit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .digests import ROOT, measure

EXACT = ROOT / "tests" / "golden" / "exact.json"
SHOWN = 20
"""Names of each sort that a comparison lists."""


def compare(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a line for each sort of trouble and the first names of it: none if `now` holds all that was before."""
    sorts = {
        "differ": [name for name in before if name in now and before[name] != now[name]],
        "are missing": [name for name in before if name not in now],
    }
    return [
        line
        for what, names in sorts.items()
        if names
        for line in (f"{len(names)} of {len(before)} {what}:", *(f"  {name}" for name in names[:SHOWN]))
    ]


def measured(trees: Mapping[str, Path], folder: Path) -> list[dict[str, str]]:
    """Measure trees at the same time, one process and one thread each."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    running = []
    for name, tree in trees.items():
        command = [sys.executable, "-m", "tools.same", "--measure", str(folder / f"{name}.json")]
        running.append(subprocess.Popen(command, cwd=tree, env={**os.environ, **threads, "PYTHONPATH": str(tree)}))
    failed = [name for name, process in zip(trees, running, strict=True) if process.wait()]
    if failed:
        raise SystemExit(f"same: {', '.join(failed)} could not be measured")
    return [json.loads((folder / f"{name}.json").read_text()) for name in trees]


def git(*words: str) -> str:
    """Return what a git command prints."""
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True).stdout.strip()


def against(base: str) -> int:
    """Compare this tree with the commit `base`, or with the one that added this file; return the exit status."""
    commit = base or git("log", "--diff-filter=A", "--format=%H", "--", "tools/same.py").partition("\n")[0]
    if not commit:
        raise SystemExit("same: this checkout's history does not reach back to the commit that added it; give --base")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        git("archive", f"--output={folder / 'base.tar'}", commit)
        with tarfile.open(folder / "base.tar") as archive:
            archive.extractall(folder / "base", filter="data")
        before, now = measured({"base": folder / "base", "here": ROOT}, folder)
    trouble, new = compare(before, now), [name for name in now if name not in before]
    verdict = f"same: all {len(before)} digests of {commit[:10]}" if not trouble else f"not the same as {commit[:10]}"
    print(*(f"new: {name}" for name in new), *trouble, verdict, sep="\n")
    return 1 if trouble else 0


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tools.same", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", default="", help="commit to compare with (default: the one that added this file)")
    parser.add_argument("--measure", type=Path, metavar="JSON", help="only measure this tree, and write the digests")
    parser.add_argument("--write-exact", action="store_true", help=f"write {EXACT.relative_to(ROOT)} anew")
    options = parser.parse_args()
    target = EXACT if options.write_exact else options.measure
    if target is None:
        return against(options.base)
    target.write_text(json.dumps(measure(exact=options.write_exact), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
