"""Check an installed copy: `smoke.py PREFIX` fails unless the package comes whole from below PREFIX."""

import importlib
import subprocess
import sys
from importlib.metadata import files, version
from pathlib import Path


def main() -> None:
    """Import the packages, look for the files that are no modules, and run one command."""
    prefix = Path(sys.argv[1]).resolve()
    for name in ("metarl", "metarl.envs", "metarl.agents", "metarl.experiments"):
        module = importlib.import_module(name)
        where = Path(str(module.__file__)).resolve()
        assert prefix in where.parents, f"{name} comes from {where}, not from {prefix}"
        assert (where.parent / "py.typed").is_file(), f"{name} has lost its py.typed"
    installed, stated = version("metarl-worlds"), importlib.import_module("metarl").__version__
    assert installed == stated, f"the metadata says {installed}, metarl.__version__ says {stated}"
    taken = {str(path).partition("/")[0] for path in files("metarl-worlds") or () if path.suffix == ".py"}
    assert taken == {"metarl"}, f"the names {sorted(taken)} are taken, not metarl alone"
    template = where.parent / "figures" / "report_template.html.j2"
    assert template.is_file(), "the report's template was left out"
    subprocess.run([prefix / "bin" / "metarl", "worlds"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
