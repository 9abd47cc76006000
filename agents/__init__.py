"""Adaptation algorithms. Each module holds one algorithm and its frozen config; `config.build(spec)` makes an agent."""

from __future__ import annotations

if __name__ != "metarl.agents":  # a second copy of every class under another name
    raise ImportError(f"{__name__!r} is a folder of metarl's checkout; its import name is metarl.agents")

from metarl.registry import Registry

AGENTS = Registry(
    "agent",
    {
        "maml-trpo": (
            "metarl.agents.maml.agent:MAMLConfig",
            "gradient-based: policy-gradient inner steps, TRPO outer step",
        ),
        "rl2": (
            "metarl.agents.rl2.agent:RL2Config",
            "memory-based: a recurrent policy trained by PPO over whole trials",
        ),
        "varibad": (
            "metarl.agents.varibad.agent:VariBADConfig",
            "inference-based: a recurrent belief by a VAE, PPO on it",
        ),
        "pearl": (
            "metarl.agents.pearl.agent:PEARLConfig",
            "inference-based: SAC on a latent belief about the task, off-policy",
        ),
        "metric": (
            "metarl.agents.metric.agent:MetricConfig",
            "metric-based: starts from the policies of similar tasks",
        ),
        "finetune": (
            "metarl.agents.baselines.finetune:FinetuneConfig",
            "no meta-learning: multi-task PPO, then gradient fine-tuning",
        ),
        "scratch": (
            "metarl.agents.baselines.scratch:ScratchConfig",
            "no meta-learning: fresh PPO on each task's adaptation episodes",
        ),
        "random": ("metarl.agents.baselines.random_policy:RandomConfig", "uniformly random actions"),
    },
)
