"""Networks as functions: one set of weights and a stack of them give what ordinary modules give."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from metarl.agent import WorldSpec
from metarl.agents.nn.functional import ACTIVATIONS, PolicyNet, init_mlp, mlp
from metarl.errors import ConfigError
from metarl.seeding import generator

BOX = spaces.Box(-1, 1, (3,), np.float32)
SIZES = (3, 5, 4, 2)


def _net(action: spaces.Space, **options: object) -> PolicyNet:
    return PolicyNet(WorldSpec(BOX, action, 10), **{"hidden": (5, 4), **options})  # type: ignore[arg-type]


def _module(activation: str) -> nn.Sequential:
    between = {"tanh": nn.Tanh, "relu": nn.ReLU}[activation]
    return nn.Sequential(nn.Linear(3, 5), between(), nn.Linear(5, 4), between(), nn.Linear(4, 2))


def _renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn nn.Sequential's names (0, 2, 4) into ours (p.0, p.1, p.2)."""
    return {f"p.{int(k.split('.')[0]) // 2}.{k.split('.')[1]}": v for k, v in weights.items()}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_stack_of_networks_equals_vmap_of_an_ordinary_module(activation: str) -> None:
    torch.manual_seed(0)
    modules = [_module(activation) for _ in range(6)]
    stacked, _ = stack_module_state(modules)  # type: ignore[arg-type]
    x = torch.randn(6, 7, 3)
    expected = vmap(lambda p, rows: functional_call(modules[0], p, (rows,)))(stacked, x)
    ours = mlp(_renamed(stacked), x, prefix="p", n_layers=3, activation=ACTIVATIONS[activation])
    torch.testing.assert_close(ours, expected)


def test_one_network_serves_rows_with_any_leading_axes() -> None:
    params = init_mlp(SIZES, generator(0), prefix="p")
    x = torch.randn(6, 7, 3, generator=generator(1))
    run = lambda p, rows: mlp(p, rows, prefix="p", n_layers=3, activation=torch.tanh)  # noqa: E731
    together = run(params, x)
    torch.testing.assert_close(together, torch.stack([run(params, rows) for rows in x]))
    torch.testing.assert_close(run({k: v.expand(6, *v.shape) for k, v in params.items()}, x), together)


def test_gradients_of_stacked_networks_do_not_mix() -> None:
    params = {
        k: v.expand(3, *v.shape).clone().requires_grad_() for k, v in init_mlp(SIZES, generator(0), prefix="p").items()
    }
    out = mlp(params, torch.ones(3, 2, 3), prefix="p", n_layers=3, activation=torch.tanh)
    for grad in torch.autograd.grad(out[1].sum(), list(params.values())):
        assert float(grad[1].abs().sum()) > 0
        assert float(grad[[0, 2]].abs().sum()) == 0


def test_initial_weights_follow_the_generator_alone() -> None:
    first, again, other = (init_mlp(SIZES, generator(s), prefix="p") for s in (0, 0, 1))
    torch.manual_seed(123)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["p.0.weight"], other["p.0.weight"])


def test_xavier_weights_stay_within_their_bound_and_fill_it() -> None:
    weight = init_mlp((200, 100), generator(0), prefix="p")["p.0.weight"]
    bound = (6 / 300) ** 0.5
    assert 0.98 * bound < float(weight.abs().max()) <= bound
    assert float(weight.var()) == pytest.approx(bound**2 / 3, rel=0.05)


def test_orthogonal_weights_are_orthogonal_with_gain_on_hidden_layers() -> None:
    params = init_mlp((4, 4, 4), generator(0), prefix="p", init="orthogonal", last_gain=0.5)
    for name, gain in (("p.0.weight", 2**0.5), ("p.1.weight", 0.5)):
        torch.testing.assert_close(params[name] @ params[name].T, gain**2 * torch.eye(4), rtol=1e-5, atol=1e-5)


def test_a_gaussians_std_is_a_parameter_with_a_floor() -> None:
    net = _net(BOX, init_std=0.5, min_std=0.1)
    params = net.init(generator(0))
    obs = torch.randn(7, 3, generator=generator(1))
    torch.testing.assert_close(net(params, obs)[:, 3:].exp(), torch.full((7, 3), 0.5))
    params["log_std"] = torch.full((3,), -50.0)
    torch.testing.assert_close(net(params, obs)[:, 3:].exp(), torch.full((7, 3), 0.1))


def test_a_linear_policy_is_allowed() -> None:
    net = _net(spaces.Discrete(2), hidden=())
    params = {"policy.0.weight": torch.tensor([[1.0, 0, 0], [0, 2, 0]]), "policy.0.bias": torch.tensor([0.0, 1.0])}
    assert net(params, torch.tensor([[3.0, 4.0, 5.0]])).tolist() == [[3.0, 9.0]]


def test_an_illegal_action_has_probability_zero() -> None:
    net = _net(spaces.Discrete(3))
    mask = torch.tensor([[True, False, True]])
    p = net(net.init(generator(0)), torch.ones(1, 3), mask).softmax(-1)
    assert float(p[0, 1]) == 0
    assert float(p.sum()) == pytest.approx(1)


def test_box_actions_of_any_shape_make_the_round_trip() -> None:
    for shape in [(), (2,), (2, 3)]:
        net = _net(spaces.Box(-1, 1, shape, np.float32))
        action = net.distribution.mode(net(net.init(generator(0)), torch.ones(5, 3)))
        world = net.world_action(action)
        assert world.shape == (5, *shape)
        assert torch.equal(net.flat_action(world, batch_dims=1), action)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (8, 0)}, "at least 1 unit"),
        ({"activation": "tahn"}, "did you mean 'tanh'"),
        ({"init": "orthogonl"}, "did you mean 'orthogonal'"),
    ],
)
def test_a_wrong_architecture_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _net(BOX, **options)
