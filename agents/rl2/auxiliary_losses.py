"""What a memory can be taught besides what the policy's loss teaches it: to foretell rewards, to tell what is hidden.

Both are regressions on the trials that the policy is trained on, from the memory that it reads, and change nothing of
how it acts. Advantages are noisy, and say little about an answer that pays off episodes later; what an action brings,
or who the visitor is, is known at once, in training. Telling the task from the memory, supervised by what the designers
know, is the belief learning of Humplik et al. 2019 (arXiv:1905.06424).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl import spaces as flat
from metarl.agent import WorldSpec
from metarl.errors import ConfigError
from metarl.returns import masked_mean
from metarl.rollout import Rollout

Targets = dict[str, Tensor]
"""What is to be told, [T, B, ...] by name."""


@dataclass(frozen=True)
class Lessons:
    """Which outputs of a network tell what: `foresight` one per entry of a flat action, `inference` what is hidden."""

    spec: WorldSpec
    first: int
    """Number of the first of these outputs."""
    foresight_coef: float
    inference_coef: float

    def __post_init__(self) -> None:
        """Raise ConfigError where a world does not say what is hidden."""
        if self.inference_coef > 0 and not self.spec.n_privileged:
            raise ConfigError(
                f"rl2.inference_coef={self.inference_coef} trains the memory to tell what is hidden, which this world "
                f"does not say (World.n_privileged is 0); set it to 0, or let the world say it"
            )

    @property
    def foresight(self) -> slice:
        """Outputs that foretell rewards."""
        return slice(self.first, self.first + self.spec.action_dim * (self.foresight_coef > 0))

    @property
    def inference(self) -> slice:
        """Outputs that tell what is hidden."""
        return slice(self.foresight.stop, self.foresight.stop + self.spec.n_privileged * (self.inference_coef > 0))

    @property
    def per_action(self) -> list[int]:
        """First outputs of those of which there is one per action: logits (at 0), forecasts."""
        return [0, self.first] if self.foresight_coef > 0 else [0]

    def targets(self, rollout: Rollout, reward: Tensor) -> Targets:
        """Return what is to be told of a batch of trials.

        Raises: ConfigError if the rollout lacks what is hidden.
        """
        found: Targets = {}
        if self.foresight_coef > 0:
            size = masked_mean(reward.square(), rollout.valid).sqrt().clamp(min=1e-3)
            found["action"] = flat.flatten(self.spec.action_space, rollout.action, batch_dims=2)
            found["reward"] = reward / size
        if self.inference_coef > 0:
            if rollout.privileged_info is None:
                raise ConfigError(
                    "rl2.inference_coef > 0 needs rollouts that say what was hidden, and this one does not; collect it "
                    "with run_trial(..., training=True)"
                )
            found["hidden"] = rollout.privileged_info
        return found

    def loss(self, out: Tensor, targets: Targets, valid: Tensor) -> tuple[Tensor | float, dict[str, Tensor]]:
        """Return the weighted squared errors of outputs [T, B, n], summed over valid steps, and each by name."""
        errors: dict[str, Tensor] = {}
        if "reward" in targets:
            foretold = (out[..., self.foresight] * targets["action"]).sum(-1)
            errors["foresight_loss"] = (foretold - targets["reward"]).square()
        if "hidden" in targets:
            errors["inference_loss"] = (out[..., self.inference] - targets["hidden"]).square().mean(-1)
        sums = {k: torch.where(valid, v, 0.0).sum() for k, v in errors.items()}
        weights = {"foresight_loss": self.foresight_coef, "inference_loss": self.inference_coef}
        return sum(weights[k] * v for k, v in sums.items()), {k: v.detach() for k, v in sums.items()}
