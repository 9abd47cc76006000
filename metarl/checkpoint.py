"""Checkpoints that survive a kill at any moment and say so when they are damaged.

One checkpoint is a folder: `tensors.safetensors` (weights only, nothing in it can run), `values.json` (everything that
is not a tensor) and `manifest.json` (sha256 of both, and which run and history it belongs to). It is written beside its
place, flushed to the disk and moved there in one step, so a folder with a checkpoint's name is complete or was damaged
later, which the hashes tell.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .errors import CheckpointError, ConfigError, shortened
from .reading import MOST_TENSOR_BYTES, check_real_folder, kind_of, open_plain, parse_json, read_bytes, read_object

SCHEMA_VERSION = 1
MOST_VALUES_BYTES = 2**30
"""Largest `values.json` that is read: experience that an agent keeps lies in the tensors."""
_MOST_DEPTH = 300
TENSORS, VALUES, MANIFEST = "tensors.safetensors", "values.json", "manifest.json"
_NAME = re.compile(r"iteration-(\d{9})$")
_TEMPORARY = re.compile(r"\.tmp-|\.old-|\..+\.tmp")


def split_state(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Take a state apart into tensors by name and a JSON tree that says where each one stands.

    Dicts (with str, int, float, bool or None keys, in order), lists, tuples and plain values are kept losslessly, NaN
    and infinities included. Raises: CheckpointError naming the place of anything else.
    """
    tensors: dict[str, Tensor] = {}

    def encode(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            # The number keeps names apart that spell the same path, as the keys 0 and "0" do.
            name = f"{len(tensors)}:{path}"
            tensors[name] = value.detach().cpu().contiguous().clone()
            return {"tensor": name}
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(float(value))}
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, Mapping):
            return {"dict": [[encode(k, f"{path}.keys"), encode(v, f"{path}/{k}")] for k, v in value.items()]}
        if isinstance(value, tuple):
            return {"tuple": [encode(v, f"{path}/{i}") for i, v in enumerate(value)]}
        if isinstance(value, list):
            return [encode(v, f"{path}/{i}") for i, v in enumerate(value)]
        raise CheckpointError(
            f"state holds a {type(value).__module__}.{type(value).__qualname__} at {path or '/'!r}; a checkpoint takes "
            f"tensors, None, bool, int, float, str and dicts, lists and tuples of these: convert it in state_dict()"
        )

    tree = encode(state, "")
    return tensors, tree


def join_state(tensors: Mapping[str, Tensor], tree: Any) -> Any:
    """Put a state together again from what `split_state` returned; raises CheckpointError for a tree it never wrote."""
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if isinstance(tree, list):
        return [join_state(tensors, v) for v in tree]
    if isinstance(tree, dict) and len(tree) == 1:
        (kind, content), *_ = tree.items()
        if kind == "tensor" and content in tensors:
            return tensors[content]
        if kind == "float":
            return float(content)
        if kind == "tuple":
            return tuple(join_state(tensors, v) for v in content)
        if kind == "dict":
            return {join_state(tensors, k): join_state(tensors, v) for k, v in content}
    raise CheckpointError(f"{VALUES} holds {str(tree)[:80]!r}, which is no part of a checkpoint; use an earlier one")


def state_fingerprint(state: Any) -> str:
    """Return a digest over every bit of a state: equal digests mean equal parameters, dtypes, shapes and values."""
    tensors, tree = split_state(state)
    digest = hashlib.sha256(json.dumps(tree).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut (a rename is only in memory before)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, content: bytes) -> None:
    """Write a file that is not there yet and flush it to the disk; what lies there already is never followed."""
    with open(open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a reader sees the old file or the new one, also after a kill.

    Any number of processes may do so at once. What is written to /dev/null is gone. Raises: ConfigError if something
    lies at `path` that is no plain file, which a new one would take away.
    """
    if check_replaceable(path):
        return
    beside = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        write_file(beside, content)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


@contextlib.contextmanager
def writing(path: object) -> Iterator[None]:
    """Turn what the system refuses about the file `path` of a user's choice into a ConfigError of one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot write {path} ({reason}); name a file in a folder that is there") from error


def check_replaceable(path: Path) -> bool:
    """Return whether `path` is /dev/null; raises ConfigError if something else lies there that is no plain file."""
    try:
        found = os.lstat(path)
    except OSError:
        return False  # nothing there; what hinders writing is told when it is written
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev:
        return True
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path} is {kind_of(found.st_mode)}, which a file would replace; name another file")
    return False


