"""Importing code of others: what it does to this process is undone, what it may need later stays."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from metarl.errors import ConfigError
from metarl.registry import load_target

CHANGES = """
import os, signal, sys, warnings
import numpy, torch
print("hello")
os.chdir("/")
os.umask(0o777)
sys.path.insert(0, "/added")
sys.path.remove(HERE)
sys.stdout = None
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
warnings.simplefilter("ignore")
numpy.seterr(all="raise")
torch.set_default_dtype(torch.float64)
torch.set_default_device("meta")
torch.set_grad_enabled(False)
torch.set_num_threads(3)
os._exit = print
os.environ["STRANGER"] = "was here"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on the path, which is also the current one."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state() -> list[object]:
    mask = os.umask(0)
    os.umask(mask)
    return [
        os.getcwd(), mask, sys.stdout, sys.stderr, signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM),
        signal.getsignal(signal.SIGINT), signal.getitimer(signal.ITIMER_REAL), list(warnings.filters), np.geterr(),
        torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(), torch.get_num_threads(),
        os._exit,
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "raise KeyboardInterrupt"])
def test_what_belongs_to_the_process_is_put_back_however_the_import_ends(
    end: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRANGER", "")
    name = f"changes_{len(end)}"
    (folder / f"{name}.py").write_text(CHANGES.replace("HERE", repr(str(folder))) + end)
    before, path = state(), list(sys.path)
    if end:
        with pytest.raises(ConfigError, match=rf"cannot import module '{name}' of world '{name}:os': \w+: "):
            load_target(f"{name}:os")
    else:
        assert load_target(f"{name}:os") is os
    assert state() == before
    assert sys.path == [*path, "/added"]
    assert os.environ["STRANGER"] == "was here"
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "hello\n")


def test_our_own_modules_are_not_contained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (folder / "own.py").write_text("import signal; before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)")
    before = load_target("own:before", ours=True)
    assert signal.signal(signal.SIGUSR1, before) is signal.SIG_IGN


def test_ctrl_c_during_an_import_is_the_users(folder: Path) -> None:
    (folder / "slow.py").write_text("import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            load_target("slow:x")
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_import_that_takes_too_long_ends_and_an_alarm_set_before_still_comes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "endless.py").write_text("while True:\n    try:\n        while True: pass\n    except Exception: pass")
    monkeypatch.setenv("METARL_IMPORT_S", "0.2")
    rung = threading.Event()
    before = signal.signal(signal.SIGALRM, lambda *_: rung.set())
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(ConfigError, match=r"not over after 0.2 s; METARL_IMPORT_S sets the limit"):
            load_target("endless:x")
        time.sleep(0.6)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert rung.is_set()


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_no_time_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METARL_IMPORT_S", text)
    with pytest.raises(ConfigError, match="METARL_IMPORT_S must be a number of seconds above 0"):
        load_target("json:dumps")


def test_in_another_thread_code_of_others_is_contained_as_well(folder: Path) -> None:
    (folder / "threaded.py").write_text("raise SystemExit(0)")
    problems: list[str] = []

    def run() -> None:
        try:
            load_target("threaded:x")
        except ConfigError as problem:
            problems.append(str(problem))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert problems == ["cannot import module 'threaded' of world 'threaded:x': SystemExit: 0"]
