"""The library: who gets a slot, who learns, what is kept, and mixtures of what it holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.action_distributions import Categorical, DiagonalGaussian
from metarl.agents.metric.policy_library import NO_SLOT, PolicyLibrary
from metarl.agents.metric.policy_mixture import mixture_action, mixture_log_prob
from metarl.agents.nn.functional import Params
from metarl.errors import CheckpointError
from metarl.seeding import generator


def _library(n_slots: int = 3, **options: Any) -> PolicyLibrary:
    start = {"w": torch.tensor([1.0, -2.0]), "b": torch.tensor([0.5])}
    settings = {"lr": 0.1, "max_grad_norm": 1e6, **options}
    return PolicyLibrary(n_slots, start, (2, 4, 5), device=torch.device("cpu"), **settings)


def _squares(targets: Tensor) -> Any:
    """Return losses whose minimum is `targets` [N] for the policies, and 0 for the average-task policy."""

    def loss_of(phi: Params, average: Params) -> tuple[Tensor, Tensor]:
        return (phi["w"] - targets[:, None]).square().sum(1) + phi["b"].square().sum(1), average["w"].square().sum()

    return loss_of


def test_slots_go_to_tasks_in_the_order_they_are_met_until_there_is_none_left() -> None:
    library = _library(3)
    assert library.assign(["a", "b", "a"]).tolist() == [0, 1, 0]
    assert library.assign(["c", "d", "b"]).tolist() == [2, NO_SLOT, 1]
    assert library.assign(["d", "c"]).tolist() == [NO_SLOT, 2]
    assert library.keys == ["a", "b", "c"]


def test_a_new_tasks_policy_starts_as_the_average_task_policy_of_that_moment() -> None:
    library = _library(3)
    index = library.assign(["a"])
    library.learn(index, 3, _squares(torch.tensor([4.0])))
    late = library.assign(["b"])
    assert torch.equal(library.rows(late)["w"][0], library.params["w"][library.average])
    assert not torch.equal(library.rows(late)["w"], library.rows(index)["w"])
    assert not torch.equal(library.rows(late)["w"][0], torch.tensor([1.0, -2.0]))


@pytest.mark.parametrize("max_grad_norm", [1e6, 0.5])
def test_each_policy_learns_by_an_adam_of_its_own(max_grad_norm: float) -> None:
    """Slot 1 learns twice, slot 0 once in between, slot 2 never: torch's optimiser, one per policy, is the check."""
    library = _library(3, max_grad_norm=max_grad_norm)
    library.assign(["a", "b", "c"])
    rounds = [([1], [5.0]), ([0, 1], [-3.0, 4.0])]
    wanted = {slot: {k: v[slot].clone().requires_grad_() for k, v in library.params.items()} for slot in (0, 1)}
    adams = {slot: torch.optim.Adam(params.values(), lr=0.1) for slot, params in wanted.items()}
    for slots, targets in rounds:
        library.learn(torch.tensor(slots), 2, _squares(torch.tensor(targets)))
        for slot, target in zip(slots, targets, strict=True):
            for _ in range(2):
                adams[slot].zero_grad()
                ((wanted[slot]["w"] - target).square().sum() + wanted[slot]["b"].square().sum()).backward()
                torch.nn.utils.clip_grad_norm_(wanted[slot].values(), max_grad_norm)
                adams[slot].step()
    for slot in (0, 1):
        torch.testing.assert_close(library.params["w"][slot], wanted[slot]["w"].detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(library.params["w"][2], torch.tensor([1.0, -2.0]))


def test_a_task_that_is_twice_in_the_batch_counts_with_the_mean_of_both() -> None:
    once, twice = _library(2), _library(2)
    for library in (once, twice):
        library.assign(["a", "b"])
    once.learn(torch.tensor([0]), 1, _squares(torch.tensor([2.0])))
    twice.learn(torch.tensor([0, 0]), 1, _squares(torch.tensor([2.0, 2.0])))
    first = twice._first["w"][0]
    torch.testing.assert_close(first, once._first["w"][0])
    assert float(first.abs().max()) > 0


def test_following_the_average_forgets_what_policies_had_learnt() -> None:
    library = _library(2)
    index = library.assign(["a", "b"])
    library.learn(index, 2, _squares(torch.tensor([9.0, -9.0])))
    library.follow_average()
    assert torch.equal(library.params["w"], library.params["w"][library.average].expand(3, 2))
    assert not bool(library._second["w"][:2].any())
    assert bool(library._second["w"][library.average].any())


def test_the_latest_contexts_of_a_task_are_kept_and_strangers_leave_none() -> None:
    library = _library(2)
    slots = library.assign(["a", "b", "c"])
    fresh = torch.arange(3.0)[:, None, None, None] + torch.tensor([0.1, 0.2])[:, None, None].expand(2, 4, 5)
    library.remember(slots, fresh)
    assert library.n_contexts.tolist() == [2, 2]
    library.remember(slots[:1], fresh[:1, :1] + 5.0)
    assert library.contexts[0, :, 0, 0].tolist() == pytest.approx([5.1, 0.2])
    assert library.contexts[1, :, 0, 0].tolist() == pytest.approx([1.1, 1.2])


def test_a_library_that_was_stored_goes_on_as_if_it_had_not_been() -> None:
    library, other = _library(3), _library(3)
    index = library.assign(["a", "b"])
    library.remember(index, torch.randn(2, 1, 4, 5, generator=generator(0)))
    library.learn(index, 2, _squares(torch.tensor([3.0, 1.0])))
    other.load_state_dict(library.state_dict())
    for each in (library, other):
        each.learn(each.assign(["b", "z"]), 1, _squares(torch.tensor([0.0, 2.0])))
        each.remember(each.assign(["a"]), torch.ones(1, 1, 4, 5))
    assert other.keys == library.keys == ["a", "b", "z"]
    assert all(torch.equal(other.params[k], v) for k, v in library.params.items())
    assert torch.equal(other.contexts, library.contexts)
    assert torch.equal(other.n_contexts, library.n_contexts)


def test_a_library_of_another_size_is_refused() -> None:
    state = _library(3).state_dict()
    with pytest.raises(CheckpointError, match="does not fit"):
        _library(2).load_state_dict(state)


def test_the_log_probability_of_a_mixture_is_that_of_its_weighted_density() -> None:
    out = torch.tensor([[[[0.0, 0.0]], [[2.0, 0.7]]]])  # one task, two Gaussians, one row: mean and log std
    log_weight, action = torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[[1.0]]])
    normals = [torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(2.0, torch.tensor(0.7).exp())]
    one = torch.tensor(1.0)
    density = 0.25 * normals[0].log_prob(one).exp() + 0.75 * normals[1].log_prob(one).exp()
    found = mixture_log_prob(DiagonalGaussian(1), out, log_weight, action)
    torch.testing.assert_close(found, density.log().reshape(1, 1))


