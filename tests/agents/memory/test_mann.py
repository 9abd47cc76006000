"""The external memory's equations against numbers worked out by hand (Santoro et al. 2016, equations 2 to 8)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from metarl.agent import State
from metarl.agents.memory.mann import MANNConfig, MANNCore, least_used, similarity, write
from metarl.seeding import generator


def _core(**options: float) -> MANNCore:
    return MANNCore(MANNConfig(slots=4, width=2, **options), 3, 5, generator(0), "cpu")  # type: ignore[arg-type]


def _saying(core: MANNCore, *numbers: float) -> None:
    """Make the controller always say the same: per head, key before tanh, gate before sigmoid, strength."""
    with torch.no_grad():
        core.interface.weight.zero_()
        core.interface.bias.copy_(torch.tensor(numbers))


def _step(core: MANNCore, memory: State) -> State:
    return {k: v.detach() for k, v in core.step(torch.zeros(len(memory["h"]), 3), memory).items()}


def test_similarity_is_the_cosine_and_an_empty_row_is_like_nothing() -> None:
    memory = torch.tensor([[[3.0, 4.0], [-6.0, -8.0], [4.0, -3.0], [0.0, 0.0]]])
    key = torch.tensor([[[0.6, 0.8], [20.0, 0.0]]])
    expected = torch.tensor([[[1.0, -1.0, 0.0, 0.0], [0.6, -0.6, 0.8, 0.0]]])
    torch.testing.assert_close(similarity(memory, key), expected, rtol=0, atol=1e-5)


def test_the_least_used_slots_come_in_order_and_ties_go_to_low_slots() -> None:
    usage = torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.0, 0.0, 0.0, 0.0]])
    assert least_used(usage, 2).argmax(-1).tolist() == [[1, 3], [0, 1]]
    assert least_used(usage, 2).sum(-1).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_a_write_clears_the_least_used_slot_and_adds_the_keys() -> None:
    memory = torch.tensor([[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]])
    key, free = torch.tensor([[[10.0, -10.0]]]), torch.tensor([[[0.0, 1.0, 0.0]]])
    weight = torch.tensor([[[0.5, 0.25, 0.0]]])
    assert write(memory, key, weight, free).tolist() == [[[6.0, -4.0], [2.5, -2.5], [3.0, 3.0]]]


def test_one_step_by_hand() -> None:
    """Key (tanh 1, 0), gate sigmoid(0) = 1/2, no strength; two slots are filled, slot 2 is the least used."""
    core = _core(strength=False, usage_decay=0.5)
    _saying(core, 1.0, 0.0, 0.0)
    memory = core.start(1)
    memory["slots"] = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]])
    memory["usage"] = torch.tensor([[1.0, 0.6, 0.2, 0.4]])
    memory["weights"] = torch.tensor([[[0.0, 1.0, 0.0, 0.0]]])
    after, e, k = _step(core, memory), math.e, math.tanh(1.0)
    read = torch.tensor([e, 1.0, 1.0, 1.0]) / (e + 3.0)  # softmax of cosines 1, 0, 0, 0
    torch.testing.assert_close(after["weights"][0, 0], read, rtol=0, atol=1e-6)
    torch.testing.assert_close(after["h"][0, 5:], torch.stack([2.0 * read[0], read[1]]))  # what was there before
    writes = torch.tensor([0.0, 0.5, 0.5, 0.0])  # half to what was read last, half to the least used slot
    expected = torch.tensor([[2.0, 0.0], [0.5 * k, 1.0], [0.5 * k, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(after["slots"][0], expected)
    torch.testing.assert_close(after["usage"][0], torch.tensor([0.5, 0.3, 0.1, 0.2]) + read + writes)


def test_writes_fill_slots_in_turn_and_then_replace_the_least_recently_used_one() -> None:
    """Gate shut: all writes go to the least used slot. Reads are sharp and keep what they find in use."""
    core = _core()
    memory: State = core.start(1)
    keys = [(3.0, 0.0), (0.0, 3.0), (-3.0, 0.0), (0.0, -3.0)]
    for i, key in enumerate(keys):
        _saying(core, *key, -30.0, 50.0)
        memory = _step(core, memory)
        full = memory["slots"][0].norm(dim=-1) > 0.5
        assert int(full.sum()) == i + 1  # a slot of its own each time
    where = similarity(memory["slots"], torch.tensor([keys]))[0].argmax(-1).tolist()
    assert sorted(where) == [0, 1, 2, 3]
    # Read the oldest entry again and again: it stays, while writes go to slots that nobody reads.
    for _ in range(3):
        _saying(core, *keys[0], -30.0, 50.0)
        memory = _step(core, memory)
    _saying(core, 3.0, 3.0, -30.0, 50.0)
    before, free = memory["slots"], int(memory["usage"].argmin())
    memory = _step(core, memory)
    changed = (memory["slots"] - before)[0].abs().sum(-1) > 1e-6
    assert changed.nonzero().flatten().tolist() == [free]
    assert float(similarity(memory["slots"], torch.tensor([[keys[0]]])).max()) > 0.99


def test_strength_sharpens_a_read_and_without_it_reads_mix_all_slots() -> None:
    shares: list[Tensor] = []
    for strength, extra in ((True, (30.0,)), (False, ())):
        core = _core(strength=strength)
        _saying(core, 3.0, 0.0, 0.0, *extra)
        memory = core.start(1)
        memory["slots"] = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]])
        shares.append(_step(core, memory)["weights"][0, 0])
    assert float(shares[0][0]) > 0.999
    assert float(shares[1][0]) == pytest.approx(math.e / (math.e + 2.0 + 1.0 / math.e), abs=1e-5)


def test_gradients_reach_the_controller_through_a_slot_written_long_before() -> None:
    core = _core()
    x = torch.randn(6, 2, 3, generator=generator(1), requires_grad=True)
    outputs, _ = core.unroll(x, core.start(2))
    (gradient,) = torch.autograd.grad(outputs[-1, :, 5:].sum(), [x])
    assert bool((gradient.abs().sum((1, 2)) > 0).all())
