"""What trains the metric, by hand; and what its readers make of the order of transitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from metarl.agents.metric.encoder import (
    Reader,
    attention,
    contrastive_loss,
    cosines,
    distances,
    matching_loss,
    siamese_loss,
)
from metarl.seeding import generator


def _embedded(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64, requires_grad=True)


def _gradient(distance: float, same: bool, margin: float = 1.0) -> float:
    d = torch.tensor(distance, dtype=torch.float64, requires_grad=True)
    contrastive_loss(d, torch.tensor(same), margin).backward()
    assert d.grad is not None
    return float(d.grad)


def test_the_contrastive_loss_is_that_of_hadsell_et_al() -> None:
    distance, same = torch.tensor([0.5, 0.5, 2.0, 2.0, 1.5]), torch.tensor([True, False, True, False, False])
    torch.testing.assert_close(contrastive_loss(distance, same, 1.5), torch.tensor([0.25, 1.0, 4.0, 0.0, 0.0]))


def test_same_tasks_attract_everywhere_and_others_repel_inside_the_margin_only() -> None:
    assert _gradient(0.4, same=True) == pytest.approx(0.8)
    assert _gradient(3.0, same=True) == pytest.approx(6.0)
    assert _gradient(0.4, same=False) == pytest.approx(-1.2)
    assert _gradient(1.6, same=False) == 0.0
    assert _gradient(1.6, same=False, margin=2.0) == pytest.approx(-0.8)  # the margin, not the distance, made it 0


def test_one_step_of_the_siamese_loss_brings_a_pair_together_and_drives_strangers_apart() -> None:
    """Negative control: with labels that say the opposite the same points move the opposite way."""
    for owner, nearer in ((torch.tensor([0, 0, 1]), True), (torch.tensor([0, 1, 0]), False)):
        points = _embedded([0.0, 0.0], [0.6, 0.0], [0.0, 0.5])
        siamese_loss(points, owner, margin=1.0).backward()
        assert points.grad is not None
        moved = (points - 0.05 * points.grad).detach()
        assert (bool(distances(moved, moved)[0, 1] < 0.6)) is nearer
        assert (bool(distances(moved, moved)[0, 2] < 0.5)) is not nearer


def test_pairs_of_one_task_weigh_as_much_as_all_others_together() -> None:
    points = _embedded([0.0], [1.0], [3.0], [3.5])
    owner = torch.tensor([0, 0, 1, 2])
    apart = torch.tensor([3.0, 3.5, 2.0, 2.5, 0.5])
    expected = 1.0 + float((4.0 - apart).clamp(min=0).square().mean())
    assert siamese_loss(points, owner, margin=4.0).item() == pytest.approx(expected)


def test_distances_are_euclidean_and_have_a_gradient_where_points_coincide() -> None:
    a, b = _embedded([0.0, 0.0], [3.0, 4.0]), torch.tensor([[0.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    found = distances(a, b)
    torch.testing.assert_close(found, torch.tensor([[0.0, 4.0], [5.0, 3.0]], dtype=torch.float64))
    found.sum().backward()
    assert a.grad is not None
    torch.testing.assert_close(a.grad, torch.tensor([[0.0, -1.0], [1.6, 0.8]], dtype=torch.float64))


def test_attention_is_a_softmax_of_cosines() -> None:
    query, keys = torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    torch.testing.assert_close(cosines(query, keys), torch.tensor([[1.0, 0.0, -1.0]]))
    for temperature in (1.0, 0.5):
        e = [math.exp(c / temperature) for c in (1.0, 0.0, -1.0)]
        torch.testing.assert_close(attention(query, keys, temperature), torch.tensor([[x / sum(e) for x in e]]))


def test_the_matching_loss_is_minus_log_of_the_attention_on_the_own_task() -> None:
    """Every context asks in turn and is not among those it looks at; a context alone in its task asks nothing."""
    points = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.2], [0.0, 1.0]], dtype=torch.float64)
    owner, losses = torch.tensor([7, 7, 7, 2]), []
    for i in range(3):
        rest = [j for j in range(4) if j != i]
        paid = attention(points[i : i + 1], points[rest], 0.3)[0]
        losses.append(-math.log(sum(float(p) for p, j in zip(paid, rest, strict=True) if owner[j] == owner[i])))
    assert float(matching_loss(points, owner, 0.3)) == pytest.approx(sum(losses) / 3)


def test_the_gradient_of_the_matching_loss_is_finite_and_raises_the_own_tasks_attention() -> None:
    points = _embedded([1.0, 0.0], [0.2, 1.0], [0.9, 0.4], [-1.0, 0.3])
    owner = torch.tensor([0, 0, 1, 2])
    loss = matching_loss(points, owner, 0.5)
    loss.backward()
    assert points.grad is not None
    assert bool(points.grad.isfinite().all())
    assert matching_loss(points - 0.01 * points.grad, owner, 0.5).item() < loss.item()
    assert matching_loss(points + 0.01 * points.grad, owner, 0.5).item() > loss.item()


@pytest.mark.parametrize(("kind", "blind"), [("set", True), ("gru", False)])
def test_the_set_reader_is_blind_to_the_order_of_transitions_and_the_gru_is_not(kind: str, blind: bool) -> None:
    reader = Reader(kind, 3, (8, 6), 4, generator(0), "cpu")  # type: ignore[arg-type]
    x = torch.randn(5, 7, 3, generator=generator(1))
    assert reader(x).shape == (5, 4)
    shuffled = x[:, torch.randperm(7, generator=generator(2))]
    assert torch.allclose(reader(x), reader(shuffled), atol=1e-6) is blind
    torch.testing.assert_close(reader(x)[[4, 0]], reader(x[[4, 0]]))


def test_both_readers_use_every_transition() -> None:
    for kind in ("set", "gru"):
        reader = Reader(kind, 3, (8, 6), 4, generator(0), "cpu")  # type: ignore[arg-type]
        x = torch.randn(2, 7, 3, generator=generator(1), requires_grad=True)
        reader(x)[0].sum().backward()
        assert x.grad is not None
        assert bool((x.grad[0].abs().sum(-1) > 0).all())
        assert not bool(x.grad[1].any())
