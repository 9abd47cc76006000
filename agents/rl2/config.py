"""Settings of RL²-PPO, the memory's among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, get_args

from metarl.agents.memory.mann import MANNConfig
from metarl.agents.memory.matching import MatchingConfig
from metarl.agents.memory.memories import WITH_SETTINGS, WITHOUT_SETTINGS, Memory, MemoryUnion
from metarl.agents.memory.snail import SNAILConfig
from metarl.agents.memory.transformer import TransformerConfig
from metarl.agents.nn.normaliser import NormaliserConfig
from metarl.agents.nn.reward_scale import RewardInput, RewardObjective
from metarl.agents.ppo import PPOConfig
from metarl.checks import check_choices, check_layers, check_ranges
from metarl.errors import ConfigError

from .row_net import RowsConfig


@dataclass(frozen=True)
class RL2Settings:
    """Settings of RL²-PPO."""

    algorithm: ClassVar[str] = "rl2"

    episodes_per_trial: int = 4
    """Episodes of a training trial, >= 1; the memory lives through all of them."""
    memory: Memory = "gru"
    """Recurrent: "gru", "lstm", or "mann", an LSTM with an external memory; looking back at all steps of the trial:
    "transformer", or "snail", convolutions over time and attention; or "none", a policy that sees this step only."""
    hidden: int = 64
    """Units of the memory, >= 1."""
    memory_steps: int | None = None
    """Longest time constant of a fresh memory, in env steps, >= 2; about the length of a trial helps where what matters
    lies many steps back (None: torch's usual start, which forgets within a few steps until trained)."""
    encoder: tuple[int, ...] = ()
    """Units of tanh layers between the inputs and the memory."""
    readout: tuple[int, ...] = ()
    """Units of ReLU layers between memory and heads; they see the memory's output and this step's input."""
    layer_norm: bool = False
    """Normalise the memory's output before the heads read it."""
    separate_value: bool = False
    """Give the value function a memory of its own (it runs during updates only)."""
    see_transition: bool = False
    """Also show the memory the observation in which the previous action was taken, so that it need not recall it to
    understand the reward: VariBAD's encoder input (s, a, r, s')."""
    normalise_inputs: bool = True
    """Standardise observations, and divide rewards by their root mean square; both by running statistics."""
    reward_scale: float = 1.0
    """Factor on the reward that the memory sees, > 0. No part of the objective."""
    reward_input: RewardInput = "running"
    """Units of the reward that the memory sees. "running": as `normalise_inputs` says, one scale for all tasks.
    "trial": the trial's own rewards so far, for classes whose rewards differ in size; see `reward_scale.TrialScale`."""
    reward_objective: RewardObjective = "raw"
    """Units of the reward in the objective: "raw", or "class", divided by the running root mean square of the task's
    class, so that all classes weigh alike; see `reward_scale.ClassScale`. Reported returns are raw in both cases."""
    dense_reward: bool = False
    """Maximise the world's `info["dense_reward"]`. The memory sees, and scores count, its reward in any case."""
    normaliser: NormaliserConfig = field(default_factory=NormaliserConfig)
    """Observations in units of all training steps so far, in float64; stands in for the moving average of
    `normalise_inputs`, which still sees to rewards."""
    init_std: float = 1.0
    """Initial standard deviation of Box actions, in units of half the range of the Box (1 if unbounded), > 0."""
    min_std: float = 0.05
    """Least standard deviation of Box actions, in the same unit, > 0."""
    state_dependent_std: bool = False
    """Let the network choose the standard deviation step by step; otherwise it is one parameter per dimension."""
    bptt_steps: int | None = None
    """Env steps through which gradients flow back (None: the whole trial), >= 1."""
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """Settings of memory "transformer"."""
    snail: SNAILConfig = field(default_factory=SNAILConfig)
    """Settings of memory "snail"."""
    mann: MANNConfig = field(default_factory=MANNConfig)
    """Settings of memory "mann"."""
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    """Settings of memory "matching"."""
    rows: RowsConfig = field(default_factory=RowsConfig)
    """Score actions that an entry of the observation describes row by row with one network for all rows."""
    reward_prediction_coef: float = 0.0
    """Weight of the auxiliary loss of reward prediction, >= 0: the reward of the action taken, from what memory and
    heads know, as a sum over the parts of a flat action. Trains what the memory keeps by regression, which is less
    noisy than advantages."""
    task_inference_coef: float = 0.0
    """Weight of the auxiliary loss of task inference, >= 0: privileged information (the visitor's tastes, say), by its
    mean squared error. For
    worlds that say so in training (`World.privileged_info`); the agent that acts is told nothing of it."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """Settings of the update."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {
            ">= 1": "episodes_per_trial hidden", ">= 1, or None": "bptt_steps", ">= 2, or None": "memory_steps",
            "> 0 and finite": "reward_scale init_std min_std",
            ">= 0 and finite": "reward_prediction_coef task_inference_coef",
        }  # fmt: skip
        check_ranges(self, "rl2.", ranges)
        choices = {"reward_input": RewardInput, "reward_objective": RewardObjective, "memory": Memory}
        check_choices(self, "rl2.", {name: get_args(kind) for name, kind in choices.items()})
        self._check_memory()
        check_layers(self, "rl2.", "encoder", "readout")

    @property
    def memory_config(self) -> MemoryUnion:
        """The settings of the memory chosen, which build it."""
        chosen: MemoryUnion = WITHOUT_SETTINGS.get(self.memory) or getattr(self, self.memory)
        return chosen

    @property
    def unused_settings(self) -> tuple[str, ...]:
        """Names of the settings that mean nothing as this config stands: those of the memories not chosen."""
        return tuple(name for name in WITH_SETTINGS if name != self.memory)

    def _check_memory(self) -> None:
        """Raise ConfigError for settings that mean nothing to the memory chosen."""
        if self.memory == "transformer":
            self.transformer.check_width(self.hidden)
        recurrent = self.memory_config.recurrent
        if not recurrent and self.bptt_steps is not None:
            raise ConfigError(
                f"rl2.bptt_steps cuts gradients between steps that follow each other, which memory={self.memory!r} "
                f"does not have, got {self.bptt_steps}; leave it at None, or take memory='gru'"
            )
        if not recurrent and self.memory_steps is not None:
            raise ConfigError(
                f"rl2.memory_steps sets time constants of gates, which memory={self.memory!r} does not have, "
                f"got {self.memory_steps}; leave it at None"
            )
        if self.rows.entry and (self.see_transition or self.memory == "matching"):
            raise ConfigError(
                f"rl2.rows takes the rows of actions out of what the memory sees, got memory={self.memory!r} and "
                f"see_transition={self.see_transition}, which need all of it; take another memory and set it to false"
            )
        if self.memory == "matching" and (self.encoder or self.readout):
            raise ConfigError(
                f"rl2.memory='matching' tells apart who is there and what is said, got encoder={self.encoder} and "
                f"readout={self.readout}; leave both empty, rl2.matching has layers of its own"
            )
