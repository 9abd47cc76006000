"""Agents that do not meta-learn, as yardsticks: fine-tuning, training from scratch, random actions."""
