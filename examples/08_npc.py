"""An NPC that gets to know its visitors: train it, hold it against reference policies, and watch it in a browser.

One learns the NPC worlds: visitors differ in what nothing but their reactions shows. `companion.html` plays trials.
Half a minute on one core: 2.05, then 2.80 (Bayes-optimal: 2.07, 2.89). `--quick`: seconds.
"""

import sys

import metarl
from metarl.experiments.npc import watch

QUICK = "--quick" in sys.argv

tasks = metarl.make_tasks("npc/companion-tiny")
agent = metarl.make_agent("rl2", tasks, seed=0, episodes_per_trial=tasks.n_episodes)
metarl.train(
    agent, tasks, iterations=2 if QUICK else 150, n_tasks=8 if QUICK else 128, run_dir="runs/companion", progress="off",
    validation_adapt_episodes=tasks.n_episodes - 1,
)  # fmt: skip
result = metarl.evaluate(agent, tasks, adapt_episodes=tasks.n_episodes - 1, n_seeds=5 if QUICK else 100)
print("return per episode, first to last")
for name, values in tasks.references("test", tasks.n_episodes).items():
    print(f"  {name:15}", *(f"{value:6.3f}" for value in values))
print("  trained agent  ", *(f"{score.mean:6.3f}" for score in result.curve))
watch.main(["runs/companion", "--visitors", "6", "--out", "companion.html"])
