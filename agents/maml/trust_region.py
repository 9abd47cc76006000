"""The natural-gradient step of TRPO (Schulman et al. 2015, arXiv:1502.05477, appendix C), on flat vectors.

Nothing here knows what the parameters mean: a loss and a divergence are functions, and the Fisher information enters
through the Jacobian of the distribution parameters. Minimises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""A symmetric matrix as the function v -> A v on vectors [P]."""


def flatten(parts: Sequence[Tensor]) -> Tensor:
    """Return all entries of `parts` as one vector [P]."""
    return torch.cat([p.reshape(-1) for p in parts])


def unflatten(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return the inverse of `flatten`, shaped like `like`."""
    chunks = vector.split([p.numel() for p in like])  # type: ignore[no-untyped-call]
    return [chunk.reshape(p.shape) for chunk, p in zip(chunks, like, strict=True)]


def conjugate_gradient(product: Product, b: Tensor, *, n_iters: int, tolerance: float = 1e-10) -> tuple[Tensor, Tensor]:
    """Solve A x = b for a positive definite A (Hestenes and Stiefel 1952).

    Stops changing x once the squared residual is at most `tolerance`, without a data-dependent branch: on a GPU nothing
    waits for the host.

    Returns:
        x [P], and the residual b - A x [P].
    """
    x, residual, direction = torch.zeros_like(b), b.clone(), b.clone()
    square = residual.dot(residual)
    for _ in range(n_iters):
        image = product(direction)
        active = square > tolerance
        step = torch.where(active, square / direction.dot(image), 0.0)
        x = x + step * direction
        residual = residual - step * image
        new_square = residual.dot(residual)
        direction = residual + torch.where(active, new_square / square, 0.0) * direction
        square = new_square
    return x, residual


class PullBack:
    """u -> Jᵀ u with J = d outputs / d inputs, written once as a graph in u; at u = `cotangent` its value is `vector`.

    With the derivative of a loss in the outputs as cotangent the value is that loss's gradient, so that one pass back
    serves a gradient and all products with J that follow.
    """

    def __init__(self, outputs: Tensor, inputs: Sequence[Tensor], cotangent: Tensor) -> None:
        """Walk back once: `outputs` [..., p] with a graph to `inputs`, `cotangent` of the same shape, [..., p]."""
        self._outputs, self._inputs = outputs, list(inputs)
        self._u = cotangent.detach().requires_grad_()
        self._pulled = torch.autograd.grad(outputs, self._inputs, grad_outputs=self._u, create_graph=True)
        self.vector = flatten([part.detach() for part in self._pulled])

    def push(self, v: Tensor) -> Tensor:
        """Return J v, shaped like the outputs: the derivative of Jᵀ u in u, which builds no graph."""
        tangents = unflatten(v, self._inputs)
        (pushed,) = torch.autograd.grad(self._pulled, self._u, grad_outputs=tangents, retain_graph=True)
        return pushed

    def pull(self, u: Tensor) -> Tensor:
        """Return Jᵀ u as one vector [P]."""
        return flatten(torch.autograd.grad(self._outputs, self._inputs, grad_outputs=u, retain_graph=True))


def fisher_product(jacobian: PullBack, row_fisher: Callable[[Tensor], Tensor], weight: Tensor) -> Product:
    """Return v -> Jᵀ (weight * F) J v, where F is block-diagonal over rows.

    With the outputs of J the parameters of a distribution per row, F its Fisher information and `weight` the rows'
    weights, this is exactly the Hessian of the weighted mean KL(old || new) at old = new: there the divergence has no
    gradient, so the second derivatives of the outputs (through any number of inner steps) drop out.

    Args:
        jacobian: of the outputs [..., p] in the parameters.
        row_fisher: u -> F u, row by row, on [..., p].
        weight: [...], one per row.
    """

    def product(v: Tensor) -> Tensor:
        return jacobian.pull(row_fisher(jacobian.push(v)) * weight.unsqueeze(-1))

    return product


@dataclass(frozen=True)
class LineSearch:
    """What a line search found."""

    step: Tensor
    """Accepted change [P]; zeros if none was accepted."""
    loss: float
    divergence: float
    n_tried: int
    accepted: bool


def natural_step(gradient: Tensor, product: Product, *, limit: float, n_iters: int, damping: float) -> Tensor:
    """Return the longest step -s A⁻¹ g with ½ stepᵀ A step = limit, where A = product + damping: [P].

    Zero where the gradient is zero.
    """

    def damped(v: Tensor) -> Tensor:
        return product(v) + damping * v

    direction, residual = conjugate_gradient(damped, gradient, n_iters=n_iters)
    curvature = direction.dot(gradient - residual)  # xᵀAx without another product
    scale = torch.where(curvature > 0, (2.0 * limit / curvature).sqrt(), 0.0)
    return -scale * direction


def line_search(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
    step: Tensor,
    loss: Tensor,
    *,
    limit: float,
    shrink: float,
    n_tries: int,
) -> LineSearch:
    """Try step, shrink * step, shrink² * step ... and accept the first that lowers the loss within the limit.

    Args:
        evaluate: step -> (loss, divergence) there. A number that is not finite counts as a failure.
        step: the first step to try [P].
        loss: loss at step 0.
        limit: largest divergence allowed.
        shrink: factor between tries, in (0, 1).
        n_tries: most tries.
    """
    for i in range(n_tries):
        candidate = step * shrink**i
        new_loss, divergence = evaluate(candidate)
        if bool((new_loss < loss) & (divergence <= limit)):
            return LineSearch(candidate, float(new_loss), float(divergence), i + 1, True)
    return LineSearch(torch.zeros_like(step), float(loss), 0.0, n_tries, False)
