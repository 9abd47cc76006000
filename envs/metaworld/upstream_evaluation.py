"""Meta-World's own evaluation, unchanged, driving any agent of this framework on upstream's vector environments.

`metaworld.evaluation.metalearning_evaluation` asks an agent for `init`, `adapt_action`, `step`, `adapt`, `reset` and
`eval_action`, and shows it observations only: neither the reward of evaluation episodes nor the observation that ends
one. Agents with memory need both, so the adapter watches the vector environment through a transparent wrapper.

Upstream's convention is kept: every evaluation episode starts from the state that adaptation left, so nothing learned
in one evaluation episode helps in the next. The number that comes out counts episodes as upstream does (see
`metarl.upstream_counting` for what is wrong with it); report it beside the strict evaluation, not instead of it. The
agent runs on the CPU here, as the environments do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl import spaces
from metarl.agent import ActOutput, Agent, State, TimeStep
from metarl.errors import ConfigError
from metarl.rollout import Rollout

from . import N_GOALS, MetaWorldTasks
from .tasks import metaworld_module


class UpstreamScore(NamedTuple):
    """What `metalearning_evaluation` returns."""

    success_rate: float
    """Mean over evaluations and classes, by upstream's counting."""
    mean_return: float
    """Of episodes cut at their first success."""
    per_class: dict[str, float]


class Watched(gym.vector.VectorWrapper):
    """Passes everything through and remembers the last step: its reward, ends and final observations."""

    def __init__(self, envs: Any) -> None:
        super().__init__(envs)
        self.last: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]] | None = None
        """(reward, terminated, truncated, observation reached before any reset) of the last step."""

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of every sub-environment."""
        return self.env.call(name, *args, **kwargs)  # type: ignore[attr-defined]

    def get_attr(self, name: str) -> Any:
        """Return an attribute of every sub-environment."""
        return self.env.get_attr(name)  # type: ignore[attr-defined]

    def step(self, actions: Any) -> Any:
        """Step and remember."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        reached = np.array(obs)
        for i in np.flatnonzero(np.asarray(terminated) | np.asarray(truncated)):
            reached[i] = info["final_obs"][i]
        self.last = (np.array(reward), np.array(terminated), np.array(truncated), reached)
        return obs, reward, terminated, truncated, info


