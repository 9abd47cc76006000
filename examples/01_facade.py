"""Train an agent that learns to learn, evaluate it on held-out tasks, draw the picture: the README's ten lines.

One learns the whole of `import metarl`. A minute on one core: about 4 in the first episode, 9 after three more. With
more tasks an iteration (`n_tasks=256`) it comes to the best possible, 11.07. `--quick`: seconds, untrained.
"""

import sys

import metarl

QUICK = "--quick" in sys.argv

tasks = metarl.make_tasks("gridworld")
agent = metarl.make_agent("rl2", tasks, seed=0)
run = metarl.train(agent, tasks, iterations=2 if QUICK else 200, run_dir="runs/gridworld")
result = metarl.evaluate(agent, tasks, adapt_episodes=3)
print(f"first episode {result.before}, after three episodes {result.after}")
print(f"after {run.env_steps:,} env steps of training; a Bayes-optimal agent gets 4.00 and 11.07")
result.plot("adaptation.png")
agent.save("agent.safetensors")
again = metarl.evaluate(metarl.load_agent("agent.safetensors"), tasks, adapt_episodes=3)
assert again.after == result.after  # the file holds all of the agent
