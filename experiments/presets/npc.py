"""Presets of the NPC worlds: an NPC that gets to know unknown visitors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metarl.evaluation import Protocol
from metarl.experiments.config import AnyConfig, ExperimentConfig, WorldConfig
from metarl.loop import LoopSettings


def _run(
    name: str, world: WorldConfig, agent: Any, *, n_iterations: int, n_tasks: int, every: int, keep_every: int = 50
) -> AnyConfig:
    """Return a run of RL² that validates `every` so many iterations, on trials as long as those it learns from."""
    adapt = agent.episodes_per_trial - 1
    return ExperimentConfig(
        name=name,
        world=world,
        agent=agent,
        train=LoopSettings(
            n_iterations=n_iterations,
            n_tasks=n_tasks,
            validate_every_iters=every,
            n_validation_tasks=256,
            validation_adapt_episodes=adapt,
            checkpoint_every_iters=keep_every,
        ),
        evaluation=Protocol(adapt_episodes=adapt, eval_episodes=1, n_seeds=3, greedy=True, greedy_adaptation=True),
    )


def rl2_npc_assets_held() -> AnyConfig:
    """RL² (GRU) on virtual assets of which only the one held is seen, 10 episodes per trial."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.rl2.agent import RL2Config

    # Returns are mostly noise, so that little of the future is worth weighing; much entropy at first, since what is not
    # held is never known. The readout sees signals beside the memory: what an asset is worth is their product.
    ppo = PPOConfig(lr=3e-3, gamma=0.9, lam=0.9, entropy_coef=0.1, anneal_iters=160, anneal_to=0.05)
    agent = RL2Config(
        episodes_per_trial=10, hidden=96, memory_steps=100, encoder=(64,), readout=(64,), layer_norm=True, ppo=ppo
    )
    world = WorldConfig("npc/assets-held")
    return _run("rl2-npc-assets-held", world, agent, n_iterations=160, n_tasks=256, every=40, keep_every=40)


def _companion(name: str, world: dict[str, Any], *, n_iterations: int = 600, **options: Any) -> AnyConfig:
    """Return a run on the companion: 12 encounters per trial, credit over all of them."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.rl2.agent import RL2Config

    # gamma 1: an answer is worth as much when its visitor comes back ten encounters later.
    ppo = PPOConfig(lr=2e-3, gamma=1.0, lam=0.95, entropy_coef=0.04, anneal_iters=n_iterations, anneal_to=0.05)
    agent = RL2Config(episodes_per_trial=12, normalise_inputs=False, ppo=ppo, **options)
    where = WorldConfig("npc/companion", options=world)
    return _run(name, where, agent, n_iterations=n_iterations, n_tasks=128, every=50)


def rl2_npc_companion_id() -> AnyConfig:
    """RL² with a matching memory on the companion whose visitors show a number: memory without recognition."""
    return _companion("rl2-npc-companion-id", {"identity": "id"}, memory="matching", foresight_coef=1.0)


def rl2_npc_companion() -> AnyConfig:
    """RL² with a matching memory on the companion whose visitors show a letter: recognise, then remember."""
    from metarl.agents.memory.matching import MatchingConfig

    matching = MatchingConfig(key=32, key_channels=(8, 16, 32), contrast_coef=0.3)
    return _companion(
        "rl2-npc-companion", {}, n_iterations=200, memory="matching", foresight_coef=1.0, matching=matching
    )


def rl2_gru_npc_companion_id() -> AnyConfig:
    """RL² (GRU) on visitors with numbers: what a plain memory makes of the same lessons."""
    return _companion(
        "rl2-gru-npc-companion-id", {"identity": "id"}, memory="gru", hidden=128, memory_steps=72, see_transition=True,
        readout=(128,), foresight_coef=1.0,
    )  # fmt: skip


def rl2_npc_guide_macro() -> AnyConfig:
    """RL² (GRU) on the guide who names the next exhibit, 6 episodes per trial; one network scores all exhibits."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.rl2.agent import RL2Config
    from metarl.agents.rl2.row_net import RowsConfig

    # Without `rows` nothing is learned in 100 updates: every slot of the list would have to learn for itself.
    ppo = PPOConfig(lr=3e-3, gamma=0.98, lam=0.95, entropy_coef=0.02, epochs=3, anneal_iters=700, anneal_to=0.05)
    rows = RowsConfig("exhibits", hidden=48, products=32)
    agent = RL2Config(
        episodes_per_trial=6, hidden=96, memory_steps=40, encoder=(64,), readout=(64,), layer_norm=True, rows=rows,
        ppo=ppo,
    )  # fmt: skip
    world = WorldConfig("npc/guide-macro")
    return _run("rl2-npc-guide-macro", world, agent, n_iterations=700, n_tasks=128, every=100)


def rl2_npc_assistant() -> AnyConfig:
    """RL² (GRU) on the assistant's dialogues, 6 per trial; one network scores all offers."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.rl2.agent import RL2Config
    from metarl.agents.rl2.row_net import RowsConfig

    # With little entropy it soon stops asking, before it knows what to make of an answer, and settles on proposing at
    # once what most people like. Foretelling what a proposal pays, and telling the visitor's taste, teach the memory.
    ppo = PPOConfig(lr=3e-3, gamma=0.97, lam=0.9, entropy_coef=0.04, anneal_iters=700, anneal_to=0.1)
    agent = RL2Config(
        episodes_per_trial=6, hidden=96, memory_steps=40, encoder=(64,), readout=(64,), layer_norm=True,
        rows=RowsConfig("offers", 64, products=32), foresight_coef=1.0, inference_coef=1.0, ppo=ppo,
    )  # fmt: skip
    world = WorldConfig("npc/assistant")
    return _run("rl2-npc-assistant", world, agent, n_iterations=700, n_tasks=256, every=50)


NPC_PRESETS: dict[str, Callable[[], AnyConfig]] = {
    "rl2-npc-guide-macro": rl2_npc_guide_macro,
    "rl2-npc-assets-held": rl2_npc_assets_held,
    "rl2-npc-companion": rl2_npc_companion,
    "rl2-npc-companion-id": rl2_npc_companion_id,
    "rl2-gru-npc-companion-id": rl2_gru_npc_companion_id,
    "rl2-npc-assistant": rl2_npc_assistant,
}
