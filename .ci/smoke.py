"""Check an installed copy: `smoke.py PREFIX` fails unless all four packages come whole from below PREFIX."""

import importlib
import runpy
import sys
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    """Import the packages, look for the files that are no modules, and run one command."""
    prefix = Path(sys.argv[1]).resolve()
    for name in ("metarl", "envs", "agents", "experiments"):
        module = importlib.import_module(name)
        where = Path(str(module.__file__)).resolve()
        assert prefix in where.parents, f"{name} comes from {where}, not from {prefix}"
        assert (where.parent / "py.typed").is_file(), f"{name} has lost its py.typed"
    metarl = importlib.import_module("metarl")
    assert version("metarl-worlds") == metarl.__version__, "the metadata's version is not metarl.__version__"
    template = Path(importlib.import_module("experiments").__file__ or "").with_name("report_template.html.j2")
    assert template.is_file(), "the report's template was left out"
    sys.argv = ["experiments", "worlds"]
    try:
        runpy.run_module("experiments", run_name="__main__")
    except SystemExit as stop:
        assert stop.code in (None, 0), f"`python -m experiments worlds` ended with {stop.code}"


if __name__ == "__main__":
    main()
