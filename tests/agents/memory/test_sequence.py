"""Whole-sequence GRU and LSTM: the backward pass written by hand against autograd's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.agents.memory import sequence
from metarl.agents.memory.recurrent import RecurrentCore
from metarl.seeding import generator

KINDS = {"gru": 3, "lstm": 4}


def _problem(kind: str, shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return x, h (and c), and the four weights, all of which want gradients; `shape` is T, B, hidden, inputs."""
    (n_steps, n_rows, size, n_in), g, gates = shape, generator(0), KINDS[kind]
    shapes = [(n_steps, n_rows, n_in), *[(n_rows, size)] * (gates - 2)]
    shapes += [(gates * size, n_in), (gates * size, size), (gates * size,), (gates * size,)]
    scale = [1.0] * (gates - 1) + [n_in**-0.5, size**-0.5, 0.5, 0.5]
    drawn = (torch.randn(s, generator=g, dtype=dtype) * k for s, k in zip(shapes, scale, strict=True))
    return tuple(v.requires_grad_() for v in drawn)


def _by_hand(kind: str, *v: Any) -> tuple[Tensor, ...]:
    if kind == "gru":
        outputs = sequence.gru(v[0], v[1], v[2:])
        return outputs, outputs[-1]
    return sequence.lstm(v[0], v[1], v[2], v[3:])


def _by_cells(kind: str, *v: Any) -> tuple[Tensor, ...]:
    """Walk step by step through torch's cells, under autograd."""
    state, weights, outputs = v[1 : len(v) - 4], v[-4:], []
    for row in v[0].unbind(0):
        state = (torch.gru_cell(row, *state, *weights),) if kind == "gru" else torch.lstm_cell(row, state, *weights)
        outputs.append(state[0])
    return torch.stack(outputs), state[-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows_at_a_time", [512, 4])
def test_the_backward_pass_is_the_derivative_of_the_forward_pass(
    kind: str, rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finite differences in float64; 4 rows at a time make the walk back cross the borders of its parts."""
    monkeypatch.setattr(sequence, "_ROWS", rows_at_a_time)
    inputs = _problem(kind, (5, 2, 3, 2), torch.float64)
    assert torch.autograd.gradcheck(lambda *v: _by_hand(kind, *v), inputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("shape", [(90, 20, 24, 7), (1, 3, 4, 2), (700, 1, 6, 3)])
def test_outputs_and_gradients_are_those_of_torchs_cells(
    kind: str, dtype: torch.dtype, tolerance: float, shape: tuple[int, int, int, int]
) -> None:
    inputs = _problem(kind, shape, dtype)
    results = []
    for run in (_by_hand, _by_cells):
        outputs, last = run(kind, *inputs)
        probe = torch.randn(outputs.shape, generator=generator(1), dtype=dtype)
        loss = (outputs * probe).sum() + (last * probe[0]).sum()
        results.append([outputs, last, *torch.autograd.grad(loss, inputs)])
    for got, want in zip(*results, strict=True):
        assert float((got - want).detach().abs().max()) <= tolerance * max(1.0, float(want.detach().abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_inputs_may_lie_in_memory_in_any_order(kind: str) -> None:
    x, *others = _problem(kind, (9, 5, 4, 3), torch.float64)
    across = x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    assert not across.is_contiguous()
    found = [torch.autograd.grad(_by_hand(kind, v, *others)[0].square().sum(), (v, *others)) for v in (x, across)]
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_gradient_would_be_seen(kind: str) -> None:
    """Negative control: with one recurrent weight disturbed, the gradients differ by far more than the tolerance."""
    inputs = _problem(kind, (90, 20, 24, 7), torch.float32)
    disturbed = [v.detach().clone().requires_grad_() for v in inputs]
    with torch.no_grad():
        disturbed[-3][0, 0] += 1e-2
    got, want = (torch.autograd.grad(_by_hand(kind, *v)[0].sum(), v) for v in (disturbed, inputs))
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, want, strict=True))
    assert error > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_wants_a_gradient_gets_one(kind: str) -> None:
    inputs = [v.detach() for v in _problem(kind, (4, 2, 3, 2), torch.float32)]
    inputs[-1].requires_grad_()
    (gradient,) = torch.autograd.grad(_by_hand(kind, *inputs)[0].sum(), [inputs[-1]])
    assert float(gradient.abs().sum()) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_core_walks_with_gradients_as_without(kind: Any) -> None:
    core = RecurrentCore(kind, 3, 5, generator(0), "cpu")
    x = torch.randn(9, 4, 3, generator=generator(1))
    with_gradients, last = core.unroll(x, core.start(4))
    with torch.no_grad():
        without, last_without = core.unroll(x, core.start(4))
    assert with_gradients.requires_grad
    torch.testing.assert_close(with_gradients.detach(), without, rtol=0, atol=1e-6)
    torch.testing.assert_close({k: v.detach() for k, v in last.items()}, last_without, rtol=0, atol=1e-6)


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    inputs = _problem("gru", (3, 2, 3, 2), torch.float32)
    (first,) = torch.autograd.grad(_by_hand("gru", *inputs)[0].square().sum(), [inputs[0]], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()  # type: ignore[no-untyped-call]
