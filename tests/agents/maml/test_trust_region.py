"""The natural-gradient step against linear algebra and hand arithmetic."""

import math

import pytest
import torch
from torch import Tensor

from metarl.action_distributions import Categorical, DiagonalGaussian
from metarl.agents.maml.trust_region import (
    PullBack,
    conjugate_gradient,
    fisher_product,
    flatten,
    line_search,
    natural_step,
    unflatten,
)

F64 = torch.float64


def _positive_definite(n: int, seed: int) -> Tensor:
    root = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return root @ root.T + 0.1 * torch.eye(n, dtype=F64)


def test_flatten_and_unflatten_are_inverse() -> None:
    parts = [torch.arange(6.0).reshape(2, 3), torch.tensor(7.0), torch.arange(4.0).reshape(4, 1)]
    back = unflatten(flatten(parts), parts)
    assert all(torch.equal(a, b) for a, b in zip(parts, back, strict=True))


@pytest.mark.parametrize("n", [1, 4, 12])
def test_conjugate_gradient_solves_the_system_in_as_many_steps_as_unknowns(n: int) -> None:
    matrix, b = _positive_definite(n, n), torch.linspace(-1, 2, n, dtype=F64)
    x, residual = conjugate_gradient(lambda v: matrix @ v, b, n_iters=2 * n, tolerance=1e-28)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(residual, b - matrix @ x, rtol=0, atol=1e-10)


def test_conjugate_gradient_with_too_few_steps_is_not_there_yet() -> None:
    matrix, b = _positive_definite(12, 0), torch.ones(12, dtype=F64)
    x, _ = conjugate_gradient(lambda v: matrix @ v, b, n_iters=2)
    assert (matrix @ x - b).norm() > 1e-3


def test_conjugate_gradient_of_nothing_is_nothing() -> None:
    x, _ = conjugate_gradient(lambda v: 3 * v, torch.zeros(3), n_iters=10)
    assert torch.equal(x, torch.zeros(3))


def test_conjugate_gradient_stays_where_it_has_converged() -> None:
    """Past convergence the recursion is 0/0; the answer must survive it."""
    x, _ = conjugate_gradient(lambda v: 2 * v, torch.tensor([2.0, 4.0]), n_iters=50)
    assert torch.equal(x, torch.tensor([1.0, 2.0]))


def test_the_fisher_product_of_a_gaussian_is_worked_by_hand() -> None:
    """Outputs (mean, log std) = (2 a, b): J = diag(2, 1), F = diag(e^-2b, 2), so JᵀFJ = diag(4 e^-2b, 2)."""
    a, b = torch.tensor([0.7], dtype=F64, requires_grad=True), torch.tensor([0.3], dtype=F64, requires_grad=True)
    out = torch.cat([2 * a, b])[None]
    jacobian = PullBack(out, [a, b], torch.zeros_like(out))
    weight = torch.tensor([0.5], dtype=F64)
    product = fisher_product(jacobian, lambda v: DiagonalGaussian(1).fisher_product(out.detach(), v), weight)
    expected = 0.5 * torch.tensor([4 * math.exp(-0.6) * 3.0, 2.0 * -1.0], dtype=F64)
    torch.testing.assert_close(product(torch.tensor([3.0, -1.0], dtype=F64)), expected, rtol=1e-14, atol=0)


def test_the_fisher_product_can_be_asked_again_and_again() -> None:
    a = torch.tensor([0.2, -0.4, 1.0], dtype=F64, requires_grad=True)
    out = torch.stack([a, a.square()])
    weight = torch.tensor([0.3, 0.7], dtype=F64)
    jacobian = PullBack(out, [a], torch.ones_like(out))
    product = fisher_product(jacobian, lambda v: Categorical(3).fisher_product(out.detach(), v), weight)
    v = torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    first = product(v)
    assert torch.equal(product(v), first)
    torch.testing.assert_close(product(2 * v), 2 * first, rtol=1e-12, atol=0)


