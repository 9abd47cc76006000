"""Meta-World as one batch: copies of any classes side by side, stepped by threads, equal to upstream bit for bit."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from math import isnan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.gym_chunk import CopyFailure
from envs.gym_workers import world_error
from envs.gym_world import in_float32
from metarl.errors import ConfigError, WorldError
from metarl.tasks import Tasks
from metarl.world import StepResult, World

from .assignments import Assignments
from .catalogue import GoalKey, Start, start_of, task_class
from .core import CopyState, TaskClass
from .cores import make_core
from .options import EpisodeRules
from .picture import CAMERA, Studio
from .program import ACTION_SIZE, INFO, OBS_SIZE
from .upstream import UPSTREAM_RULES, spaces

_SUCCESS = INFO.index("success")

Bools = NDArray[np.bool_]


class EngineWorld(World):
    """B copies of Meta-World environments behind the World contract, goal hidden.

    Whatever upstream's own environments return, this returns: observations, rewards and success are computed in
    float64 and rounded to float32 at the boundary. Upstream's resets draw nothing once the task is given, so seeds have
    no effect here.
    """

    metadata = {**World.metadata, "render_modes": ["rgb_array"]}  # noqa: RUF012 (the base class declares it so)

    def __init__(
        self,
        name: str,
        n_copies: int,
        *,
        n_threads: int,
        rules: EpisodeRules = UPSTREAM_RULES,
        reward_version: str = "v2",
        core: str = "auto",
        device: torch.device | str = "cpu",
    ) -> None:
        """Build the world; copies come to life at the first reset.

        Args:
            name: for messages.
            n_copies: B.
            n_threads: threads that step the copies, the caller's among them; more than B are not used.
            rules: horizon, action repeat and whether success ends an episode.
            reward_version: "v2" or "v1".
            core: "auto", "compiled" or "python", see `cores`.
            device: where the returned tensors live; physics is on the CPU.

        Raises: ConfigError for a size below 1, or a core that cannot be built here.
        """
        super().__init__(
            name,
            n_copies,
            in_float32(spaces()[0]),
            in_float32(spaces()[1]),
            horizon=rules.n_decisions,
            fixed_horizon=rules.fixed_horizon,
            has_success=True,
            device=device,
        )
        if n_threads < 1:
            raise ConfigError(f"world {name!r} needs n_threads >= 1, got {n_threads}")
        self.rules, self.reward_version = rules, reward_version
        self.core = make_core(core, n_copies, min(n_threads, n_copies))
        self._on_cpu = self.device.type == "cpu"
        self._started = False
        self._assigned = Assignments(n_copies)
        self._placed: list[TaskClass | None] = [None] * n_copies
        self._age = np.zeros(n_copies, np.int64)
        self._broken = np.zeros(n_copies, np.bool_)
        self._any_broken = False
        self._action = np.zeros((n_copies, ACTION_SIZE), np.float32)
        self._now = np.zeros((n_copies, OBS_SIZE), np.float32)
        self._studios: dict[str, Studio] = {}

    # ---------------------------------------------------------------- the World contract

    def set_tasks(self, tasks: Tasks) -> None:
        """Give copy i task i from its next reset on."""
        self.check_tasks(tasks)
        self._assigned.put(tasks)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Start new episodes; see `World.reset`. The seed has no effect: a task says where its episodes start.

        Raises: ConfigError before the first `set_tasks` or for a mask of the wrong shape; WorldError for a goal that
        its class cannot have, with all copies left as they were.
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
        """Advance all copies; see `World.step`.

        Raises: WorldError for actions that are NaN or of the wrong shape or dtype (nothing has moved then), and for a
        copy whose physics became unstable: the others have made their step and go on after
        `reset(options={"mask": ...})` of those that the message names.
        """
        if not self._started or self._any_broken:
            self._refuse_to_step()
        self._take(actions)
        if self.rules.action_repeat == 1:
            ended_by_time, reward, success, unstable = self._env_step()
        else:
            ended_by_time, reward, success, unstable = self._decision()
        if self.rules.terminate_on_success:
            terminated, truncated = success, ended_by_time & ~success
        else:
            terminated, truncated = np.zeros_like(success), ended_by_time
        final = self._now.copy()
        result = (
            self._tensor(reward.astype(np.float32)), self._tensor(terminated.copy()), self._tensor(truncated),
        )  # fmt: skip
        info = {"final_obs": self._tensor(final), "success": self._tensor(success)}
        ended = terminated | truncated
        if unstable.any():
            ended &= ~unstable
            self._broken |= unstable
            self._any_broken = True
        if ended.any():
            self._begin(np.flatnonzero(ended).tolist())
        if self._any_broken:
            self._report_unstable()
        return self._tensor(self._now.copy()), *result, info

    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot, mid-episode included; it fits any core and any number of threads.

        Raises: ConfigError before the first reset.
        """
        if not self._started or self.tasks is None:
            raise ConfigError(f"world {self.name!r} has nothing to save before its first reset")
        copies = [self.core.save(i) for i in range(self.num_envs)]
        return {
            "backend": "engine",
            "copies": [
                {"physics": _own(c.physics), "model": _own(c.model), "slots": _own(c.slots)} for c in copies
            ],
            "obs": _own(self._now),
            "age": _own(self._age),
            "broken": _own(self._broken),
            **self._assigned.state_dict(),
        }  # fmt: skip

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
                f"world {self.name!r} has {self.num_envs} copies but the snapshot has {len(state['copies'])}; "
                f"build the world with n_copies={len(state['copies'])}"
            )
        assigned = Assignments(self.num_envs)
        assigned.load_state_dict(state)
        classes = [self._class_of(i, key, assigned.name(i)) for i, key in enumerate(assigned.keys)]
        copies = [CopyState(*(c[part].numpy() for part in ("physics", "model", "slots"))) for c in state["copies"]]
        for one, kind in zip(copies, classes, strict=True):
            _check_fits(self.name, one, kind)
        self._place(range(self.num_envs), classes)
        self.core.load(range(self.num_envs), copies)
        self._assigned, self.tasks = assigned, assigned.tasks
        for own, name in ((self._now, "obs"), (self._age, "age"), (self._broken, "broken")):
            own[...] = state[name].numpy()
        self._any_broken = bool(self._broken.any())
        self._started = True

    def render(self) -> Any:
        """Return an RGB picture (uint8 [480, 480, 3]) of copy 0; raises ConfigError before the first reset."""
        return self.render_copy(0)

    def render_copy(self, copy: int, camera: str = CAMERA) -> NDArray[np.uint8]:
        """Return an RGB picture (uint8 [480, 480, 3]) of any copy from one of `picture.CAMERAS`.

        Raises: ConfigError before the first reset, for an unknown camera, or where there is no OpenGL library.
        """
        if not self._started:
            raise ConfigError(f"world {self.name!r} has nothing to draw before its first reset")
        if not 0 <= copy < self.num_envs:
            raise ConfigError(f"world {self.name!r} has copies 0 to {self.num_envs - 1}, got {copy}")
        placed = self._placed[copy]
        assert placed is not None
        model, data = self.core.simulation(copy)
        if placed.name not in self._studios:
            self._studios[placed.name] = Studio(model)
        return self._studios[placed.name].shoot(model, data, camera)

    def exact(self) -> dict[str, NDArray[np.float64]]:
        """Return float64 copies of what the last env step gave, before rounding and before any reset.

        "obs" is [B, 39], "reward" [B]; so are upstream's info fields, named as in `program.INFO`.
        """
        fields = {name: self.core.info[:, i].copy() for i, name in enumerate(INFO)}
        return {"obs": self.core.obs.copy(), "reward": self.core.reward.copy(), **fields}

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads and free the copies' memory."""
        self._started = False
        for studio in self._studios.values():
            studio.close()
        self._studios.clear()
        self.core.close()

    # ---------------------------------------------------------------- stepping

    def _env_step(self) -> tuple[Bools, NDArray[np.float64], Bools, Bools]:
        """Play one env step; returns who ran out of time, reward, success and who became unstable."""
        core = self.core
        core.step(self._action)
        self._now[...] = core.obs
        self._age += 1
        return self._age >= self.rules.horizon, core.reward, core.info[:, _SUCCESS] != 0.0, core.unstable != 0

    def _decision(self) -> tuple[Bools, NDArray[np.float64], Bools, Bools]:
        """Play one decision of several env steps, each copy up to where its episode ends.

        All copies take all steps, which does no harm: one whose episode ended is about to be reset.
        """
        total = np.zeros(self.num_envs)
        success, unstable, late = (np.zeros(self.num_envs, np.bool_) for _ in range(3))
        playing = ~success
        for _ in range(self.rules.action_repeat):
            age, now = self._age.copy(), self._now.copy()
            out_of_time, reward, succeeded, broke = self._env_step()
            np.copyto(self._age, age, where=~playing)
            np.copyto(self._now, now, where=~playing[:, None])
            total[playing] += reward[playing]
            success |= succeeded & playing
            unstable |= broke & playing
            late |= out_of_time & playing
            playing &= ~(out_of_time | broke)
            if self.rules.terminate_on_success:
                playing &= ~success
            if not playing.any():
                break
        return late, total, success, unstable

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
                f"{self._action.shape} of float32: one row per copy, numbers from -1 to 1"
            )
        np.maximum(values, -1.0, out=self._action, casting="unsafe")
        np.minimum(self._action, 1.0, out=self._action)
        flat = self._action.reshape(-1)
        if isnan(flat @ flat):  # clipped numbers cannot overflow, so only a NaN gives NaN
            copy = int(np.isnan(self._action).any(axis=1).argmax())
            raise WorldError(
                f"world {self.name!r} got a NaN action for copy {copy} (task {self._assigned.name(copy)!r}) at step "
                f"{self._age[copy]} of its episode: {values[copy]}"
            )

    def _refuse_to_step(self) -> None:
        self._refuse_closed()
        if not self._started:
            raise WorldError(f"world {self.name!r} was stepped before reset; call set_tasks and reset first")
        self._report_unstable()

    def _refuse_closed(self) -> None:
        if self.closed:
            raise WorldError(f"world {self.name!r} is closed; build another one")

    def _report_unstable(self) -> None:
        copies = np.flatnonzero(self._broken).tolist()
        where = ", ".join(f"copy {i} (task {self._assigned.name(i)!r}) at step {self._age[i]}" for i in copies)
        raise WorldError(
            f"world {self.name!r}: MuJoCo found the physics unstable in {where} of the episode; the other copies are "
            f"well, start these anew with reset(options={{'mask': ...}})"
        )

    # ---------------------------------------------------------------- beginning episodes

    def _begin(self, rows: list[int]) -> None:
        """Start new episodes in `rows`, with their waiting tasks if they have some. All or none begin."""
        classes, starts = list[TaskClass](), list[Start]()
        for i in rows:
            key, task = self._assigned.coming(i)
            classes.append(self._class_of(i, key, task))
            starts.append(self._start_of(i, key, task))
        self._place(rows, classes)
        self.core.load(rows, [s.state for s in starts])
        for i, start in zip(rows, starts, strict=True):
            self._now[i] = start.obs
        self._assigned.begin(rows)
        self.tasks = self._assigned.tasks
        self._age[rows] = 0
        self._broken[rows] = False
        self._any_broken = bool(self._broken.any())

    def _class_of(self, copy: int, key: GoalKey, task: str) -> TaskClass:
        try:
            return task_class(key.name, self.reward_version)
        except ConfigError as error:
            raise self._failed(copy, task, error) from error

    def _start_of(self, copy: int, key: GoalKey, task: str) -> Start:
        try:
            return start_of(key, self.reward_version)
        except ConfigError as error:
            raise self._failed(copy, task, error) from error

    def _failed(self, copy: int, task: str, error: ConfigError) -> WorldError:
        text = f"{type(error).__name__}: {error}"
        return world_error(self.name, CopyFailure(copy, task, 0, text, traceback.format_exc()))

    def _place(self, rows: Sequence[int], classes: Sequence[TaskClass]) -> None:
        """Make each of `rows` a copy of its class."""
        for i, kind in zip(rows, classes, strict=True):
            if self._placed[i] is not kind:
                self.core.place(i, kind)
                self._placed[i] = kind

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
                f"True where a copy shall start anew"
            )
        return values


def _own(array: NDArray[Any]) -> Tensor:
    """Return a tensor with its own memory."""
    return torch.from_numpy(np.array(array))


def _check_fits(world: str, copy: CopyState, kind: TaskClass) -> None:
    """Raise ConfigError for a stored copy whose parts have other lengths than those of its class."""
    stored = (copy.physics.size, copy.model.size, copy.slots.size)
    expected = (kind.n_state, sum(e.size for e in kind.entries), kind.program.n_slots)
    if stored != expected:
        raise ConfigError(
            f"world {world!r}: the snapshot of a {kind.name} holds {stored} numbers of physics, model and slots, this "
            f"version keeps {expected}; start the episode anew"
        )
