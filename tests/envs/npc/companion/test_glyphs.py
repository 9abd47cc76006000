"""Letters: which scripts, how they are drawn, and how well matching pixels tells them apart."""

import hashlib
import unicodedata
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from metarl.envs.npc.companion import glyphs
from metarl.errors import ConfigError
from tools.npc_data import outlines, sheet

DATA = Path(str(files("metarl.envs.npc.data")))
DIGEST = "c9a999ff0ae76b7b8412cc0dc113d1e4d1ac76bbe90ef3a647606737ec3c06fe"


def test_the_shipped_file_is_the_one_that_was_built() -> None:
    assert hashlib.sha256((DATA / "glyphs.npz").read_bytes()).hexdigest() == DIGEST


def test_scripts_are_split_14_to_9_and_every_script_has_letters() -> None:
    assert (len(glyphs.TRAIN_SCRIPTS), len(glyphs.TEST_SCRIPTS)) == (14, 9)
    assert len(set(glyphs.SCRIPTS)) == 23
    train, test = (glyphs.letters(split) for split in ("train", "test"))
    assert set(train.tolist()) == set(range(14))
    assert set(test.tolist()) == set(range(14, 23))
    assert torch.bincount(torch.cat([train, test])).min() >= 10
    assert len(train) + len(test) > 900


def test_letters_are_letters_once_each_and_never_composed() -> None:
    train, test = glyphs.characters("train"), glyphs.characters("test")
    assert len({*train, *test}) == len(train) + len(test)
    for letter in (*train, *test):
        assert unicodedata.category(letter)[0] == "L"
        assert not unicodedata.decomposition(letter)


def test_no_two_outlines_are_the_same_shape() -> None:
    ink = glyphs._arrays()["ink"].flatten(1).float()
    both = ink @ ink.T
    size = ink.sum(1)
    overlap = both / (size[:, None] + size - both)
    assert overlap.fill_diagonal_(0).max() < 0.93


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_bank_has_ink_in_every_drawing_and_hardly_any_at_the_border(split: str) -> None:
    bank = glyphs.bank(split)
    assert bank.shape == (len(glyphs.letters(split)), 20, 28, 28)
    assert bank.dtype == torch.uint8
    share = bank.float().mean((2, 3)) / 255
    assert share.min() > 0.008
    assert share.max() < 0.6
    assert bank.flatten(2).max(2).values.min() > 100
    border = torch.cat([bank[:, :, 0], bank[:, :, -1], bank[..., 0], bank[..., -1]], -1).float().mean() / 255
    assert border < 0.02


def test_the_same_arguments_draw_the_same_pictures_and_others_do_not() -> None:
    once = glyphs.bank("test", 2, 5).clone()
    glyphs._bank.cache_clear()
    assert torch.equal(glyphs.bank("test", 2, 5), once)
    assert not torch.equal(glyphs.bank("test", 2, 6), once)
    assert not torch.equal(once[:, 0], once[:, 1])


def test_a_steady_hand_draws_the_outline() -> None:
    drawn = glyphs.bank("train", 1, 0, hand=glyphs.STEADY)[:, 0].float() / 255
    ink = glyphs._arrays()["ink"][glyphs._rows("train")].float()
    small = torch.nn.functional.interpolate(ink[:, None], size=(28, 28), mode="area")[:, 0]
    assert (drawn - small).abs().mean() < 0.04
    assert torch.corrcoef(torch.stack([drawn.flatten(), small.flatten()]))[0, 1] > 0.95


def test_depth_is_the_distance_to_the_outline() -> None:
    ink = glyphs._arrays()["ink"][glyphs._rows("test")][::40].numpy()
    for letter, depth in zip(ink, glyphs._depth("test")[::40].numpy(), strict=True):
        exact = distance_transform_edt(letter) - distance_transform_edt(~letter)
        assert np.abs(exact.clip(-glyphs._REACH, glyphs._REACH) - depth).max() < 1e-5


def test_a_heavier_pen_puts_down_more_ink() -> None:
    thin, thick = (glyphs.bank("test", 1, 0, hand=glyphs.Hand(pen=(p, p))).float().mean() for p in (-0.3, 0.6))
    assert thick > 1.5 * thin


