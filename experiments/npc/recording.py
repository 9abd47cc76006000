"""What a page shows of trials: every frame, what was done, and what else might have been."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metarl import statistics
from metarl.agent import ActOutput, Agent, State, TimeStep
from metarl.envs.npc.family import NpcFamily
from metarl.envs.npc.onlooker import Onlooker
from metarl.envs.npc.reference import Policy
from metarl.envs.npc.world import NpcWorld
from metarl.results import plain
from metarl.seeding import derive
from metarl.seeding import generator as stream
from metarl.tasks import Tasks
from metarl.trial import run_trial
from metarl.world import StepResult

DRAWS = 256
"""Times an agent is asked again at each step, to see how often it would do what."""

Frames = list[dict[str, Any]]


class Recorder:
    """A world, unchanged, that keeps the frames of its first `n_shown` envs.

    Each frame has the `belief` of an onlooker, as it is known there: at a trial's first frame the prior, at an
    episode's last one what was known before the filter turns to the next episode.
    """

    def __init__(self, world: NpcWorld, n_shown: int, onlooker: Policy | None, seed: int) -> None:
        """Keep frames of envs 0 to `n_shown` - 1; `onlooker` looks on, see `NpcFamily.onlooker`."""
        self._world = world
        self._onlooker, self._seed = Onlooker(onlooker), seed
        self._idle = torch.zeros(world.num_envs, dtype=torch.bool, device=world.device)
        self.trials: list[list[dict[str, Any]]] = [[] for _ in range(n_shown)]
        """Per env its episodes: frames (one more than actions), actions, rewards, costs and shares."""
        self.shares: Tensor | None = None
        """Set before each step: how often the policy would take each action, [B, n]."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the world, which begins a trial in each env."""
        found = self._world.reset(**options)
        self._onlooker.start(self._world.unwrapped, stream(self._seed, "onlooker", device=self._world.device))
        for env, episodes in enumerate(self.trials):
            episodes[:] = [_episode(self._frame(env))]
        return found

    def freeze(self, idle: Tensor | None) -> None:
        """Let envs stand still, see `World.freeze`: nothing of them is kept meanwhile."""
        self._world.freeze(idle)
        self._idle = torch.zeros_like(self._idle) if idle is None else idle

    def step(self, actions: Any) -> StepResult:
        """Step the world and keep what happened."""
        world, before, idle = self._world, self._world.state, self._idle
        self._onlooker.ready()
        result = world.step(actions)
        _, reward, terminated, truncated, info = result
        ended = terminated | truncated
        self._onlooker.see(before, torch.as_tensor(actions, device=world.device), world.reached, idle)
        shown = [c for c, e in enumerate(self.trials) if len(e) <= world.n_episodes and not idle[c]]
        for env in shown:
            now = self.trials[env][-1]
            with world.as_reached():
                now["frames"].append(self._frame(env))
            now["actions"].append(_flat(actions[env]))
            now["rewards"].append(round(float(reward[env]), 5))
            now["costs"].append(round(float(info["cost"][env]), 5))
            now["shares"].append(None if self.shares is None else [round(x, 3) for x in self.shares[env].tolist()])
        self._onlooker.move_on(ended, idle)
        for env in shown:
            if bool(ended[env]):
                self.trials[env].append(_episode(self._frame(env)))
        return result

    def _frame(self, env: int) -> dict[str, Any]:
        return self._world.frame(env) | self._onlooker.belief(env)


