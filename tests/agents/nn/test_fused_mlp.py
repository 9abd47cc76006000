"""The fused network against plain autograd, in float64, at every level of differentiation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from metarl.agents.maml.trust_region import flatten
from metarl.agents.nn import functional as nets
from metarl.agents.nn import fused_mlp as fused
from metarl.agents.nn.fused_mlp import can_fuse, fused_mlp
from metarl.seeding import generator
from tests.agents.maml.meta_gradients import setup, surrogate

F64 = torch.float64
N, R = 3, 7
SIZES = [(3, 5, 4, 2), (3, 6, 2), (3, 2)]
Network = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor], Callable[[Tensor], Tensor]], Tensor]


def plain_mlp(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: Callable[[Tensor], Tensor]
) -> Tensor:
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = x @ weight.mT + bias.unsqueeze(-2)
        x = activation(x) if i < len(weights) - 1 else x
    return x


def draw(seed: int, *shapes: Sequence[int]) -> list[Tensor]:
    noise = generator(seed)
    return [torch.randn(*shape, generator=noise, dtype=F64).requires_grad_() for shape in shapes]


def inputs_of(sizes: Sequence[int], *, shared: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Return the leaves x, weights, biases, and the same with a task axis also where tasks share them."""
    tasks = () if shared else (N,)
    pairs = list(pairwise(sizes))
    leaves = draw(0, (N, R, sizes[0]), *((*tasks, o, i) for i, o in pairs), *((*tasks, o) for _, o in pairs))
    return leaves, [leaves[0], *(v.expand(N, *v.shape) if shared else v for v in leaves[1:])]


def run(network: Network, inputs: Sequence[Tensor], activation: Callable[[Tensor], Tensor]) -> Tensor:
    n = len(inputs) // 2
    return network(inputs[0], inputs[1 : 1 + n], inputs[1 + n :], activation)


def derivative(outputs: Sequence[Tensor], at: Sequence[Tensor], seed: int, *, graph: bool) -> tuple[list[Tensor], ...]:
    """Return the gradients at `at` for random cotangents of `outputs`, and these cotangents; zeros where unrelated."""
    cotangents = draw(seed, *(v.shape for v in outputs))
    related = [(v, c) for v, c in zip(outputs, cotangents, strict=True) if v.requires_grad]
    found = torch.autograd.grad(
        [v for v, _ in related], at, [c for _, c in related], create_graph=graph, allow_unused=True
    )
    return [torch.zeros_like(v) if g is None else g for g, v in zip(found, at, strict=True)], cotangents


def three_levels(
    network: Network, leaves: list[Tensor], inputs: list[Tensor], activation: Callable[[Tensor], Tensor]
) -> list[list[Tensor]]:
    out = run(network, inputs, activation)
    first, g = derivative([out], leaves, 1, graph=True)
    second, c = derivative(first, [*g, *leaves], 2, graph=True)
    third, _ = derivative(second, c, 3, graph=False)
    return [[out], first, second, third]


