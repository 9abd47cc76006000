"""Caches of compiled code as crashes, colleagues and strangers leave them, and settings that point nowhere."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.hostile import Case, Surroundings

Damage = Callable[[Path], None]
STRANGER = 12345
"""A user who is neither root nor we."""


def copier(library: Path, folder: Path) -> str:
    """Return a "compiler" that takes no time: whatever it is asked to compile, it gives a copy of `library`."""
    return _script(folder / "copier", _MAKES.format(f"cp '{library}'"))


def cases(good: Path, compiler: str) -> Iterator[Case]:
    """Yield all cases; `good` is a cache that `cache_user` filled with that compiler."""
    quick = {"CXX": compiler}
    for kind, pattern in (("program", "derived-*/toy*.json"), ("library", "toy*.so")):
        for name, damage, expected in _file_damages():
            # What was derived can be derived again without a place to keep it.
            told = "works" if expected == "refused" and kind == "program" else expected
            yield Case(f"{kind}: {name}", partial(_damaged, good, quick, pattern, damage), told)
    for name, damage, expected in _folder_damages():
        yield Case(f"folder: {name}", partial(_damaged, good, quick, "", damage), expected)
    for name, make, expected in _settings(quick):
        yield Case(f"setting: {name}", make, expected)
    for name, script, expected in _compilers():
        yield Case(f"CXX: {name}", partial(_compiler, script), expected)


def _damaged(good: Path, quick: dict[str, str], pattern: str, damage: Damage, folder: Path) -> Surroundings:
    cache = folder / "place" / "cache"
    cache.parent.mkdir(mode=0o700)
    shutil.copytree(good, cache)
    damage(next(cache.glob(pattern)) if pattern else cache)
    return Surroundings(quick | {"METARL_CACHE": str(cache)})


def _file_damages() -> Iterator[tuple[str, Damage, str]]:
    def edit(change: Callable[[bytes], bytes]) -> Damage:
        return lambda path: void(path.write_bytes(change(path.read_bytes())))

    def instead(make: Callable[[Path], object]) -> Damage:
        def damage(path: Path) -> None:
            path.rename(path.with_name("elsewhere"))
            make(path)

        return damage

    yield (
        "a bit flipped",
        edit(lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1 :]),
        "rebuilt",
    )
    yield "the first byte flipped", edit(lambda b: bytes([b[0] ^ 0x80]) + b[1:]), "rebuilt"
    yield "a digit changed", edit(lambda b: b.replace(b"2", b"3", 1)), "rebuilt"
    yield "emptied", edit(lambda b: b""), "rebuilt"
    yield "cut in half", edit(lambda b: b[: len(b) // 2]), "rebuilt"
    yield "the last byte cut", edit(lambda b: b[:-1]), "rebuilt"
    yield "a byte more", edit(lambda b: b + b"\n"), "rebuilt"
    yield "without its last 72 bytes, the digest", edit(lambda b: b[:-72]), "rebuilt"
    yield "another digest", edit(lambda b: b[:-64] + b"0" * 64), "rebuilt"
    yield "zeros, as after a power cut", edit(lambda b: bytes(len(b))), "rebuilt"
    yield "doubled", edit(lambda b: b + b), "rebuilt"
    yield "a terabyte of zeros", lambda path: os.truncate(path, 2**40), "rebuilt"
    yield "another product under its name", _swapped, "rebuilt"
    yield "a link to the whole file", instead(lambda p: p.symlink_to("elsewhere")), "rebuilt"
    yield "a link to nothing", instead(lambda p: p.symlink_to("nowhere")), "rebuilt"
    yield "a link to itself", instead(lambda p: p.symlink_to(p.name)), "rebuilt"
    yield "a link to endless zeros", instead(lambda p: p.symlink_to("/dev/zero")), "rebuilt"
    yield "a pipe", instead(os.mkfifo), "rebuilt"
    yield "a socket", instead(_listen), "rebuilt"
    yield "a folder", instead(Path.mkdir), "refused"
    yield "written by all", lambda path: path.chmod(0o666), "rebuilt"
    yield "written by a group", lambda path: path.chmod(0o664), "rebuilt"
    yield "missing, its lock a pipe", _lock(os.mkfifo), "refused"
    yield "missing, its lock a folder", _lock(Path.mkdir), "refused"
    yield "missing, its lock a link", _lock(lambda p: p.symlink_to("elsewhere")), "refused"
    yield "missing, its lock written by all", _lock(lambda p: (p.touch(), p.chmod(0o666))), "refused"
    yield "missing", Path.unlink, "works"
    if os.geteuid() == 0:
        yield "a stranger's", lambda path: os.chown(path, STRANGER, STRANGER), "rebuilt"
        yield "missing, its lock a stranger's", _lock(lambda p: (p.touch(), os.chown(p, STRANGER, STRANGER))), "refused"
        yield "a device", instead(lambda p: os.mknod(p, 0o600 | stat.S_IFCHR, os.makedev(1, 5))), "rebuilt"


def void(_: object) -> None:
    """Forget a result."""


def _swapped(path: Path) -> None:
    other = next(p for p in sorted(path.parent.iterdir()) if p.suffix == path.suffix and p != path)
    shutil.copy(other, path)


def _listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path is at most 107 bytes long
        server.bind(path.name)
        os.chdir(here)


def _lock(make: Callable[[Path], object]) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        path.with_suffix(".lock").unlink()
        make(path.with_suffix(".lock"))

    return damage


def _folder_damages() -> Iterator[tuple[str, Damage, str]]:
    yield "untouched", void, "works"
    yield "written by all", lambda cache: cache.chmod(0o777), "refused"
    yield "written by a group", lambda cache: cache.chmod(0o775), "refused"
    yield "in a folder written by all", lambda cache: cache.parent.chmod(0o777), "refused"
    yield "in a folder where all may add", lambda cache: cache.parent.chmod(0o1777), "works"
    yield "of programs written by all", lambda cache: next(cache.glob("derived-*")).chmod(0o777), "works"
    yield "what a killed process left", _leftovers, "works"
    yield "a link to a folder written by all", _linked, "refused"
    yield "a file", lambda cache: (shutil.rmtree(cache), cache.touch()), "refused"  # type: ignore[return-value]
    if os.geteuid() == 0:
        yield "a stranger's", lambda cache: os.chown(cache, STRANGER, STRANGER), "refused"
        yield "in a stranger's folder", lambda cache: os.chown(cache.parent, STRANGER, STRANGER), "refused"


def _leftovers(cache: Path) -> None:
    product = next(cache.glob("toy*.so"))
    product.unlink()
    for stem in (product.stem, "another-product"):
        folder = cache / f".build-{stem}-ab_12"
        folder.mkdir()
        (folder / "unit.cc").write_text("#error half written\n")


def _linked(cache: Path) -> None:
    cache.rename(cache.with_name("real"))
    cache.with_name("real").chmod(0o777)
    cache.symlink_to("real")


def _settings(quick: dict[str, str]) -> Iterator[tuple[str, Callable[[Path], Surroundings], str]]:
    def variables(**values: str | None) -> Callable[[Path], Surroundings]:
        def make(folder: Path) -> Surroundings:
            (folder / "file").touch()
            (folder / "loop").symlink_to("loop")
            (folder / "link").symlink_to("nowhere")
            filled = {name: value and value.replace("FOLDER", str(folder)) for name, value in values.items()}
            return Surroundings(quick | {"METARL_CACHE": None, "XDG_CACHE_HOME": None} | filled, folder=folder)

        return make

    yield "a folder to be made", variables(METARL_CACHE="FOLDER/a/b/c"), "works"
    yield "spaces and quotes", variables(METARL_CACHE='FOLDER/a b\'s "c" $d, e'), "works"
    yield "a line break", variables(METARL_CACHE="FOLDER/a\nb"), "works"
    yield "other scripts", variables(METARL_CACHE="FOLDER/缓存-é"), "works"
    yield "bytes that are no text", variables(METARL_CACHE="FOLDER/\udcff"), "works"
    yield "relative", variables(METARL_CACHE="here/cache"), "works"
    yield "a file", variables(METARL_CACHE="FOLDER/file"), "refused"
    yield "below a file", variables(METARL_CACHE="FOLDER/file/cache"), "refused"
    yield "a device", variables(METARL_CACHE="/dev/null"), "refused"
    yield "a loop of links", variables(METARL_CACHE="FOLDER/loop/cache"), "refused"
    yield "a link to itself", variables(METARL_CACHE="FOLDER/loop"), "refused"
    yield "a link to nothing", variables(METARL_CACHE="FOLDER/link"), "refused"
    yield "not to be written", variables(METARL_CACHE="/proc/metarl"), "refused"
    yield "a name too long", variables(METARL_CACHE="FOLDER/" + 300 * "x"), "refused"
    yield "a path too long", variables(METARL_CACHE="FOLDER" + 3000 * "/x"), "refused"
    yield "nobody's home", variables(METARL_CACHE="~nobody-of-this-name/cache"), "refused"
    yield "empty", variables(METARL_CACHE="", HOME="FOLDER/home"), "works"
    yield "a home to be made", variables(HOME="FOLDER/home"), "works"
    yield "a home that is relative", variables(HOME="home"), "refused"
    yield "a home that is a file", variables(HOME="FOLDER/file"), "refused"
    yield "a home that is empty", variables(HOME=""), "refused"
    yield "a home not to be written", variables(HOME="/proc"), "refused"
    yield "XDG_CACHE_HOME relative, so ignored", variables(XDG_CACHE_HOME="cache", HOME="FOLDER/home"), "works"
    yield "XDG_CACHE_HOME a file", variables(XDG_CACHE_HOME="FOLDER/file"), "refused"
    if os.geteuid() == 0:
        nowhere = {"METARL_CACHE": None, "XDG_CACHE_HOME": None, "HOME": None}
        yield "neither home nor passwd entry", lambda _: Surroundings(nowhere, user=STRANGER), "refused"
        yield "another user's", lambda f: Surroundings({"METARL_CACHE": str(f / "cache")}, user=STRANGER), "refused"


def _compilers() -> Iterator[tuple[str, str, str]]:
    """Yield name, value of CXX ("#!..." is made a script), and what is expected."""
    yield "several words", "env LC_ALL=C c++", "works"
    yield "blank", "  ", "works"
    yield "missing", "no-such-compiler", "refused"
    yield "a folder", "/tmp", "refused"
    yield "a file that cannot be run", "/etc/passwd", "refused"
    yield "an open quote", "c++ 'half", "refused"
    yield "bytes that are no text", "\udcff", "refused"
    yield "always content", "true", "refused"
    yield "always failing", "false", "refused"
    yield "an echo", "echo", "refused"
    yield "waiting for input", "cat", "refused"
    yield "an unknown flag", "c++ --no-such-flag", "refused"
    yield "of another format", "c++ -c", "refused"
    yield "a script of nothing", "#!/nowhere/interpreter", "refused"
    yield "hanging", "#!/bin/sh\nsleep 1000", "refused"
    yield "hanging after its version", '#!/bin/sh\n[ "$1" = --version ] || sleep 1000', "refused"
    yield "leaving a child", "#!/bin/sh\nsleep 1000 &\nexit 0", "refused"
    yield "talking without end", "#!/bin/sh\nexec yes", "refused"
    yield "talking no text", "#!/bin/sh\nprintf '\\377\\376'; exit 1", "refused"
    yield "ended by a signal", "#!/bin/sh\nkill -SEGV $$", "refused"
    yield "making garbage", _MAKES.format("echo garbage >"), "refused"
    yield "making nothing", _MAKES.format(": >"), "refused"
    yield "making a pipe", _MAKES.format("mkfifo"), "refused"
    yield "making a folder", _MAKES.format("mkdir"), "refused"
    yield "making a library of something else", _MAKES.format("echo | c++ -shared -x c -o"), "refused"


_MAKES = '#!/bin/sh\nwhile [ "$1" ]; do [ "$1" = -o ] && {} "$2"; shift; done; exit 0'


def _compiler(command: str, folder: Path) -> Surroundings:
    patience_s = 1.0 if "sleep" in command else None
    if command.startswith("#!"):
        command = _script(folder / "compiler", command)
    return Surroundings({"METARL_CACHE": str(folder / "cache"), "CXX": command}, patience_s=patience_s)


def _script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)
