"""The kernels of another BLAS, as `tests.other_kernels` makes them up: what they change and what they leave."""

from __future__ import annotations

import torch

from metarl.seeding import generator
from tests.other_kernels import OtherKernels

A, B = torch.randn(40, 8, generator=generator(0, "a")), torch.randn(8, 5, generator=generator(0, "b"))


def test_products_of_different_shapes_round_differently_and_the_same_product_alike() -> None:
    with OtherKernels():
        whole, again, parts = A @ B, A @ B, torch.cat([A[:20] @ B, A[20:] @ B])
    assert torch.equal(whole, again)
    assert not torch.equal(whole, parts)
    torch.testing.assert_close(whole, parts, rtol=4e-7, atol=0)
    torch.testing.assert_close(whole, A @ B, rtol=4e-7, atol=0)


def test_backward_and_batched_products_are_among_them() -> None:
    def gradient() -> torch.Tensor:
        weight = B.clone().requires_grad_()
        torch.func.vmap(lambda row: row @ weight)(A).square().sum().backward()
        assert weight.grad is not None
        return weight.grad

    with OtherKernels():
        nudged = gradient()
    assert not torch.equal(nudged, gradient())
    torch.testing.assert_close(nudged, gradient())


def test_what_every_blas_computes_exactly_stays() -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    with OtherKernels():
        assert torch.equal(whole @ whole.T, (whole.double() @ whole.T.double()).float())
