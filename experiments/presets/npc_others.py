"""The NPC worlds met without a memory: MAML-TRPO, which adapts by gradients, and PEARL, which infers a latent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metarl.evaluation import Protocol
from metarl.experiments.config import AnyConfig, ExperimentConfig, WorldConfig
from metarl.loop import LoopSettings


def _maml(name: str, world: WorldConfig, n_episodes: int, **options: Any) -> AnyConfig:
    """Return a run that adapts by one gradient step on all episodes of a trial but the last."""
    from metarl.agents.maml.agent import MAMLConfig

    return ExperimentConfig(
        name=name,
        world=world,
        agent=MAMLConfig(episodes_per_step=n_episodes - 1, hidden=(64, 64), **options),
        train=LoopSettings(
            n_iterations=200,
            n_tasks=40,
            validate_every_iters=25,
            n_validation_tasks=128,
            validation_adapt_episodes=n_episodes - 1,
            validation_eval_episodes=1,
        ),
        evaluation=Protocol(adapt_episodes=n_episodes - 1, eval_episodes=1, n_seeds=3),
    )


def _pearl(name: str, world: WorldConfig, n_episodes: int, horizon: int) -> AnyConfig:
    """Return a run whose latent is inferred from the episodes so far, and drawn anew for each."""
    from metarl.agents.pearl.agent import PEARLConfig
    from metarl.agents.pearl.sac import SACConfig

    # Contexts are whole trials of random length, so that the encoder makes do with few episodes.
    sac = SACConfig(hidden=(128, 128), batch_size=128, gamma=0.9, lr=1e-3, reward_scale=5.0, temperature=0.1)
    return ExperimentConfig(
        name=name,
        world=world,
        agent=PEARLConfig(
            latent=8,
            sac=sac,
            encoder_hidden=(64, 64),
            prior_episodes=2,
            posterior_episodes=n_episodes - 2,
            extra_episodes=0,
            explore_episodes=1,
            context_size=(n_episodes - 1) * horizon,
            context_order="trial",
            context_least=horizon,
            encoder_next_obs=True,
            kl_weight=0.05,
            meta_batch=16,
            grad_steps=40,
            replay_tasks=512,
            replay_steps=n_episodes * horizon,
        ),
        train=LoopSettings(
            n_iterations=150,
            n_tasks=32,
            validate_every_iters=25,
            n_validation_tasks=128,
            validation_adapt_episodes=n_episodes - 1,
            validation_eval_episodes=1,
        ),
        evaluation=Protocol(adapt_episodes=n_episodes - 1, eval_episodes=1, n_seeds=3),
    )


def maml_npc_assets_held() -> AnyConfig:
    """MAML-TRPO on virtual assets of which only the one held is seen: one gradient step on 9 episodes."""
    return _maml("maml-npc-assets-held", WorldConfig("npc/assets-held"), 10)


def maml_npc_companion_id() -> AnyConfig:
    """MAML-TRPO on the companion whose visitors show a number: one gradient step on 11 encounters."""
    return _maml("maml-npc-companion-id", WorldConfig("npc/companion", options={"identity": "id"}), 12)


def pearl_npc_assets_held() -> AnyConfig:
    """PEARL on virtual assets of which only the one held is seen."""
    return _pearl("pearl-npc-assets-held", WorldConfig("npc/assets-held"), 10, 10)


def pearl_npc_companion_id() -> AnyConfig:
    """PEARL on the companion whose visitors show a number."""
    return _pearl("pearl-npc-companion-id", WorldConfig("npc/companion", options={"identity": "id"}), 12, 6)


NPC_OTHER_PRESETS: dict[str, Callable[[], AnyConfig]] = {
    "maml-npc-assets-held": maml_npc_assets_held,
    "maml-npc-companion-id": maml_npc_companion_id,
    "pearl-npc-assets-held": pearl_npc_assets_held,
    "pearl-npc-companion-id": pearl_npc_companion_id,
}
