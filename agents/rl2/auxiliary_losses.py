"""Auxiliary losses on the memory of a policy: reward prediction and task inference.

Both are regressions on the trials that the policy is trained on, from the memory that it reads, and change nothing of
how it acts. Advantages are noisy, and say little about an answer that pays off episodes later; what an action brings,
or who the visitor is, is known at once, in training. Task inference from the memory, supervised by privileged
information, is the belief learning of Humplik et al. 2019 (arXiv:1905.06424).
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
"""What is to be predicted, [T, B, ...] by name."""


@dataclass(frozen=True)
class AuxiliaryLosses:
    """Which outputs of a network predict what: rewards, one per entry of a flat action, and privileged information."""

    spec: WorldSpec
    first: int
    """Number of the first of these outputs."""
    reward_prediction_coef: float
    task_inference_coef: float

    def __post_init__(self) -> None:
        """Raise ConfigError where a world does not say what is hidden."""
        if self.task_inference_coef > 0 and not self.spec.n_privileged:
            raise ConfigError(
                f"rl2.task_inference_coef={self.task_inference_coef} trains the memory to tell what is hidden, which "
                f"this world does not say (World.n_privileged is 0); set it to 0, or let the world say it"
            )

    @property
    def reward_prediction(self) -> slice:
        """Outputs that predict rewards."""
        return slice(self.first, self.first + self.spec.action_dim * (self.reward_prediction_coef > 0))

    @property
    def task_inference(self) -> slice:
        """Outputs that predict privileged information."""
        first = self.reward_prediction.stop
        return slice(first, first + self.spec.n_privileged * (self.task_inference_coef > 0))

    @property
    def per_action(self) -> list[int]:
        """First outputs of those of which there is one per action: logits (at 0), forecasts."""
        return [0, self.first] if self.reward_prediction_coef > 0 else [0]

    def targets(self, rollout: Rollout, reward: Tensor) -> Targets:
        """Return what is to be predicted of a batch of trials.

        Raises: ConfigError if the rollout lacks what is hidden.
        """
        found: Targets = {}
        if self.reward_prediction_coef > 0:
            size = masked_mean(reward.square(), rollout.valid).sqrt().clamp(min=1e-3)
            found["action"] = flat.flatten(self.spec.action_space, rollout.action, batch_dims=2)
            found["reward"] = reward / size
        if self.task_inference_coef > 0:
            if rollout.privileged_info is None:
                raise ConfigError(
                    "rl2.task_inference_coef > 0 needs rollouts that say what was hidden, and this one does not; "
                    "collect it with run_trial(..., training=True)"
                )
            found["hidden"] = rollout.privileged_info
        return found

    def loss(self, out: Tensor, targets: Targets, valid: Tensor) -> tuple[Tensor | float, dict[str, Tensor]]:
        """Return the weighted squared errors of outputs [T, B, n], summed over valid steps, and each by name."""
        errors: dict[str, Tensor] = {}
        if "reward" in targets:
            predicted = (out[..., self.reward_prediction] * targets["action"]).sum(-1)
            errors["foresight_loss"] = (predicted - targets["reward"]).square()
        if "hidden" in targets:
            errors["inference_loss"] = (out[..., self.task_inference] - targets["hidden"]).square().mean(-1)
        sums = {k: torch.where(valid, v, 0.0).sum() for k, v in errors.items()}
        weights = {"foresight_loss": self.reward_prediction_coef, "inference_loss": self.task_inference_coef}
        return sum(weights[k] * v for k, v in sums.items()), {k: v.detach() for k, v in sums.items()}
