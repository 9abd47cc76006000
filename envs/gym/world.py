"""Any plain Gymnasium environment as a World, stepped in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from metarl.deprecated import renamed
from metarl.errors import ConfigError, WorldError, shortened
from metarl.spaces import check_spaces
from metarl.spec import WorldSpec
from metarl.tasks import Tasks, concatenate
from metarl.world import Obs, StepResult, World

from .contract import Breach, check_env, check_hooks
from .processes import WorkerPool, world_error
from .serial import Chunk, Env, EnvFailure, Hooks, Layout


class GymWorld(World):
    """B independent Gymnasium environments behind the World contract.

    Environments are kept per kind (`env_key`) and reused from task to task, never by two envs at once. Episode e of
    env i is reset with a seed that follows from the world's seed, i and e alone, so results depend neither on B nor
    on `n_workers`, provided that an environment's reset forgets what came before it.

    With `n_workers` > 0 the envs are spread over spawned processes that write into shared memory; hooks must then be
    picklable, and a script needs the usual `if __name__ == "__main__":`. `close` ends the processes.

    Environments are held to what they declare at each step (`contract`), and given actions of their own space: in
    its dtype, clipped to its own bounds, rounded where it holds integers only.

    Args:
        make_env: builds an environment for a task (a batch of one).
        apply_task: puts a task into an environment; a reset follows.
        num_envs: B.
        horizon: env steps after which an episode is truncated.
        observation_space: of one environment; may be left out if `example` is given.
        action_space: likewise.
        example: a task from which one environment is built, looked at and closed, to learn the spaces.
        env_key: names the kind of environment a task needs; tasks with equal keys share environments.
        snapshot: returns an environment's whole mid-episode state as tensors and plain values.
        restore: puts it back into an environment with the same task, just reset.
        render: draws an environment, uint8 [H, W, 3]; by default `env.render()`.
        name: for messages.
        n_workers: processes (at most B are used); 0 steps everything in this one.
        fixed_horizon: set if the environment never ends an episode by itself.
        has_success: set if every step's `info` carries "success".
        has_action_mask: set if `info` of reset and step carries "action_mask" (Discrete actions only).
        device: where the returned tensors live.
        timeout_s: seconds after which a silent process counts as stuck.
    """

    @renamed(n_copies="num_envs")
    def __init__(
        self,
        make_env: Callable[[Tasks], Env],
        apply_task: Callable[[Env, Tasks], None],
        num_envs: int,
        *,
        horizon: int,
        observation_space: gym.Space[Any] | None = None,
        action_space: gym.Space[Any] | None = None,
        example: Tasks | None = None,
        env_key: Callable[[Tasks], str] | None = None,
        snapshot: Callable[[Env], dict[str, Any]] | None = None,
        restore: Callable[[Env, dict[str, Any]], None] | None = None,
        render: Callable[[Env], NDArray[np.uint8]] | None = None,
        name: str = "gym",
        n_workers: int = 0,
        fixed_horizon: bool = False,
        has_success: bool = False,
        has_action_mask: bool = False,
        device: torch.device | str = "cpu",
        timeout_s: float = 300.0,
    ) -> None:
        """Build the world; environments are made at the first reset.

        Raises: ConfigError for missing spaces, an unsupported space, or hooks that cannot be pickled.
        """
        self.hooks = Hooks(make_env, apply_task, env_key, snapshot, restore, render)
        check_hooks(name, vars(self.hooks))
        if observation_space is None or action_space is None:
            observation_space, action_space = _look_at(
                name, make_env, example, least_steps=horizon if fixed_horizon else 0
            )
        check_spaces(name, observation_space, action_space)
        if has_action_mask and not isinstance(action_space, spaces.Discrete):
            raise ConfigError(f"world {name!r} has an action mask, which needs a Discrete action space: {action_space}")
        if n_workers < 0 or timeout_s <= 0:
            raise ConfigError(f"world {name!r} needs n_workers >= 0 and timeout_s > 0, got {n_workers} and {timeout_s}")
        spec = WorldSpec(
            in_float32(observation_space), in_float32(action_space), horizon, name=name, fixed_horizon=fixed_horizon,
            has_success=has_success,
        )  # fmt: skip
        super().__init__(spec, num_envs, device)
        self.env_action_space = action_space
        """Action space of one environment, as it declares it; the World's own is in float32."""
        self._layout = Layout(
            observation_space, action_space, num_envs, horizon, has_success, has_action_mask, fixed_horizon
        )
        self.n_workers = min(n_workers, num_envs)
        self._leaves = self._layout.leaves()
        self._pending: Tasks | None = None
        self._started = False
        self._first = 0
        self._on_cpu = self.device.type == "cpu"
        self._pool: WorkerPool | None = None
        self._chunk: Chunk | None = None
        if self.n_workers:
            self._pool = WorkerPool(name, self.hooks, self._layout, self.n_workers, timeout_s)
            self._arrays = self._pool.arrays
        else:
            self._arrays = {k: np.zeros(shape, dtype) for k, (shape, dtype) in self._layout.arrays().items()}
            self._chunk = Chunk(self.hooks, self._layout, self._arrays, range(num_envs))

    # ---------------------------------------------------------------- the World contract

    def set_tasks(self, tasks: Tasks) -> None:
        """Give env i task i from its next reset on."""
        self.check_tasks(tasks)
        self._pending = tasks.to("cpu")
        self._call("set_tasks", lambda rows: (self._pending[list(rows)],))  # type: ignore[index]

    def number_from(self, first: int) -> None:
        """Let the envs be some among those of several processes; see `World.number_from`."""
        self._first = first

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start new episodes; see `World.reset`. Raises ConfigError before the first `set_tasks`."""
        if self._pending is None and self.tasks is None:
            raise ConfigError(f"world {self.name!r} has no tasks yet; call set_tasks before reset")
        mask = (options or {}).get("mask")
        chosen = np.ones(self.num_envs, np.bool_) if mask is None or not self._started else _as_bools(mask)
        self._take_pending(chosen)
        self._call("reset", lambda rows: (seed, [row for row in rows if chosen[row]], self._first))
        self._started = True
        return self._obs("obs"), self._masked({})

    def step(self, actions: Any) -> StepResult:
        """Advance all envs; see `World.step`.

        Raises: WorldError for an action that is NaN, out of range or of the wrong shape, and for an environment that
        raises or whose process dies: it names env, task and step.
        """
        if not self._started:
            raise WorldError(f"world {self.name!r} was stepped before reset; call set_tasks and reset first")
        self._arrays["action"][...] = self._checked(actions)
        self._call("step")
        terminated, truncated = self._tensor("terminated"), self._tensor("truncated")
        if self._pending is not None:
            self._take_pending(self._arrays["terminated"] | self._arrays["truncated"])
        info: dict[str, Any] = {"final_obs": self._obs("final")}
        if self.has_success:
            info["success"] = self._tensor("success")
        return self._obs("obs"), self._tensor("reward"), terminated, truncated, self._masked(info)

    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot, mid-episode included.

        Raises: ConfigError if the environment has no `snapshot` and `restore`, or before the first reset.
        """
        self._check_hooks()
        if not self._started or self.tasks is None:
            raise ConfigError(f"world {self.name!r} has nothing to save before its first reset")
        parts = self._call("state")
        rows = [range(self.num_envs)] if self._pool is None else self._pool.rows
        order = [
            (part, i) for _, part, i in sorted((row, p, i) for p, own in enumerate(rows) for i, row in enumerate(own))
        ]
        return {
            "copies": {key: [parts[part][key][i] for part, i in order] for key in parts[0]},
            "arrays": {k: torch.from_numpy(v.copy()) for k, v in self._arrays.items()},
            "tasks": self.tasks.to_json(),
            "pending": None if self._pending is None else self._pending.to_json(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a snapshot of a world of the same size; `n_workers` may differ."""
        self._check_hooks()
        copies = state["copies"]
        if len(copies["seeds"]) != self.num_envs:
            raise ConfigError(
                f"world {self.name!r} has {self.num_envs} envs but the snapshot has {len(copies['seeds'])}; "
                f"build the world with num_envs={len(copies['seeds'])}"
            )
        self._call("load_state", lambda rows: ({k: [v[row] for row in rows] for k, v in copies.items()},))
        for key, value in state["arrays"].items():
            self._arrays[key][...] = value.numpy()
        self.tasks = Tasks.from_json(state["tasks"])
        self._pending = None if state["pending"] is None else Tasks.from_json(state["pending"])
        self._name_tasks()
        self._started = True

    def render(self) -> Any:
        """Return one RGB image (uint8 [H, W, 3]) of env 0; raises ConfigError before the first reset."""
        if not self._started:
            raise ConfigError(f"world {self.name!r} has nothing to draw before its first reset")
        return np.asarray(self._call("render", only_first=True)[0])

    def env_actions(self, actions: Any) -> list[Any]:
        """Return what each environment would be given if the world were stepped with `actions`."""
        allowed = self._checked(actions).astype(self.env_action_space.dtype)
        return [self._layout.given(row) for row in allowed]

    def close_extras(self, **kwargs: Any) -> None:
        """Close all environments and end all processes."""
        if self._pool is not None:
            self._pool.close()
        if self._chunk is not None:
            self._chunk.close()

    # ---------------------------------------------------------------- parts

    def _call(
        self, verb: str, per_part: Callable[[range], tuple[Any, ...]] = lambda rows: (), *, only_first: bool = False
    ) -> list[Any]:
        """Run a method of `Chunk` on all envs, wherever they are."""
        if self._pool is not None:
            return self._pool.call(verb, per_part, only_first=only_first)
        assert self._chunk is not None
        try:
            return [getattr(self._chunk, verb)(*per_part(self._chunk.rows))]
        except EnvFailure as failure:
            raise world_error(self.name, failure) from failure.__cause__

    def _take_pending(self, chosen: NDArray[np.bool_]) -> None:
        """Record that the pending tasks of the envs `chosen` have begun."""
        if self._pending is None:
            return
        if self.tasks is None or chosen.all():
            self.tasks, self._pending = self._pending, None
        elif chosen.any():
            both = concatenate([self.tasks, self._pending])
            self.tasks = both[[i + self.num_envs * int(c) for i, c in enumerate(chosen)]]
        self._name_tasks()

    def _name_tasks(self) -> None:
        if self._pool is not None and self.tasks is not None:
            self._pool.task_names = list(self.tasks.names)

    def _checked(self, actions: Any) -> NDArray[Any]:
        """Return actions as an array of the right shape and range."""
        space = self._layout.action_space
        values = actions.detach().cpu().numpy() if isinstance(actions, Tensor) else np.asarray(actions)
        expected = (self.num_envs, *(space.shape or ()))
        if values.shape != expected:
            raise WorldError(
                f"world {self.name!r} got actions of shape {values.shape}, expected {expected}: one row per env"
            )
        allowed, bad = self._layout.checked(values)
        if bad.any():
            env = int(np.argwhere(bad)[0][0])
            what = "a NaN or infinite action" if isinstance(space, spaces.Box) else "an action out of range"
            raise WorldError(
                f"world {self.name!r} got {what} for env {env}: {values[env]} ({values.dtype}), expected one of {space}"
            )
        return allowed

    def _tensor(self, name: str) -> Tensor:
        """Return a copy of a shared array on the world's device."""
        value = torch.from_numpy(self._arrays[name].copy())
        return value if self._on_cpu else value.to(self.device)

    def _obs(self, name: str) -> Obs:
        if not isinstance(self._layout.observation_space, spaces.Dict):
            return self._tensor(f"{name}/0")
        out: dict[str, Any] = {}
        for i, leaf in enumerate(self._leaves):
            part = out
            for key in leaf.path[:-1]:
                part = part.setdefault(key, {})
            part[leaf.path[-1]] = self._tensor(f"{name}/{i}")
        return out

    def _masked(self, info: dict[str, Any]) -> dict[str, Any]:
        if self._layout.has_action_mask:
            info["action_mask"] = self._tensor("mask")
        return info

    def _check_hooks(self) -> None:
        if self.hooks.snapshot is None:
            raise ConfigError(
                f"world {self.name!r} cannot save its environments in mid-episode; pass snapshot= and restore= to "
                f"GymWorld, or save between trials, where no state is needed"
            )


def in_float32(space: gym.Space[Any]) -> gym.Space[Any]:
    """Return `space` with every Box in float32, the dtype in which a World hands values over."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: in_float32(part) for key, part in space.items()})
    if isinstance(space, spaces.Box) and space.dtype != np.float32:
        with np.errstate(over="ignore"):  # a bound beyond float32 is none
            return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    return space


def _look_at(
    name: str, make_env: Callable[[Tasks], Env], example: Tasks | None, *, least_steps: int
) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Return the spaces of the environment that `make_env` builds for `example`."""
    if example is None:
        raise ConfigError(
            f"world {name!r} needs its spaces; pass observation_space= and action_space=, or example= (one task)"
        )
    try:
        env = make_env(example[0])
    except (Exception, SystemExit) as error:  # whatever a user's function raises
        raise ConfigError(
            f"world {name!r}: make_env raised {type(error).__name__} for the example task: {shortened(error)}"
        ) from error
    try:
        check_env(env, least_steps=least_steps)
        return env.observation_space, env.action_space
    except (Breach, AttributeError) as error:
        raise ConfigError(f"world {name!r}: {error}") from error
    finally:
        if callable(getattr(env, "close", None)):
            env.close()


def _as_bools(mask: Tensor | Sequence[bool] | NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask, dtype=np.bool_)
