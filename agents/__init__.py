"""Adaptation algorithms. Each module holds one algorithm and its frozen config; `config.build(spec)` makes an agent."""

from __future__ import annotations

from metarl.registry import Registry

AGENTS = Registry(
    "agent",
    {
        "maml-trpo": ("agents.maml:MAMLConfig", "gradient-based: policy-gradient inner steps, TRPO outer step"),
        "rl2": ("agents.rl2:RL2Config", "memory-based: a recurrent policy trained by PPO over whole trials"),
        "varibad": ("agents.varibad:VariBADConfig", "inference-based: a recurrent belief by a VAE, PPO on it"),
        "pearl": ("agents.pearl:PEARLConfig", "inference-based: SAC on a latent belief about the task, off-policy"),
        "metric": ("agents.metric:MetricConfig", "metric-based: starts from the policies of similar tasks"),
        "finetune": ("agents.finetune:FinetuneConfig", "no meta-learning: multi-task PPO, then gradient fine-tuning"),
        "scratch": ("agents.scratch:ScratchConfig", "no meta-learning: fresh PPO on each task's adaptation episodes"),
        "random": ("agents.random_policy:RandomConfig", "uniformly random actions"),
    },
)
