"""metarl: meta-reinforcement learning for virtual worlds. This package is the kernel that worlds and agents share."""

__version__ = "0.1.0"
