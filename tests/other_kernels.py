"""A pytest plugin that makes matrix products round as another BLAS might: `pytest -p tests.other_kernels`.

A BLAS chooses its kernel by the shape of a product, the kind of CPU and the number of threads, and within one product
it treats the rows of an incomplete tile in another way than the rest. So the same row times the same matrix may differ
in its last bits from one batch size, or place in the batch, to another. Which shapes differ is a matter of the machine:
an assertion that passes on one fails on the next. With this plugin each entry of a product is off by up to about one
unit in the last place, as a fixed function of the product's shape and the entry's row: everything that holds for any
BLAS (the same computation twice, a run stopped and resumed) still holds bit for bit, and whatever asks products of
different shapes to round alike fails here, on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = (
    "mm",
    "addmm",
    "bmm",
    "baddbmm",
    "addbmm",
    "mv",
    "addmv",
    "dot",
    "addr",
    "convolution",
    "linear",
    "_addmm_activation",
)


SALT = os.environ.get("OTHER_KERNELS", "")
"""Any text; another one, other kernels."""


class OtherKernels(TorchDispatchMode):
    """Multiplies entry (row r) of a product of shape s by 1 + k(s, r) units in the last place, k one of -1, 0, 1."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator and, if it is a product, nudge what it returns."""
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if name in PRODUCTS and isinstance(result, Tensor) and result.is_floating_point():
            shapes = [tuple(a.shape) for a in args if isinstance(a, Tensor)]
            nudge(result, shapes, SALT)
        return result


def nudge(product: Tensor, shapes: list[tuple[int, ...]], salt: str = "") -> None:
    """Change `product` in place by at most a unit in the last place per entry, as a function of shapes and rows.

    Entries with few digits, such as small whole numbers, stay: every BLAS computes those exactly.
    """
    n = crc32(f"{salt}{shapes}".encode())
    rows = product if product.dim() < 2 else product[..., 0]
    index = torch.arange(rows.shape[-1] if rows.dim() else 1, device=product.device)
    steps = ((index * index * 5 + index * n + n) % 7 % 3 - 1).to(product.dtype) * torch.finfo(product.dtype).eps
    nudged = product * (1 + (steps[0] if not product.dim() else steps if product.dim() == 1 else steps[:, None]))
    digits = product.view(torch.int32) & 0xFFF if product.dtype == torch.float32 else torch.ones_like(product)
    product.copy_(torch.where(digits == 0, product, nudged))


@pytest.fixture(autouse=True)
def another_blas() -> Iterator[None]:
    """Run each test with the other kernels."""
    with OtherKernels():
        yield
