"""Films: what is on them, and that filming changes nothing."""

from __future__ import annotations

import sys
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from metarl.envs.film import Filmed
from metarl.envs.gym.world import GymWorld
from metarl.errors import ConfigError
from metarl.trial import run_trial
from tests.envs.gym import toy_gym as toy
from tests.envs.scripted import Recorder


def draw(env: toy.Toy) -> np.ndarray[Any, Any]:
    """Return a grey picture, brighter with age."""
    return np.full((16, 16, 3), 20 * env.age, np.uint8)


def world(n: int = 2) -> GymWorld:
    one = toy.tasks([1.0])
    return GymWorld(toy.make, toy.apply, n, horizon=5, example=one, render=draw, fixed_horizon=True, name="toy")


def test_a_film_of_a_trial_shows_each_step_and_changes_nothing(tmp_path):
    plain, tasks = world(), toy.tasks([1.0, 2.0])
    expected = run_trial(plain, Recorder(plain.spec), tasks, (2,), seed=3).query
    with Filmed(world(), tmp_path / "films" / "trial.gif", fps=10) as filmed:
        seen = run_trial(filmed, Recorder(filmed.spec), tasks, (2,), seed=3).query
    assert torch.equal(seen.obs, expected.obs)
    assert torch.equal(seen.reward, expected.reward)
    frames = iio.imread(tmp_path / "films" / "trial.gif")
    assert frames.shape == (11, 16, 16, 3)
    grey = frames[:, 8, 8, 0].tolist()
    assert grey == [0, 20, 40, 60, 80, 0, 20, 40, 60, 80, 0]  # the last step of an episode shows the next beginning
    assert iio.immeta(tmp_path / "films" / "trial.gif")["duration"] == 100


def test_a_film_is_not_written_where_a_link_leads(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "film.gif").symlink_to("precious")
    with pytest.raises(ConfigError, match="is a symbolic link, which a file would replace; name another file"):
        Filmed(world(), tmp_path / "film.gif")
    assert (tmp_path / "precious").read_text() == "precious"


def test_every_second_step_makes_half_a_film(tmp_path):
    filmed = Filmed(world(), tmp_path / "a.gif", every=2)
    filmed.set_tasks(toy.tasks([1.0, 2.0]))
    filmed.reset(seed=0)
    for _ in range(4):
        filmed.step(torch.zeros(2, 2))
    assert filmed.n_frames == 3
    assert filmed.end() == tmp_path / "a.gif"
    assert iio.imread(tmp_path / "a.gif")[:, 0, 0, 0].tolist() == [0, 40, 80]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.avi", {}, r"a film is a \.gif or \.mp4 file, got '\.avi'"),
        ("a.gif", {"every": 0}, "needs every >= 1"),
        ("a.gif", {"env": 2}, r"an env in 0\.\.1"),
        ("a.gif", {"env": 1}, "draws env 0 from one side only"),
        ("a.gif", {"camera": "corner"}, "draws env 0 from one side only"),
        ("a/b/a.gif", {}, "cannot be written"),
    ],
)
def test_what_cannot_be_filmed_is_refused_with_one_line(tmp_path, name, options, message):
    (tmp_path / "a").write_text("a file where the folder would go")
    with pytest.raises(ConfigError, match=message) as caught:
        Filmed(world(), tmp_path / name, **options)
    assert "\n" not in str(caught.value)


def test_a_missing_encoder_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr("metarl.envs.film.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'imageio\[ffmpeg\]'`, or make it a \.gif"):
        Filmed(world(), tmp_path / "a.mp4")
