"""Who gets the credit: LVC, DiCE and E-MAML against exact sums over all trajectories of a small decision process.

Three steps, two actions, start in state 2, and then the state is the last action: eight trajectories.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agent import WorldSpec
from metarl.agents.maml.agent import MAML, MAMLConfig, MetaBatch
from metarl.agents.maml.inner_loop import Batch, Objective, gradient_step, inner_loss, make_batch, task_scores
from metarl.agents.nn.functional import Params
from metarl.errors import ConfigError
from metarl.rollout import Rollout
from metarl.seeding import generator
from tests.agents.synthetic import synthetic_rollout, trial_of

F64 = torch.float64
ALPHA = 0.6
REWARD = torch.tensor([[0.3, -1.0], [2.0, 0.1], [-0.5, 0.4]], dtype=F64)
"""Of an action (column) in a state (row)."""
BASELINE = torch.tensor([0.7, -0.2, 1.3], dtype=F64)
"""Of a state: anything will do."""


class Process:
    """All trajectories of `n_steps` decisions, one task each, and exact expectations over them."""

    def __init__(self, n_steps: int) -> None:
        spec = WorldSpec(spaces.Box(0, 1, (3,), np.float32), spaces.Discrete(2), n_steps)
        self.agent: MAML = MAMLConfig(hidden=(), alpha=ALPHA, exploration_coef=1.0).build(spec, seed=0)
        self.n_steps = n_steps
        self.action = torch.tensor(list(itertools.product((0, 1), repeat=n_steps)))
        self.n = len(self.action)
        self.state = torch.cat([torch.full((self.n, 1), 2), self.action[:, :-1]], dim=1)
        self.obs = torch.nn.functional.one_hot(self.state, 3).to(F64)
        self.reward = REWARD[self.state, self.action]
        noise = generator(4)
        self.theta = {k: torch.randn(v.shape, generator=noise, dtype=F64) for k, v in self.agent.parameters().items()}

    def log_probs(self, params: Params) -> Tensor:
        """Return log pi(a | s) of every step [8, 3]; `params` are shared [...] or one set per trajectory [8, ...]."""
        return self.agent.net.distribution.log_prob(self.agent.net(params, self.obs), self.action)

    def value(self, params: Params) -> Tensor:
        """Return the exact expected return of one policy."""
        return (self.log_probs(params).sum(1).exp() * self.reward.sum(1)).sum()

    def batch(self, shift: float = 0.0) -> Batch:
        """Return all trajectories as sampled by theta; `shift` is added to every advantage."""
        to_go = self.reward.flip(1).cumsum(1).flip(1)
        return Batch(
            obs=self.obs, action=self.action, log_prob=self.log_probs(self.theta).detach(),
            advantage=to_go - BASELINE[self.state] + shift, valid=torch.ones(self.n, self.n_steps).bool(),
            action_mask=None, began=torch.zeros(self.n, self.n_steps, 1, dtype=torch.int64),
        )  # fmt: skip

    @property
    def probability(self) -> Tensor:
        """P(trajectory) at theta, a constant: [8]."""
        return self.log_probs(self.theta).detach().sum(1).exp()

    def expected_loss(self, params: Params, objective: Objective, batch: Batch) -> Tensor:
        """Return the expectation, over what theta samples, of the loss summed over steps, at `params`."""
        rows = {k: v.expand(self.n, *v.shape) for k, v in params.items()}
        return (self.probability * inner_loss(self.agent.net, rows, batch, objective)).sum() * self.n_steps


def _derivatives(process: Process, function: Callable[[Params], Tensor]) -> tuple[Tensor, Tensor]:
    """Return gradient [P] and Hessian [P, P] of a function of the parameters, at theta."""
    names, values = list(process.theta), list(process.theta.values())
    sizes = [v.numel() for v in values]

    def of_flat(flat: Tensor) -> Tensor:
        parts = flat.split(sizes)
        return function({n: p.reshape(v.shape) for n, p, v in zip(names, parts, values, strict=True)})

    flat = torch.cat([v.reshape(-1) for v in values])
    gradient = torch.autograd.functional.jacobian(of_flat, flat)
    return gradient, torch.autograd.functional.hessian(of_flat, flat)


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


OBJECTIVES: tuple[Objective, ...] = ("likelihood-ratio", "log-likelihood", "dice")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_gradient_of_every_inner_objective_is_that_of_the_return(objective: Objective) -> None:
    process = Process(3)
    exact, _ = _derivatives(process, process.value)
    batch = process.batch()
    gradient, _ = _derivatives(process, lambda p: process.expected_loss(p, objective, batch))
    assert _relative(-gradient, exact) < 1e-12


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_the_hessian_of_dice_is_that_of_the_return(shift: float) -> None:
    """With a baseline, and with any constant added to the advantages, as standardising them does."""
    process = Process(3)
    _, exact = _derivatives(process, process.value)
    batch = process.batch(shift)
    _, hessian = _derivatives(process, lambda p: process.expected_loss(p, "dice", batch))
    assert _relative(-hessian, exact) < 1e-12


def test_the_hessian_of_the_ratio_form_is_the_low_variance_curvature() -> None:
    """E[sum_t (hess log pi_t + grad log pi_t grad log pi_tᵀ) A_t], the return's without the change of advantages."""
    process = Process(3)
    batch = process.batch()
    names, values = list(process.theta), list(process.theta.values())

    def log_probs(flat: Tensor) -> Tensor:
        parts = flat.split([v.numel() for v in values])
        return process.log_probs({n: p.reshape(v.shape) for n, p, v in zip(names, parts, values, strict=True)})

    flat = torch.cat([v.reshape(-1) for v in values])
    weight = process.probability[:, None] * batch.advantage
    slope = torch.autograd.functional.jacobian(log_probs, flat)
    expected = torch.autograd.functional.hessian(lambda x: (weight * log_probs(x)).sum(), flat)
    expected = expected + torch.einsum("nt,ntp,ntq->pq", weight, slope, slope)
    _, hessian = _derivatives(process, lambda p: process.expected_loss(p, "likelihood-ratio", batch))
    assert _relative(-hessian, expected) < 1e-12
    _, exact = _derivatives(process, process.value)
    assert _relative(expected, exact) > 0.05  # what it leaves out
    _, biased = _derivatives(process, lambda p: process.expected_loss(p, "log-likelihood", batch))
    assert _relative(-biased, exact) > 0.5


