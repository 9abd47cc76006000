"""The memories that RL² can have, by name: a union of configs, each of which builds its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from .mann import MANNConfig
from .matching import MatchingConfig
from .memoryless import NoMemoryConfig
from .recurrent import RecurrentConfig
from .snail import SNAILConfig
from .transformer import TransformerConfig

Memory = Literal["gru", "lstm", "mann", "transformer", "snail", "matching", "none"]
MemoryUnion = RecurrentConfig | MANNConfig | TransformerConfig | SNAILConfig | MatchingConfig | NoMemoryConfig

WITHOUT_SETTINGS: Mapping[str, MemoryUnion] = {
    "gru": RecurrentConfig("gru"), "lstm": RecurrentConfig("lstm"), "none": NoMemoryConfig()
}  # fmt: skip
WITH_SETTINGS: Mapping[str, type[MemoryUnion]] = {
    "mann": MANNConfig, "transformer": TransformerConfig, "snail": SNAILConfig, "matching": MatchingConfig
}  # fmt: skip
"""Those whose settings RL²'s config holds under the memory's name."""
