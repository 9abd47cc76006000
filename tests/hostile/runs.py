"""Run directories as crashes, careless hands and strangers leave them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from metarl.run import identity
from tests.hostile import Case, Surroundings
from tests.hostile.intact import OTHERS

Damage = Callable[[Path], Any]
MARKER, PRECIOUS, OUTSIDE = "executed", "precious", "outside"
"""Files in a case's folder: one that foreign code makes, and one with its name in it that nothing may touch."""
DRAW = {"HOSTILE_DRAW": "1"}
CHECKPOINT = "checkpoints/iteration-000000002"
COMMANDS = {
    "evaluate": ("evaluate", "RUN"),
    "best": ("evaluate", "RUN", "--checkpoint", "best"),
    "resume": ("train", "--run-dir", "RUN", "--resume", "--train.n-iterations", "3"),
    "report": ("report", "RUN"),
}
_READ_BY = {
    "config.json": ("evaluate", "resume", "report"), "run.json": ("evaluate", "resume"),
    "metrics.jsonl": ("evaluate", "resume", "report"), "checkpoints/best.json": ("best", "resume"),
    f"{CHECKPOINT}/manifest.json": ("evaluate", "resume"), f"{CHECKPOINT}/values.json": ("evaluate", "resume"),
    f"{CHECKPOINT}/tensors.safetensors": ("evaluate", "resume"), "results/evaluation-test.json": ("report",),
}  # fmt: skip


def cases(good: Path) -> Iterator[Case]:
    """Yield all cases; `good` is an intact run with an evaluation."""
    for file, commands in _READ_BY.items():
        damages = [*_any_file(), *(_any_json() if file.endswith(".json") else ()), *_special(file, good)]
        for name, damage, expected in damages:
            for command in commands:
                if file.endswith("best.json") and command == "resume":
                    expected = "safe"  # who goes on finds the best again
                yield _case(good, f"{file}: {name}: {command}", file, damage, command, expected)
    for name, damage, command, expected in _directories():
        yield _case(good, f"directory: {name}: {command}", ".", damage, command, expected)
    for name, damage, expected in (*_changed(), *_foreign(good)):
        for command in ("evaluate", "resume"):
            yield _case(good, f"{name}: {command}", ".", damage, command, expected)
    for name, damage, words in _code():
        if words:
            damage = partial(_bound, damage)
        for command in ("evaluate", "resume"):
            yield _case(good, f"code: {name}: {command}", ".", damage, command, "refused", words)


def _case(
    good: Path, name: str, file: str, damage: Damage, command: str, expected: str, words: tuple[str, ...] = ()
) -> Case:
    def make(folder: Path) -> Surroundings:
        folder.joinpath(PRECIOUS).write_text(PRECIOUS)
        run = folder / "run"
        shutil.copytree(good, run, symlinks=True)
        damage(run / file)
        return Surroundings(
            DRAW if "picture" in name else {},
            arguments=tuple(str(run) if w == "RUN" else w for w in COMMANDS[command]) + words,
            folder=run,
        )

    return Case(name, make, expected)


def _edit(change: Callable[[bytes], bytes]) -> Damage:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _instead(make: Callable[[Path], object]) -> Damage:
    def damage(path: Path) -> None:
        path.rename(path.with_name("elsewhere"))
        make(path)

    return damage


