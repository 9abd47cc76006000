"""Visitors' tastes, interests and styles: what is shipped, how people are split, and the invented stand-in."""

import hashlib
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metarl.envs.npc import people, traits
from metarl.errors import ConfigError

DATA = Path(str(files("metarl.envs.npc.data")))
DIGESTS = {
    "people.npz": "ac0913a818b372fdf3fc1a431c58cb6d70d5e3d4ecd0f564dbfa3296d5c8fbda",
    "moments.json": "5277c391b4a7c74471fffa996e7e5f9cc02fd728bb19ee914c8940345efee163",
    "holdout.json": "dfcc9be43811e56d9d05371233d15efe7c0423f524c6a138932361abab5b2ab9",
}


def shared_rows(a: Tensor, b: Tensor) -> int:
    """Return how many rows of `a` are also rows of `b`."""
    return int((a[:, None] == b[None]).all(2).any(1).sum())


@pytest.mark.parametrize("name", DIGESTS)
def test_the_shipped_file_is_the_one_that_was_built(name: str) -> None:
    assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == DIGESTS[name]


def test_the_shipped_files_are_small() -> None:
    assert (DATA / "people.npz").stat().st_size <= 500_000
    assert (DATA / "glyphs.npz").stat().st_size <= 300_000


@pytest.mark.parametrize("synthetic", [False, True])
def test_interests_have_unit_deviation_and_the_moments_of_the_source(synthetic: bool) -> None:
    train, test = (people.interests(split, synthetic=synthetic) for split in people.SPLITS)
    assert train.shape == (440, 10)
    assert test.shape == (201, 10)
    assert train.dtype == torch.float32
    mean, covariance = people.interest_moments()
    assert torch.allclose(covariance.diagonal(), torch.ones(10), atol=1e-3)
    assert torch.equal(mean, torch.zeros(10))
    for bank in (train, test):
        assert bank.abs().max() <= people.MOST_INTEREST
        assert (bank.mean(0).abs() < 4.5 * len(bank) ** -0.5).all()
        # The standard error of a covariance of unit Gaussians is at most sqrt(2 / n); clipping takes 2 % off.
        assert ((torch.cov(bank.T) - covariance).abs() < 4.5 * (2 / len(bank)) ** 0.5).all()


def test_interests_are_not_the_same_in_all_directions() -> None:
    share = torch.linalg.eigvalsh(people.interest_moments().covariance).flip(0) / 10
    assert 0.25 < share[0] < 0.35
    assert share[:2].sum() > 0.45


@pytest.mark.parametrize("synthetic", [False, True])
@pytest.mark.parametrize("domain", people.DOMAINS)
def test_part_worths_have_one_row_per_person_and_the_agreed_scale(domain: str, synthetic: bool) -> None:
    known = people.DOMAINS[domain]
    for split, n_people in zip(people.SPLITS, known.n_people, strict=True):
        beta, offers, names = people.part_worths(domain, split, synthetic=synthetic)
        assert names == known.attributes
        assert beta.shape == (n_people, len(names))
        assert offers.shape[1] == len(names)
        assert beta.isfinite().all()
        assert offers.isfinite().all()
        spread = (offers @ beta.T).var(0, correction=0).mean().sqrt().item()
        assert spread == pytest.approx(2.5, abs=0.01 if split == "train" and not synthetic else 0.25)


@pytest.mark.parametrize("synthetic", [False, True])
@pytest.mark.parametrize("domain", people.DOMAINS)
def test_the_published_moments_are_those_of_the_train_people(domain: str, synthetic: bool) -> None:
    beta = people.part_worths(domain, "train", synthetic=synthetic).beta
    mean, covariance = people.part_worth_moments(domain)
    error = (covariance.diagonal() / len(beta)).sqrt()
    scale = torch.outer(covariance.diagonal().sqrt(), covariance.diagonal().sqrt())
    assert ((beta.mean(0) - mean).abs() < (4.5 * error if synthetic else 1e-3)).all()
    tolerance = 4.5 * scale * (2 / len(beta)) ** 0.5 if synthetic else torch.full_like(scale, 1e-3)
    assert ((torch.cov(beta.T, correction=0) - covariance).abs() < tolerance).all()


def test_people_do_not_want_prices_to_be_high_nor_journeys_to_be_long() -> None:
    for domain, disliked in (("electricity", "price"), ("swissmetro", "travel-time"), ("train-tickets", "price")):
        beta, _, names = people.part_worths(domain, "test")
        assert (beta[:, names.index(disliked)] < 0).float().mean() > 0.9


@pytest.mark.parametrize("domain", people.DOMAINS)
@pytest.mark.parametrize("synthetic", [False, True])
def test_nobody_is_in_both_splits_and_the_offers_are_the_same_in_both(domain: str, synthetic: bool) -> None:
    train, test = (people.part_worths(domain, split, synthetic=synthetic) for split in people.SPLITS)
    assert torch.equal(train.offers, test.offers)
    assert shared_rows(test.beta, train.beta) == 0


