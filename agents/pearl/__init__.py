"""PEARL: soft actor-critic on a latent belief about the task, off-policy."""
