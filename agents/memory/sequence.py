"""GRU and LSTM over whole sequences on a CPU, with a backward pass of their own.

Autograd would add the weights' gradients up step by step: T products [gates, B] x [B, hidden], each of which also reads
and writes the whole matrix. Here the walk back computes the gates' gradients only; the weights' gradients are then one
product over many steps at once. The same equations as `torch.gru_cell` and `torch.lstm_cell`, to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Weights = tuple[Tensor, Tensor, Tensor, Tensor]
"""Input weights [gates * H, I], recurrent weights [gates * H, H], and a bias [gates * H] of each."""

_ROWS = 512
"""Rows (steps times batch) whose gate gradients exist at a time: enough for fast products, few enough for the cache."""
_tanh_backward = torch.ops.aten.tanh_backward
"""g, y -> g (1 - y²), in one pass."""
_sigmoid_backward = torch.ops.aten.sigmoid_backward
"""g, y -> g y (1 - y), in one pass."""


def gru(x: Tensor, h: Tensor, weights: Weights) -> Tensor:
    """Return the outputs [T, B, H] of a GRU over x [T, B, I] from the memory h [B, H]; differentiable once."""
    return cast(Tensor, _GRU.apply(x, h, *weights))  # type: ignore[no-untyped-call]


def lstm(x: Tensor, h: Tensor, c: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """Return the outputs [T, B, H] of an LSTM over x [T, B, I] from h and c [B, H], and the last c [B, H]."""
    return cast(tuple[Tensor, Tensor], _LSTM.apply(x, h, c, *weights))  # type: ignore[no-untyped-call]


def _parts(n_steps: int, n_rows: int) -> Iterator[slice]:
    """Yield stretches of time of about `_ROWS` rows each, from the last one to the first."""
    length = max(1, _ROWS // max(n_rows, 1))
    for end in range(n_steps, 0, -length):
        yield slice(max(0, end - length), end)


def _before(first: Tensor, outputs: Tensor, part: slice) -> Tensor:
    """Return what the memory held before each step of a part, [steps * B, H]."""
    earlier = outputs[part.start : part.stop - 1] if part.start == 0 else outputs[part.start - 1 : part.stop - 1]
    return (torch.cat([first[None], earlier]) if part.start == 0 else earlier).flatten(0, 1)


class _Gradients:
    """Gradients of inputs and weights, gathered part by part."""

    def __init__(self, ctx: Any, x: Tensor, weights: Weights, first: int) -> None:
        """`first` is the position of the weights among the function's inputs."""
        needs = ctx.needs_input_grad
        self.x, self.weight_ih = x, weights[0]
        self.dx = torch.empty(x.shape, dtype=x.dtype) if needs[0] else None  # one row after the other, whatever x is
        self.weights = [torch.zeros_like(w) if needs[first + i] else None for i, w in enumerate(weights)]

    def recurrent(self, d_gates: Tensor, before: Tensor) -> None:
        """Take in d loss / d (recurrent weights @ h + bias), [rows, gates * H], and h [rows, H]."""
        if self.weights[1] is not None:
            self.weights[1].addmm_(d_gates.t(), before)
        if self.weights[3] is not None:
            self.weights[3] += d_gates.sum(0)

    def inputs(self, d_gates: Tensor, part: slice) -> None:
        """Take in d loss / d (input weights @ x + bias), [rows, gates * H], of one part."""
        if self.weights[0] is not None:
            self.weights[0].addmm_(d_gates.t(), self.x[part].flatten(0, 1))
        if self.weights[2] is not None:
            self.weights[2] += d_gates.sum(0)
        if self.dx is not None:
            torch.mm(d_gates, self.weight_ih, out=self.dx[part].flatten(0, 1))


