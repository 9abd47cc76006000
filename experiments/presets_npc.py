"""Presets of the NPC worlds: an NPC that gets to know unknown visitors."""

from __future__ import annotations

from collections.abc import Callable

from metarl.evaluation import Protocol
from metarl.loop import LoopSettings

from .config import AnyConfig, ExperimentConfig, WorldConfig


def rl2_npc_assets_held() -> AnyConfig:
    """RL² (GRU) on virtual assets of which only the one held is seen, 10 episodes per trial."""
    from agents.ppo import PPOConfig
    from agents.rl2 import RL2Config

    # Returns are mostly noise, so that little of the future is worth weighing; much entropy at first, since what is not
    # held is never known. The readout sees signals beside the memory: what an asset is worth is their product.
    ppo = PPOConfig(lr=3e-3, gamma=0.9, lam=0.9, entropy_coef=0.1, anneal_iters=600, anneal_to=0.02)
    agent = RL2Config(
        episodes_per_trial=10, hidden=96, memory_steps=100, encoder=(64,), readout=(64,), layer_norm=True, ppo=ppo
    )
    return ExperimentConfig(
        name="rl2-npc-assets-held",
        world=WorldConfig("npc/assets-held"),
        agent=agent,
        train=LoopSettings(
            n_iterations=600,
            n_tasks=256,
            validate_every_iters=50,
            n_validation_tasks=256,
            validation_adapt_episodes=9,
            checkpoint_every_iters=50,
        ),
        evaluation=Protocol(adapt_episodes=9, eval_episodes=1, n_seeds=3, greedy=True, greedy_adaptation=True),
    )


NPC_PRESETS: dict[str, Callable[[], AnyConfig]] = {
    "rl2-npc-assets-held": rl2_npc_assets_held,
}