def write_checkpoint(folder: Path, state: Any, binding: Mapping[str, str] | None = None) -> None:
    """Write `state` as the checkpoint `folder`, replacing one that is there; `binding` says whose it is.

    Raises: CheckpointError if the state holds something that is neither a tensor nor a plain value, or if the disk
    refuses.
    """
    tensors, tree = split_state(state)
    contents = {TENSORS: safetensors.torch.save(tensors), VALUES: json.dumps(tree, allow_nan=False).encode()}
    manifest: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "files": {n: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for n, c in contents.items()},
    }
    if binding is not None:
        manifest["run"] = dict(binding)
    contents[MANIFEST] = json.dumps(manifest, indent=1).encode()
    beside, old = folder.with_name(f".tmp-{folder.name}"), folder.with_name(f".old-{folder.name}")
    try:
        check_real_folder(folder.parent)
        for leftover in (beside, old):
            remove(leftover)
        beside.mkdir()
        for name, content in contents.items():
            write_file(beside / name, content)
        flush_folder(beside)
        if folder.exists():
            folder.rename(old)
        beside.rename(folder)
        flush_folder(folder.parent)
        remove(old)
    except OSError as error:
        raise CheckpointError(
            f"cannot write checkpoint {folder}: {error}; free or repair the disk, then resume"
        ) from error


def read_checkpoint(folder: Path) -> Any:
    """Return the state in `folder`, tensors on the CPU.

    Raises: CheckpointError saying which file is missing, cut short or changed since it was written.
    """
    check_real_folder(folder)
    expected = _manifest(folder)
    contents: dict[str, bytes] = {}
    for name, (digest, size) in expected.items():
        most = MOST_TENSOR_BYTES if name == TENSORS else MOST_VALUES_BYTES
        try:
            contents[name] = read_bytes(folder / name, most=min(size, most), remedy="use an earlier checkpoint")
        except FileNotFoundError as error:
            raise CheckpointError(f"{folder / name} cannot be read ({error.strerror})") from error
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise CheckpointError(
                f"{folder / name} was changed after it was written: it has {len(contents[name])} bytes of the "
                f"{size} expected and another sha256"
            )
    tree = parse_json(contents[VALUES], folder / VALUES, remedy="use an earlier checkpoint", most_depth=_MOST_DEPTH)
    try:
        return join_state(safetensors.torch.load(contents[TENSORS]), tree)
    except CheckpointError:
        raise
    except Exception as error:  # safetensors raises what it likes for headers that it did not write
        raise CheckpointError(
            f"{folder} holds no safetensors or no values of a checkpoint ({type(error).__name__}: "
            f"{shortened(error)}); use an earlier one"
        ) from error


def _manifest(folder: Path) -> dict[str, tuple[str, int]]:
    """Return sha256 and size of a checkpoint's files, as its manifest says."""
    path = folder / MANIFEST
    try:
        manifest = read_object(path, {"files": dict}, remedy="use an earlier checkpoint")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    version, files = manifest.get("schema_version"), manifest.get("files", {})
    if version != SCHEMA_VERSION:
        raise CheckpointError(f"{folder} has checkpoint schema {version!r}, this version reads {SCHEMA_VERSION}")
    for name in (TENSORS, VALUES):
        entry = files.get(name)
        digest, size = (entry.get("sha256"), entry.get("bytes")) if isinstance(entry, dict) else (None, None)
        if not isinstance(digest, str) or type(size) is not int or size < 0:
            raise CheckpointError(f"{path} is damaged (no sha256 and size of {name}); use an earlier checkpoint")
    return {name: (files[name]["sha256"], files[name]["bytes"]) for name in (TENSORS, VALUES)}


