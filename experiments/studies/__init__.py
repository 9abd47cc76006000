"""Studies of several runs: published experiments, the table, coverage, transfer."""
