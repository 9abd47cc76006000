"""Settings of the gradient-based family: one inner loop, with switches for what adapts and how theta learns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from metarl.agents.nn.functional import check_net
from metarl.agents.nn.normaliser import NormaliserConfig
from metarl.checks import check_choices, check_ranges
from metarl.errors import ConfigError

from .inner_loop import Objective
from .inner_rule import StepSizes
from .learned_optimiser import LSTMRuleConfig
from .promp import OuterPPOConfig

InnerRule = Literal["gradient", "lstm"]
Outer = Literal["trpo", "ppo", "reptile"]
_CHOICES = {
    "inner_objective": get_args(Objective), "inner_rule": get_args(InnerRule), "step_sizes": get_args(StepSizes),
    "outer": get_args(Outer),
}  # fmt: skip


@dataclass(frozen=True)
class MAMLSettings:
    """Settings of MAML-TRPO; the defaults are those of the 2-D navigation experiment."""

    algorithm: ClassVar[str] = "maml-trpo"

    hidden: tuple[int, ...] = (64, 64)
    """Units per hidden layer; () is a linear policy."""
    activation: str = "tanh"
    """"tanh" or "relu"."""
    init: str = "xavier"
    """Weight initialisation: "xavier" or "orthogonal"."""
    init_std: float = 1.0
    """Standard deviation of a Gaussian policy at the start, in units of the action (> 0)."""
    min_std: float = 1e-6
    """Smallest standard deviation of a Gaussian policy, in units of the action (> 0)."""
    alpha: float = 0.1
    """Inner step size (>= 0)."""
    inner_rule: InnerRule = "gradient"
    """"gradient": gradient descent. "lstm": a learned optimiser that reads gradients and losses (Ravi and Larochelle
    2017), which starts out as gradient descent and has no schedule for steps beyond the trained ones."""
    lstm: LSTMRuleConfig = field(default_factory=LSTMRuleConfig)
    """Settings of inner_rule="lstm"."""
    step_sizes: StepSizes = "fixed"
    """"fixed": `alpha` for all. "per-parameter": one learned step size per adapted number, `alpha` at the start
    (Meta-SGD, Li et al. 2017). "per-parameter-and-step": one more for each of the `inner_steps`."""
    later_alpha_factor: float = 0.5
    """Factor on the step size for adaptation steps beyond the `inner_steps` that were trained (>= 0)."""
    later_alpha_factors: tuple[float, ...] = ()
    """One factor per step beyond those trained, in place of `later_alpha_factor`; the last one repeats (>= 0)."""
    adapt: tuple[str, ...] = ("*",)
    """Which parameters the inner steps change; the others are theta's for every task. "*": all. "head": weight and bias
    of the last layer (ANIL, Raghu et al. 2020). "context". Or names, with * for any characters: "policy.0.*"."""
    context: int = 0
    """Length of the context vector: inputs after the observation that are 0 at the start of each trial, which the inner
    steps may change (CAVIA, Zintgraf et al. 2019); 0 for none."""
    inner_steps: int = 1
    """K, inner steps per training trial, each on new episodes (>= 1)."""
    episodes_per_step: int = 20
    """Episodes per task before each inner step, and in the query (>= 1)."""
    inner_objective: Objective = "likelihood-ratio"
    """"likelihood-ratio" (low variance, the one of ProMP), "log-likelihood" (the original code's) or "dice" (unbiased
    derivatives of any order, Foerster et al. 2018)."""
    second_order: bool = True
    """Differentiate through the inner gradient; False is first-order MAML."""
    gamma: float = 0.99
    """Discount per env step, in [0, 1]."""
    lam: float = 1.0
    """GAE's lambda, in [0, 1]."""
    outer: Outer = "trpo"
    """"trpo"; "ppo": several clipped steps per batch (ProMP, Rothfuss et al. 2019); or "reptile": theta moves towards
    the mean of the adapted parameters (Nichol et al. 2018)."""
    exploration_coef: float = 0.0
    """Weight of the credit that the actions *before* adaptation get for the return after it (E-MAML, Stadie et al.
    2018), in units of the query loss: both weigh standardised numbers, averaged over env steps (>= 0)."""
    ppo: OuterPPOConfig = field(default_factory=OuterPPOConfig)
    """Settings of outer="ppo"."""
    reptile_step: float = 0.5
    """Reptile's share of the way to the mean of the adapted parameters, in (0, 1]."""
    kl_limit: float = 0.01
    """Largest mean KL(old || new) of an outer step, in nats (> 0)."""
    cg_iters: int = 10
    """Conjugate-gradient iterations (>= 1)."""
    damping: float = 1e-5
    """Added to the Fisher matrix's diagonal (>= 0)."""
    backtrack_factor: float = 0.8
    """Shrinking of the step between line-search tries, in (0, 1)."""
    backtrack_tries: int = 15
    """Most line-search tries (>= 1)."""
    fisher_rows: int | None = None
    """Query rows per task behind the Fisher matrix, drawn anew each update; None takes all (>= 1)."""
    tasks_at_once: int | None = None
    """Tasks whose graph the trust-region step holds at a time, >= 1; None holds all of them and builds each once.
    Memory falls in proportion; each product with the Fisher matrix then builds the graphs again, which costs about half
    as much arithmetic once more. The sums are the same but for rounding."""
    normaliser: NormaliserConfig = field(default_factory=NormaliserConfig)
    """Observations in units of all training steps so far, the same in inner and outer loop. Rewards need no such thing:
    advantages are standardised per task, so that a factor on a task's rewards cancels."""

    def __post_init__(self) -> None:
        """Check every range and what goes together; raises ConfigError."""
        check_net(self.hidden, self.activation, self.init)
        check_choices(self, "maml-trpo.", _CHOICES)
        self._check_ranges()
        self._check_adapt()
        if self.tasks_at_once is not None and self.outer != "trpo":
            raise ConfigError(
                f"maml-trpo: tasks_at_once is for outer='trpo', and outer is {self.outer!r}; leave it None"
            )
        if self.outer == "reptile":
            self._check_reptile()
        if self.inner_rule == "lstm":
            self._check_lstm()

    def _check_ranges(self) -> None:
        not_negative = "alpha later_alpha_factor later_alpha_factors damping context exploration_coef"
        ranges = {
            ">= 1": "inner_steps episodes_per_step cg_iters backtrack_tries",
            ">= 1, or None": "fisher_rows tasks_at_once", "> 0": "init_std min_std kl_limit",
            ">= 0 and finite": not_negative, "in [0, 1]": "gamma lam", "in (0, 1)": "backtrack_factor",
            "in (0, 1]": "reptile_step",
        }  # fmt: skip
        check_ranges(self, "maml-trpo.", ranges)

    def _check_adapt(self) -> None:
        """Raise ConfigError for a choice of adapted parameters that leaves none, or names what is not there."""
        if not self.adapt:
            raise ConfigError("maml-trpo: adapt is (), so nothing would adapt; name parameters, or '*' for all")
        if "head" in self.adapt and not self.hidden:
            raise ConfigError(
                "maml-trpo: adapt has 'head', but a policy with hidden=() is nothing but its head; add hidden layers, "
                "or adapt ('*',)"
            )
        if "context" in self.adapt and not self.context:
            raise ConfigError("maml-trpo: adapt has 'context', but there is none; set context to its length, >= 1")
        if self.context and not {"context", "*"} & set(self.adapt):
            raise ConfigError(
                f"maml-trpo: context is {self.context}, but adapt={self.adapt} leaves it at 0 for ever; add 'context' "
                f"to adapt, or set context=0"
            )

    def _check_reptile(self) -> None:
        """Raise ConfigError for settings that need the outer gradient which Reptile does without."""
        if self.second_order:
            raise ConfigError("maml-trpo: outer='reptile' differentiates nothing; set second_order=False")
        if self.exploration_coef:
            raise ConfigError(
                f"maml-trpo: exploration_coef is {self.exploration_coef}, but outer='reptile' has no outer loss to "
                f"add it to; set it to 0, or outer='trpo' or 'ppo'"
            )
        if self.adapt != ("*",) or self.context:
            raise ConfigError(
                f"maml-trpo: outer='reptile' learns only what the inner steps change, and adapt={self.adapt} with "
                f"context={self.context} would leave the rest as it was born; use adapt=('*',) and context=0, or "
                f"outer='trpo'"
            )
        if self.step_sizes != "fixed":
            raise ConfigError(
                "maml-trpo: outer='reptile' cannot learn step sizes; set step_sizes='fixed' or outer='trpo'"
            )

    def _check_lstm(self) -> None:
        """Raise ConfigError for settings that the learned rule has no place for."""
        if self.second_order:
            raise ConfigError("maml-trpo: inner_rule='lstm' takes gradients as constants; set second_order=False")
        if self.outer == "reptile":
            raise ConfigError("maml-trpo: outer='reptile' cannot learn a rule; take outer='trpo' or 'ppo' for the lstm")
        if self.step_sizes != "fixed":
            raise ConfigError("maml-trpo: inner_rule='lstm' makes its own step sizes; set step_sizes='fixed'")
        if not 0 < self.alpha < 1:
            raise ConfigError(f"maml-trpo: alpha is {self.alpha}; inner_rule='lstm' starts from a gate in (0, 1)")