def test_one_pass_back_gives_a_gradient_and_both_products_with_the_jacobian() -> None:
    """outputs (a b, a²) at a = 2, b = 3: J = [[3, 2], [4, 0]], whatever the cotangent."""
    a, b = (torch.tensor(x, dtype=F64, requires_grad=True) for x in (2.0, 3.0))
    out = torch.stack([a * b, a.square()])
    jacobian = PullBack(out, [a, b], torch.tensor([1.0, -1.0], dtype=F64))
    assert jacobian.vector.tolist() == [3.0 - 4.0, 2.0]
    assert not jacobian.vector.requires_grad
    for _ in range(2):
        assert jacobian.push(torch.tensor([1.0, 10.0], dtype=F64)).tolist() == [23.0, 4.0]
        assert jacobian.pull(torch.tensor([1.0, 10.0], dtype=F64)).tolist() == [43.0, 2.0]


def test_a_natural_step_on_a_quadratic_is_worked_by_hand() -> None:
    """A = diag(1, 4), g = (3, 4): x = (3, 1), xᵀAx = 13, so with limit 6.5 the scale is sqrt(13 / 13) = 1."""
    matrix = torch.tensor([1.0, 4.0], dtype=F64)
    step = natural_step(torch.tensor([3.0, 4.0], dtype=F64), lambda v: matrix * v, limit=6.5, n_iters=5, damping=0.0)
    torch.testing.assert_close(step, torch.tensor([-3.0, -1.0], dtype=F64), rtol=1e-9, atol=0)


@pytest.mark.parametrize("limit", [1e-4, 0.01, 2.0])
def test_a_natural_step_exhausts_the_quadratic_model_of_the_limit(limit: float) -> None:
    matrix, g = _positive_definite(6, 1), torch.linspace(-1, 1, 6, dtype=F64)
    step = natural_step(g, lambda v: matrix @ v, limit=limit, n_iters=30, damping=0.5)
    damped = matrix + 0.5 * torch.eye(6, dtype=F64)
    assert float(0.5 * step @ damped @ step) == pytest.approx(limit, rel=1e-6)
    assert float(g @ step) < 0


def test_a_natural_step_without_a_gradient_is_zero() -> None:
    assert torch.equal(natural_step(torch.zeros(2), lambda v: v, limit=1.0, n_iters=5, damping=0.0), torch.zeros(2))


def _parabola(step: Tensor) -> tuple[Tensor, Tensor]:
    """Loss (x - 1)², divergence x²."""
    return (step - 1).square().sum(), step.square().sum()


def _search(first: float, *, limit: float, n_tries: int = 5, shrink: float = 0.5) -> tuple[float, int, bool]:
    step, loss = torch.tensor([first]), torch.tensor(1.0)
    found = line_search(_parabola, step, loss, limit=limit, shrink=shrink, n_tries=n_tries)
    return float(found.step), found.n_tried, found.accepted


def test_the_line_search_takes_a_good_first_step_whole() -> None:
    assert _search(1.0, limit=2.0) == (1.0, 1, True)


def test_the_line_search_shrinks_until_the_loss_falls() -> None:
    """From 4: losses 9, 1 (equal is not lower), 0: the third try is the first that lowers it."""
    assert _search(4.0, limit=100.0) == (1.0, 3, True)


def test_the_line_search_shrinks_until_the_divergence_fits() -> None:
    """The loss falls at once, but 1, 1/4 exceed 0.1; 1/16 does not."""
    assert _search(1.0, limit=0.1) == (0.25, 3, True)


def test_a_divergence_exactly_at_the_limit_is_allowed() -> None:
    assert _search(1.0, limit=1.0) == (1.0, 1, True)


def test_the_line_search_gives_up_and_stays() -> None:
    assert _search(-1.0, limit=100.0, n_tries=4) == (0.0, 4, False)


def test_a_loss_that_is_not_finite_is_no_improvement() -> None:
    found = line_search(
        lambda s: (torch.where(s.sum() > 0.9, torch.nan, -s.sum()), torch.zeros(())),
        torch.ones(1), torch.tensor(0.0), limit=1.0, shrink=0.5, n_tries=3,
    )  # fmt: skip
    assert (float(found.step), found.n_tried) == (0.5, 2)