def remove(path: Path) -> None:
    """Delete what lies at `path`, be it a folder or something in a folder's place; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


class CheckpointStore:
    """The checkpoints of one run: the last `keep` of them, and the one with the best validation score."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        """Look at `folder`, which need not exist yet. Raises ConfigError if fewer than 2 are kept."""
        if keep < 2:
            raise ConfigError(f"keep={keep} checkpoints leaves none to fall back to; keep at least 2")
        self.folder, self.keep = folder, keep

    def path(self, iteration: int) -> Path:
        """Return where the checkpoint after `iteration` iterations is or would be."""
        return self.folder / f"iteration-{iteration:09d}"

    def iterations(self) -> list[int]:
        """Return the iterations that have a checkpoint, oldest first; they may be damaged."""
        check_real_folder(self.folder)
        names = [p.name for p in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(int(m.group(1)) for m in map(_NAME.match, names) if m)

    def save(self, iteration: int, state: Any, binding: Mapping[str, str] | None = None) -> Path:
        """Write the checkpoint after `iteration` iterations, then forget the oldest ones."""
        self.write(iteration, state, binding)
        self.prune()
        return self.path(iteration)

    def write(self, iteration: int, state: Any, binding: Mapping[str, str] | None = None) -> None:
        """Write the checkpoint after `iteration` iterations. The store's own folder may be new, the one above not."""
        self.folder.mkdir(exist_ok=True)
        write_checkpoint(self.path(iteration), state, binding)

    def prune(self) -> None:
        """Forget all but the last `keep` checkpoints and the best one."""
        iterations = self.iterations()
        for old in set(iterations) - {*iterations[-self.keep :], self.best()}:
            self._forget(old)

    def _forget(self, iteration: int) -> None:
        """Delete a checkpoint: its name goes first, so that what has one is whole. What cannot go stays."""
        with contextlib.suppress(OSError):
            old = self.path(iteration).with_name(f".old-{self.path(iteration).name}")
            self.path(iteration).rename(old)
            shutil.rmtree(old)

    def load(self, iteration: int) -> Any:
        """Return the state after `iteration` iterations; raises CheckpointError naming those that exist."""
        check_real_folder(self.folder)
        if not self.path(iteration).is_dir():
            known = ", ".join(map(str, self.iterations())) or "none"
            raise CheckpointError(f"{self.folder} has no checkpoint of iteration {iteration}; it has: {known}")
        return read_checkpoint(self.path(iteration))

    def load_newest(self) -> tuple[int, Any] | None:
        """Return (iteration, state) of the newest good checkpoint, or None if there never was one.

        Damaged ones are passed over with a warning each. Raises: CheckpointError if all are damaged.
        """
        iterations = self.iterations()
        reasons: list[str] = []
        for iteration in reversed(iterations):
            try:
                state = read_checkpoint(self.path(iteration))
            except CheckpointError as error:
                reasons.append(str(error))
                continue
            for reason in reasons:
                warnings.warn(f"damaged checkpoint passed over: {reason}; using iteration {iteration}", stacklevel=2)
            return iteration, state
        if iterations:
            raise CheckpointError(
                f"none of the {len(iterations)} checkpoints in {self.folder} is intact (newest: {reasons[0]}); restore "
                f"the folder from a copy, or delete it to start again at iteration 0"
            )
        return None

    def set_best(self, iteration: int | None, score: float | None) -> None:
        """Point `best.json` at `iteration`, or forget the best one; a file that says so already is left alone."""
        path, named = self.folder / "best.json", {"iteration": iteration, "score": score}
        content = (json.dumps(named | {"score_name": "validation/post_return"}) + "\n").encode()
        self.folder.mkdir(exist_ok=True)
        if not path.is_file() or path.read_bytes() != content:
            replace_file(path, content)

    def best(self) -> int | None:
        """Return the iteration with the best validation score, or None if nothing was validated yet."""
        path, remedy = self.folder / "best.json", "delete it, then the run finds the best again"
        check_real_folder(self.folder)
        try:
            found = read_object(path, {"iteration": int | None, "score": float | int | None}, remedy=remedy)
        except FileNotFoundError:
            return None
        if "iteration" not in found:
            raise CheckpointError(f"{path} is damaged (it names no iteration); {remedy}")
        iteration: int | None = found["iteration"]
        return iteration

    def discard_after(self, iteration: int) -> None:
        """Delete checkpoints later than `iteration`: damaged ones, which would crowd out good ones."""
        for later in self.iterations():
            if later > iteration:
                self._forget(later)

    def clean(self) -> None:
        """Delete what an interrupted save left behind; only the process that holds the run's lock may call it."""
        clean_temporaries(self.folder)


def clean_temporaries(folder: Path) -> None:
    """Delete what a killed process had not yet moved to its place in `folder`, files and checkpoints."""
    if not folder.is_dir():
        return
    for leftover in [p for p in folder.iterdir() if _TEMPORARY.match(p.name)]:
        remove(leftover)