def assert_same(got: Sequence[Sequence[Tensor]], expected: Sequence[Sequence[Tensor]]) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(list(ours), list(theirs), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("activation", [torch.tanh, torch.relu])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_every_level_equals_plain_autograd(
    sizes: Sequence[int], shared: bool, activation: Callable[[Tensor], Tensor]
) -> None:
    leaves, inputs = inputs_of(sizes, shared=shared)
    expected = three_levels(plain_mlp, leaves, inputs, activation)
    assert_same(three_levels(fused_mlp, leaves, inputs, activation), expected)
    assert float(expected[3][0].abs().max()) > 0.1


def test_without_the_activations_curvature_the_second_level_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the test above."""
    leaves, inputs = inputs_of(SIZES[0], shared=False)
    expected = three_levels(plain_mlp, leaves, inputs, torch.tanh)
    straight = fused._Activation(**{**vars(fused._ACTIVATIONS[torch.tanh]), "curved": False})
    monkeypatch.setitem(fused._ACTIVATIONS, torch.tanh, straight)
    got = three_levels(fused_mlp, leaves, inputs, torch.tanh)
    assert_same(got[:2], expected[:2])
    with pytest.raises(AssertionError, match="not close"):
        assert_same(got[2:3], expected[2:3])


def test_the_first_two_levels_equal_finite_differences() -> None:
    leaves, _ = inputs_of((3, 4, 2), shared=False)
    network = lambda *inputs: run(fused_mlp, inputs, torch.tanh)  # noqa: E731
    assert torch.autograd.gradcheck(network, tuple(leaves))
    assert torch.autograd.gradgradcheck(network, tuple(leaves))


@pytest.mark.parametrize("inner", [(0,), (1, 4), (2, 5), (3, 6), (6,), (1,), (0, 3)])
def test_what_is_not_asked_for_changes_nothing(inner: tuple[int, ...]) -> None:
    """Inner gradients of some parts only (a context, a head ...), x sometimes without a gradient at all."""
    results = []
    for network in (plain_mlp, fused_mlp):
        leaves, _ = inputs_of(SIZES[0], shared=False)
        leaves[0].requires_grad_(0 in inner)
        asked = [v for v in leaves if v.requires_grad]
        out = run(network, leaves, torch.tanh)
        first, g = derivative([out.sin()], [leaves[i] for i in inner], 1, graph=True)
        second, c = derivative(first, [*g, *asked], 2, graph=True)
        third, _ = derivative(second, c, 3, graph=False)
        only_g, _ = derivative(first, g, 4, graph=False)
        results.append([first, second, third, only_g])
    assert_same(results[1], results[0])


def test_a_derivative_along_a_direction_costs_no_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for = []
    level_2 = fused._level_2
    monkeypatch.setattr(
        fused, "_level_2", lambda layers, c, asked: asked_for.append(asked) or level_2(layers, c, asked)
    )
    leaves, _ = inputs_of(SIZES[0], shared=False)
    first, g = derivative([run(fused_mlp, leaves, torch.tanh)], leaves, 1, graph=True)
    derivative(first, g, 2, graph=False)
    assert asked_for == [[True] + [False] * 8]


def test_a_third_derivative_in_anything_but_the_cotangents_is_refused() -> None:
    leaves, _ = inputs_of(SIZES[0], shared=False)
    first, g = derivative([run(fused_mlp, leaves, torch.tanh)], leaves, 1, graph=True)
    second, c = derivative(first, [*g, *leaves], 2, graph=True)
    for at in (g, leaves[1:2], leaves[:1]):
        with pytest.raises(RuntimeError, match="in the cotangents only"):
            torch.autograd.grad(second[1].sum(), at, retain_graph=True)
    with pytest.raises(RuntimeError, match="none above it"):
        torch.autograd.grad(second[1].sum(), c[1], create_graph=True, retain_graph=True)
    torch.autograd.grad(second[1].sum(), c[1])


def test_only_stacks_with_a_gradient_to_come_are_fused() -> None:
    leaves, _ = inputs_of(SIZES[1], shared=False)
    x, weights = leaves[0], leaves[1:3]
    assert can_fuse(x, weights, torch.tanh)
    assert not can_fuse(x[0], [w[0] for w in weights], torch.tanh)
    assert not can_fuse(x, weights, torch.sigmoid)
    assert not can_fuse(x.detach(), [w.detach() for w in weights], torch.tanh)
    with torch.no_grad():
        assert not can_fuse(x, weights, torch.tanh)


@pytest.mark.parametrize(
    "options", [{}, {"inner_steps": 2}, {"adapt": ("head",)}, {"context": 2, "adapt": ("context",)}]
)
def test_meta_gradient_and_fisher_product_equal_those_of_plain_autograd(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for fuse in (True, False):
        if not fuse:
            monkeypatch.setattr(nets, "can_fuse", lambda *_: False)
        agent, theta, batch = setup("box", **options)
        leaves = {name: value.requires_grad_() for name, value in theta.items()}
        flat = flatten(list(leaves.values())).detach()
        gradient = surrogate(agent, leaves, batch, flat, differentiable=True)
        _, out, trail = agent.objective(leaves, batch, differentiable=True)
        product = agent.fisher(leaves, trail[-1], batch, out)
        found.append([gradient, product(torch.linspace(-1, 1, len(flat), dtype=F64)), product(gradient)])
    assert_same(found[:1], found[1:])
    assert float(found[0][1].norm()) > 1e-3