def _any_file() -> Iterator[tuple[str, Damage, str]]:
    """What can happen to every file. "safe": it is refused, or the numbers are what they were."""
    yield "missing", Path.unlink, "safe"
    yield "emptied", _edit(lambda b: b""), "safe"
    for part in (0.25, 0.5, 0.9):
        yield f"cut at {part:.0%}", _edit(partial(_cut, part)), "safe"
    yield "the last byte cut", _edit(lambda b: b[:-1]), "safe"
    for part in (0.0, 0.2, 0.4, 0.6, 0.8):
        yield f"a bit flipped at {part:.0%}", _edit(partial(_flip, part)), "safe"
    yield "zeros, as after a power cut", _edit(lambda b: bytes(len(b))), "safe"
    yield "doubled", _edit(lambda b: b + b), "safe"
    yield "another program's file", _edit(lambda b: b"\x7fELF\x02\x01\x01" + bytes(99)), "safe"
    yield "a terabyte of zeros", lambda path: os.truncate(path, 2**40), "refused"
    yield "a link to the whole file", _instead(lambda p: p.symlink_to("elsewhere")), "refused"
    yield "a link to nothing", _instead(lambda p: p.symlink_to("nowhere")), "refused"
    yield "a link to itself", _instead(lambda p: p.symlink_to(p.name)), "refused"
    yield "a link to something precious", _instead(_to_precious), "refused"
    yield "a link to endless zeros", _instead(lambda p: p.symlink_to("/dev/zero")), "refused"
    yield "a pipe", _instead(os.mkfifo), "refused"
    yield "a folder", _instead(Path.mkdir), "refused"
    if os.geteuid() == 0:
        yield "a device", _instead(lambda p: os.mknod(p, 0o600 | stat.S_IFCHR, os.makedev(1, 5))), "refused"
    else:
        yield "unreadable", lambda path: path.chmod(0), "refused"


def _any_json() -> Iterator[tuple[str, Damage, str]]:
    yield "a list", _edit(lambda b: b"[" + b + b"]"), "refused"
    yield "null", _edit(lambda b: b"null"), "refused"
    yield "a number", _edit(lambda b: b"7"), "refused"
    yield "text", _edit(lambda b: b'"text"'), "refused"
    yield "100,000 lists deep", _edit(lambda b: b"[" * 100_000 + b"]" * 100_000), "refused"
    yield "900 objects deep", _edit(lambda b: b'{"a":' * 900 + b"1" + b"}" * 900), "refused"
    yield "a key more, 400 lists deep", _edit(lambda b: _more(b, b"[" * 400 + b"]" * 400)), "refused"
    yield "a key more, a number of 5,000 digits", _edit(lambda b: _more(b, b"9" * 5_000)), "refused"
    yield "a key more, NaN", _edit(lambda b: _more(b, b"NaN")), "refused"
    yield "a key more, 1e999", _edit(lambda b: _more(b, b"1e999")), "refused"
    yield "each key twice", _edit(lambda b: b.rstrip()[:-1] + b"," + b.lstrip()[1:]), "refused"
    yield "UTF-16", _edit(lambda b: b.decode().encode("utf-16")), "refused"
    yield "Latin-1", _edit(lambda b: _more(b, b'"\xe9"')), "refused"


def _special(file: str, good: Path) -> Iterator[tuple[str, Damage, str]]:
    """What can be wrong with one file, key by key: each with values of other types."""
    name = file.rpartition("/")[2]
    if name == "values.json":
        yield from _values()
    elif name == "tensors.safetensors":
        yield from _tensors()
    elif name == "metrics.jsonl":
        yield "a line that is no record", _edit(lambda b: b"[]\n" + b), "refused"
        yield "a line 100,000 lists deep", _edit(lambda b: b"[" * 100_000 + b"\n" + b), "refused"
        yield (
            "an iteration that is no number",
            _edit(lambda b: b.replace(b'"iteration": 1', b'"iteration": "1"')),
            "refused",
        )
    else:
        for key in json.loads((good / file).read_bytes()) if (good / file).exists() else ():
            for words, value in (
                ("null", None),
                ("-1", -1),
                ("1e300", 1e300),
                ("a list", [[]]),
                ("an object", {"a": {}}),
            ):
                yield f"{key} is {words}", _json(partial(_put, key, value)), "safe"
            yield f"{key} is missing", _json(partial(_drop, key)), "safe"


