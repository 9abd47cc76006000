"""The memories that RL² can have, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from metarl.agent import WorldSpec
from metarl.errors import ConfigError

from .history import checked_context
from .mann import MANNCore
from .matching import MatchingCore, identity_layout
from .memoryless import NoMemory
from .recurrent import MemoryCore, RecurrentCore
from .snail import SNAILCore
from .transformer import TransformerCore

if TYPE_CHECKING:
    from .rl2 import RL2Config

Memory = Literal["gru", "lstm", "mann", "transformer", "snail", "matching", "none"]
RECURRENT = ("gru", "lstm", "mann")
LOOKING_BACK = ("transformer", "snail")
"""Memories that see all steps of a trial at once: nothing is carried from chunk to chunk."""
NOT_RECURRENT = (*LOOKING_BACK, "matching", "none")


def check_memory(config: RL2Config) -> None:
    """Raise ConfigError for an unknown memory, and for settings that mean nothing to the one chosen."""
    known = (*RECURRENT, *NOT_RECURRENT)
    if config.memory not in known:
        raise ConfigError(f"rl2.memory must be {' or '.join(map(repr, known))}, got {config.memory!r}")
    if config.memory == "transformer":
        config.transformer.check_width(config.hidden)
    if config.memory in NOT_RECURRENT and config.bptt_steps is not None:
        raise ConfigError(
            f"rl2.bptt_steps cuts gradients between steps that follow each other, which memory={config.memory!r} does "
            f"not have, got {config.bptt_steps}; leave it at None, or take memory='gru'"
        )
    if config.memory in NOT_RECURRENT and config.memory_steps is not None:
        raise ConfigError(
            f"rl2.memory_steps sets time constants of gates, which memory={config.memory!r} does not have, "
            f"got {config.memory_steps}; leave it at None"
        )
    if config.rows.entry and (config.see_transition or config.memory == "matching"):
        raise ConfigError(
            f"rl2.rows takes the rows of actions out of what the memory sees, got memory={config.memory!r} and "
            f"see_transition={config.see_transition}, which need all of it; take another memory and set it to false"
        )
    if config.memory == "matching" and (config.encoder or config.readout):
        raise ConfigError(
            f"rl2.memory='matching' tells apart who is there and what is said, got encoder={config.encoder} and "
            f"readout={config.readout}; leave both empty, rl2.matching has layers of its own"
        )


def make_core(
    config: RL2Config,
    trial_steps: int,
    n_inputs: int,
    generator: torch.Generator,
    device: torch.device,
    spec: WorldSpec | None = None,
) -> MemoryCore:
    """Return the memory that `config` asks for; `trial_steps` is the length of a training trial in env steps.

    `spec` says what the inputs are, which only "matching" must know; there it sees no encoder's output but them.

    Raises: ConfigError for a context that is shorter than a trial, or observations that do not say who is there.
    """
    if config.memory == "matching":
        layout = identity_layout(spec, config.matching.identity)
        return MatchingCore(config.matching, n_inputs, config.hidden, trial_steps, layout, generator, device)
    if config.memory == "transformer":
        context = checked_context(config.transformer.context, trial_steps, "transformer")
        return TransformerCore(config.transformer, n_inputs, config.hidden, context, generator, device)
    if config.memory == "snail":
        context = checked_context(config.snail.context, trial_steps, "snail")
        return SNAILCore(config.snail, n_inputs, config.hidden, context, generator, device)
    if config.memory == "none":
        return NoMemory(n_inputs, config.hidden, generator, device)
    if config.memory == "mann":
        return MANNCore(config.mann, n_inputs, config.hidden, generator, device, memory_steps=config.memory_steps)
    return RecurrentCore(config.memory, n_inputs, config.hidden, generator, device, memory_steps=config.memory_steps)