def _meta_gradient(process: Process, loss_of: Callable[[Params], Tensor]) -> Tensor:
    """Return d J(theta - alpha * grad loss(theta)) / d theta by the inner loop: [P]."""
    theta = {k: v.clone().requires_grad_() for k, v in process.theta.items()}
    phi = gradient_step({k: v[None] for k, v in theta.items()}, loss_of, ALPHA, create_graph=True)
    value = process.value({k: v[0] for k, v in phi.items()})
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, list(theta.values()))])


@pytest.mark.parametrize(
    ("n_steps", "objective", "unbiased"),
    [
        (1, "dice", True), (1, "likelihood-ratio", True), (1, "log-likelihood", False),
        (3, "dice", True), (3, "likelihood-ratio", False), (3, "log-likelihood", False),
    ],
)  # fmt: skip
def test_the_meta_gradient_through_an_expected_inner_step(n_steps: int, objective: Objective, unbiased: bool) -> None:
    """LVC is exact for one decision, DiCE for any number; the log-likelihood of the original code for none."""
    process = Process(n_steps)
    batch = process.batch()
    exact = _meta_gradient(process, lambda p: -process.value({k: v[0] for k, v in p.items()})[None])
    ours = _meta_gradient(
        process, lambda p: process.expected_loss({k: v[0] for k, v in p.items()}, objective, batch)[None]
    )
    assert (_relative(ours, exact) < 1e-12) == unbiased
    assert unbiased or _relative(ours, exact) > 0.02


def test_exploration_credit_completes_the_gradient_of_the_return_after_adaptation() -> None:
    """d/dtheta sum_tau P(tau; theta) J(phi(theta, tau)): MAML has the part through phi, E-MAML also that through P."""
    process, n = Process(3), 8
    theta = {k: v.clone().requires_grad_() for k, v in process.theta.items()}
    leaves, batch = list(theta.values()), process.batch()
    start = {k: v.expand(n, *v.shape) for k, v in theta.items()}

    def step(params: Params) -> Tensor:
        return inner_loss(process.agent.net, params, batch, "log-likelihood")

    phi = gradient_step(start, step, ALPHA, create_graph=True)
    after = torch.stack([process.value({k: v[i] for k, v in phi.items()}) for i in range(n)])
    chance = process.log_probs(theta).sum(1).exp()

    def gradient(of: Tensor) -> Tensor:
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(of, leaves, retain_graph=True)])

    exact, maml = gradient((chance * after).sum()), gradient((chance.detach() * after).sum())
    credit = (n * process.n_steps * chance * after).detach()  # undoes the means over tasks and steps
    loss = process.agent.exploration_loss([start, phi], MetaBatch((batch,), batch, credit))
    assert isinstance(loss, Tensor)
    assert _relative(maml - gradient(loss), exact) < 1e-12
    assert _relative(maml, exact) > 0.1


