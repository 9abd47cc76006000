"""Actions described row by row: every row scored alike, whatever its place, and step by step as in whole sequences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.agent import WorldSpec
from metarl.agents.memory.recurrent import RecurrentCore, RecurrentNet
from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.agents.rl2.row_net import RowLayout, RowNet, RowsConfig
from metarl.errors import ConfigError
from metarl.seeding import generator

SPACE = spaces.Dict(
    {
        "about": spaces.Box(-1.0, 1.0, (2,), np.float32),
        "offers": spaces.Box(-1.0, 1.0, (4, 3), np.float32),
        "then": spaces.Box(-1.0, 1.0, (1,), np.float32),
    }
)
SPEC = WorldSpec(SPACE, spaces.Discrete(5), 6)


def net(scored: tuple[int, ...] = (0,), n_out: int = 6, **options: int) -> RowNet:
    layout, config = RowLayout.of(SPEC, "offers"), RowsConfig("offers", hidden=7, **options)
    return RowNet(
        layout.size + 3, n_out, layout=layout, config=config, scored=scored, head_gains=[1.0] * n_out,
        core=lambda n, g: RecurrentCore("gru", n, 5, g, "cpu"), encoder=(8,), layer_norm=True, readout=(6,),
        generator=generator(0), device="cpu",
    )  # fmt: skip


def inputs(n_steps: int = 4, n_rows: int = 3) -> torch.Tensor:
    return torch.randn(n_steps, n_rows, 15, generator=generator(1))


def test_the_rows_are_found_among_the_entries() -> None:
    layout = RowLayout.of(SPEC, "offers")
    assert (layout.start, layout.n, layout.width, layout.size) == (2, 4, 3, 12)
    rows, rest = layout.split(torch.arange(15.0))
    assert rows.tolist() == torch.arange(2.0, 14.0).reshape(4, 3).tolist()
    assert rest.tolist() == [0.0, 1.0, 14.0]


@pytest.mark.parametrize("products", [0, 4])
def test_swapped_rows_swap_scores_and_change_nothing_else(products: int) -> None:
    policy, x = net(products=products), inputs()
    order = [2, 0, 3, 1]
    swapped = x.clone()
    swapped[..., 2:14] = x[..., 2:14].reshape(4, 3, 4, 3)[:, :, order].reshape(4, 3, 12)
    plain, _ = policy.unroll(x, policy.core.start(3))
    turned, _ = policy.unroll(swapped, policy.core.start(3))
    torch.testing.assert_close(turned[..., :4], plain[..., order])
    torch.testing.assert_close(turned[..., 4:], plain[..., 4:])
    assert not torch.allclose(plain[..., 0], plain[..., 1])


@pytest.mark.parametrize("first", [4, 5, 6])
def test_rows_score_every_kind_of_output_per_action_and_the_others_keep_their_places(first: int) -> None:
    """Four logits of rows, then others; from `first` on four forecasts of rows; then the rest."""
    policy, x = net((0, first), 11, products=4), inputs()
    order, places = [2, 0, 3, 1], [*range(4), *range(first, first + 4)]
    swapped = x.clone()
    swapped[..., 2:14] = x[..., 2:14].reshape(4, 3, 4, 3)[:, :, order].reshape(4, 3, 12)
    plain, turned = (policy.unroll(v, policy.core.start(3))[0] for v in (x, swapped))
    moved = [order[p] for p in range(4)] + [first + order[p] for p in range(4)]
    torch.testing.assert_close(turned[..., places], plain[..., moved])
    others = [i for i in range(11) if i not in places]
    torch.testing.assert_close(turned[..., others], plain[..., others])
    assert not torch.allclose(plain[..., 0], plain[..., first])
    # Heads of other outputs are in order: each bias moves its own output and no other.
    for place, output in enumerate(others):
        with torch.no_grad():
            policy.head.bias[place] += 1.0
        risen = policy.unroll(x, policy.core.start(3))[0] - plain
        plain = plain + risen
        assert [i for i in range(11) if float(risen[..., i].abs().max().detach()) > 0.5] == [output]


def test_products_hold_a_bilinear_score_exactly() -> None:
    """score(x_i) = sum_k (A x_i)_k (B h)_k, with A, B chosen: tastes times attributes."""
    policy, x = net(products=3), inputs()
    with torch.no_grad():
        policy.score.weight.copy_(torch.tensor([[0.0] * 7 + [1.0] * 3]))
        policy.row_factor.weight.copy_(torch.eye(3))
    context: list[torch.Tensor] = []
    policy.memory_factor.register_forward_hook(lambda _m, _i, out: context.append(out))
    scores = policy.unroll(x, policy.core.start(3))[0][..., :4]
    rows = x[..., 2:14].reshape(4, 3, 4, 3)
    torch.testing.assert_close(scores, (rows * context[0]).sum(-1))


def test_one_step_at_a_time_gives_what_a_whole_sequence_gives() -> None:
    policy, x = net(products=4), inputs()
    whole, last = policy.unroll(x, policy.core.start(3))
    memory, steps = policy.core.start(3), []
    for row in x:
        out, memory = policy.step(row, memory)
        steps.append(out)
    torch.testing.assert_close(torch.stack(steps), whole)
    torch.testing.assert_close(memory["h"], last["h"])


def test_scores_depend_on_what_was_seen_before() -> None:
    policy, x = net(), inputs()
    other = x.clone()
    other[0, :, :2] += 1.0
    one, two = (policy.unroll(v, policy.core.start(3))[0] for v in (x, other))
    assert not torch.allclose(one[-1, :, :4], two[-1, :, :4])


def test_a_value_network_has_one_output() -> None:
    value = net((), 1)
    assert value.unroll(inputs(), value.core.start(3))[0].shape == (4, 3, 1)


def test_foresight_is_told_row_by_row_like_the_logits() -> None:
    config = RL2Config(hidden=8, rows=RowsConfig("offers"), reward_prediction_coef=1.0)
    network = config.build(SPEC, seed=0).network
    assert isinstance(network, RowNet)
    assert network.scored == (0, 5)  # 5 logits, then 5 forecasts; the first 4 of each are of rows


def test_without_an_entry_the_network_is_the_plain_one() -> None:
    agent = RL2Config(hidden=8).build(SPEC, seed=0)
    assert isinstance(agent.network, RecurrentNet)
    assert isinstance(RL2Config(hidden=8, rows=RowsConfig("offers")).build(SPEC, seed=0).network, RowNet)


@pytest.mark.parametrize(("entry", "words"), [("offer", "offers"), ("about", "one row per Discrete action"), ("", "")])
def test_entries_that_describe_no_actions_are_refused(entry: str, words: str) -> None:
    config = RL2Config(rows=RowsConfig(entry), ppo=PPOConfig())
    if not entry:
        config.build(SPEC, seed=0)
        return
    with pytest.raises(ConfigError, match=words):
        config.build(SPEC, seed=0)


def test_settings_that_need_the_whole_observation_do_not_go_with_rows() -> None:
    with pytest.raises(ConfigError, match="see_transition"):
        RL2Config(rows=RowsConfig("offers"), see_transition=True)
    with pytest.raises(ConfigError, match="hidden"):
        RowsConfig("offers", hidden=0)
    with pytest.raises(ConfigError, match=r"products must be >= 0, got -1"):
        RowsConfig("offers", products=-1)
