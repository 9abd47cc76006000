"""Meta-World ML1 reach through the facade: 50 goals to train on, 50 others to be tested on, the goal never shown.

One learns that a robot is a world like any other. Four minutes on one core reach a third of the unseen goals, in both
episodes alike: a run this short does not learn to adapt. `--quick`: seconds, and learns nothing.
"""

import sys

import metarl

QUICK = "--quick" in sys.argv

tasks = metarl.make_tasks("metaworld/ML1", task="reach-v3", horizon=20 if QUICK else 150)
agent = metarl.make_agent("rl2", tasks, seed=0, episodes_per_trial=2)
run = metarl.train(
    agent, tasks, iterations=1 if QUICK else 100, n_tasks=2 if QUICK else 50, run_dir="runs/ml1-reach", progress="off",
    n_validation_tasks=2 if QUICK else 10,
)  # fmt: skip
result = metarl.evaluate(agent, tasks, adapt_episodes=1, n_seeds=1, n_tasks=4 if QUICK else 50)
before, after, _ = result.scores("success_any")
print(f"return {result.before} -> {result.after}, success {before} -> {after}, {run.env_steps:,} env steps")
