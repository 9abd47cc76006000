"""Meta-World's meta-learning benchmarks: task distributions, upstream's environments, and a fast engine for them."""

from .distribution import N_GOALS, MetaWorldTasks, make_custom, make_ml1, make_ml10, make_ml25, make_ml45

__all__ = ["N_GOALS", "MetaWorldTasks", "make_custom", "make_ml1", "make_ml10", "make_ml25", "make_ml45"]
