"""Gradient-based meta-learning: MAML and its relatives (ANIL, CAVIA, Meta-SGD, Reptile, ProMP, E-MAML)."""
