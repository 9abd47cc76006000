"""The conformance suite on a machine whose matrix products round by their shape."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl.conformance import check_world
from metarl.errors import ConfigError
from metarl.tasks import Tasks
from metarl.world import World
from tests.metarl.test_conformance import Toy, ToyFamily, family_of, world_with
from tests.other_kernels import OtherKernels

TURN = torch.tensor([[0.6, -0.8, 0.1], [0.8, 0.6, 0.7]]) / 7


def turned_by_products(self: Toy, actions: Tensor) -> Tensor:
    return Toy.push(self, actions) @ TURN[:, :2] + (self.pos.repeat(1, 8) @ TURN.repeat(8, 1))[:, :2] / 100


def test_dynamics_of_matrix_products_pass_whatever_the_kernel_rounds() -> None:
    family = family_of(world_with(push=turned_by_products))
    with OtherKernels():
        runs = [few(family.make_world(n), family.all("test")[:3][[0, 1, 2] + [0] * (n - 3)]) for n in (3, 8)]
        findings = check_world(family, n_steps=20, only=["batch size", "determinism", "set tasks", "snapshot"])
    assert not torch.equal(*runs)  # so this is about something
    assert {f.status for f in findings} == {"pass"}


def few(world: World, tasks: Tasks) -> Tensor:
    """Return the observations of envs 0 to 2 in five equal steps."""
    world.set_tasks(tasks)
    seen = [world.reset(seed=1)[0]]
    seen += [world.step(torch.linspace(-1, 1, 2).expand(world.num_envs, 2))[0] for _ in range(5)]
    return torch.stack([obs[:3] for obs in seen])


def test_unknown_checks_and_things_that_are_no_family_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'snapshot'"):
        check_world(ToyFamily(), only=["snapshto"])
    with pytest.raises(ConfigError, match="num_envs >= 4"):
        check_world(ToyFamily(), num_envs=2)
    with pytest.raises(ConfigError, match=r"lacks .*make_world"):
        check_world(lambda: object())  # type: ignore[arg-type,return-value]