def test_a_policy_of_weight_zero_is_never_played_and_makes_no_gradient_nan() -> None:
    logits = torch.tensor([[[[9.0, 0.0]] * 200, [[-9.0, 9.0]] * 200]], requires_grad=True)
    log_weight = torch.tensor([[0.0, -torch.inf]])
    chosen = mixture_action(Categorical(2), logits.detach(), log_weight, generator(0))
    assert float(chosen.float().mean()) < 0.05
    mixture_log_prob(Categorical(2), logits, log_weight, chosen).sum().backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert not bool(logits.grad[:, 1].any())


def test_a_mixture_plays_its_policies_by_their_weights_and_greedily_the_weightiest() -> None:
    logits = torch.tensor([[[[50.0, 0.0]] * 4000, [[0.0, 50.0]] * 4000]])
    log_weight = torch.tensor([[0.3, 0.7]]).log()
    chosen = mixture_action(Categorical(2), logits, log_weight, generator(3)).double()
    assert float(chosen.mean()) == pytest.approx(0.7, abs=4 * (0.21 / 4000) ** 0.5)
    assert bool((mixture_action(Categorical(2), logits, log_weight, None) == 1).all())
    assert bool((mixture_action(Categorical(2), logits, log_weight.flip(1), None) == 0).all())
