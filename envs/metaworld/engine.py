"""Meta-World as one batch: envs of any classes side by side, stepped by threads, equal to upstream bit for bit."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.deprecated import OldName
from metarl.envs.gym.processes import world_error
from metarl.envs.gym.serial import EnvFailure
from metarl.errors import ConfigError, WorldError
from metarl.tasks import Tasks
from metarl.world import StepResult, World

from .assignments import Assignments
from .core_protocol import Core
from .env_batch import EnvBatch
from .options import EpisodeRules
from .program import ACTION_SIZE, INFO, OBS_SIZE
from .render import CAMERA, Renderer
from .upstream import UPSTREAM_RULES, world_spec

_SUCCESS = INFO.index("success")

Bools = NDArray[np.bool_]


class EngineWorld(World):
    """B Meta-World environments behind the World contract, goal hidden.

    Whatever upstream's own environments return, this returns: observations, rewards and success are computed in
    float64 and rounded to float32 at the boundary. Upstream's resets draw nothing once the task is given, so seeds have
    no effect here.
    """

    metadata = {**World.metadata, "render_modes": ["rgb_array"]}  # noqa: RUF012 (the base class declares it so)

    def __init__(
        self,
        name: str,
        num_envs: int,
        *,
        n_threads: int,
        rules: EpisodeRules = UPSTREAM_RULES,
        reward_version: str = "v2",
        core: str = "auto",
        device: torch.device | str = "cpu",
    ) -> None:
        """Build the world; envs come to life at the first reset.

        Args:
            name: for messages.
            num_envs: B.
            n_threads: threads that step the envs, the caller's among them; more than B are not used.
            rules: horizon, action repeat and whether success ends an episode.
            reward_version: "v2" or "v1".
            core: "auto", "compiled" or "python", see `cores`.
            device: where the returned tensors live; physics is on the CPU.

        Raises: ConfigError for a size below 1, or a core that cannot be built here.
        """
        super().__init__(world_spec(name, rules), num_envs, device)
        if n_threads < 1:
            raise ConfigError(f"world {name!r} needs n_threads >= 1, got {n_threads}")
        self.rules, self.reward_version = rules, reward_version
        self._envs = EnvBatch(num_envs, n_threads=n_threads, core=core, reward_version=reward_version)
        self._on_cpu = self.device.type == "cpu"
        self._started = False
        self._assigned = Assignments(num_envs)
        # Env steps so far, when each env's episode began, and the first moment at which one can be over.
        self._clock, self._began, self._deadline = 0, np.zeros(num_envs, np.int64), 0
        self._broken: dict[int, str] = {}  # envs that must be reset before the next step, and why
        self._action = np.zeros((num_envs, ACTION_SIZE), np.float32)
        self._flat_action = self._action.reshape(-1)
        # Arrays, because NumPy takes longer over a Python number than over a small array.
        self._low, self._high = np.full_like(self._action, -1.0), np.full_like(self._action, 1.0)
        self._never, self._zero = np.zeros(num_envs, np.bool_), np.zeros(num_envs)
        self._now = np.zeros((num_envs, OBS_SIZE), np.float32)
        self._renderers: dict[str, Renderer] = {}

    # ---------------------------------------------------------------- the World contract

    def set_tasks(self, tasks: Tasks) -> None:
        """Give env i task i from its next reset on."""
        self.check_tasks(tasks)
        self._assigned.put(tasks)

    def number_from(self, first: int) -> None:
        """Do nothing: what an env does follows from its task and actions alone."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Start new episodes; see `World.reset`. The seed has no effect: a task says where its episodes start.

        Raises: ConfigError before the first `set_tasks` or for a mask of the wrong shape; WorldError for a goal that
        its class cannot have, with all envs left as they were.
        """
        self._refuse_closed()
        if self._assigned.empty:
            raise ConfigError(f"world {self.name!r} has no tasks yet; call set_tasks before reset")
        mask = (options or {}).get("mask")
        if mask is None or not self._started:
            self._begin(list(range(self.num_envs)))
        else:
            self._begin(np.flatnonzero(self._checked_mask(mask)).tolist())
        self._started = True
        return self._tensor(self._now.copy()), {}

    def step(self, actions: Any) -> StepResult:
        """Advance all envs; see `World.step`.

        Raises: WorldError for actions that are NaN or of the wrong shape or dtype (nothing has moved then), and for a
        env whose physics became unstable: the others have made their step and go on after
        `reset(options={"mask": ...})` of those that the message names.
        """
        if not self._started or self._broken:
            self._refuse_to_step()
        self._take(actions)
        play = self._env_step if self.rules.action_repeat == 1 else self._decision
        reward, success, unstable = play()
        truncated = self._never.copy() if self._clock < self._deadline else self._age() >= self.rules.horizon
        if self.rules.terminate_on_success:
            terminated = success.copy()
            truncated &= ~terminated
        else:
            terminated = self._never.copy()
        final = self._tensor(self._now.copy())
        ended = terminated | truncated
        if np.count_nonzero(unstable):
            ended &= ~unstable
            self._break(np.flatnonzero(unstable).tolist(), "became unstable in MuJoCo at")
        if np.count_nonzero(ended):
            self._begin_again(np.flatnonzero(ended).tolist())
        if self._broken:
            self._refuse_broken()
        return (
            self._tensor(self._now.copy()),
            self._tensor(reward),
            self._tensor(terminated),
            self._tensor(truncated),
            {"final_obs": final, "success": self._tensor(success)},
        )

    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot, mid-episode included; it fits any core and any number of threads.

        Raises: ConfigError before the first reset.
        """
        if not self._started or self.tasks is None:
            raise ConfigError(f"world {self.name!r} has nothing to save before its first reset")
        return {
            "backend": "engine",
            "copies": self._envs.save(),
            "obs": torch.from_numpy(self._now.copy()),
            "age": torch.from_numpy(self._age()),
            "broken": dict(self._broken),
            **self._assigned.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a snapshot of an engine world of the same size.

        Raises: ConfigError for a snapshot of another size, backend, or version of the programs.
        """
        self._refuse_closed()
        if state.get("backend") != "engine":
            raise ConfigError(
                f"world {self.name!r} runs on the engine, but the snapshot comes from upstream's environments; build "
                f"the world with backend='upstream'"
            )
        if len(state["copies"]) != self.num_envs:
            raise ConfigError(
                f"world {self.name!r} has {self.num_envs} envs but the snapshot has {len(state['copies'])}; "
                f"build the world with num_envs={len(state['copies'])}"
            )
        assigned = Assignments(self.num_envs)
        assigned.load_state_dict(state)
        self._envs.load(state["copies"], assigned.keys)
        self._assigned, self.tasks = assigned, assigned.tasks
        self._now[...] = state["obs"].numpy()
        self._began = self._clock - state["age"].numpy()
        self._deadline = int(self._began.min()) + self.rules.horizon
        self._broken = dict(state["broken"])
        self._started = True

    def render(self) -> Any:
        """Return an RGB picture (uint8 [480, 480, 3]) of env 0; raises ConfigError before the first reset."""
        return self.render_env(0)

    render_copy = OldName("render_env")

    def render_env(self, env: int, camera: str = CAMERA) -> NDArray[np.uint8]:
        """Return an RGB picture (uint8 [480, 480, 3]) of any env from one of `picture.CAMERAS`.

        Raises: ConfigError before the first reset, for an unknown camera, or where there is no OpenGL library.
        """
        if not self._started:
            raise ConfigError(f"world {self.name!r} has nothing to draw before its first reset")
        if not 0 <= env < self.num_envs:
            raise ConfigError(f"world {self.name!r} has envs 0 to {self.num_envs - 1}, got {env}")
        name, model, data = self._envs.simulation(env)
        if name not in self._renderers:
            self._renderers[name] = Renderer(model)
        return self._renderers[name].render(model, data, camera)

    def exact(self) -> dict[str, NDArray[np.float64]]:
        """Return float64 copies of what the last env step gave, before rounding and before any reset.

        "obs" is [B, 39], "reward" [B]; so are upstream's info fields, named as in `program.INFO`.
        """
        fields = {name: self.core.info[:, i].copy() for i, name in enumerate(INFO)}
        return {"obs": self.core.obs.copy(), "reward": self.core.reward.copy(), **fields}

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads and free the envs' memory."""
        self._started = False
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
        self._envs.close()

    # ---------------------------------------------------------------- stepping

    @property
    def core(self) -> Core:
        """What steps the envs."""
        return self._envs.core

    def _env_step(self) -> tuple[NDArray[np.float32], Bools, Bools]:
        """Play one env step; returns reward, success and who became unstable."""
        core = self.core
        self._advance()
        self._now[...] = core.obs
        return core.reward.astype(np.float32), core.info[:, _SUCCESS] != self._zero, core.unstable.view(np.bool_)

    def _decision(self) -> tuple[NDArray[np.float32], Bools, Bools]:
        """Play one decision of several env steps, each env up to where its episode ends.

        All envs take all steps, which does no harm: one whose episode ended is about to be reset.
        """
        core, total = self.core, np.zeros(self.num_envs)
        success, unstable = self._never.copy(), self._never.copy()
        playing = ~success
        for _ in range(self.rules.action_repeat):
            self._advance()
            np.copyto(self._now, core.obs, where=playing[:, None], casting="same_kind")
            np.add(total, core.reward, out=total, where=playing)
            success |= (core.info[:, _SUCCESS] != 0.0) & playing
            unstable |= core.unstable.view(np.bool_) & playing
            playing &= ~unstable & (self._age() < self.rules.horizon)
            if self.rules.terminate_on_success:
                playing &= ~success
            if not playing.any():
                break
        return total.astype(np.float32), success, unstable

    def _advance(self) -> None:
        try:
            self.core.step(self._action)
        except BaseException as problem:  # Ctrl-C, too: nobody knows which envs have moved
            self._break(range(self.num_envs), f"was interrupted ({type(problem).__name__}) after")
            raise
        self._clock += 1

    def _age(self) -> NDArray[np.int64]:
        """Return the env steps that each env's episode has lasted."""
        return self._clock - self._began

    def _take(self, actions: Any) -> None:
        """Put checked, clipped actions into `_action`."""
        if isinstance(actions, Tensor):
            actions = actions.detach()
            values = (actions.float() if actions.dtype in (torch.bfloat16, torch.half) else actions).cpu().numpy()
        else:
            values = np.asarray(actions)
        if values.shape != self._action.shape or values.dtype.kind not in "fiu":
            raise WorldError(
                f"world {self.name!r} got actions of shape {values.shape} and dtype {values.dtype}, expected "
                f"{self._action.shape} of float32: one row per env, numbers from -1 to 1"
            )
        np.maximum(values, self._low, out=self._action, casting="unsafe")
        np.minimum(self._action, self._high, out=self._action)
        if isnan(self._flat_action @ self._flat_action):  # of clipped numbers, so only a NaN gives NaN
            env = int(np.isnan(self._action).any(axis=1).argmax())
            raise WorldError(
                f"world {self.name!r} got a NaN action for env {env} (task {self._assigned.name(env)!r}) at step "
                f"{self._age()[env]} of its episode: {values[env]}"
            )

    def _refuse_to_step(self) -> None:
        self._refuse_closed()
        if not self._started:
            raise WorldError(f"world {self.name!r} was stepped before reset; call set_tasks and reset first")
        self._refuse_broken()

    def _refuse_closed(self) -> None:
        if self.closed:
            raise WorldError(f"world {self.name!r} is closed; build another one")

    def _break(self, envs: Iterable[int], what: str) -> None:
        """Note that `envs` cannot go on."""
        ages = self._age().tolist()
        for i in envs:
            self._broken[i] = f"env {i} (task {self._assigned.name(i)!r}) {what} step {ages[i]} of its episode"

    def _refuse_broken(self) -> None:
        shown = list(self._broken.values())
        more = f"; {len(shown) - 3} more" if len(shown) > 3 else ""
        raise WorldError(
            f"world {self.name!r}: {'; '.join(shown[:3])}{more}; start {'them' if len(shown) > 1 else 'it'} anew with "
            f"reset(options={{'mask': ...}}), all other envs are well"
        )

    def _begin_again(self, rows: list[int]) -> None:
        """Start new episodes in `rows`, whose last ones have ended; they must not go on if that fails."""
        try:
            self._begin(rows)
        except BaseException as problem:
            self._break(rows, f"could not begin a new episode ({type(problem).__name__}) after")
            raise

    def _begin(self, rows: list[int]) -> None:
        """Start new episodes in `rows`, with their waiting tasks if they have some. All or none begin."""
        try:
            starts = self._envs.begin(rows, [self._assigned.coming(i) for i in rows])
        except EnvFailure as failure:
            raise world_error(self.name, failure) from failure.__cause__
        for i, start in zip(rows, starts, strict=True):
            self._now[i] = start.obs
            self._broken.pop(i, None)
        self._assigned.begin(rows)
        self.tasks = self._assigned.tasks
        self._began[rows] = self._clock
        self._deadline = int(self._began.min()) + self.rules.horizon

    # ---------------------------------------------------------------- parts

    def _tensor(self, fresh: NDArray[Any]) -> Tensor:
        """Return an array that nobody else holds as a tensor on the world's device."""
        value = torch.from_numpy(fresh)
        return value if self._on_cpu else value.to(self.device)

    def _checked_mask(self, mask: Any) -> Bools:
        values = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask)
        if values.dtype != np.bool_ or values.shape != (self.num_envs,):
            raise ConfigError(
                f"world {self.name!r} got a reset mask of {values.dtype} {values.shape}; pass bool [{self.num_envs}], "
                f"True where an env shall start anew"
            )
        return values
