"""Settings of the metric-based agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from metarl.agents.nn.functional import check_net
from metarl.agents.nn.normaliser import NormaliserConfig
from metarl.checks import check_choices, check_layers, check_ranges
from metarl.errors import MOST, ConfigError

from .encoder import ReaderKind

EncoderKind = Literal["siamese", "matching"]
Initial = Literal["nearest", "weights", "actions", "average"]
_CHOICES = {"encoder": get_args(EncoderKind), "reader": get_args(ReaderKind), "initial": get_args(Initial)}


@dataclass(frozen=True)
class MetricSettings:
    """Settings of the library of task policies, of the metric on tasks, and of what a new task gets."""

    algorithm: ClassVar[str] = "metric"

    n_library: int = 40
    """Training tasks with a policy of their own, >= 1: the first ones that training meets. Tasks met when the library
    is full train the average-task policy and the metric only."""
    encoder: EncoderKind = "siamese"
    """"siamese": distances of embeddings, trained by the contrastive loss. "matching": attention over the library by
    cosine similarity, trained by the cross-entropy of picking the own task."""
    reader: ReaderKind = "set"
    """How transitions become an embedding: "set", whatever their order, or "gru", in order."""
    embedding: int = 8
    """Length of an embedding, >= 1."""
    reader_hidden: tuple[int, ...] = (64, 64)
    """Units of the reader's layers, at least one layer; the last one is the GRU's if there is one."""
    margin: float = 1.0
    """m of the contrastive loss, in units of the embedding, > 0: how far apart different tasks must be."""
    temperature: float = 0.1
    """Similarity that counts as one nat, > 0: of squared distances ("siamese") or cosines ("matching")."""
    context_size: int = 64
    """Transitions that the metric reads of a phase, spread evenly over it, >= 1."""
    contexts_per_task: int = 4
    """Contexts that the library keeps of each task, the latest ones, >= 2: every training trial gives two."""
    see_next_obs: bool = True
    """Show the reader the observation that followed too."""
    metric_tasks: int = 32
    """Tasks per gradient step on the metric, >= 2; fewer while fewer are known."""
    metric_steps: int = 20
    """Gradient steps on the metric per update, >= 0."""
    metric_lr: float = 1e-3
    """Their step size (Adam), >= 0."""
    initial: Initial = "nearest"
    """What a new task's policy starts from after the first phase. "nearest": the policy of the most similar known task.
    Of the `neighbours` most similar ones, weighted by their similarity: the mean of their weights ("weights"), or the
    mixture of their action distributions ("actions"). "average": the average-task policy, whatever the task."""
    neighbours: int = 3
    """k, similar tasks that are mixed, 1 .. n_library."""
    hidden: tuple[int, ...] = (32, 32)
    """Units per hidden layer of a policy; () is linear."""
    activation: str = "tanh"
    """"tanh" or "relu"."""
    init_std: float = 1.0
    """Standard deviation of a Gaussian policy at the start, in units of the action, > 0."""
    min_std: float = 1e-3
    """Smallest standard deviation of a Gaussian policy, in units of the action, > 0."""
    support_episodes: int = 10
    """Episodes per task, played by the average-task policy, that the metric reads, >= 1."""
    episodes_per_step: int = 10
    """Episodes per task of a training query, and of each later phase of adaptation, >= 1."""
    warmup_iters: int = 10
    """First updates in which the average-task policy and the metric learn and the library's policies follow the
    average-task policy, >= 0."""
    policy_steps: int = 10
    """Gradient steps on the policies per update, >= 1."""
    policy_lr: float = 5e-3
    """Their step size (Adam, each policy its own), >= 0."""
    clip: float = 0.2
    """Largest useful change of the probability ratio, in training and in fine-tuning, > 0."""
    max_weight: float = 2.0
    """Largest importance weight of an action that another policy than the task's own has chosen, > 0."""
    entropy_coef: float = 0.0
    """Standardised reward per nat of policy entropy in training, >= 0."""
    max_grad_norm: float = 0.5
    """Longest gradient of one policy, Euclidean over all parameters, > 0."""
    gamma: float = 0.99
    """Discount per env step, in [0, 1]."""
    lam: float = 0.95
    """Decay of the generalised advantage per env step, in [0, 1]."""
    finetune_steps: int = 5
    """Gradient steps after each further phase of adaptation, all on its episodes, >= 0."""
    finetune_lr: float = 0.1
    """Their step size (plain gradient descent), >= 0."""
    normaliser: NormaliserConfig = field(default_factory=NormaliserConfig)
    """Observations in units of all training steps so far, as the policies see them."""

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        check_net(self.hidden, self.activation, "orthogonal")
        check_choices(self, "metric.", _CHOICES)
        counts_0, counts_2 = "metric_steps warmup_iters finetune_steps", "contexts_per_task metric_tasks"
        counts_1 = "n_library embedding context_size neighbours support_episodes episodes_per_step policy_steps"
        ranges = {
            f"0 to {MOST}": counts_0, f"1 to {MOST}": counts_1, f"2 to {MOST}": counts_2,
            "> 0 and finite": "margin temperature init_std min_std clip max_weight max_grad_norm",
            ">= 0 and finite": "metric_lr policy_lr entropy_coef finetune_lr", "in [0, 1]": "gamma lam",
        }  # fmt: skip
        check_ranges(self, "metric.", ranges)
        check_layers(self, "metric.", "reader_hidden", some=True)
        if self.neighbours > self.n_library:
            raise ConfigError(
                f"metric.neighbours is {self.neighbours}, but the library has room for {self.n_library} tasks only; "
                f"lower neighbours, or raise n_library"
            )