def _values() -> Iterator[tuple[str, Damage, str]]:
    def agent(value: Any) -> Damage:
        def change(tree: Any) -> None:
            for pair in tree["dict"]:
                if pair[0] == "agent":
                    pair[1] = value

        return _sealed(_json(change))

    yield "no agent", agent(None), "refused"
    yield "an agent of nothing", agent({"dict": []}), "refused"
    yield "an agent that is text", agent("agent"), "refused"
    yield "an agent that is a list", agent([1, [2]]), "refused"
    yield "a tensor that is not there", agent({"tensor": "9:none"}), "refused"
    yield "an unknown kind", agent({"pickle": "gASV"}), "refused"
    yield "a key that is an object", agent({"dict": [[{"dict": []}, 1]]}), "refused"
    yield "a pair of three", agent({"dict": [[1, 2, 3]]}), "refused"
    yield "a number that is none", agent({"float": "many"}), "refused"
    yield "a float that is a list", agent({"float": []}), "refused"
    yield "a tuple that is a number", agent({"tuple": 3}), "refused"
    for key in ("iteration", "env_steps"):
        for value in (None, -1, "1", 1.5, True, 7, [], 10**30):
            if (key, value) != ("env_steps", 7) and (key, value) != ("env_steps", 10**30):
                yield f"{key} is {value!r}", _sealed(_json(partial(_put_pair, key, value))), "refused"


