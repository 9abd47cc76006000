"""The rules of a Meta-World episode that a user may choose: how long, how often an action acts, when it is over.

They say what the task is, so each choice makes another family: it enters the fingerprint and the settings in results.
Both backends follow these sentences; k is `action_repeat`.

* **Decision and env step.** An env step is one step of upstream's environment (5 physics steps, 1/80 s). The agent
  makes one decision, and one step of the World is one decision: the same action, bit for bit, for k env steps.
* **Reward** of a decision: the sum over its env steps, in their order, in float64, rounded to float32 once.
* **Success** of a decision: True if any of its env steps succeeded.
* **Observation** (and `final_obs`): the one reached by the last env step that was played.
* **`horizon`** stays in env steps, 1 to 500. A World's `horizon` is in decisions, ceil(horizon / k); the last decision
  of an episode is shorter if k does not divide `horizon`. With the last env step the episode is truncated.
* **`terminate_on_success`**: the episode is over with the first env step that succeeds; the rest of its decision is not
  played and earns nothing. That step has `terminated` True and `truncated` False, also if it is the last one in time:
  nothing is bootstrapped. Episodes then differ in length, so the World has `fixed_horizon` False.
* What counts "env steps" outside (`env_steps` of a run, lengths of episodes, `gamma` and `lam`) counts decisions.

Two traps. Upstream's dense reward is positive at every step, so with `terminate_on_success` hovering beside the goal
pays more than reaching it: returns may fall as success rises. And rates under different rules cannot be compared: a
decision of k env steps succeeds if any of them does, and a policy that decides k times as rarely solves another task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from metarl.errors import ConfigError

from .tasks import MAX_STEPS


@dataclass(frozen=True)
class EpisodeRules:
    """How an episode goes; the defaults are upstream's own."""

    horizon: int = MAX_STEPS
    """Env steps per episode at most, 1 to 500."""
    action_repeat: int = 1
    """Env steps that each action lasts, 1 to `horizon`."""
    terminate_on_success: bool = False
    """End the episode at its first success."""

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        for name, high in (("horizon", MAX_STEPS), ("action_repeat", self.horizon)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
                unit = "env steps" if name == "horizon" else "env steps, the horizon at most"
                raise ConfigError(f"metaworld: {name} must be a whole number from 1 to {high} ({unit}), got {value!r}")
        if not isinstance(self.terminate_on_success, bool):
            raise ConfigError(f"metaworld: terminate_on_success is True or False, got {self.terminate_on_success!r}")

    @property
    def n_decisions(self) -> int:
        """Most decisions per episode: the horizon of the World."""
        return -(-self.horizon // self.action_repeat)

    @property
    def fixed_horizon(self) -> bool:
        """True if every episode has exactly `n_decisions`."""
        return not self.terminate_on_success

    def identity(self) -> tuple[str, ...]:
        """Return what these rules add to a family's fingerprint; options left at their default add nothing."""
        words = [str(self.horizon)]
        if self.action_repeat > 1:
            words.append(f"action_repeat={self.action_repeat}")
        if self.terminate_on_success:
            words.append("terminate_on_success")
        return tuple(words)

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return upstream's environment under these rules: `env` itself where it has nothing to add."""
        return RuledEpisodes(env, self) if self.action_repeat > 1 or self.terminate_on_success else env


class RuledEpisodes(gym.Wrapper[Any, Any, Any, Any]):
    """An upstream environment that repeats actions and may end at success.

    It keeps no state of its own: where the episode stands is upstream's own step counter, which snapshots hold.
    """

    def __init__(self, env: gym.Env[Any, Any], rules: EpisodeRules) -> None:
        super().__init__(env)
        self.rules = rules

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play one decision; entries of `info` but "success" are those of its last env step."""
        upstream: Any = self.env.unwrapped
        rules, total, success = self.rules, 0.0, False
        for _ in range(rules.action_repeat):
            obs, reward, _, _, info = self.env.step(action)
            total += float(reward)
            success = success or bool(info["success"])
            terminated = success and rules.terminate_on_success
            out_of_time = upstream.curr_path_length >= rules.horizon
            if terminated or out_of_time:
                break
        return obs, total, terminated, out_of_time and not terminated, {**info, "success": success}
