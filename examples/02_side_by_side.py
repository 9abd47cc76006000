"""Three kinds of meta-learners and a baseline on the same world, evaluated on the same held-out tasks, in one figure.

One learns to compare: equal training budget, equal protocol, one picture. About 15 minutes on one core.
"""

import sys

import metarl

QUICK = "--quick" in sys.argv
AGENTS = {  # name -> settings, iterations, tasks per iteration
    "rl2": ({"episodes_per_trial": 4}, 100, 128),
    "varibad": ({"episodes_per_trial": 4}, 100, 64),
    "maml-trpo": ({"episodes_per_step": 4}, 100, 40),
    "random": ({}, 0, 1),
}

tasks = metarl.make_tasks("point-robot", n_test=20 if QUICK else 200)
results = []
for name, (settings, iterations, n_tasks) in AGENTS.items():
    agent = metarl.make_agent(name, tasks, seed=0, **settings)
    if iterations:
        loop = {"iterations": 1, "n_tasks": 2} if QUICK else {"iterations": iterations, "n_tasks": n_tasks}
        metarl.train(agent, tasks, **loop, validate_every_iters=0, progress="off")
    results.append((name, metarl.evaluate(agent, tasks, adapt_episodes=4, n_seeds=1)))
    print(f"{name:10} before {results[-1][1].before}, after {results[-1][1].after}", flush=True)
first = results[0][1]
first.plot("side-by-side.png", others=results[1:])
