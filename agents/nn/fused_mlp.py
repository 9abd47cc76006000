"""A stack of N networks, one per task, as one autograd node per level of differentiation instead of dozens.

MAML's outer step differentiates a network three times: the inner gradient, its derivative in theta, and the derivative
of that in the cotangents (`trust_region.fisher_product`). Plain autograd spends most of the time of small networks in
passes over [N, R, units]: it keeps each sum, product and slope apart. Here every level is written out.

For layers z_i = x_i W_iᵀ + b_i, x_{i+1} = σ(z_i), the last one without σ, with x_{i+1} outputs of the node as well, so
that a derivative through them joins what comes from above, as in plain autograd:

- level 1: given cotangents g of the last z and h_i of x_{i+1}, back through the layers: g_zi = g at the top, elsewhere
  g_yi σ'(z_i) with g_yi = g_z{i+1} W_{i+1} + h_i; gradients g_Wi = g_ziᵀ x_i, g_bi = Σ g_zi, g_x = g_z0 W_0.
- level 2: given cotangents c of those gradients (of g_x, g_W, g_b), forward through the layers, with x'_0 = c_x:
  z'_i = x'_i W_iᵀ + x_i c_Wiᵀ + c_bi and x'_{i+1} = z'_i σ'. The cotangent of g is the last z', that of h_i is
  x'_{i+1}, that of W_i is g_ziᵀ x'_i, that of x_i is g_zi c_Wi + z'_{i-1} g_y{i-1} σ''/σ'.
- level 3: level 2 is linear in c; its transpose takes cotangents e of its results back through the layers, with k_i the
  cotangent of z'_i: k = e_g at the top, elsewhere m_{i+1} σ' + e_x{i+1} g_yi σ''/σ', where m_i, that of x'_i, is
  k_i W_i + g_zi e_Wi + e_h{i-1}. Results: k_iᵀ x_i + g_ziᵀ e_xi for c_Wi, Σ k_i for c_bi, m_0 for c_x.
  Derivatives of level 2 in anything but c raise an error.

For tanh σ' = 1 - y² and σ''/σ' = -2 y; for relu σ'' = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

Parts = Sequence[Tensor | None]
"""None stands for zero, or for what nobody asks for."""


@dataclass(frozen=True)
class _Activation:
    """What the passes need to know of σ."""

    apply_: Callable[[Tensor], Tensor]
    """z -> σ(z), in place."""
    pull: Callable[[Tensor, Tensor], Tensor]
    """(g, y) -> g σ'(z)."""
    pull_: Callable[[Tensor, Tensor], Tensor]
    """The same, written into g."""
    curved: bool
    """Whether σ''/σ' = -2 y; otherwise it is 0."""


_aten = torch.ops.aten
_ACTIVATIONS: dict[Callable[[Tensor], Tensor], _Activation] = {
    torch.tanh: _Activation(
        torch.tanh_, _aten.tanh_backward.default,
        lambda g, y: _aten.tanh_backward.grad_input(g, y, grad_input=g), curved=True,
    ),
    torch.relu: _Activation(
        torch.relu_, lambda g, y: _aten.threshold_backward.default(g, y, 0),
        lambda g, y: _aten.threshold_backward.grad_input(g, y, 0, grad_input=g), curved=False,
    ),
}  # fmt: skip


def can_fuse(x: Tensor, weights: Sequence[Tensor], activation: Callable[[Tensor], Tensor]) -> bool:
    """Say whether `fused_mlp` takes these: rows and weights of N tasks, a known activation, and a gradient to come."""
    return (
        activation in _ACTIVATIONS
        and x.dim() == 3
        and all(weight.dim() == 3 for weight in weights)
        and torch.is_grad_enabled()
        and any(value.requires_grad for value in (x, *weights))
    )


