"""Changes within a trial: parsed strictly, counted as a function of streams and episode."""

from __future__ import annotations

import pytest
import torch

from metarl.envs.npc.shift import Shift
from metarl.errors import ConfigError
from metarl.seeding import EnvStreams


def counts(shift: Shift, num_envs: int, n_episodes: int) -> torch.Tensor:
    """Return the changes by each episode: [episodes, envs]."""
    streams = EnvStreams(num_envs, 7)
    every = [torch.full((num_envs,), e) for e in range(n_episodes)]
    return torch.stack([shift.count(streams, e, n_episodes) for e in every])


def test_a_planned_change_comes_once_and_again_in_each_trial() -> None:
    shift = Shift.parse("visitor@3")
    assert shift == Shift("visitor", episode=3)
    streams = EnvStreams(1, 0)
    found = [int(shift.count(streams, torch.tensor([e]), 5)) for e in range(10)]
    assert found == [0, 0, 0, 1, 1] * 2


def test_chances_add_up_and_never_go_back() -> None:
    found = counts(Shift("drift", hazard=0.25), 4000, 6)
    assert (found[0] == 0).all()
    steps = found[1:] - found[:-1]
    assert ((steps == 0) | (steps == 1)).all()
    rate = steps.float().mean(1)
    assert ((rate - 0.25).abs() < 4 * (0.25 * 0.75 / 4000) ** 0.5).all()


def test_a_copys_changes_do_not_depend_on_the_other_copies() -> None:
    shift = Shift("drift", hazard=0.5)
    assert torch.equal(counts(shift, 3, 6), counts(shift, 64, 6)[:, :3])


def test_no_text_is_no_change() -> None:
    assert Shift.parse("") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("visitor", "not of the form"),
        ("visitor@soon", "not of the form"),
        ("visitr@3", "'visitr' is not one of"),
        ("visitor@0", "the first that can change is 1"),
        ("visitor~1.5", "choose a chance"),
        ("visitor~0", "needs either an episode or a hazard"),
        ("visitor~nan", "choose a chance"),
    ],
)
def test_bad_input_names_the_value(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Shift.parse(text)


def test_a_family_takes_only_the_kinds_that_it_has() -> None:
    with pytest.raises(ConfigError, match="'economy' is not one of visitor, drift"):
        Shift.parse("economy@2", kinds=("visitor", "drift"))