class UpstreamAgent:
    """Adapter: an agent of this package behind Meta-World's `MetaLearningAgent` protocol.

    One task per sub-environment. Pass `adapter.envs`, not the bare environments, to `metalearning_evaluation`.
    """

    def __init__(self, agent: Agent, envs: Any, *, seed: int = 0, greedy: bool = True) -> None:
        """Wrap `agent` for `envs`, an upstream vector environment in SAME_STEP mode.

        `greedy`: evaluation episodes take the policy's mode; adaptation always samples.
        Raises: ConfigError if the agent's spaces are not those of `envs`, or the autoreset mode is another.
        """
        for part in ("observation_space", "action_space"):
            theirs, ours = getattr(envs, f"single_{part}"), getattr(agent.spec, part)
            if theirs.shape != ours.shape:
                raise ConfigError(
                    f"agent {agent.name!r} was built for {part} {ours}, but the environments have {theirs}; build them "
                    f"with recurrent_info_in_obs=False and use_one_hot=False"
                )
        if envs.metadata.get("autoreset_mode") != gym.vector.AutoresetMode.SAME_STEP:
            raise ConfigError("the environments must reset in the step that ends an episode: autoreset_mode=SAME_STEP")
        self.agent, self.envs, self.greedy = agent, Watched(envs), greedy
        self.n = int(envs.num_envs)
        self.generator = torch.Generator().manual_seed(seed)
        self.state: State = {}
        self.adapted: tuple[State, TimeStep] | None = None
        self.last: TimeStep = self._nothing()
        self.start: TimeStep = self.last
        self.rows: list[tuple[TimeStep, ActOutput, NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]] = []
        self.acting: tuple[TimeStep, ActOutput] | None = None

    # ---------------------------------------------------------------- upstream's protocol

    def init(self) -> None:
        """Forget everything about the tasks."""
        self.state, self.adapted, self.rows = self.agent.init(self.n), None, []
        self.acting, self.last = None, self._nothing()

    def adapt_action(self, observations: NDArray[np.float64]) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Return actions of an adaptation episode, and nothing else: the adapter keeps what learning needs."""
        return self._act(observations, greedy=False), {}

    def step(self, timestep: Any) -> None:
        """Record one step, the one that ends an episode included."""
        if self.acting is None or self.envs.last is None:
            raise ConfigError("the adapter saw no step; pass adapter.envs to metalearning_evaluation")
        self.rows.append((*self.acting, *self.envs.last))
        self._remember()

    def adapt(self) -> None:
        """Learn from everything recorded since the last call."""
        if not self.rows:
            raise ConfigError("adapt() without a step; metalearning_evaluation needs adaptation_episodes >= 1")
        self.state = self.agent.adapt(self.state, self._rollout())
        self.rows = []
        self.adapted = (self.state, self.last)

    def reset(self, env_mask: NDArray[np.bool_]) -> None:
        """Put the sub-environments in `env_mask` back to the state that adaptation left."""
        mask = torch.as_tensor(np.asarray(env_mask, dtype=np.bool_))
        if self.acting is not None and self.adapted is not None and self.envs.last is not None:
            self._remember()
        if self.adapted is None:  # evaluation without adaptation: episodes start from what init left
            self.state = self.state or self.agent.init(self.n)
            self.adapted = (self.state, self._nothing())
        kept, before = self.adapted
        self.state = {k: torch.where(_like(mask, v), kept[k], v) for k, v in self.state.items()}
        parts = ("prev_action", "prev_reward", "prev_done")
        merged = {
            p: torch.where(_like(mask, getattr(before, p)), getattr(before, p), getattr(self.last, p)) for p in parts
        }
        self.last = replace(self.last, **merged)

    def eval_action(self, observations: NDArray[np.float64]) -> NDArray[Any]:
        """Return actions of an evaluation episode."""
        return self._act(observations, greedy=self.greedy)

    # ---------------------------------------------------------------- parts

    def _nothing(self) -> TimeStep:
        """Return the step before a trial: no previous action, reward or end."""
        return TimeStep(
            obs=torch.zeros(self.n, self.agent.spec.obs_dim),
            prev_action=torch.zeros(self.n, self.agent.spec.action_dim),
            prev_reward=torch.zeros(self.n),
            prev_done=torch.zeros(self.n, dtype=torch.bool),
        )

    @torch.no_grad()
    def _act(self, observations: NDArray[Any], *, greedy: bool) -> NDArray[Any]:
        step = replace(self.last, obs=self._flat(observations))
        if not self.rows:
            self.start = step
        self.state, decision = self.agent.act(self.state, step, generator=self.generator, greedy=greedy)
        self.acting = (step, decision)
        space = self.agent.spec.action_space
        action = decision.action.numpy()
        return np.clip(action, space.low, space.high) if isinstance(space, gym.spaces.Box) else action

    def _remember(self) -> None:
        """Make the step just taken the previous one of the next."""
        assert self.acting is not None
        assert self.envs.last is not None
        reward, terminated, truncated, _ = self.envs.last
        self.last = replace(
            self.last,
            prev_action=spaces.flatten(self.agent.spec.action_space, self.acting[1].action),
            prev_reward=torch.as_tensor(reward, dtype=torch.float32),
            prev_done=torch.as_tensor(terminated | truncated),
        )
        self.acting = None

    def _flat(self, observations: NDArray[Any]) -> Tensor:
        space = self.agent.spec.observation_space
        return spaces.flatten(space, torch.as_tensor(np.asarray(observations, dtype=np.float32)))

    def _rollout(self) -> Rollout:
        """Return the recorded steps as one phase; steps after the last complete episode of an env are not valid."""
        steps, decisions, rewards, terminated, truncated, reached = zip(*self.rows, strict=True)
        last = torch.as_tensor(np.stack(terminated) | np.stack(truncated))
        n_episodes = int(last.sum(dim=0).min())
        episode = last.long().cumsum(dim=0) - last.long()
        masks = [s.action_mask for s in steps]
        return Rollout(
            obs=torch.stack([s.obs for s in steps]),
            action=torch.stack([d.action for d in decisions]),
            log_prob=torch.stack([d.log_prob for d in decisions]),
            reward=torch.as_tensor(np.stack(rewards), dtype=torch.float32),
            terminated=torch.as_tensor(np.stack(terminated)),
            truncated=torch.as_tensor(np.stack(truncated)),
            next_obs=torch.stack([self._flat(r) for r in reached]),
            episode=episode.clamp(max=max(n_episodes - 1, 0)),
            valid=episode < n_episodes,
            success=None,
            action_mask=None if masks[0] is None else torch.stack([m for m in masks if m is not None]),
            aux={k: torch.stack([d.aux[k] for d in decisions]) for k in decisions[0].aux},
            start=self.start,
            n_tasks=self.n,
            n_episodes=n_episodes,
        )


def refuse_repeats(family: MetaWorldTasks) -> None:
    """Raise ConfigError if actions of `family` last several env steps, which upstream's environments do not know."""
    if family.rules.action_repeat > 1:
        raise ConfigError(
            f"upstream's own evaluation plays each action for one env step, but this run has action_repeat="
            f"{family.rules.action_repeat}; leave --upstream out"
        )