def fused_mlp(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the outputs [N, R, out] of N networks on their rows `x` [N, R, in].

    Args:
        x: rows by task.
        weights: [N, out, in] per layer; tasks may share one (stride 0).
        biases: [N, out] per layer.
        activation: between the layers.
    """
    inputs = [_beside_the_leaf(value) for value in (x, *weights, *biases)]
    out: Tensor = _Network.apply(_ACTIVATIONS[activation], *inputs)[0]  # type: ignore[no-untyped-call]
    return out


def _beside_the_leaf(value: Tensor | None) -> Tensor | None:
    """Return `value`, as a view if it is a leaf, because `_asked` cannot be told of leaves."""
    return value.view_as(value) if value is not None and value.is_leaf and value.requires_grad else value


def _asked(ctx: Any, given: Sequence[bool] | None = None) -> list[bool]:
    """Say for each tensor that went into a node whether the backward pass that is running needs its gradient.

    `ctx.needs_input_grad` says whether anybody ever could: with it, the derivative of the outputs along a direction
    would be paid as dear as a Hessian product, and a head that adapts alone as the whole network.

    Args:
        ctx: the node.
        given: which of its inputs were tensors; None for all.
    """
    edges = (node for node, _ in ctx.next_functions)
    nodes = list(edges) if given is None else [next(edges) if there else None for there in given]
    return [node is not None and torch._C._will_engine_execute_node(node) for node in nodes]


@dataclass(frozen=True)
class _Layers:
    """What levels 1 and 2 leave behind for L layers; parts are None below the lowest layer that level 1 reached."""

    activation: _Activation
    inputs: Sequence[Tensor]
    """[N, R, in] per layer: x, then the hidden layers' outputs."""
    weights: Sequence[Tensor]
    """[N, out, in] per layer."""
    g_z: Sequence[Tensor | None] = ()
    """[N, R, out] per layer."""
    bends: Sequence[Tensor | None] = ()
    """g_y σ''/σ' [N, R, units] per hidden layer; None where it is 0, too."""

    @property
    def n(self) -> int:
        """L."""
        return len(self.weights)


def _lowest(asked: Sequence[bool]) -> int:
    """Return the lowest layer that a pass back to x, L weights and L biases must reach; -1 for x, L for none."""
    n = len(asked) // 2
    needed = [-1] * asked[0] + [i for i in range(n) if asked[1 + i] or asked[1 + n + i]]
    return min(needed, default=n)


def _plus(total: Tensor | None, a: Tensor | None, b: Tensor | None, *, own: bool = True) -> Tensor | None:
    """Return total + a @ b, written into `total` if it is our `own`; None counts as zero."""
    if a is None or b is None:
        return total
    if total is None:
        return torch.bmm(a, b)
    return total.baddbmm_(a, b) if own else torch.baddbmm(total, a, b)


def _weight_part(g: Tensor | None, x: Tensor | None) -> Tensor | None:
    """Return gᵀ x of one layer [N, out, in]; the wide operand comes last, which is twice as fast for narrow inputs."""
    if g is None or x is None:
        return None
    return torch.bmm(x.mT, g).mT if x.shape[-1] < g.shape[-1] else torch.bmm(g.mT, x)


def _transposed(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.mT


def _level_1(layers: _Layers, above: Parts, asked: Sequence[bool], *, keep: bool) -> tuple[Parts, Parts, Parts]:
    """Return the gradients of x, weights and biases, and, if `keep`, `g_z` and `bends`.

    `above` is g [N, R, out], then h [N, R, units] per hidden layer.
    """
    n, lowest = layers.n, _lowest(asked)
    found: list[Tensor | None] = [None] * (1 + 2 * n)
    kept: list[Tensor | None] = [None] * n
    bends: list[Tensor | None] = [None] * (n - 1)
    g_z = above[0]
    for i in range(n - 1, max(lowest, 0) - 1, -1):
        kept[i] = g_z if keep else None
        if asked[1 + i]:
            found[1 + i] = _weight_part(g_z, layers.inputs[i])
        if asked[1 + n + i] and g_z is not None:
            found[1 + n + i] = g_z.sum(-2)
        if i > lowest:
            given = above[i] if i else None
            g_y = _plus(given, g_z, layers.weights[i], own=False)
            if i == 0:
                found[0] = g_y
            elif g_y is None:
                g_z = None
            elif keep or g_y is given:
                y = layers.inputs[i]
                g_z = layers.activation.pull(g_y, y)
                bends[i - 1] = torch.mul(g_y, y).mul_(-2.0) if keep and layers.activation.curved else None
            else:
                g_z = layers.activation.pull_(g_y, layers.inputs[i])
    return found, kept, bends


def _level_2(layers: _Layers, c: Parts, asked: Sequence[bool]) -> list[Tensor | None]:
    """Return the cotangents of g, h, the layers' inputs and the weights, given those of the gradients, `c`."""
    n = layers.n
    to_above, to_inputs, to_weights = asked[:n], asked[n : 2 * n], asked[2 * n : 3 * n]
    found: list[Tensor | None] = [None] * (3 * n)
    x_dot = c[0]
    bent: Tensor | None = None
    for i, (x, weight, g_z) in enumerate(zip(layers.inputs, layers.weights, layers.g_z, strict=True)):
        c_weight, c_bias = c[1 + i], c[1 + n + i]
        if to_inputs[i]:
            found[n + i] = _plus(bent, g_z, c_weight)
        if to_weights[i]:
            found[2 * n + i] = _weight_part(g_z, x_dot)
        # Above the highest layer that somebody asks for there is nothing to do.
        if not (to_above[0] or any(to_above[1 + i :]) or any(to_inputs[i + 1 :]) or any(to_weights[i + 1 :])):
            break
        z_dot = _plus(_plus(None, x, _transposed(c_weight)), x_dot, weight.mT)
        if c_bias is not None:
            row = c_bias.unsqueeze(-2)
            z_dot = row.expand(-1, x.shape[1], -1).contiguous() if z_dot is None else z_dot.add_(row)
        if i == n - 1:
            found[0] = z_dot if to_above[0] else None
        elif z_dot is None:
            x_dot = bent = None
        else:
            bend = layers.bends[i] if to_inputs[i + 1] else None
            pull = layers.activation.pull_ if bend is None else layers.activation.pull
            x_dot = pull(z_dot, layers.inputs[i + 1])
            bent = None if bend is None else z_dot.mul_(bend)
            found[1 + i] = x_dot if to_above[1 + i] else None
    return found


def _level_3(layers: _Layers, e: Parts, asked: Sequence[bool]) -> list[Tensor | None]:
    """Return the transpose of `_level_2`: cotangents of c, given those of what it returns, `e`."""
    n, lowest = layers.n, _lowest(asked)
    e_above, e_inputs, e_weights = e[:n], e[n : 2 * n], e[2 * n : 3 * n]
    found: list[Tensor | None] = [None] * (1 + 2 * n)
    k = e_above[0]
    for i in range(n - 1, max(lowest, 0) - 1, -1):
        if asked[1 + i]:
            own = _weight_part(k, layers.inputs[i])
            found[1 + i] = _plus(own, _transposed(layers.g_z[i]), e_inputs[i])
        if asked[1 + n + i] and k is not None:
            found[1 + n + i] = k.sum(-2)
        if i > lowest:
            given = e_above[i] if i else None
            m = _plus(given, k, layers.weights[i], own=False)
            m = _plus(m, layers.g_z[i], e_weights[i], own=m is not given)
            if i == 0:
                found[0] = m
            else:
                pull = layers.activation.pull if m is given else layers.activation.pull_
                k = None if m is None else pull(m, layers.inputs[i])
                bend, e_input = layers.bends[i - 1], e_inputs[i]
                if bend is not None and e_input is not None:
                    k = bend * e_input if k is None else k.addcmul_(bend, e_input)
    return found


class _Network(torch.autograd.Function):
    """Takes activation, x, L weights, L biases; returns the last layer's output and those of the hidden layers."""

    @staticmethod
    def forward(ctx: Any, activation: _Activation, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the layers."""
        n = len(inputs) // 2
        xs = [inputs[0]]
        for weight, bias in zip(inputs[1 : 1 + n], inputs[1 + n :], strict=True):
            # The bias joins the product: one pass over rows less.
            out = torch.baddbmm(bias.unsqueeze(-2), xs[-1], weight.mT)
            xs.append(activation.apply_(out) if len(xs) < n else out)
        ctx.activation = activation
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*xs[:-1], *inputs[1 : 1 + n])
        return (xs[-1], *xs[1:-1])

    @staticmethod
    def backward(ctx: Any, *above: Tensor | None) -> tuple[Tensor | None, ...]:
        """Level 1, as a node of its own where a second derivative may follow."""
        n, saved, asked = len(above), ctx.saved_tensors, _asked(ctx)
        if torch.is_grad_enabled():
            parts = [_beside_the_leaf(part) for part in above]
            return (None, *_Gradients.apply(ctx.activation, asked, *parts, *saved))  # type: ignore[no-untyped-call]
        return (None, *_level_1(_Layers(ctx.activation, saved[:n], saved[n:]), above, asked, keep=False)[0])


class _Gradients(torch.autograd.Function):
    """Level 1; takes activation, which gradients, then g, h, the layers' inputs, the weights: L tensors four times."""

    @staticmethod
    def forward(
        ctx: Any, activation: _Activation, asked: Sequence[bool], *inputs: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients that are asked for."""
        n = len(inputs) // 3
        above, saved = inputs[:n], cast(Sequence[Tensor], inputs[n:])
        found, g_z, bends = _level_1(_Layers(activation, saved[:n], saved[n:]), above, asked, keep=True)
        ctx.activation, ctx.given = activation, [value is not None for value in inputs]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *g_z[:-1], *bends)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *c: Tensor | None) -> tuple[Tensor | None, ...]:
        """Level 2, as a node of its own where level 3 may follow."""
        asked = _asked(ctx, ctx.given)
        if torch.is_grad_enabled():
            parts = [_beside_the_leaf(part) for part in c]
            found = _Products.apply(ctx.activation, asked, *parts, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        else:
            found = _level_2(_kept(ctx.activation, ctx.saved_tensors), c, asked)
        return (None, None, *found)


def _kept(activation: _Activation, saved: Sequence[Any]) -> _Layers:
    """Return what `_Gradients` saves: g, h, inputs, weights, `g_z` and `bends` of the hidden layers."""
    n = (len(saved) + 2) // 5
    g_z = (*saved[3 * n : 4 * n - 1], saved[0])
    return _Layers(activation, saved[n : 2 * n], saved[2 * n : 3 * n], g_z, saved[4 * n - 1 :])


class _Products(torch.autograd.Function):
    """Level 2; takes activation, what is asked, then c (parts may be None), then what `_Gradients` saves."""

    @staticmethod
    def forward(
        ctx: Any, activation: _Activation, asked: Sequence[bool], *inputs: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Return the cotangents that are asked for."""
        n_c = 1 + 2 * len(asked) // 3
        c, saved = inputs[:n_c], inputs[n_c:]
        ctx.activation, ctx.n_c, ctx.given = activation, n_c, [value is not None for value in inputs]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*saved)
        return tuple(_level_2(_kept(activation, saved), c, asked))

    @staticmethod
    def backward(ctx: Any, *e: Tensor | None) -> tuple[Tensor | None, ...]:
        """Level 3 in c; raises RuntimeError where another derivative is asked for, or a fourth level."""
        asked = _asked(ctx, ctx.given)
        if any(asked[ctx.n_c :]) or torch.is_grad_enabled():
            raise RuntimeError("fused_mlp: the third derivative is there in the cotangents only, and none above it")
        found = _level_3(_kept(ctx.activation, ctx.saved_tensors), e, asked[: ctx.n_c])
        return (None, None, *found, *[None] * len(ctx.saved_tensors))