def matched(split: str, n_ways: int, within: bool = True) -> float:
    """Return how often the cosine of pixels finds the letter of a second drawing among one drawing of each."""
    bank = glyphs.bank(split).float().flatten(2)
    bank = bank / bank.norm(dim=2, keepdim=True)
    script = glyphs.letters(split)
    stream = torch.Generator().manual_seed(1)
    n_trials = 3000
    hits = 0
    pools: list[Tensor] = (
        [(script == s).nonzero()[:, 0] for s in script.unique()] if within else [torch.arange(len(script))]
    )
    for _ in range(n_trials):
        pool = pools[int(torch.randint(len(pools), (1,), generator=stream))]
        some = pool[torch.randperm(len(pool), generator=stream)[:n_ways]]
        shown = torch.randint(20, (n_ways,), generator=stream)
        other = (shown[0] + 1 + torch.randint(19, (1,), generator=stream)[0]) % 20
        hits += int((bank[some, shown] @ bank[some[0], other]).argmax() == 0)
    return hits / n_trials


@pytest.mark.parametrize(("n_ways", "low", "high"), [(3, 0.45, 0.53), (5, 0.34, 0.41)])
@pytest.mark.parametrize("split", ["train", "test"])
def test_matching_pixels_recognises_few_letters(split: str, n_ways: int, low: float, high: float) -> None:
    # Chance is 1 / n_ways; the standard error of 3,000 trials is .009.
    assert low < matched(split, n_ways) < high


def test_splits_hands_and_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'tran'.*'train'"):
        glyphs.bank("tran")
    with pytest.raises(ConfigError, match="at least 1"):
        glyphs.bank("train", 0)
    for wrong in ({"turn": -0.1}, {"stretch": 1.0}, {"pen": (0.5, 0.1)}, {"pen": (-1.0, 0.0)}, {"room": 0.0}):
        with pytest.raises(ConfigError, match="no hand draws"):
            glyphs.Hand(**wrong)


def square(side: float, clockwise: bool) -> np.ndarray:
    """Return a square about the origin."""
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * side / 2
    return corners if clockwise else corners[::-1]


def test_filling_fits_the_box_and_leaves_holes_that_turn_the_other_way() -> None:
    full = outlines.fill([square(2, True)], 64, 4)
    assert full.sum() == 56 * 56
    holed = outlines.fill([square(2, True), square(1, False)], 64, 4)
    assert holed.sum() == 56 * 56 - 28 * 28
    assert not holed[32, 32]
    assert outlines.fill([square(2, True), square(1, True)], 64, 4).sum() == 56 * 56
    tall = outlines.fill([square(2, True) * (0.5, 1)], 64, 4)
    assert tall.sum() == 28 * 56
    assert outlines.fill([square(2, True) * (0.5, 1)], 64, 4, stretch=True).sum() == 56 * 56


def test_up_is_up() -> None:
    triangle = np.array([[-1.0, -1.0], [1.0, -1.0], [0.0, 1.0]])  # broad at the bottom, y upwards as in fonts
    rows = outlines.fill([triangle], 64, 4).sum(1)
    assert rows[8] < rows[30] < rows[55]


def test_curves_become_polygons_that_follow_them() -> None:
    control = [(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)]
    ring = np.array(outlines._quadratic(None, (*control, None)))
    radius = np.hypot(*ring.T)
    assert len(ring) > 4 * outlines._CURVE_POINTS
    assert radius.max() == pytest.approx(1.06, abs=0.02)  # four parabolas are not quite a circle
    assert radius.min() == pytest.approx(1.0, abs=0.01)
    assert outlines._quadratic((0.0, 0.0), ((2.0, 3.0),)) == [(2.0, 3.0)]


def test_accented_letters_marks_and_digits_are_not_letters_of_their_own() -> None:
    assert outlines.is_letter(ord("A"))
    assert not any(outlines.is_letter(ord(c)) for c in "Á7́!ʰ")


def test_the_contact_sheet_shows_every_letter() -> None:
    picture = sheet.sheet()
    per_script = torch.bincount(torch.cat([glyphs.letters("train"), glyphs.letters("test")])).tolist()
    rows = sum(-(-n // sheet.COLUMNS) for n in per_script)
    assert picture.shape == (rows * 28 + 23 * 4, sheet.LABEL + sheet.COLUMNS * 28)
    drawn = glyphs.bank("train", 1, 0)[:, 0].long().sum() + glyphs.bank("test", 1, 0)[:, 0].long().sum()
    assert (255 - picture[:, sheet.LABEL :].astype(int)).sum() == drawn
