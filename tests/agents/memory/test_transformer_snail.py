"""Rotary positions, causal convolutions and ring buffers against what they should be, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from metarl.agents.memory import history
from metarl.agents.memory.snail import SNAILConfig, SNAILCore, delayed, dilations
from metarl.agents.memory.transformer import TransformerConfig, TransformerCore, rotate
from metarl.seeding import generator


def test_a_rotation_turns_each_pair_by_its_own_angle() -> None:
    x = torch.tensor([1.0, 0.0, 0.0, 1.0])  # pairs (x0, x2) and (x1, x3); frequencies 1 and 1/100
    got = rotate(x, torch.tensor(2))
    expected = [math.cos(2.0), -math.sin(0.02), math.sin(2.0), math.cos(0.02)]
    assert got.tolist() == pytest.approx(expected, abs=1e-6)


def test_products_of_rotated_queries_and_keys_depend_on_their_distance_only() -> None:
    q, k = torch.randn(2, 8, generator=generator(0), dtype=torch.float64)
    products = [float(rotate(q, torch.tensor(t + 5)) @ rotate(k, torch.tensor(t))) for t in (0, 3, 1000)]
    assert products == pytest.approx([products[0]] * 3, rel=1e-9)
    other = float(rotate(q, torch.tensor(6)) @ rotate(k, torch.tensor(0)))  # negative control: another distance
    assert abs(other - products[0]) > 1e-3


def test_a_transformer_of_one_head_is_the_written_out_equations() -> None:
    core = TransformerCore(TransformerConfig(layers=1, heads=1), 3, 4, 6, generator(0), "cpu")
    x = torch.randn(6, 1, 3, generator=generator(1))
    p = {k: v.detach() for k, v in core.named_parameters()}

    def norm(v: torch.Tensor) -> torch.Tensor:
        return (v - v.mean(-1, keepdim=True)) / (v.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()

    y = x[:, 0] @ p["embed.weight"].T
    q, k, v = (norm(y) @ p["blocks.0.qkv.weight"].T).chunk(3, dim=-1)
    q, k = (torch.stack([rotate(row, torch.tensor(t)) for t, row in enumerate(z)]) for z in (q, k))
    rows = []
    for t in range(6):
        weights = torch.softmax(k[: t + 1] @ q[t] / 2.0, dim=0)  # sqrt of 4 units per head
        rows.append(weights @ v[: t + 1])
    y = y + torch.stack(rows) @ p["blocks.0.out.weight"].T
    up = norm(y) @ p["blocks.0.up.weight"].T
    y = y + (0.5 * up * (1.0 + torch.erf(up / math.sqrt(2.0)))) @ p["blocks.0.down.weight"].T
    torch.testing.assert_close(core.unroll(x, core.start(1))[0][:, 0].detach(), norm(y), rtol=0, atol=1e-5)


def test_dilations_double_until_they_reach_over_the_context() -> None:
    assert dilations(2) == (1,)
    assert dilations(60) == (1, 2, 4, 8, 16, 32)
    for context in (2, 3, 8, 9, 60, 64, 65):
        assert sum(dilations(context)) >= context - 1


def test_a_convolution_sees_now_and_one_earlier_step() -> None:
    """y_t = tanh(2 x_t + 3 x_(t-2)) * sigmoid(x_t), beside x_t."""
    core = SNAILCore(SNAILConfig(blocks=1, filters=1), 1, 1, 4, generator(0), "cpu")
    pair = core._pairs()[0]
    with torch.no_grad():
        pair.convolutions[0].weight.copy_(torch.tensor([[2.0, 3.0], [1.0, 0.0]]))  # type: ignore[operator]
    x = torch.tensor([[0.1], [0.2], [-0.3], [0.4]])
    got = pair.convolve(0, x, delayed(x, 2)).detach()
    for t, (now, before) in enumerate(((0.1, 0.0), (0.2, 0.0), (-0.3, 0.1), (0.4, 0.2))):
        expected = math.tanh(2 * now + 3 * before) / (1 + math.exp(-now))
        assert got[t].tolist() == pytest.approx([now, expected], abs=1e-6)
    assert delayed(x, 9).tolist() == [[0.0]] * 4


def test_ring_buffers_hold_the_last_steps_and_look_back_finds_each() -> None:
    sequence = torch.arange(1.0, 8.0)[:, None, None].expand(7, 2, 1)
    ring, count = torch.zeros(2, 4, 1), torch.zeros(2, dtype=torch.int64)
    for t in range(7):
        for steps in range(1, 4):
            expected = float(t + 1 - steps) if steps <= t else 0.0
            assert history.look_back(ring, count, steps).flatten().tolist() == [expected] * 2
        assert int(history.filled(count, 4).sum(1)[0]) == min(t + 1, 4)
        ring, count = history.append(ring, count, sequence[t]), count + 1
    assert torch.equal(ring, history.to_ring(sequence, 4))
    assert sorted(ring[0, :, 0].tolist()) == [4.0, 5.0, 6.0, 7.0]


def test_a_window_is_only_needed_beyond_the_context() -> None:
    assert history.window(4, 4, torch.device("cpu")) is None
    seen = history.window(5, 3, torch.device("cpu"))
    assert seen is not None
    assert seen.long().tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1],
    ]  # fmt: skip
