"""VariBAD: a belief about the task from a variational autoencoder, and a policy on it."""
