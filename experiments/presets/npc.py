"""Presets of the NPC worlds: an NPC that gets to know unknown visitors, with a memory, by gradients or by a latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .setting import Setting, maml, ppo, rl2

if TYPE_CHECKING:
    from metarl.experiments.config import AnyConfig


def _trials(world: str, n_episodes: int, **options: Any) -> Setting:
    """Return trials of so many episodes in a world, of which the last one is scored."""
    loop = dict(
        n_iterations=200, n_tasks=128, validate_every_iters=25, n_validation_tasks=128,
        validation_adapt_episodes=n_episodes - 1,
    )  # fmt: skip
    return Setting(world, loop, dict(adapt_episodes=n_episodes - 1, eval_episodes=1, n_seeds=3), options)


ASSETS_HELD, COMPANION = _trials("npc/assets-held", 10), _trials("npc/companion", 12)
COMPANION_ID = _trials("npc/companion", 12, identity="id")
GUIDE_MACRO, ASSISTANT = _trials("npc/guide-macro", 6), _trials("npc/assistant", 6)


def _memory(
    name: str, world: Setting, agent: Any, *, n_iterations: int, every: int, n_tasks: int = 128, **train: Any
) -> AnyConfig:
    """Return a run of RL² that validates `every` so many iterations and takes the most likely actions."""
    return world.run(
        name, agent, n_iterations=n_iterations, n_tasks=n_tasks, validate_every_iters=every, n_validation_tasks=256,
        scored={"greedy": True, "greedy_adaptation": True}, **{"checkpoint_every_iters": 50} | train,
    )  # fmt: skip


def _recurrent(**options: Any) -> Any:
    """Return RL² with a GRU, whose readout sees its inputs beside the memory."""
    return rl2(**{"hidden": 96, "memory_steps": 40, "encoder": (64,), "readout": (64,), "layer_norm": True} | options)


def rl2_npc_assets_held() -> AnyConfig:
    """RL² (GRU) on virtual assets of which only the one held is seen, 10 episodes per trial."""
    # Returns are mostly noise, so that little of the future is worth weighing; much entropy at first, since what is not
    # held is never known. The readout sees signals beside the memory: what an asset is worth is their product.
    settings = ppo(160, lr=3e-3, gamma=0.9, lam=0.9, entropy_coef=0.1, anneal_to=0.05)
    agent = _recurrent(episodes_per_trial=10, memory_steps=100, ppo=settings)
    name = "rl2-npc-assets-held"
    return _memory(name, ASSETS_HELD, agent, n_iterations=160, n_tasks=256, every=40, checkpoint_every_iters=40)


def _companion(name: str, world: Setting, *, n_iterations: int = 600, **options: Any) -> AnyConfig:
    """Return a run on the companion: 12 encounters per trial, credit over all of them."""
    # gamma 1: an answer is worth as much when its visitor comes back ten encounters later.
    settings = ppo(n_iterations, lr=2e-3, gamma=1.0, entropy_coef=0.04, anneal_to=0.05)
    agent = rl2(episodes_per_trial=12, normalise_inputs=False, reward_prediction_coef=1.0, ppo=settings, **options)
    return _memory(name, world, agent, n_iterations=n_iterations, every=50)


def rl2_npc_companion_id() -> AnyConfig:
    """RL² with a matching memory on the companion whose visitors show a number: memory without recognition."""
    return _companion("rl2-npc-companion-id", COMPANION_ID, memory="matching")


def rl2_npc_companion() -> AnyConfig:
    """RL² with a matching memory on the companion whose visitors show a letter: recognise, then remember."""
    from metarl.agents.memory.matching import MatchingConfig

    matching = MatchingConfig(key=32, key_channels=(8, 16, 32), contrast_coef=0.3)
    return _companion("rl2-npc-companion", COMPANION, n_iterations=200, memory="matching", matching=matching)


def rl2_gru_npc_companion_id() -> AnyConfig:
    """RL² (GRU) on visitors with numbers: a plain recurrent memory, for comparison."""
    options: Any = {"memory": "gru", "hidden": 128, "memory_steps": 72, "see_transition": True, "readout": (128,)}
    return _companion("rl2-gru-npc-companion-id", COMPANION_ID, **options)


def rl2_npc_guide_macro() -> AnyConfig:
    """RL² (GRU) on the guide who names the next exhibit, 6 episodes per trial; one network scores all exhibits."""
    from metarl.agents.rl2.row_net import RowsConfig

    # Without `rows` nothing is learned in 100 updates: every slot of the list would have to learn for itself.
    settings = ppo(700, lr=3e-3, gamma=0.98, entropy_coef=0.02, epochs=3, anneal_to=0.05)
    agent = _recurrent(episodes_per_trial=6, rows=RowsConfig("exhibits", hidden=48, products=32), ppo=settings)
    return _memory("rl2-npc-guide-macro", GUIDE_MACRO, agent, n_iterations=700, every=100)


def rl2_npc_assistant() -> AnyConfig:
    """RL² (GRU) on the assistant's dialogues, 6 per trial; one network scores all offers."""
    from metarl.agents.rl2.row_net import RowsConfig

    # With little entropy it soon stops asking, before it knows what to make of an answer, and settles on proposing at
    # once what most people like. Two auxiliary losses train the memory: reward prediction, task inference.
    settings = ppo(700, lr=3e-3, gamma=0.97, lam=0.9, entropy_coef=0.04, anneal_to=0.1)
    agent = _recurrent(
        episodes_per_trial=6, rows=RowsConfig("offers", 64, products=32), reward_prediction_coef=1.0,
        task_inference_coef=1.0, ppo=settings,
    )  # fmt: skip
    return _memory("rl2-npc-assistant", ASSISTANT, agent, n_iterations=700, n_tasks=256, every=50)


