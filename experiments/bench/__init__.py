"""Speed, memory and parity of speed: benchmarks that a user can run."""
