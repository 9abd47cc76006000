"""Plug-ins that are broken or hostile: each is a package with its metadata, as pip would have put it into a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.experiments.plugin_package import SOURCE
from tests.hostile import Case, Surroundings

QUICK_S = "1"
"""Limit of time for an import, in seconds, where it is reached."""

FAILING = {
    "exits with 0": "import sys; sys.exit(0)",
    "exits with a message": "import sys; sys.exit('bye')",
    "exits in a function": "def f():\n    exit()\nf()",
    "raises SystemExit": "raise SystemExit",
    "ends the process": "import os; os._exit(0)",
    "ends the process with a code": "import os; os._exit(3)",
    "raises KeyboardInterrupt": "raise KeyboardInterrupt",
    "raises GeneratorExit": "raise GeneratorExit",
    "raises its own BaseException": "class Odd(BaseException): pass\nraise Odd('odd')",
    "raises a group": "raise BaseExceptionGroup('two', [SystemExit(0), ValueError('x')])",
    "message that raises": "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd",
    "message that exits": "class Odd(Exception):\n    def __str__(self): raise SystemExit(0)\nraise Odd",
    "message of a megabyte": "raise ValueError('x' * 2**20)",
    "message of many lines": "raise ValueError('a\\nb\\r\\n\\x0b\\u2028c')",
    "message that a terminal obeys": "raise ValueError('\\x1b[2J\\x1b]0;x\\x07[red]')",
    "message that is no text": "raise ValueError('\\udcff')",
    "too deep": "def f(): f()\nf()",
    "no memory": "raise MemoryError",
    "no such module": "import a_package_that_nobody_has",
    "no Python": "def f(:",
    "a zero byte": "x = 1\0",
    "not UTF-8": "x = '\udcff'",
    "no such attribute": "pass",
    "attribute that raises": "def __getattr__(name): raise RuntimeError(name)",
    "attribute that exits": "def __getattr__(name): raise SystemExit(0)",
    "nothing in its place": "import sys; sys.modules[__name__] = None",
    "a number in its place": "import sys; sys.modules[__name__] = 7",
    "text and an exit": "import sys; print('all is well'); sys.exit(0)",
    "a warning taken seriously": "import warnings; warnings.simplefilter('error'); warnings.warn('odd')",
}
"""What stands in the module."""

HANGING = {
    "loops": "while True: pass",
    "sleeps": "import time; time.sleep(1000)",
    "sleeps and catches": "import time\nwhile True:\n    try: time.sleep(1000)\n    except Exception: pass",
    "waits for input": "import time, sys; sys.stdin.read(); time.sleep(1000)",
}

CRASHING = {
    "aborts": "import os; os.abort()",
    "kills itself": "import os; os.kill(os.getpid(), 9)",
    "reads address zero": "import ctypes; ctypes.string_at(0)",
    "becomes another program": "import os; os.execlp('true', 'true')",
    "raises a signal": "import signal; signal.raise_signal(signal.SIGSEGV)",
    "kills its group": "import os, signal; os.killpg(0, signal.SIGKILL)",
}
"""Only another process can be asked about the one that is a fault of native code."""

BUILDING = {
    "building exits": "def make(): raise SystemExit(0)",
    "building exits with a message": "import sys\ndef make(): sys.exit('bye')",
    "building ends the process": "import os\ndef make(): os._exit(0)",
    "building aborts": "import os\ndef make(): os.abort()",
    "building becomes another program": "import os\ndef make(): os.execlp('true', 'true')",
}
"""Nothing is wrong before the factory is called."""

COMMANDS = {"doctor": ("--check", "splits"), "worlds show": (), "train": ()}
"""Commands that take `module:attribute`."""

CHANGING = {
    "prints": "print('x' * 10_000)",
    "warns": "import warnings; warnings.warn('odd')",
    "changes folder": "import os; os.chdir('/')",
    "empties the path": "import sys; sys.path.clear()",
    "replaces the path": "import sys; sys.path = []",
    "ignores signals": "import signal; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]",
    "default dtype": "import torch; torch.set_default_dtype(torch.float64)",
    "default device": "import torch; torch.set_default_device('meta')",
    "no gradients": "import torch; torch.set_grad_enabled(False)",
    "many threads": "import torch; torch.set_num_threads(7)",
    "numpy raises": "import numpy; numpy.seterr(all='raise')",
    "no rights": "import os; os.umask(0o777)",
    "no streams": "import sys; sys.stdout = sys.stderr = None",
    "warnings are errors": "import warnings; warnings.simplefilter('error')",
    "another os._exit": "import os; os._exit = print",
    "a fork": "import os\nif not os.fork(): os._exit(0)\nos.wait()",
}
"""A world that works, in a module that begins with this."""

METADATA = {
    "a space": ("odd name = PACKAGE:make", "odd name"),
    "a colon": ("odd:name = PACKAGE:make", None),
    "markup": ("[/red] = PACKAGE:make", None),
    "what a terminal obeys": ("odd\x1b[2J = PACKAGE:make", None),
    "other letters": ("gridw\u043erld = PACKAGE:make", "gridw\u043erld"),
    "a thousand letters": ("x" * 1000 + " = PACKAGE:make", None),
    "no name": (" = PACKAGE:make", None),
    "a path": ("../../etc = PACKAGE:make", "../../etc"),
    "a flag": ("--help-me = PACKAGE:make", None),
    "no attribute": ("NAME = PACKAGE", "NAME"),
    "no target": ("NAME =", "NAME"),
    "nonsense": ("NAME = !!:??", "NAME"),
    "no line of it": ("NAME", None),
    "twice": ("NAME = PACKAGE:make\nNAME = PACKAGE:other", "NAME"),
    "a number": ("NAME = PACKAGE:number", "NAME"),
    "a built-in name": ("bandit = PACKAGE:make", None),
    "no text": ("NAME = PACKAGE:make\n# \udcff", None),
}
"""What stands in the metadata, and the name by which to ask for it, if there is one."""


def cases() -> Iterator[Case]:
    """Yield all cases: `doctor NAME`, or `worlds list` where there is nothing to ask for by name."""
    for name, source in (FAILING | HANGING | CRASHING).items():
        yield Case(name, partial(_module, name, source), "listed")
    for name, source in BUILDING.items():
        yield Case(name, partial(_module, name, source), "refused")
    for command in COMMANDS:
        for name in ("exits with 0", "ends the process", "raises its own BaseException", "text and an exit"):
            yield Case(f"{command}: {name}", partial(_target, command, name, FAILING[name]), "refused")
        for name, source in BUILDING.items():
            yield Case(f"{command}: {name}", partial(_target, command, name, source), "refused")
    for name, source in CRASHING.items():
        yield Case(f"shown: {name}", partial(_shown, name, source), "listed")
        if name != "reads address zero":
            yield Case(f"train: {name}", partial(_target, "train", name, source), "refused")
    for name, (line, asked) in METADATA.items():
        yield Case(f"metadata: {name}", partial(_metadata, name, line, asked), "listed")
    for name, start in CHANGING.items():
        yield Case(name, partial(_module, name, f"{start}\n{SOURCE}", asked="PACKAGE:make"), "works")
    for name, content in (("no METADATA", None), ("METADATA without a name", b"\n"), ("METADATA of no text", b"\xff")):
        yield Case(name, partial(_nameless, name, content), "works")
    for name, line in (("an attribute's attribute", "PACKAGE:Corridors.made"), ("extras", "PACKAGE:make [more]")):
        source = SOURCE + "\nCorridors.made = staticmethod(make)\n"
        yield Case(name, partial(_module, name, source, target=line), "works")


def plugin_name(name: str) -> str:
    """Return the name that a case's package announces."""
    return "hostile-" + "".join(c if c.isalnum() else "-" for c in name.removeprefix("metadata: "))


