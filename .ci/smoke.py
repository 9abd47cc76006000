"""Check an installed copy: `smoke.py PREFIX FROM` fails unless PREFIX imports the whole package from below FROM."""

import importlib
import subprocess
import sys
import tempfile
from importlib.metadata import files, version
from pathlib import Path


def main() -> None:
    """Import the packages, look for the files that are no modules, and run one command."""
    prefix, source = (Path(argument).resolve() for argument in sys.argv[1:])
    for name in ("metarl", "metarl.envs", "metarl.agents", "metarl.experiments"):
        module = importlib.import_module(name)
        where = Path(str(module.__file__)).resolve()
        assert source in where.parents, f"{name} comes from {where}, not from {source}"
        assert (where.parent / "py.typed").is_file(), f"{name} has lost its py.typed"
    installed, stated = version("metarl-worlds"), importlib.import_module("metarl").__version__
    assert installed == stated, f"the metadata says {installed}, metarl.__version__ says {stated}"
    taken = {str(path).partition("/")[0] for path in files("metarl-worlds") or () if path.suffix == ".py"}
    assert taken <= {"metarl"}, f"the names {sorted(taken)} are taken, not metarl alone"
    template = where.parent / "figures" / "report_template.html.j2"
    assert template.is_file(), "the report's template was left out"
    subprocess.run([prefix / "bin" / "metarl", "worlds", "list"], check=True, stdout=subprocess.DEVNULL)
    ten_lines(prefix)


def ten_lines(prefix: Path) -> None:
    """Run the README's python in a project that has folders of the same names as ours, and uses them."""
    page = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    lines = page.partition("```python\n")[2].partition("```")[0].replace("iterations=200", "iterations=2")
    with tempfile.TemporaryDirectory() as place:
        for name in ("envs", "agents", "experiments", "metarl_plugins"):
            (Path(place) / name).mkdir()
            (Path(place) / name / "__init__.py").write_text("mine = True\n")
        own = "\nimport envs, agents, experiments, metarl_plugins\n"
        own += "assert envs.mine and agents.mine and experiments.mine and metarl_plugins.mine\n"
        (Path(place) / "ten.py").write_text(lines + own)
        subprocess.run([prefix / "bin" / "python", "ten.py"], check=True, cwd=place, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
