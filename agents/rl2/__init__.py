"""RL²: a policy with memory over a whole trial, trained by PPO."""
