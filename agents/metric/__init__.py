"""Metric-based meta-learning: a learned distance between tasks, and a library of policies."""
