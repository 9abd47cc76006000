"""The statistical bound that tests of learning share."""

from __future__ import annotations

import math

from scipy.stats import t
from torch import Tensor


def half_width(values: Tensor) -> float:
    """Return the distance of the one-sided 99 % t-bound from the mean of independent `values` [n]."""
    return float(t.ppf(0.99, len(values) - 1) * values.std() / math.sqrt(len(values)))