def _module(name: str, source: str, folder: Path, *, asked: str = "NAME", target: str = "PACKAGE:make") -> Surroundings:
    own = plugin_name(name)
    install(folder, own, source, f"{own} = {target}")
    limit = {"METARL_IMPORT_S": QUICK_S} if name in HANGING else {}
    return _ask(folder, asked.replace("NAME", own).replace("PACKAGE", own.replace("-", "_")), limit)


def _shown(name: str, source: str, folder: Path) -> Surroundings:
    environment = _module(name, source, folder).environment
    return Surroundings(environment, arguments=("worlds", "show", plugin_name(name)))


def _nameless(name: str, content: bytes | None, folder: Path) -> Surroundings:
    surroundings = _module(name, SOURCE, folder)
    path = next(folder.glob("*.dist-info/METADATA"))
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    return surroundings


def _target(command: str, name: str, source: str, folder: Path) -> Surroundings:
    package = plugin_name(name).replace("-", "_")
    (folder / f"{package}.py").write_text(source)
    return Surroundings(
        {"PYTHONPATH": str(folder)}, arguments=(*command.split(), f"{package}:make", *COMMANDS[command])
    )


def _metadata(name: str, line: str, asked: str | None, folder: Path) -> Surroundings:
    own = plugin_name(name)
    install(folder, own, "def make(): pass\nother, number = make, 7\n", line.replace("NAME", own))
    return _ask(folder, asked and asked.replace("NAME", own), {})


def _ask(folder: Path, name: str | None, environment: dict[str, str]) -> Surroundings:
    arguments = ("doctor", name, "--check", "splits") if name else ("worlds", "list")
    return Surroundings({"PYTHONPATH": str(folder)} | environment, arguments=arguments)


def install(folder: Path, name: str, source: str, entry_points: str) -> None:
    """Put a package of one module, called `name` with underscores, and its metadata into `folder`."""
    package = name.replace("-", "_")
    (folder / f"{package}.py").write_bytes(os.fsencode(source))
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    text = f"[metarl.worlds]\n{entry_points}\n".replace("PACKAGE", package)
    (metadata / "entry_points.txt").write_bytes(os.fsencode(text))
