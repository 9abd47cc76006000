"""Reference policies of the linear market: cash, exact Bayes filters that play greedily or explore, the oracle.

Given what was seen, (mu_j, alpha_j) is normal (conjugate Bayesian linear regression), independent between assets. With
predictive mean m and variance v of a return, E log(1 + r) is log(1 + m) - v / (2 (1 + m)²) up to terms of fourth order.
All policies weigh fees the same way: a change costs `FEE_WEIGHT` of its fee against one step's gain, since a position
well chosen stays good for a while.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metarl.envs.npc.reference import Policy, Random
from metarl.envs.tensor_world import EpisodeState

from .linear import AssetsConfig, AssetsWorld
from .market import MarketWorld

FEE_WEIGHT = 0.6
"""Found by playing the oracle with weights 0 to 1; its value changes by less than 1 % between 0.4 and 0.8."""


def log_growth(mean: Tensor, variance: Tensor) -> Tensor:
    """Return E log(1 + r) to second order, for r of `mean` and `variance`."""
    return mean.log1p() - 0.5 * variance / (1.0 + mean).square()


class Trader(Policy, ABC):
    """Holds what is worth most at the next step, fees considered."""

    world: MarketWorld

    @abstractmethod
    def worth(self) -> Tensor:
        """Return the expected growth of each asset at the next step, float32 [B, A]."""

    def act(self) -> Tensor:
        """Choose."""
        worth = self.worth()
        values = torch.cat([worth, torch.zeros_like(worth[:, :1])], dim=1)
        stay = torch.nn.functional.one_hot(self.world.state["position"], values.shape[1])
        return (values + FEE_WEIGHT * self.fee()[:, None] * stay).argmax(1)

    def fee(self) -> Tensor:
        """Return the fee as known to all: that of the task, whatever a shift made of it."""
        return self.world.params["fee"]


class Cash(Trader):
    """Never buys: the best there is without looking at any return, since assets lose growth on average."""

    def worth(self) -> Tensor:
        """Return minus the average loss."""
        return torch.full_like(self.world.state["signal"], -1.0)


class BuyAndHold(Policy):
    """Buys the first asset and keeps it."""

    def act(self) -> Tensor:
        """Hold asset 0."""
        return torch.zeros_like(self.world.state["position"])


class Oracle(Trader):
    """Knows drifts, effects, fee and the order of actions."""

    world: AssetsWorld

    def worth(self) -> Tensor:
        """Return the true expected growth."""
        hidden = self.world.latent()
        mean = hidden["mu"] + hidden["alpha"] * self.world.state["signal"]
        return log_growth(mean, torch.full_like(mean, self.world.config.noise_sd**2))

    def act(self) -> Tensor:
        """Choose, in the order that actions have now."""
        order = self.world.latent()["order"]
        return order.argsort(1).gather(1, super().act()[:, None]).squeeze(1)

    def fee(self) -> Tensor:
        """Return the present fee."""
        return self.world.latent()["fee"]


class Regression:
    """Posterior of (mu, alpha) from sums over what was seen: [..., A] each of n, x, x², r, x r."""

    def __init__(self, config: AssetsConfig, shape: tuple[int, ...], device: torch.device) -> None:
        """Start with the prior."""
        self.config = config
        self.sums = torch.zeros(5, *shape, device=device, dtype=torch.float64)

    def add(self, x: Tensor, r: Tensor, seen: Tensor) -> None:
        """Take in returns `r` that followed signals `x`, where `seen` is 1; broadcast to the sums' shape."""
        x, r, seen = x.double(), r.double(), seen.double()
        self.sums = self.sums + torch.stack([seen, seen * x, seen * x * x, seen * r, seen * x * r])

    def posterior(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return mean of mu and of alpha, and their variances and covariance."""
        n, sx, sxx, sr, sxr = self.sums / self.config.noise_sd**2
        a = n + self.config.mu_sd**-2
        d = sxx + self.config.alpha_sd**-2
        det = a * d - sx * sx
        return (d * sr - sx * sxr) / det, (a * sxr - sx * sr) / det, d / det, a / det, -sx / det

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean of the next return and the variance of that mean, given signals `x`; float32."""
        mu, alpha, vmu, valpha, cov = self.posterior()
        x = x.double()
        return (mu + alpha * x).float(), (vmu + 2.0 * cov * x + valpha * x * x).clamp(min=0.0).float()


def _moments(mu: Tensor, alpha: Tensor, v_mu: Tensor, v_alpha: Tensor) -> dict[str, Any]:
    """Return "mu" and "alpha" (posterior means) and their deviations "mu_sd" and "alpha_sd", lists of A numbers."""
    values = {"mu": mu, "alpha": alpha, "mu_sd": v_mu.sqrt(), "alpha_sd": v_alpha.sqrt()}
    return {name: value.tolist() for name, value in values.items()}


class Bayes(Trader):
    """The exact filter. Plays mean + `optimism` (1 - k / K) standard deviations of what is not known yet.

    With `forget` it starts anew at every episode; its optimism then falls within the episode, as 1 - t / H.
    """

    world: AssetsWorld

    def __init__(self, optimism: float = 0.0, *, forget: bool = False, last_only: bool = False) -> None:
        """Choose how to explore, and whether to forget at every episode, or at every step (`last_only`)."""
        self.optimism, self.forget, self.last_only = optimism, forget, last_only

    def start(self, world: AssetsWorld, generator: torch.Generator) -> None:  # type: ignore[override]
        """Know the prior."""
        super().start(world, generator)
        self.belief = self._fresh()

    def _fresh(self) -> Regression:
        return Regression(self.world.config, (self.world.num_envs, self.world.n_assets), self.world.device)

    def see(self, before: EpisodeState, actions: Tensor, reached: EpisodeState, ended: Tensor) -> None:
        """Take in what was shown."""
        if self.last_only:
            self.belief = self._fresh()
        self.belief.add(reached["before"], reached["shown"], reached["seen"])
        if self.forget:
            self.belief.sums = self.belief.sums * ~ended[:, None]

    def believes(self, env: int) -> dict[str, Any]:
        """Return mean and deviation of each asset's drift and effect, see `_moments`."""
        mu, alpha, v_mu, v_alpha, _ = (x[env] for x in self.belief.posterior())
        return _moments(mu, alpha, v_mu, v_alpha)

    def learned(self) -> dict[str, Tensor]:
        """Return the sums."""
        return {"sums": self.belief.sums.movedim(0, 1)}

    def put_back(self, learned: dict[str, Tensor]) -> None:
        """Know these sums."""
        self.belief.sums = learned["sums"].movedim(1, 0)

    def eagerness(self) -> Tensor:
        """Return the number of standard deviations to add, float32 [B, 1]."""
        world = self.world
        if self.forget:
            number = world.state["t"] / world.horizon
        else:
            number = (world.episode % world.n_episodes) / world.n_episodes
        return self.optimism * (1.0 - number.float())[:, None]

    def worth(self) -> Tensor:
        """Return expected growth, made rosier by what is not known."""
        mean, variance = self.belief.predict(self.world.state["signal"])
        noise = self.world.config.noise_sd**2
        if self.optimism == 0.0:
            return log_growth(mean, variance + noise)
        return log_growth(mean + self.eagerness() * variance.sqrt(), torch.full_like(mean, noise))


class Thompson(Bayes):
    """Posterior sampling: acts optimally for (mu, alpha) drawn from the posterior at every step (Thompson 1933)."""

    def worth(self) -> Tensor:
        """Return the growth under values drawn now."""
        mean, variance = self.belief.predict(self.world.state["signal"])
        z = torch.randn(mean.shape, generator=self.generator, device=mean.device)
        return log_growth(mean + variance.sqrt() * z, torch.full_like(mean, self.world.config.noise_sd**2))


class HazardBayes(Trader):
    """The exact filter for assets that may all be redrawn before any episode with chance `hazard`.

    It keeps one posterior for each episode that may have been the first since the last redraw, weighed by how well it
    foretold what was seen since (Adams and MacKay 2007, arXiv:0710.3742), and plays the weighted prediction.
    """

    world: AssetsWorld

    def __init__(self, hazard: float = 0.12, optimism: float = 0.0) -> None:
        """`hazard` is the assumed chance before each episode but the first; `optimism` as in `Bayes`."""
        self.hazard, self.optimism = hazard, optimism

    def start(self, world: AssetsWorld, generator: torch.Generator) -> None:  # type: ignore[override]
        """Know the prior."""
        super().start(world, generator)
        n, k = world.num_envs, world.n_episodes
        self.belief = Regression(world.config, (n, k, world.n_assets), world.device)
        self.weight = torch.zeros(n, k, dtype=torch.float64, device=world.device)
        self.weight[:, 0] = 1.0
        self.number = torch.zeros(n, dtype=torch.int64, device=world.device)

    def see(self, before: EpisodeState, actions: Tensor, reached: EpisodeState, ended: Tensor) -> None:
        """Weigh the hypotheses by what was shown, then let each take it in; open a new one at an episode's end."""
        x, r, seen = (reached[k][:, None] for k in ("before", "shown", "seen"))
        mean, variance = self.belief.predict(x)
        total = variance.double() + self.world.config.noise_sd**2
        log_p = -0.5 * ((r - mean).double().square() / total + total.log()) * seen
        weight = self.weight * (log_p.sum(2) - log_p.sum(2).amax(1, keepdim=True)).exp()
        self.weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-300)
        self.belief.add(x, r, seen)
        self.number = self.number + ended.long()
        slot = torch.nn.functional.one_hot(self.number.clamp(max=self.world.n_episodes - 1), self.weight.shape[1])
        opened = (slot * ended[:, None]).bool()
        chance = torch.where(opened, self.hazard, (1.0 - self.hazard) * self.weight)
        self.weight = torch.where(ended[:, None], chance, self.weight)
        self.belief.sums = self.belief.sums * ~opened[:, :, None]

    def believes(self, env: int) -> dict[str, Any]:
        """Return mean and deviation of each asset's drift and effect under the mixture, see `_moments`."""
        weight = self.weight[env, :, None]
        mu, alpha, v_mu, v_alpha, _ = (x[env] for x in self.belief.posterior())
        means = [(weight * m).sum(0) for m in (mu, alpha)]
        variances = [
            (weight * (v + (m - mean).square())).sum(0)
            for v, m, mean in zip((v_mu, v_alpha), (mu, alpha), means, strict=True)
        ]
        return _moments(*means, *variances)

    def learned(self) -> dict[str, Tensor]:
        """Return sums and weights of all hypotheses."""
        return {"sums": self.belief.sums.movedim(0, 1), "weight": self.weight, "number": self.number}

    def put_back(self, learned: dict[str, Tensor]) -> None:
        """Know these."""
        self.belief.sums = learned["sums"].movedim(1, 0)
        self.weight, self.number = learned["weight"], learned["number"]

    def worth(self) -> Tensor:
        """Return the expected growth under the mixture."""
        mean, variance = self.belief.predict(self.world.state["signal"][:, None])
        weight = self.weight[:, :, None].float()
        mixed = (weight * mean).sum(1)
        spread = (weight * (variance + (mean - mixed[:, None]).square())).sum(1)
        noise = self.world.config.noise_sd**2
        if self.optimism == 0.0:
            return log_growth(mixed, spread + noise)
        return log_growth(mixed + self.optimism * spread.sqrt(), torch.full_like(mixed, noise))


def policies(config: AssetsConfig) -> dict[str, Callable[[], Policy]]:
    """Return makers of the reference policies by name."""
    found: dict[str, Callable[[], Policy]] = {
        "random": Random,
        "non_adaptive": Cash,
        "buy_and_hold": BuyAndHold,
        "reactive": lambda: Bayes(last_only=True),
        "forgetful_greedy": lambda: Bayes(forget=True),
        "forgetful": lambda: Bayes(EAGER_FORGETFUL[config.feedback], forget=True),
        "bayes_greedy": Bayes,
        "bayes_optimistic": lambda: Bayes(EAGER[config.feedback]),
        "thompson": Thompson,
        "oracle": Oracle,
    }
    if config.shift:
        found["bayes_hazard"] = lambda: HazardBayes(optimism=0.5 if config.feedback == "held" else 0.0)
    return found


EAGER = {"full": 0.1, "held": 0.8}
EAGER_FORGETFUL = {"full": 0.0, "held": 0.6}
"""Optimism that did best among 0, 0.1, 0.2, ... 1.5 in 2048 training trials."""