def make_test_envs(family: MetaWorldTasks, *, goals_per_class: int, num_evals: int) -> Any:
    """Build upstream's own vector environment of a family's test classes, stepped in this process.

    `goals_per_class` goals of each class run side by side, and `num_evals` evaluations meet each goal at most once.
    ML25 keeps the class that is in its train split too, as upstream has it. Raises: ConfigError if upstream has fewer
    goals than asked for, or cannot play by the family's rules.
    """
    refuse_repeats(family)
    if goals_per_class < 1 or num_evals < 1 or goals_per_class * num_evals > N_GOALS:
        raise ConfigError(
            f"{num_evals} evaluations of {goals_per_class} goals per class need {goals_per_class * num_evals} goals, "
            f"but {family.name} has {N_GOALS} per class; choose numbers from 1 whose product is at most {N_GOALS}"
        )
    metaworld = metaworld_module()
    from metaworld import env_dict

    settings, kind = family.settings, family.name.removeprefix("metaworld/")
    custom = {"train_envs": settings["train_classes"], "test_envs": settings["test_classes"]}
    n_classes = (
        len(getattr(env_dict, f"{kind}_V3")["test"]) if kind not in ("ML1", "custom") else len(custom["test_envs"])
    )
    make: Callable[..., Any] = partial(metaworld.make_ml_envs, settings["test_classes"][0] if kind == "ML1" else kind)
    if kind == "custom":
        make = partial(gym.make_vec, "Meta-World/custom-ml-envs", **custom)
    return make(
        split="test",
        vector_strategy="sync",
        terminate_on_success=True,
        task_select="pseudorandom",
        seed=settings["seed"],
        meta_batch_size=goals_per_class * n_classes,
        total_tasks_per_cls=goals_per_class * num_evals,
        max_episode_steps=family.horizon,
        reward_function_version=family.reward_version,
    )


def evaluate_upstream(
    agent: Agent,
    envs: Any,
    *,
    num_evals: int = 10,
    adaptation_steps: int = 1,
    adaptation_episodes: int = 10,
    evaluation_episodes: int = 3,
    seed: int = 0,
    greedy: bool = True,
) -> UpstreamScore:
    """Run Meta-World's `metalearning_evaluation` on `agent` and upstream's `envs`; arguments are upstream's."""
    metaworld_module()
    from metaworld.evaluation import metalearning_evaluation

    adapter = UpstreamAgent(agent, envs, seed=seed, greedy=greedy)
    watched: Any = adapter.envs
    rate, mean_return, per_class = metalearning_evaluation(
        adapter,
        watched,
        num_evals=num_evals,
        adaptation_steps=adaptation_steps,
        adaptation_episodes=adaptation_episodes,
        evaluation_episodes=evaluation_episodes,
    )
    return UpstreamScore(float(rate), float(mean_return), {name: float(r) for name, r in per_class.items()})


def _like(mask: Tensor, value: Tensor) -> Tensor:
    """Return bool [N] shaped to broadcast over [N, ...]."""
    return mask.reshape(-1, *[1] * (value.dim() - 1))