def _tensors() -> Iterator[tuple[str, Damage, str]]:
    def header(change: Callable[[dict[str, Any]], Any]) -> Damage:
        def damage(content: bytes) -> bytes:
            size = int.from_bytes(content[:8], "little")
            found = json.loads(content[8 : 8 + size])
            change(found)
            text = json.dumps(found).encode()
            return len(text).to_bytes(8, "little") + text + content[8 + size :]

        return _sealed(_edit(damage))

    def each(**fields: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda found: [entry.update(fields) for entry in found.values()]

    for dtype in ("F8_E4M3", "F8_E5M2", "F4", "C64", "U16", "BOOL", "I8", "F64", "pickle", 3, None):
        yield f"dtype {dtype}", header(each(dtype=dtype)), "refused"
    for shape in ([], [0], [-1], [2**62, 4], "text", [1.5], None, [[]]):
        yield f"shape {shape}", header(each(shape=shape)), "refused"
    for offsets in ([0, 0], [4, 0], [0, 2**40], [-4, 0], [0], None, "text"):
        yield f"offsets {offsets}", header(each(data_offsets=offsets)), "refused"
    yield "no tensors", header(lambda found: found.clear()), "refused"
    yield "a header of 2 ** 60 bytes", _sealed(_edit(lambda b: (2**60).to_bytes(8, "little") + b[8:])), "refused"
    yield "a header that is no JSON", _sealed(_edit(lambda b: b[:8] + b"x" + b[9:])), "refused"
    yield "all bytes cut but eight", _sealed(_edit(lambda b: b[:8])), "refused"
    yield "NaN everywhere", _sealed(_edit(_not_a_number)), "refused"


def _directories() -> Iterator[tuple[str, Damage, str, str]]:
    for command in COMMANDS:
        yield "untouched", lambda run: None, command, "works"
    for command in ("evaluate", "resume"):
        yield "an empty folder", lambda run: (shutil.rmtree(run), run.mkdir()), command, "refused"
        yield "without checkpoints", lambda run: shutil.rmtree(run / "checkpoints"), command, "safe"
        yield "a checkpoint of another iteration", _renamed, command, "refused"
        yield (
            "checkpoints, a link",
            lambda run: _instead(lambda p: p.symlink_to("elsewhere"))(run / "checkpoints"),
            command,
            "refused",
        )
        yield (
            "a checkpoint, a link",
            lambda run: _instead(lambda p: p.symlink_to("elsewhere"))(run / CHECKPOINT),
            command,
            "safe",
        )
    resumed = "resume"
    yield (
        "its lock a link to something precious",
        lambda run: (run / "lock").unlink() or _to_precious(run / "lock"),
        resumed,
        "refused",
    )
    yield "its lock a pipe", lambda run: (run / "lock").unlink() or os.mkfifo(run / "lock"), resumed, "refused"
    yield "its lock a folder", lambda run: (run / "lock").unlink() or (run / "lock").mkdir(), resumed, "refused"
    for name in (".config.json.tmp", ".run.json.tmp", ".metrics.jsonl.tmp", "checkpoints/.best.json.tmp"):
        yield f"{name} a link to something precious", partial(_planted, name), resumed, "works"
    for name in ("checkpoints/.tmp-iteration-000000003", "checkpoints/.old-iteration-000000003"):
        yield f"{name} a link to a folder", partial(_planted_folder, name), resumed, "works"
    yield "results, a pipe", lambda run: _instead(os.mkfifo)(run / "results"), "evaluate", "refused"
    yield "results, a file", lambda run: _instead(Path.touch)(run / "results"), "evaluate", "refused"
    yield (
        "the evaluation a link to something precious",
        lambda run: _instead(_to_precious)(run / "results/evaluation-test.json"),
        "evaluate",
        "refused",
    )
    yield (
        "the picture a link to something precious",
        lambda run: _instead(_to_precious)(run / "results/adaptation-test.png"),
        "evaluate",
        "refused",
    )


def _changed() -> Iterator[tuple[str, Damage, str]]:
    """Settings with other values that are as good; the checkpoint was not trained with them."""

    def put(path: str, value: Any) -> Damage:
        def change(stored: Any) -> None:
            *above, last = path.split(".")
            for key in above:
                stored = stored[key]
            stored[last] = value

        return lambda run: _json(change)(run / "config.json")

    for path, value in (
        ("seed", 1), ("agent.ppo.lr", 0.5), ("agent.ppo.clip", 0.5), ("agent.episodes_per_trial", 3),
        ("agent.hidden", 16), ("world.options.held_out", 4), ("world.options", {}),
        ("world", {"name": "bandit", "options": {}}), ("train.n_tasks", 4),
        ("train.checkpoint_every_iters", 1), ("evaluation.n_tasks", 2), ("evaluation.seed", 1), ("threads", 2),
        ("name", "other"),
    ):  # fmt: skip
        yield f"changed: {path} is {json.dumps(value)}", put(path, value), "refused"
    yield "changed: log.progress is auto", put("log.progress", "auto"), "works"


def _foreign(good: Path) -> Iterator[tuple[str, Damage, str]]:
    """Parts of other runs."""
    for other in OTHERS:
        for names in ((CHECKPOINT,), (CHECKPOINT, "metrics.jsonl"), ("config.json", "run.json"), ("run.json",)):
            yield f"foreign: {', '.join(names)} of {other}", partial(_taken, good.with_name(other), names), "refused"


def _taken(other: Path, names: tuple[str, ...], run: Path) -> None:
    for name in names:
        if (run / name).is_dir():
            shutil.rmtree(run / name)
            shutil.copytree(other / name, run / name)
        else:
            shutil.copy(other / name, run / name)


def _code() -> Iterator[tuple[str, Damage, tuple[str, ...]]]:
    """Names of code in a config, with and without the user's trust."""

    def config(part: str, name: str, **options: Any) -> Damage:
        def damage(run: Path) -> None:
            marker = str(run.parent / MARKER)
            for payload in (run / "payload.py", run.parent / "payload.py"):
                payload.write_text(f"open({marker!r}, 'w')\nmake = print\nclass Agent: pass\n")

            def change(stored: Any) -> None:
                if part == "world":
                    filled = {k: v.replace("MARKER", marker) for k, v in options.items()}
                    stored["world"] = {"name": name, "options": filled}
                else:
                    stored["agent"]["type"] = name

            _json(change)(run / "config.json")

        return damage

    yield "a shell as the world", config("world", "os:system", command="touch MARKER"), ()
    yield "a shell as a trusted world", config("world", "os:system", command="touch MARKER"), ("--trust", "os:system")
    yield "a program as the world", config("world", "subprocess:check_output", args="touch MARKER"), ()
    yield "a module of the run as the world", config("world", "payload:make"), ()
    yield "a module of the run by its folder", config("world", "run.payload:make"), ()
    yield (
        "a shell as the world within the world",
        config("world", "revealed", world="os:system", command="touch MARKER"),
        (),
    )
    yield "a module within the world", config("world", "revealed", world="payload:make"), ()
    yield (
        "a module that is imported to be trusted no further",
        config("world", "payload:make"),
        ("--trust", "payload:other"),
    )
    yield "a path as the world", config("world", "../payload:make"), ()
    yield "no module", config("world", ":make"), ()
    yield "no attribute", config("world", "payload:"), ()
    yield "a shell as the agent", config("agent", "os:system"), ()
    yield "a shell as a trusted agent", config("agent", "os:system"), ("--trust", "os:system")
    yield "a module of the run as the agent", config("agent", "payload:Agent"), ()
    yield "a module of the run as the agent, by its folder", config("agent", "run.payload:Agent"), ()
    yield "what evaluates text as the agent", config("agent", "builtins:exec"), ()
    yield (
        "a pickle as the tensors",
        lambda run: _sealed(_edit(partial(_pickle, run)))(run / CHECKPOINT / "tensors.safetensors"),
        (),
    )


class _Shell:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def _pickle(run: Path, _: bytes) -> bytes:
    return pickle.dumps(_Shell(run.parent / MARKER))


def _cut(part: float, content: bytes) -> bytes:
    return content[: int(part * len(content))]


def _flip(part: float, content: bytes) -> bytes:
    at = int(part * len(content))
    return content[:at] + bytes([content[at] ^ 2]) + content[at + 1 :]


def _more(content: bytes, value: bytes) -> bytes:
    return content.rstrip()[:-1] + b', "more": ' + value + b"}"


def _not_a_number(content: bytes) -> bytes:
    size = 8 + int.from_bytes(content[:8], "little")
    return content[:size] + b"\xff" * (len(content) - size)


def _put(key: str, value: Any, stored: Any) -> None:
    stored[key] = value


def _drop(key: str, stored: Any) -> None:
    del stored[key]


def _put_pair(key: str, value: Any, tree: Any) -> None:
    for pair in tree["dict"]:
        if pair[0] == key:
            pair[1] = value


def _json(change: Callable[[Any], Any]) -> Damage:
    def damage(path: Path) -> None:
        stored = json.loads(path.read_bytes())
        change(stored)
        path.write_text(json.dumps(stored))

    return damage


def _sealed(damage: Damage) -> Damage:
    """Return a damage after which the manifest of the checkpoint is right again, as a forger would leave it."""

    def sealed(path: Path) -> None:
        damage(path)
        content = path.read_bytes()
        entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        _json(lambda stored: stored["files"].update({path.name: entry}))(path.with_name("manifest.json"))

    return sealed


def bind(folder: Path) -> None:
    """Make the checkpoint of a run one that was trained with its config.json, as a forger would leave it."""
    _json(lambda stored: stored["run"].update(identity(folder)))(folder / CHECKPOINT / "manifest.json")


def _bound(damage: Damage, folder: Path) -> None:
    damage(folder)
    bind(folder)


def _to_precious(path: Path) -> None:
    folder = next(p for p in path.parents if (p / PRECIOUS).exists())
    path.symlink_to(folder / PRECIOUS)


def _planted(name: str, run: Path) -> None:
    _to_precious(run / name)


def _planted_folder(name: str, run: Path) -> None:
    (run.parent / OUTSIDE).mkdir()
    (run.parent / OUTSIDE / "file").touch()
    (run / name).symlink_to(run.parent / OUTSIDE)


def _renamed(run: Path) -> None:
    (run / CHECKPOINT).rename(run / "checkpoints/iteration-000000009")