def _maml(name: str, world: Setting) -> AnyConfig:
    """Return a run that adapts by one gradient step on all episodes of a trial but the last."""
    agent = maml(episodes_per_step=world.evaluation["adapt_episodes"], hidden=(64, 64))
    return world.run(name, agent, n_tasks=40)


def maml_npc_assets_held() -> AnyConfig:
    """MAML-TRPO on virtual assets of which only the one held is seen: one gradient step on 9 episodes."""
    return _maml("maml-npc-assets-held", ASSETS_HELD)


def maml_npc_companion_id() -> AnyConfig:
    """MAML-TRPO on the companion whose visitors show a number: one gradient step on 11 encounters."""
    return _maml("maml-npc-companion-id", COMPANION_ID)


def _pearl(name: str, world: Setting, horizon: int) -> AnyConfig:
    """Return a run whose latent is inferred from the episodes so far, and drawn anew for each."""
    from metarl.agents.pearl.agent import PEARLConfig
    from metarl.agents.pearl.sac import SACConfig

    before = world.evaluation["adapt_episodes"]
    # Contexts are whole trials of random length, so that the encoder makes do with few episodes.
    sac = SACConfig(hidden=(128, 128), batch_size=128, gamma=0.9, lr=1e-3, reward_scale=5.0, temperature=0.1)
    agent = PEARLConfig(
        latent=8, sac=sac, encoder_hidden=(64, 64), prior_episodes=2, posterior_episodes=before - 1,
        extra_episodes=0, explore_episodes=1, context_size=before * horizon, context_order="trial",
        context_least=horizon, encoder_next_obs=True, kl_weight=0.05, meta_batch=16, grad_steps=40, replay_tasks=512,
        replay_steps=(before + 1) * horizon,
    )  # fmt: skip
    return world.run(name, agent, n_iterations=150, n_tasks=32)


def pearl_npc_assets_held() -> AnyConfig:
    """PEARL on virtual assets of which only the one held is seen."""
    return _pearl("pearl-npc-assets-held", ASSETS_HELD, 10)


def pearl_npc_companion_id() -> AnyConfig:
    """PEARL on the companion whose visitors show a number."""
    return _pearl("pearl-npc-companion-id", COMPANION_ID, 6)


PRESETS = (
    rl2_npc_guide_macro, rl2_npc_assets_held, rl2_npc_companion, rl2_npc_companion_id, rl2_gru_npc_companion_id,
    rl2_npc_assistant, maml_npc_assets_held, maml_npc_companion_id, pearl_npc_assets_held, pearl_npc_companion_id,
)  # fmt: skip
