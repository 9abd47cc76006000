"""The four 2-D point worlds: a point moves by its action, clipped per axis, and is paid by where it stands."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.tensor_world import EpisodeState, TensorWorld
from metarl.seeding import EnvStreams
from metarl.spec import WorldSpec

NAVIGATION_HORIZON, ROBOT_HORIZON, CORNER_HORIZON = 100, 20, 100
NAVIGATION_STEP = ROBOT_STEP = 0.1
"""Largest move per axis and env step."""
CORNER_STEP = CORNER_START = 0.2
ARRIVED = 0.01
"""Navigation ends when both coordinates are nearer to the goal than this."""
ROBOT_START = 1.0
SPARSE_RADIUS = 0.2
CORNER_DEAD_RADIUS = 0.5
"""Within this 1-norm of the origin the corner world pays nothing."""
CORNERS = ((-2.0, -2.0), (2.0, -2.0), (-2.0, 2.0), (2.0, 2.0))


def point_spec(name: str, action_limit: float, horizon: int, **more: bool) -> WorldSpec:
    """Return what a point in the plane is: actions lie in [-action_limit, action_limit]^2."""
    plane = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action = spaces.Box(-action_limit, action_limit, (2,), np.float32)
    return WorldSpec(plane, action, horizon, name=name, **more)


class PointWorld(TensorWorld):
    """B points in the plane; `params["goal"]` is float32 [B, 2], the observation is the position."""

    def __init__(
        self,
        spec: WorldSpec,
        num_envs: int,
        device: torch.device | str = "cpu",
        *,
        start: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        """An episode starts uniformly in [-start, start]^2; an action times `scale` is how far the point moves."""
        super().__init__(spec, num_envs, device)
        self._scale, self._start = scale, start
        self._origin = torch.zeros(num_envs, 2, device=self.device)

    def initial(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Stand at the start."""
        if self._start == 0.0:
            return {"position": self._origin}
        return {"position": (2.0 * streams.uniform(episode, 2) - 1.0) * self._start}

    def transition(
        self, state: EpisodeState, actions: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[EpisodeState, Tensor, Tensor | None, Tensor | None]:
        """Move, then pay."""
        before = state["position"]
        after = before + (actions if self._scale == 1.0 else actions * self._scale)
        reward, terminated = self.pay(before, after)
        return {"position": after}, reward, terminated, None

    @abstractmethod
    def pay(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the reward [B] of a move, and whether it ends the episode (None: never)."""

    def observation(self, state: EpisodeState) -> Tensor:
        """Return the position."""
        return state["position"].clone()


class NavigationWorld(PointWorld):
    """2-D navigation (Finn et al. 2017, arXiv:1703.03400, section 5.3): minus the distance, until the goal is reached.

    The paper's text says squared distance; its figures (-40 before adaptation) fit the plain one, which is used here.
    """

    def __init__(self, num_envs: int, *, device: torch.device | str = "cpu") -> None:
        """Build `num_envs` environments."""
        super().__init__(self.spec_for(), num_envs, device)

    @staticmethod
    def spec_for() -> WorldSpec:
        """Return what navigation is."""
        return point_spec("navigation", NAVIGATION_STEP, NAVIGATION_HORIZON, fixed_horizon=False)

    def pay(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pay minus the distance left; end within 0.01 of the goal on both axes."""
        away = after - self.params["goal"]
        return -torch.linalg.vector_norm(away, dim=1), away.abs().amax(1) < ARRIVED


class PointRobotWorld(PointWorld):
    """PEARL's point robot (Rakelly et al. 2019, arXiv:1903.08254): minus the distance, random start, no end.

    Actions are in [-1, 1]^2 and move by a tenth of that: its authors' agents act through the same rescaling.
    """

    _start_range = ROBOT_START

    def __init__(self, num_envs: int, *, device: torch.device | str = "cpu") -> None:
        """Build `num_envs` robots."""
        super().__init__(self.spec_for(), num_envs, device, start=self._start_range, scale=ROBOT_STEP)

    @staticmethod
    def spec_for() -> WorldSpec:
        """Return what the point robot is."""
        return point_spec("point-robot", 1.0, ROBOT_HORIZON)

    def distance(self, position: Tensor) -> Tensor:
        """Return the distance to the goal, [B]."""
        distance: Tensor = torch.linalg.vector_norm(position - self.params["goal"], dim=1)
        return distance

    def pay(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pay minus the distance left."""
        return -self.distance(after), None


class SparsePointRobotWorld(PointRobotWorld):
    """PEARL's sparse point robot: 1 - distance within 0.2 of the goal, else 0. `info["dense_reward"]` is -distance.

    PEARL infers the task from the sparse reward and is scored by it, but trains its critic on the dense one.
    """

    _start_range = 0.0

    @staticmethod
    def spec_for() -> WorldSpec:
        """Return what the sparse point robot is."""
        return point_spec("sparse-point-robot", 1.0, ROBOT_HORIZON, has_dense_reward=True)

    def pay(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pay near the goal only."""
        distance = self.distance(after)
        return torch.where(distance <= SPARSE_RADIUS, 1.0 - distance, 0.0), None

    def extras(self, state: EpisodeState) -> dict[str, Tensor]:
        """Return the dense reward of this step."""
        return {"dense_reward": -self.distance(state["position"])}


class CornerPointWorld(PointWorld):
    """The 4-corner point of ProMP (Rothfuss et al. 2019, arXiv:1810.06784, section 6.3).

    A move pays the decrease in distance to the goal corner, but only if it ends at a 1-norm of 0.5 or more from the
    origin and with no other corner nearer. Moves that end elsewhere cost nothing, so going in and out of that region
    pays again and again. The definition has that hole, and it is kept.

    `closed` mends it: a move pays the difference of a potential (Ng et al. 1999), how much nearer than the origin the
    point is to the goal corner, 0 wherever the definition pays nothing. What is entered twice then has been left once.
    """

    def __init__(self, num_envs: int, *, closed: bool = False, device: torch.device | str = "cpu") -> None:
        """Build `num_envs` environments."""
        super().__init__(self.spec_for(), num_envs, device, start=CORNER_START)
        self.closed = closed

    @staticmethod
    def spec_for() -> WorldSpec:
        """Return what the corner point is."""
        return point_spec("corner-point", CORNER_STEP, CORNER_HORIZON)

    def pay(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pay progress towards the goal corner where it counts."""
        if self.closed:
            return self._potential(after) - self._potential(before), None
        goal = self.params["goal"]
        left = torch.linalg.vector_norm(after - goal, dim=1)
        return torch.where(self._counts(after), torch.linalg.vector_norm(before - goal, dim=1) - left, 0.0), None

    def _counts(self, position: Tensor) -> Tensor:
        # No corner is nearer than the goal's if the point is in the goal's quadrant, borders included.
        goal = self.params["goal"]
        return (position.abs().sum(1) >= CORNER_DEAD_RADIUS) & ((position * goal).amin(1) >= 0.0)

    def _potential(self, position: Tensor) -> Tensor:
        goal = self.params["goal"]
        nearer = torch.linalg.vector_norm(goal, dim=1) - torch.linalg.vector_norm(position - goal, dim=1)
        return torch.where(self._counts(position), nearer, 0.0)