class Asked:
    """An agent, unchanged, that tells `recorder` at each step how often it would take each action."""

    def __init__(self, agent: Agent, recorder: Recorder, sizes: list[int], seed: int) -> None:
        """`sizes` are the numbers of actions per choice."""
        self._agent, self._recorder, self._sizes = agent, recorder, sizes
        self._generator = stream(seed, "asked", device=recorder.device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        """Act as the agent does, and ask it again `DRAWS` times with other noise."""
        many = {k: v.repeat_interleave(DRAWS, 0) for k, v in state.items()}
        again = TimeStep(
            obs=step.obs.repeat_interleave(DRAWS, 0),
            prev_action=step.prev_action.repeat_interleave(DRAWS, 0),
            prev_reward=step.prev_reward.repeat_interleave(DRAWS, 0),
            prev_done=step.prev_done.repeat_interleave(DRAWS, 0),
            action_mask=None if step.action_mask is None else step.action_mask.repeat_interleave(DRAWS, 0),
        )
        _, drawn = self._agent.act(many, again, generator=self._generator, greedy=greedy)
        actions = drawn.action.reshape(len(step.obs), DRAWS, len(self._sizes))
        counted = [torch.nn.functional.one_hot(actions[..., i], n) for i, n in enumerate(self._sizes)]
        self._recorder.shares = torch.cat(counted, dim=-1).float().mean(1)
        return self._agent.act(state, step, generator=generator, greedy=greedy)


def record_agent(
    family: NpcFamily,
    agent: Agent,
    tasks: Tasks,
    *,
    onlooker: Policy | None,
    n_shown: int,
    seed: int,
    greedy: bool,
    device: torch.device,
) -> dict[str, Any]:
    """Play a trial of the family's length on each task and return what a page shows of it, see `_recording`."""
    world = family.make_world(len(tasks), device=device)
    recorder = Recorder(world, n_shown, onlooker, seed)
    names = world.action_names()
    phases = (*agent.phases(family.n_episodes - 1), 1)
    asked = Asked(agent, recorder, [len(n) for n in names], seed)
    trial = run_trial(recorder, asked, tasks, phases, seed=seed, greedy=greedy)  # type: ignore[arg-type]
    returns = torch.zeros(len(tasks), family.n_episodes, dtype=torch.float64, device=device)
    first = 0
    for rollout in trial.rollouts:
        paid = torch.where(rollout.valid, rollout.reward, 0.0).double().T
        returns.scatter_add_(1, (rollout.episode + first).T, paid)
        first += rollout.n_episodes
    world.close()
    return _recording(family, tasks, names, recorder, returns)


@torch.no_grad()
def record_policy(
    family: NpcFamily,
    policy: Policy,
    tasks: Tasks,
    *,
    onlooker: Policy | None,
    n_shown: int,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """Do the same with a reference policy."""
    world = family.make_world(len(tasks), device=device)
    recorder = Recorder(world, n_shown, onlooker, seed)
    world.set_tasks(tasks)
    recorder.reset(seed=derive(seed, "world", 0))
    policy.start(world.unwrapped, stream(seed, "policy", device=device))
    returns = torch.zeros(len(tasks), family.n_episodes + 1, dtype=torch.float64, device=device)
    number = torch.zeros(len(tasks), dtype=torch.int64, device=device)
    while bool((number < family.n_episodes).any()):
        before, actions = world.state, policy.act()
        _, reward, terminated, truncated, _ = recorder.step(actions)
        returns.scatter_add_(1, number.clamp(max=family.n_episodes)[:, None], reward.double()[:, None])
        policy.see(before, actions, world.reached, terminated | truncated)
        number = number + (terminated | truncated).long()
    world.close()
    return _recording(family, tasks, world.action_names(), recorder, returns[:, : family.n_episodes])


def _recording(
    family: NpcFamily, tasks: Tasks, names: list[list[str]], recorder: Recorder, returns: Tensor
) -> dict[str, Any]:
    """Return JSON-able values: shown trials in full, and the mean returns of all per episode with their intervals.

    The intervals are Student's over visitors; null where there is none, as for one visitor.
    """
    mean, low, high = statistics.student(returns.T[:, None].cpu().numpy(), over="tasks")
    trials = [
        {
            "task": tasks.names[i],
            "returns": [round(float(x), 4) for x in returns[i]],
            "episodes": episodes[: family.n_episodes],
        }
        for i, episodes in enumerate(recorder.trials)
    ]
    return {
        "world": family.name,
        "actions": names,
        "trials": trials,
        **{name: plain(ends.round(4)) for name, ends in (("mean", mean), ("low", low), ("high", high))},
        "n": len(returns),
    }


def _episode(frame: dict[str, Any]) -> dict[str, Any]:
    return {"frames": [frame], "actions": [], "rewards": [], "costs": [], "shares": []}


def _flat(action: Tensor) -> list[int]:
    return [int(x) for x in action.reshape(-1)]
