"""What an inner step does with a gradient: which parameters it moves, and how far.

The plain rule is phi - alpha * grad on all parameters (Finn et al. 2017, arXiv:1703.03400). Its switches: a subset of
the parameters (ANIL, Raghu et al. 2020, arXiv:1909.09157; CAVIA, Zintgraf et al. 2019, arXiv:1810.03642) and learned
step sizes, element by element (Meta-SGD, Li et al. 2017, arXiv:1707.09835: phi = theta - alpha ∘ grad, alpha learned
with theta; a step size may become negative, as there).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor

from metarl.agents.nn.functional import Params
from metarl.errors import ConfigError, nearest

from .inner_loop import gradient_step

StepSizes = Literal["fixed", "per-parameter", "per-parameter-and-step"]
Loss = Callable[[Params], Tensor]
"""Parameters [N, ...] -> losses [N]; loss i depends on row i alone."""


def chosen_names(patterns: Sequence[str], names: Sequence[str], n_layers: int) -> tuple[str, ...]:
    """Return the members of `names` that `patterns` mean, in the order of `names`.

    "head" is weight and bias of the last of `n_layers` layers; other patterns are names with * for any characters.
    Raises ConfigError for a pattern without a match.
    """
    found: set[str] = set()
    for pattern in patterns:
        wanted = f"policy.{n_layers - 1}.*" if pattern == "head" else pattern
        matching = {name for name in names if fnmatchcase(name, wanted)}
        if not matching:
            raise ConfigError(f"adapt has {pattern!r}, which is no parameter of this policy; {nearest(pattern, names)}")
        found |= matching
    return tuple(name for name in names if name in found)


class GradientRule:
    """phi - step size * grad on `names`; everything else stays. It has no memory from step to step."""

    prefix = "alpha."

    def __init__(
        self,
        names: Sequence[str],
        *,
        alpha: float,
        n_steps: int,
        later_factors: Sequence[float],
        step_sizes: StepSizes = "fixed",
    ) -> None:
        """`n_steps` are trained; those after them get `later_factors`, of which the last repeats."""
        self.names, self.alpha, self.n_steps = tuple(names), alpha, n_steps
        self._later, self._kind = tuple(later_factors), step_sizes

    def init(self, phi: Params, generator: torch.Generator) -> Params:
        """Return the rule's own meta-parameters for parameters `phi` without a task axis: the learned step sizes."""
        if self._kind == "fixed":
            return {}
        steps = () if self._kind == "per-parameter" else (self.n_steps,)
        return {
            self.prefix + name: torch.full((*steps, *phi[name].shape), self.alpha, device=phi[name].device)
            for name in self.names
        }

    def start(self, phi: Params) -> Params:
        """Return the memory before the first step on parameters `phi` [N, ...]: none."""
        return {}

    def step(
        self, theta: Params, phi: Params, memory: Params, loss_of: Loss, k: Tensor | int, *, create_graph: bool
    ) -> tuple[Params, Params]:
        """Return the parameters after one step, and the memory.

        Args:
            theta: all meta-parameters, the rule's own among them.
            phi: parameters [N, ...]; those of `names` require grad.
            memory: what `start` or the step before returned.
            loss_of: phi -> losses [N].
            k: steps before this one: one number below `n_steps`, or int64 [N].
            create_graph: keep the graph of the gradient (see `gradient_step`).
        """
        sizes = {name: self.step_size(theta, name, k, phi[name].dim()) for name in self.names}
        return gradient_step(phi, loss_of, sizes, create_graph=create_graph), memory

    def step_size(self, theta: Params, name: str, k: Tensor | int, n_dims: int) -> Tensor | float:
        """Return the step size of parameter `name` after k steps, to be broadcast to its `n_dims` axes [N, ...]."""
        per_row = (-1, *[1] * (n_dims - 1))
        if self._kind == "fixed":
            if isinstance(k, int):
                return self.alpha
            return (self.alpha * self._factor(k)).to(torch.get_default_dtype()).reshape(per_row)
        size = theta[self.prefix + name]
        if self._kind == "per-parameter-and-step":
            size = size[k] if isinstance(k, int) else size[k.clamp(max=self.n_steps - 1)]
        return size if isinstance(k, int) else size * self._factor(k).to(size.dtype).reshape(per_row)

    def _factor(self, k: Tensor) -> Tensor:
        """Return 1 for trained steps and the factor of later ones: float64 [N]."""
        factors = torch.tensor((1.0, *self._later), dtype=torch.float64, device=k.device)
        return factors[(k - self.n_steps + 1).clamp(0, len(self._later))]