def test_no_bank_of_interests_shares_anybody_with_another() -> None:
    banks = [people.interests(split, synthetic=s) for split in people.SPLITS for s in (False, True)]
    assert all(shared_rows(a, b) == 0 for a in banks for b in banks if a is not b)


def test_real_offers_are_all_different() -> None:
    for domain in people.DOMAINS:
        offers = people.part_worths(domain, "train").offers
        assert len(torch.unique(offers, dim=0)) == len(offers)


@pytest.mark.parametrize(("synthetic", "bits"), [(False, 4.95), (True, 4.83)])
def test_styles_are_a_law_on_80_of_which_about_50_occur(synthetic: bool, bits: float) -> None:
    prior = people.styles(synthetic=synthetic)
    assert prior.shape == (80,)
    assert prior.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert int((prior > 0).sum()) == 50
    some = prior[prior > 0]
    assert -(some * some.log2()).sum().item() == pytest.approx(bits, abs=0.01)
    speech, distance, game = traits.style_factors(torch.arange(80))
    for factor in (speech, distance, game):
        assert (torch.zeros(int(factor.max()) + 1).index_add(0, factor, prior) > 0.1).all()


def test_a_style_number_and_its_factors_are_the_same_thing() -> None:
    numbers = torch.arange(traits.N_STYLES)
    factors = traits.style_factors(numbers)
    assert [int(f.max()) + 1 for f in factors] == [4, 4, 5]
    assert torch.equal(traits.style_index(*factors), numbers)


def test_the_rules_give_the_outgoing_a_party_near_by_and_the_shy_few_words_far_away() -> None:
    crowd = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    outgoing = torch.tensor([[0.0, 0.0, 6.0, 0.0, 0.0]])
    style = traits.style_of(torch.cat([outgoing, -outgoing, crowd]))
    speech, distance, game = traits.style_factors(style[:2])
    assert [traits.SPEECHES[i] for i in speech] == ["playful", "terse"]
    assert [traits.DISTANCES[i] for i in distance] == ["close", "far"]
    assert traits.GAMES[game[0]] == "party"


def test_calling_twice_gives_the_same_numbers_and_nobody_can_spoil_them() -> None:
    first = people.part_worths("electricity", "train")
    kept = first.beta.clone(), first.offers.clone()
    first.beta.zero_()
    first.offers.zero_()
    again = people.part_worths("electricity", "train")
    assert torch.equal(again.beta, kept[0])
    assert torch.equal(again.offers, kept[1])
    interest = people.interests("test")
    kept_interest = interest.clone()
    interest.zero_()
    assert torch.equal(people.interests("test"), kept_interest)
    assert torch.equal(people.interests("test", synthetic=True), people.interests("test", synthetic=True))


@pytest.fixture
def without_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the package see moments.json and nothing else."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "moments.json").write_bytes((DATA / "moments.json").read_bytes())
    monkeypatch.setattr(people, "files", lambda package: tmp_path)
    for cached in (people._bank, people._moments):
        cached.cache_clear()
    yield
    for cached in (people._bank, people._moments):
        cached.cache_clear()


@pytest.mark.usefixtures("without_npz")
def test_invented_people_need_no_npz_and_real_ones_say_what_to_do() -> None:
    assert people.interests("train", synthetic=True).shape == (440, 10)
    assert people.part_worths("swissmetro", "test", synthetic=True).beta.shape == (357, 6)
    assert people.styles(synthetic=True).sum().item() == pytest.approx(1.0)
    with pytest.raises(ConfigError, match=r"people\.npz is missing.*install metarl again or pass synthetic=True"):
        people.interests("train")


def test_unknown_splits_and_domains_are_named_with_the_nearest_known() -> None:
    with pytest.raises(ConfigError, match=r"'tset'.*'test'"):
        people.interests("tset")
    with pytest.raises(ConfigError, match=r"'train-ticket'.*'train-tickets'"):
        people.part_worths("train-ticket", "train")
    with pytest.raises(ConfigError, match="'validation'"):
        people.part_worths("electricity", "validation", synthetic=True)


@pytest.mark.parametrize("domain", people.DOMAINS)
def test_on_real_unseen_people_a_few_choices_predict_the_last_ones_better_than_none(domain: str) -> None:
    report = json.loads((DATA / "holdout.json").read_text())[domain]
    assert tuple(report["attributes"]) == people.DOMAINS[domain].attributes
    assert (report["people"]["train"], report["people"]["test"]) == people.DOMAINS[domain].n_people
    score = report["predictions"]
    none, few, more = (score[f"after-{n}"]["log_likelihood"] for n in (0, 4, 8))
    assert none < few < more
    assert score["after-8"]["accuracy"] > max(score["after-0"]["accuracy"], score["same-for-all"]["accuracy"]) + 0.05
    assert score["after-8"]["log_likelihood"] > score["same-for-all"]["log_likelihood"] + 0.05
