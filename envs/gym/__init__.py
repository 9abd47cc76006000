"""Other people's Gymnasium environments as batched worlds."""
