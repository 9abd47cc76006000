"""RL² (Duan et al. 2016) on the gridworld, on one page: a GRU that learns to find a goal once and then to remember it.

One learns what a trial is. Two minutes on one core: 3.8, fourth episode 11.0 (preset rl2-gridworld: 3.95 and 10.97).
"""

import sys

import torch

from metarl import episodes, make_tasks, returns, seeding, trial
from metarl.action_distributions import Categorical
from metarl.agent import ActOutput
from metarl.agents.ppo import surrogate, value_error


class RL2(torch.nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.name, self.parallel_episodes, self.dist = "rl2-on-a-page", False, Categorical(spec.action_dim)
        self.gru = torch.nn.GRU(spec.obs_dim + spec.action_dim + 2, 64)
        self.head = torch.nn.Linear(64, spec.action_dim + 1)  # logits of the actions, and the value in tens of reward
        self.adam = torch.optim.Adam(self.parameters(), lr=3e-3, eps=1e-5)

    def forward(self, obs, action, reward, done, memory):  # [T, B, ...]; action, reward and done of the step before
        out, memory = self.gru(torch.cat([obs / 4, action, reward.unsqueeze(-1), done.unsqueeze(-1)], -1), memory)
        return self.head(out), memory

    def init(self, n_tasks):  # a fresh memory for each of N tasks
        return {"h": torch.zeros(n_tasks, 64)}

    def act(self, state, step, *, generator, greedy=False):
        out, h = self(*(x[None] for x in (step.obs, step.prev_action, step.prev_reward, step.prev_done, state["h"])))
        action = self.dist.sample(out[0, :, :-1], generator)
        return {"h": h[0]}, ActOutput(action, self.dist.log_prob(out[0, :, :-1], action), {"value": 10 * out[0, :, -1]})

    def update(self, r, left, generator):  # PPO; step size and entropy bonus shrink with `left`
        value, end = r.aux["value"], torch.zeros_like(r.last).index_fill(0, torch.tensor(len(r.last) - 1), True)
        worth = returns.gae(r.reward, value, value.roll(-1, 0), end, end, 0.99, 0.95)  # to the end of the *trial*
        told = torch.nn.functional.one_hot(r.action, self.dist.n_params), r.reward, r.last
        before = [torch.cat([torch.zeros_like(part[:1]), part[:-1]]) for part in told]
        data = (r.obs, *before, r.action, r.log_prob, returns.standardise(worth, r.valid, (0, 1)), worth + value)
        for rows in (rows for _ in range(4) for rows in torch.randperm(r.last.shape[1], generator=generator).chunk(4)):
            *seen, act, old, credit, target = (part[:, rows] for part in data)
            logits, guess = self(*seen, self.init(len(rows))["h"][None])[0].split([self.dist.n_params, 1], -1)
            gain = surrogate(self.dist.log_prob(logits, act), old, credit, 0.2) + 0.1 * left * self.dist.entropy(logits)
            self.adam.zero_grad()
            (0.5 * value_error(guess[..., 0], target / 10, "huber") - gain).mean().backward()
            torch.nn.utils.clip_grad_norm_(self.parameters(), 0.5)
            self.adam.param_groups[0]["lr"] = 3e-3 * left
            self.adam.step()


torch.manual_seed(0)
n_iterations, n_tasks = (16, 64) if "--quick" in sys.argv else (240, 256)
tasks = make_tasks("gridworld")
agent, world = RL2(tasks.spec), tasks.make_world(n_tasks)
for i in range(n_iterations):  # sample tasks, run a trial on each (one phase of four episodes), learn from all
    phases = trial.run_trial(world, agent, tasks.sample("train", n_tasks, seeding.generator(i, "tasks")), (4,), seed=i)
    print(i, episodes.pre_post(phases, agent), flush=True)
    agent.update(phases.query, max(1 - i / 240, 0.02), seeding.generator(0, "update", i))
