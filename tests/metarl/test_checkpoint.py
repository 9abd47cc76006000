from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.checkpoint import (
    MANIFEST,
    TENSORS,
    VALUES,
    CheckpointStore,
    join_state,
    read_checkpoint,
    split_state,
    state_fingerprint,
    write_checkpoint,
)
from metarl.errors import CheckpointError, ConfigError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.integers(-3, 3) | st.text(max_size=4)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_plain_values_come_back_with_their_types(tree):
    tensors, stored = split_state(tree)
    assert same(join_state(tensors, json.loads(json.dumps(stored, allow_nan=False))), tree)


def test_an_optimiser_with_integer_keys_comes_back(tmp_path):
    weight = torch.nn.Parameter(torch.randn(3, 2, generator=torch.Generator().manual_seed(0)))
    optimiser = torch.optim.Adam([weight], lr=0.1, betas=(0.8, 0.99))
    weight.sum().backward()
    optimiser.step()
    write_checkpoint(tmp_path / "c", optimiser.state_dict())
    stored = read_checkpoint(tmp_path / "c")
    assert same(stored, optimiser.state_dict())
    assert 0 in stored["state"]
    torch.optim.Adam([weight]).load_state_dict(stored)


def test_every_dtype_shape_and_layout_of_tensor_comes_back(tmp_path):
    dtypes = [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
    state = {str(d): torch.arange(6).reshape(2, 3).to(d) for d in dtypes}
    shared = torch.arange(12.0)
    state |= {"empty": torch.zeros(0, 4), "scalar": torch.tensor(1.5), "t": state["torch.float32"].T}
    state |= {"row": shared[:6], "whole": shared, "again": shared, "nan": torch.tensor([float("nan"), -0.0])}
    write_checkpoint(tmp_path / "c", state)
    stored = read_checkpoint(tmp_path / "c")
    assert state_fingerprint(stored) == state_fingerprint(state)
    assert torch.equal(stored["t"], state["t"])


def test_keys_that_spell_the_same_path_stay_apart(tmp_path):
    state = {0: torch.zeros(1), "0": torch.ones(1), "a/b": torch.ones(2), "a": {"b": torch.zeros(2)}}
    write_checkpoint(tmp_path / "c", state)
    assert same(read_checkpoint(tmp_path / "c"), state)


def test_the_fingerprint_sees_one_bit():
    a = {"w": torch.tensor([1.0, 0.0])}
    assert state_fingerprint(a) == state_fingerprint({"w": torch.tensor([1.0, 0.0])})
    assert state_fingerprint(a) != state_fingerprint({"w": torch.tensor([1.0, -0.0])})
    assert state_fingerprint(a) != state_fingerprint({"w": torch.tensor([1.0, 0.0], dtype=torch.float64)})


def test_a_value_that_would_need_a_pickle_is_refused_with_its_place(tmp_path):
    with pytest.raises(CheckpointError, match=r"torch\.device at '/outer/1/device'"):
        write_checkpoint(tmp_path / "c", {"outer": [1, {"device": torch.device("cpu")}]})
    assert not (tmp_path / "c").exists()


def damage_flip(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 0x10
    (folder / name).write_bytes(bytes(content))


def damage_cut(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


def damage_remove(folder: Path, name: str) -> None:
    (folder / name).unlink()


def state_of(i: int) -> dict[str, object]:
    return {"w": torch.full((40,), float(i)), "i": i}


@pytest.mark.parametrize("name", [TENSORS, VALUES, MANIFEST])
@pytest.mark.parametrize("damage", [damage_flip, damage_cut, damage_remove])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(tmp_path, name, damage):
    store = CheckpointStore(tmp_path / "checkpoints")
    for i in (1, 2):
        store.save(i, state_of(i))
    damage(store.path(2), name)
    with pytest.warns(UserWarning, match=f"{name}.*using iteration 1"):
        found = store.load_newest()
    assert found is not None
    assert found[0] == 1
    assert same(found[1], state_of(1))


def test_a_flipped_byte_anywhere_is_noticed_or_harmless(tmp_path):
    write_checkpoint(tmp_path / "c", state_of(3))
    for name in (TENSORS, VALUES, MANIFEST):
        good = (tmp_path / "c" / name).read_bytes()
        for at in range(0, len(good), 7):
            (tmp_path / "c" / name).write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            try:
                stored = read_checkpoint(tmp_path / "c")
            except CheckpointError:
                continue
            assert name == MANIFEST
            assert same(stored, state_of(3))
        (tmp_path / "c" / name).write_bytes(good)
    assert same(read_checkpoint(tmp_path / "c"), state_of(3))


def test_nothing_left_to_fall_back_to_says_what_to_do(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(1, state_of(1))
    damage_flip(store.path(1), TENSORS)
    with pytest.raises(CheckpointError, match=r"none of the 1 checkpoints.*intact.*restore the folder from a copy"):
        store.load_newest()


def test_a_store_without_checkpoints_has_no_newest(tmp_path):
    assert CheckpointStore(tmp_path / "none").load_newest() is None
    with pytest.raises(CheckpointError, match="has no checkpoint of iteration 4; it has: none"):
        CheckpointStore(tmp_path / "none").load(4)


def test_another_schema_version_is_refused(tmp_path):
    write_checkpoint(tmp_path / "c", state_of(1))
    manifest = json.loads((tmp_path / "c" / MANIFEST).read_text())
    (tmp_path / "c" / MANIFEST).write_text(json.dumps(manifest | {"schema_version": 99}))
    with pytest.raises(CheckpointError, match="schema 99, this version reads 1"):
        read_checkpoint(tmp_path / "c")


def test_the_last_ones_and_the_best_one_are_kept(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    for i in range(1, 7):
        store.save(i, state_of(i))
        if i == 2:
            store.set_best(2, 1.0)
    assert store.iterations() == [2, 5, 6]
    assert store.best() == 2
    with pytest.raises(ConfigError, match="keep at least 2"):
        CheckpointStore(tmp_path, keep=1)


@pytest.mark.parametrize("call", range(1, 14))
def test_a_crash_at_any_system_call_of_a_save_leaves_a_good_checkpoint(tmp_path, monkeypatch, call):
    """The disk calls of a second save are cut off one after another; what is found after is old or new, never less."""
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(1, state_of(1))
    store.save(2, state_of(-2))  # is replaced below
    left = call

    def counted(real):
        def wrapper(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt  # like a kill: nothing that catches OSError tidies up
            return real(*args, **kwargs)

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", counted(os.fsync))
        patch.setattr(Path, "rename", counted(Path.rename))
        patch.setattr(Path, "open", counted(Path.open))
        try:
            store.save(2, state_of(2))
        except KeyboardInterrupt:
            crashed = True
        else:
            crashed = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an unfinished save must not look like a damaged checkpoint
        found = CheckpointStore(tmp_path / "checkpoints").load_newest()
    assert found is not None
    assert any(same(found[1], state_of(i)) for i in (1, -2, 2))
    if not crashed:
        assert same(found[1], state_of(2))
    store.clean()
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if p.name.startswith((".tmp", ".old"))]
    store.save(2, state_of(2))
    assert same(store.load(2), state_of(2))


def test_loading_runs_no_code(tmp_path):
    """A pickle in place of the tensors is refused by its hash, and by the format once the hash is forged."""
    import hashlib
    import pickle

    write_checkpoint(tmp_path / "c", state_of(1))
    hostile = pickle.dumps(Path)
    (tmp_path / "c" / TENSORS).write_bytes(hostile)
    with pytest.raises(CheckpointError, match="was changed after it was written"):
        read_checkpoint(tmp_path / "c")
    manifest = json.loads((tmp_path / "c" / MANIFEST).read_text())
    manifest["files"][TENSORS]["sha256"] = hashlib.sha256(hostile).hexdigest()
    (tmp_path / "c" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="no safetensors"):
        read_checkpoint(tmp_path / "c")