class _GRU(torch.autograd.Function):
    """r, z = sigmoid(W x + b + U h + d), n = tanh(W_n x + b_n + r (U_n h + d_n)), h' = n + z (h - n)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, *weights: Tensor) -> Tensor:
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        (n_steps, n_rows, _), size = x.shape, first.shape[1]
        two = 2 * size
        rows = x.flatten(0, 1)
        bias = bias_ih[:two] + bias_hh[:two]
        rz = torch.addmm(bias, rows, weight_ih[:two].t()).view(n_steps, n_rows, two)
        n = torch.addmm(bias_ih[two:], rows, weight_ih[two:].t()).view(n_steps, n_rows, size)
        u_n, outputs = torch.empty_like(n).copy_(bias_hh[two:]), torch.empty_like(n)
        to_rz, to_n = weight_hh[:two].t().contiguous(), weight_hh[two:].t().contiguous()
        h = first
        # All views of single steps at once: made one by one they would cost as much as the arithmetic on them.
        steps = (v.unbind(0) for v in (rz, rz[..., :size], rz[..., size:], n, u_n, outputs))
        for rz_t, r_t, z_t, n_t, u_t, out in zip(*steps, strict=True):
            rz_t.addmm_(h, to_rz).sigmoid_()
            n_t.addcmul_(r_t, u_t.addmm_(h, to_n)).tanh_()
            h = torch.lerp(n_t, h, z_t, out=out)
        ctx.save_for_backward(x, first, rz, n, u_n, outputs, *weights)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, first, rz, n, u_n, outputs, *weights = ctx.saved_tensors
        size, weight_hh = first.shape[1], weights[1]
        found = _Gradients(ctx, x, (weights[0], weights[1], weights[2], weights[3]), 2)
        g = torch.zeros_like(first)
        for part in _parts(*x.shape[:2]):
            before = _before(first, outputs, part)
            r, z = rz[part].flatten(0, 1).split(size, dim=1)
            n_, u = n[part].flatten(0, 1), u_n[part].flatten(0, 1)
            # Per unit of the memory's gradient: what reaches each gate before its nonlinearity.
            to_n = _tanh_backward(1.0 - z, n_)
            gates = torch.empty(len(z), 3, size, dtype=z.dtype)
            torch.mul(to_n, r, out=gates[:, 2])
            _sigmoid_backward(to_n * u, r, grad_input=gates[:, 0])
            _sigmoid_backward(before - n_, z, grad_input=gates[:, 1])
            total = torch.empty_like(n[part])
            by_step = gates.view(*total.shape[:2], 3, size)
            flat = gates.view(*total.shape[:2], 3 * size)
            views = (d_outputs[part], by_step, flat, rz[part][..., size:], total, total.unsqueeze(2))
            for d_out, gate, row, z_t, g_t, g_wide in zip(*(reversed(v.unbind(0)) for v in views), strict=True):
                torch.add(d_out, g, out=g_t)
                gate.mul_(g_wide)
                g = (g_t * z_t).addmm_(row, weight_hh)
            found.recurrent(gates.flatten(1), before)
            torch.mul(to_n, total.flatten(0, 1), out=gates[:, 2])
            found.inputs(gates.flatten(1), part)
        return found.dx, g, *found.weights


class _LSTM(torch.autograd.Function):
    """i, f, o = sigmoid(...), g = tanh(...), c' = f c + i g, h' = o tanh(c'); blocks in the order i, f, g, o."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, first_c: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        (n_steps, n_rows, _), size = x.shape, first.shape[1]
        gates = torch.addmm(bias_ih + bias_hh, x.flatten(0, 1), weight_ih.t()).view(n_steps, n_rows, 4 * size)
        outputs = torch.empty(n_steps, n_rows, size, dtype=x.dtype)
        cells, bent = torch.empty_like(outputs), torch.empty_like(outputs)
        across = weight_hh.t().contiguous()
        h, c = first, first_c
        for gate, cell, tanh_c, out in zip(
            gates.unbind(0), cells.unbind(0), bent.unbind(0), outputs.unbind(0), strict=True
        ):
            gate.addmm_(h, across)
            i_f, g, o = gate[:, : 2 * size].sigmoid_(), gate[:, 2 * size : 3 * size].tanh_(), gate[:, 3 * size :]
            c = torch.mul(i_f[:, size:], c, out=cell).addcmul_(i_f[:, :size], g)
            h = torch.mul(o.sigmoid_(), torch.tanh(c, out=tanh_c), out=out)
        ctx.save_for_backward(x, first, first_c, gates, cells, bent, outputs, *weights)
        return outputs, c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        x, first, first_c, gates, cells, bent, outputs, *weights = ctx.saved_tensors
        size, weight_hh = first.shape[1], weights[1]
        found = _Gradients(ctx, x, (weights[0], weights[1], weights[2], weights[3]), 3)
        g_h, g_c = torch.zeros_like(first), d_last
        for part in _parts(*x.shape[:2]):
            i, f, g, o = gates[part].flatten(0, 1).split(size, dim=1)
            tanh_c = bent[part].flatten(0, 1)
            # Per unit of the gradient of c' (of h' for the output gate): what reaches each gate.
            to = torch.empty(len(i), 4, size, dtype=i.dtype)
            torch.mul(i, g, out=to[:, 0]).mul_(1.0 - i)
            torch.mul(_before(first_c, cells, part), f, out=to[:, 1]).mul_(1.0 - f)
            torch.mul(i, 1.0 - g * g, out=to[:, 2])
            torch.mul(tanh_c, o, out=to[:, 3]).mul_(1.0 - o)
            h_to_c = (1.0 - tanh_c * tanh_c).mul_(o).view_as(bent[part])
            steps = zip(
                d_outputs[part].unbind(0), to.view(*h_to_c.shape[:2], 4, size).unbind(0),
                h_to_c.unbind(0), gates[part].unbind(0), strict=True,
            )  # fmt: skip
            for d_out, gate, slope, kept in reversed(list(steps)):
                g_h = g_h + d_out
                g_c = torch.addcmul(g_c, g_h, slope)
                gate[:, :3].mul_(g_c.unsqueeze(1))
                gate[:, 3].mul_(g_h)
                g_h = gate.flatten(1) @ weight_hh
                g_c = g_c * kept[:, size : 2 * size]
            found.recurrent(to.flatten(1), _before(first, outputs, part))
            found.inputs(to.flatten(1), part)
        return found.dx, g_h, g_c, *found.weights
