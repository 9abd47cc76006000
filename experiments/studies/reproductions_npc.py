"""Learning runs on the NPC worlds: generalisation of recurrent policies to visitors not seen in training."""

from __future__ import annotations

from metarl.experiments.npc.scores import beyond_forgetful, last_share, normalised

from .reproduction import Level, Reproduction


def learnable(preset: str, about: str, at_least: float, ceiling: str = "oracle") -> Reproduction:
    """Return a run that must end beyond the forgetful reference, and close `at_least` of the gap to the ceiling."""
    return Reproduction(
        preset,
        about,
        (
            Level("A_K, last episode", last_share(ceiling), at_least, f"0 non-adaptive best, 1 {ceiling}"),
            Level("lower bound beyond forgetful", beyond_forgetful, 0.0, "exact filter that forgets each episode"),
        ),
        scores=lambda evaluation: normalised(evaluation, ceiling),
        studies=("splits",),
    )


def told(preset: str, about: str) -> Reproduction:
    """Return a run whose scores are reported, whatever they are."""
    return Reproduction(preset, about, (), scores=normalised)


NPC_REPRODUCTIONS: dict[str, Reproduction] = {
    "rl2-npc-assets-held": learnable("rl2-npc-assets-held", "RL² (GRU) on assets seen only while held", 0.6),
    "rl2-npc-assistant": learnable(
        "rl2-npc-assistant", "RL² (GRU) on the assistant's dialogues", 0.5, ceiling="persona_oracle"
    ),
    "rl2-npc-guide-macro": learnable("rl2-npc-guide-macro", "RL² on the guide who names the next exhibit", 0.6),
    "rl2-npc-companion-id": learnable("rl2-npc-companion-id", "RL² on the companion, visitors known by a number", 0.6),
    "rl2-npc-companion": learnable("rl2-npc-companion", "RL² on the companion, visitors known by a letter", 0.4),
    "rl2-gru-npc-companion-id": told("rl2-gru-npc-companion-id", "RL² (GRU) on the companion, by a number"),
    "maml-npc-assets-held": told("maml-npc-assets-held", "MAML-TRPO on assets seen only while held"),
    "maml-npc-companion-id": told("maml-npc-companion-id", "MAML-TRPO on the companion, visitors known by a number"),
    "pearl-npc-assets-held": told("pearl-npc-assets-held", "PEARL on assets seen only while held"),
    "pearl-npc-companion-id": told("pearl-npc-companion-id", "PEARL on the companion, visitors known by a number"),
}