# From rollouts


def _agent(**options: object) -> MAML:
    spec = WorldSpec(spaces.Box(-1, 1, (2,), np.float32), spaces.Box(-1, 1, (2,), np.float32), 6)
    config = MAMLConfig(**{"hidden": (4,), "episodes_per_step": 2, **options})  # type: ignore[arg-type]
    return config.build(spec, seed=1)


def _rollout(agent: MAML, seed: int = 0, envs_per_task: int = 2) -> Rollout:
    return synthetic_rollout(
        agent.net, agent.spec, agent.parameters(), n_tasks=3, envs_per_task=envs_per_task, seed=seed, early_end=False
    )


def test_episodes_in_a_row_count_as_episodes_side_by_side() -> None:
    """The magic box of an episode starts anew; otherwise its second derivative would cross the border."""
    agent = _agent()
    wide = _rollout(agent)  # 6 steps, 3 tasks of 2 envs

    def in_a_row(x: Tensor) -> Tensor:
        pairs = x.reshape(6, 3, 2, *x.shape[2:])
        return torch.cat([pairs[:, :, 0], pairs[:, :, 1]])

    long = replace(wide, **{k: in_a_row(v) for k, v in vars(wide).items() if isinstance(v, Tensor)})  # type: ignore[arg-type]
    theta = {k: v.expand(3, *v.shape).clone().requires_grad_() for k, v in agent.parameters().items()}

    def curvature(rollout: Rollout, *, forget: bool = False) -> Tensor:
        batch = make_batch(agent.net, rollout, 0.99, 1.0, episodes=True)
        assert batch.began is not None
        if forget:
            batch = replace(batch, began=torch.zeros_like(batch.began))
        loss = inner_loss(agent.net, theta, batch, "dice").sum()
        first = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        square = sum((g * g.detach()).sum() for g in first)
        assert isinstance(square, Tensor)
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(square, list(theta.values()))])

    torch.testing.assert_close(curvature(long), curvature(wide), rtol=1e-3, atol=1e-5)
    assert _relative(curvature(long, forget=True), curvature(wide)) > 0.01


def test_a_tasks_score_is_its_mean_discounted_return_standardised() -> None:
    agent = _agent()
    rollout = replace(_rollout(agent), reward=torch.zeros(6, 6))
    rollout.reward[2, 0] = 1.0  # one of task 0's two episodes earns 1 at its third step
    rollout.reward[0, 2:4] = 3.0  # both of task 1's earn 3 at their first
    raw = torch.tensor([0.5 * 0.9**2, 3.0, 0.0])
    expected = (raw - raw.mean()) / raw.std(unbiased=False)
    torch.testing.assert_close(task_scores(rollout, 0.9), expected)
    assert task_scores(replace(rollout, reward=torch.zeros(6, 6)), 0.9).tolist() == [0, 0, 0]


def test_exploration_credit_changes_the_update_and_needs_two_tasks() -> None:
    trials = trial_of(*(_rollout(_agent(), seed) for seed in range(2)))
    plain, crediting = _agent(), _agent(exploration_coef=1.0)
    for agent in (plain, crediting):
        agent.update(trials, generator=generator(0))
    assert not torch.equal(plain.parameters()["log_std"], crediting.parameters()["log_std"])
    alone = [synthetic_rollout(plain.net, plain.spec, plain.parameters(), n_tasks=1, seed=seed) for seed in range(2)]
    with pytest.raises(ConfigError, match=r"compares tasks with each other, got one; raise train.n_tasks"):
        crediting.update(trial_of(*alone), generator=generator(0))
    assert math.isfinite(plain.update(trial_of(*alone), generator=generator(0))["kl"])
