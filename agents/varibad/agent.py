"""VariBAD: a policy that acts on a belief about the task, learnt by predicting what the task will pay.

Zintgraf et al. 2020 (arXiv:1910.08348). A recurrent encoder turns the trial so far into a Gaussian belief over a latent
m at every step (`metarl.agents.varibad.vae`); the policy sees the observation and that belief, mean and log variance,
hence plays the Bayes-adaptive MDP. Policy and value learn by PPO on whole trials, encoder and decoders by the ELBO on
the latest trials kept in a buffer of their own. The policy's loss does not reach the encoder unless
`rl_through_encoder` asks for it.

Deviations from the authors' code: the encoder also sees the observation a transition started from and whether it ended
an episode, because at an episode's end the next observation it is given is the first one of the *next* episode;
advantages run across episode ends, as for RL²; no belief is inferred after a trial's last transition, since nothing is
decided there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metarl import spaces as flat
from metarl.agent import ActOutput, Savable, State, TimeStep, WorldSpec
from metarl.agents.nn.action_head import ActionHead
from metarl.agents.nn.normaliser import Normaliser, NormaliserConfig
from metarl.agents.nn.reward_scale import check_dense_reward, objective_reward
from metarl.agents.ppo import (
    Optimiser,
    PPOConfig,
    RunningMoments,
    Targets,
    ValueScale,
    explained_variance,
    minibatches,
    ppo_loss,
)
from metarl.agents.rl2.agent import INPUT_CLIP, trial_advantages
from metarl.checks import check_layers, check_ranges
from metarl.distributed import group
from metarl.errors import CheckpointError, ConfigError, shortened
from metarl.returns import masked_mean, standardise
from metarl.rollout import Rollout, Trial
from metarl.seeding import generator as stream

from .trial_buffer import TrialBuffer
from .vae import (
    Belief,
    BeliefEncoder,
    Decoder,
    Mlp,
    VAEConfig,
    belief_kl,
    log_likelihood,
    negative_elbo,
    reconstruction,
)

Rows = Mapping[str, Tensor]
"""Trials by name, time first: "obs", "next_obs" [T, B, obs_dim], "action" [T, B, action_dim] (flat), "reward",
"done", "valid" [T, B]; raw units."""


@dataclass(frozen=True)
class VariBADConfig:
    """Settings of VariBAD."""

    algorithm: ClassVar[str] = "varibad"

    episodes_per_trial: int = 4
    """Episodes of a training trial, >= 1; the belief lives through all of them."""
    hidden: tuple[int, ...] = (64,)
    """Units of the policy's tanh layers; the value function has as many of its own."""
    vae: VAEConfig = field(default_factory=VAEConfig)
    """Settings of encoder and decoders."""
    rl_through_encoder: bool = False
    """Let the policy's loss train the encoder too."""
    dense_reward: bool = False
    """Maximise the world's `info["dense_reward"]`. Encoder and decoders see, and scores count, its reward in any
    case."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """Settings of the policy's update."""
    normaliser: NormaliserConfig = field(default_factory=lambda: NormaliserConfig(observations=True))
    """Units of observations, for all networks."""
    init_std: float = 1.0
    """Initial standard deviation of Box actions, in units of half the range of the Box (1 if unbounded), > 0."""
    min_std: float = 0.05
    """Least standard deviation of Box actions, in the same unit, > 0."""

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        check_layers(self, "varibad.", "hidden")
        check_ranges(self, "varibad.", {">= 1": "episodes_per_trial", "> 0 and finite": "init_std min_std"})

    def build(self, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> VariBAD:
        """Return the agent with weights that follow from `seed`.

        Raises: ConfigError for an observation or action space without a flat view or distribution, or
        `dense_reward` in a world that has none.
        """
        return VariBAD(self, spec, seed=seed, device=device)


@dataclass(frozen=True)
class _Batch:
    """What one PPO update walks through: whole trials, [T, B, ...]."""

    obs: Tensor
    belief: Tensor
    transitions: Tensor
    action: Tensor
    action_mask: Tensor | None
    targets: Targets

    def pick(self, rows: Tensor) -> _Batch:
        mask = None if self.action_mask is None else self.action_mask[:, rows]
        obs, belief, transitions, action = (x[:, rows] for x in (self.obs, self.belief, self.transitions, self.action))
        return _Batch(obs, belief, transitions, action, mask, self.targets.pick((slice(None), rows)))


class VariBAD(Savable):
    """The agent. A trial's state: "h" [N, hidden], the encoder's memory; "prev_obs" [N, obs_dim]; "begun" bool [N].

    Zeros mean that nothing is known: the belief is then the one before any transition.
    """

    name = "varibad"
    parallel_episodes = False
    learning_state = ("optimiser", "vae_adam", "buffer")

    def __init__(
        self, config: VariBADConfig, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        """Build networks, optimisers and an empty buffer; raises ConfigError for unsupported spaces."""
        self.config, self.spec, self.device = config, spec, torch.device(device)
        self.train_phases: tuple[int, ...] = (config.episodes_per_trial,)
        check_dense_reward(config.dense_reward, spec, "varibad")
        self._head = ActionHead(
            spec.action_space, init_std=config.init_std, min_std=config.min_std, device=self.device
        )  # fmt: skip
        self.distribution = self._head.distribution
        vae, seen = config.vae, spec.obs_dim + 2 * config.vae.latent

        def mlp(role: str, n_outputs: int, gain: float) -> Mlp:
            weights = stream(seed, "varibad", role)
            sizes = (seen, *config.hidden, n_outputs)
            return Mlp(sizes, weights, self.device, activation="tanh", last_gain=gain)

        def decoder(role: str, n_inputs: int, n_outputs: int) -> Decoder:
            return Decoder(vae, n_inputs, n_outputs, stream(seed, "varibad", role), self.device)

        n_transition = 2 * spec.obs_dim + spec.action_dim
        self.encoder = BeliefEncoder(vae, n_transition + 2, stream(seed, "varibad", "encoder"), self.device)
        self._policy, self._value = mlp("policy", self._head.n_outputs, 0.01), mlp("value", 1, 1.0)
        self.decoders = nn.ModuleDict()
        if vae.reward_coef:
            n_inputs = spec.obs_dim if vae.reward_from == "next_obs" else n_transition
            self.decoders["reward"] = decoder("reward", n_inputs, 1)
        if vae.state_coef:
            self.decoders["state"] = decoder("state", spec.obs_dim + spec.action_dim, spec.obs_dim)
        actor = nn.ModuleDict({"policy": self._policy, "value": self._value, "head": self._head})
        self.modules = nn.ModuleDict({"encoder": self.encoder, "actor": actor, "decoders": self.decoders})
        acting = list(actor.parameters())
        inferring = list(self.encoder.parameters())
        self._optimiser = Optimiser(acting + inferring * config.rl_through_encoder, config.ppo)
        self._vae_params = inferring + list(self.decoders.parameters())
        self._vae_adam = torch.optim.Adam(self._vae_params, lr=vae.lr)
        n_times = config.episodes_per_trial * spec.horizon
        self.buffer = TrialBuffer(vae.buffer_trials, n_times, self.device)
        self.normaliser = Normaliser(config.normaliser, spec.obs_dim, self.device)
        self._reward_moments = RunningMoments((), rate=0.01, device=self.device)
        self._value_scale = ValueScale(config.ppo, self.device, n_times)

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        """Return one phase of all episodes: the belief moves at every step, `adapt` has nothing to add."""
        return (n_episodes,) if n_episodes else ()

    # --- acting -----------------------------------------------------------------------------------------------------

    def init(self, n_tasks: int) -> State:
        """Return the state before any transition."""
        prev_obs = torch.zeros(n_tasks, self.spec.obs_dim, device=self.device)
        begun = torch.zeros(n_tasks, dtype=torch.bool, device=self.device)
        return {**self.encoder.start(n_tasks), "prev_obs": prev_obs, "begun": begun}

    def belief(self, state: State) -> Belief:
        """Return what a state believes about its N tasks."""
        return self.encoder.belief(state["h"])

    def reward_in_units(self, reward: Tensor) -> Tensor:
        """Return rewards in units of their running root mean square, clipped: as encoder and decoder see them."""
        return (reward / self._reward_moments.rms).clamp(-INPUT_CLIP, INPUT_CLIP)

    def _transition(self, obs: Tensor, action: Tensor, reward: Tensor, done: Tensor, seen_next: Tensor) -> Tensor:
        """Return transitions as the encoder sees them: [..., n_inputs]; the one place that decides it."""
        told = torch.stack([self.reward_in_units(reward), done.to(obs.dtype)], dim=-1)
        return torch.cat([self.normaliser(obs), action, self.normaliser(seen_next), told], dim=-1)

    def _decide(self, obs: Tensor, belief: Tensor, action_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return distribution parameters and the value head's output for observations in the networks' units."""
        x = torch.cat([obs, belief], dim=-1)
        return self._head(self._policy(x), action_mask), self._value(x)[..., 0]

    @torch.no_grad()
    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        """Take in the transition that ended here, then choose; aux: "value" [B] (head's units), "belief" [B, 2 latent].

        The belief outlives the ends of episodes; it starts afresh only from `init`.
        """
        x = self._transition(state["prev_obs"], step.prev_action, step.prev_reward, step.prev_done, step.obs)
        memory = self.encoder.step(x, {"h": state["h"]})
        h = torch.where(state["begun"][:, None], memory["h"], state["h"])
        belief = self.encoder.belief(h).flat()
        params, value = self._decide(self.normaliser(step.obs), belief, step.action_mask)
        if greedy:
            action, log_prob = self.distribution.mode(params), torch.zeros(len(h), device=self.device)
        else:
            action = self.distribution.sample(params, generator)
            log_prob = self.distribution.log_prob(params, action)
        after = {"h": h, "prev_obs": step.obs, "begun": torch.ones_like(state["begun"])}
        return after, ActOutput(self._head.world_action(action), log_prob, {"value": value, "belief": belief})

    def adapt(self, state: State, rollout: Rollout) -> State:
        """Return the state as it is: it took everything in while acting."""
        return state

    # --- learning ---------------------------------------------------------------------------------------------------

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        """Run PPO on a batch of whole trials, store them, then train encoder and decoders on stored trials.

        Metrics of PPO as for RL²; `elbo` (with the KL's weight); `reward_log_prob` and `state_log_prob` (nats per
        transition decoded); `belief_kl` (nats per step); `belief_std` (mean over dimensions, last steps).

        Raises: ConfigError unless the trial has the one phase of `train_phases`.
        """
        if len(trial.rollouts) != 1:
            raise ConfigError(
                f"varibad trains on trials of one phase, got {len(trial.rollouts)}; use agent.train_phases"
            )
        rollout = trial.query
        metrics = self._improve_policy(rollout, generator)
        self.buffer.add(self.rows(rollout))
        if self._reward_moments.count == 0:  # rewards need units before the first of them is decoded
            self._reward_moments.update(rollout.reward, rollout.valid)
        sums = [self.improve_vae(generator) for _ in range(self.config.vae.updates)]
        metrics |= {k: torch.stack([s[k] for s in sums]).mean() for k in sums[0]}
        self._reward_moments.update(rollout.reward, rollout.valid)
        self.normaliser.update(rollout)
        self._optimiser.end_update()
        return dict(zip(metrics, torch.stack([v.float() for v in metrics.values()]).tolist(), strict=True))

    def rows(self, rollout: Rollout) -> dict[str, Tensor]:
        """Return a rollout that opens its trials as the buffer stores it."""
        action = flat.flatten(self.spec.action_space, rollout.action, batch_dims=2)
        kept = {"obs": rollout.obs, "next_obs": rollout.next_obs, "action": action, "reward": rollout.reward}
        return kept | {"done": rollout.last, "valid": rollout.valid}

    def transitions(self, rows: Rows) -> Tensor:
        """Return what the encoder saw between the T decisions of trials: [T - 1, B, n_inputs]."""
        obs, action, reward, done = (rows[k][:-1] for k in ("obs", "action", "reward", "done"))
        shown = reward if self.spec.reward_observable else torch.zeros_like(reward)
        return self._transition(obs, action, shown, done, rows["obs"][1:])

    @torch.no_grad()
    def _prepare(self, rollout: Rollout) -> tuple[_Batch, dict[str, Tensor]]:
        """Compute all that stays fixed during PPO."""
        ppo, valid = self.config.ppo, rollout.valid
        value = self._value_scale.to_return(rollout.aux["value"])
        reward = objective_reward(rollout, dense=self.config.dense_reward)
        advantage = trial_advantages(reward, value, valid, ppo.gamma, ppo.lam)
        returns = torch.where(valid, advantage + value, torch.zeros_like(value))
        self._value_scale.update(returns, valid, self._value.last.weight[0], self._value.last.bias[0])
        metrics = {"explained_variance": explained_variance(value, returns, valid), "advantage": advantage.abs().mean()}
        if ppo.standardise_advantages:
            advantage = standardise(advantage, valid, dims=(0, 1))
        targets = Targets(rollout.log_prob, advantage, self._value_scale.to_head(returns), valid)
        obs, belief = self.normaliser(rollout.obs), rollout.aux["belief"]
        action = self._head.flat_action(rollout.action, batch_dims=2)
        transitions = self.transitions(self.rows(rollout))
        return _Batch(obs, belief, transitions, action, rollout.action_mask, targets), metrics

    def _improve_policy(self, rollout: Rollout, generator: torch.Generator) -> dict[str, Tensor]:
        """Run PPO over sets of whole trials; return metrics per valid step."""
        batch, metrics = self._prepare(rollout)
        sums: list[dict[str, Tensor]] = []
        for shares in minibatches(rollout.obs.shape[1], self.config.ppo, generator, self.device):
            sums += [self._minibatch(batch if len(shares) == 1 else batch.pick(rows)) for rows in shares]
        metrics |= {k: torch.stack([s[k] for s in sums]).mean() for k in sums[0]}
        return metrics | {"kl": sums[-1]["kl"]}

    def _minibatch(self, batch: _Batch) -> dict[str, Tensor]:
        n_trials, count = batch.obs.shape[1], batch.targets.valid.sum().clamp(min=1).float()
        team = group().over(n_trials)
        if team.size > 1:
            batch = batch.pick(torch.arange(n_trials, device=self.device)[team.share(n_trials)])
        belief = batch.belief
        if self.config.rl_through_encoder:
            belief = self.encoder.beliefs(batch.transitions).flat()
        params, value = self._decide(batch.obs, belief, batch.action_mask)
        log_prob = self.distribution.log_prob(params, batch.action)
        loss, sums = ppo_loss(
            log_prob, self.distribution.entropy(params), value, batch.targets, self.config.ppo,
            entropy_coef=self._optimiser.entropy_coef,
        )  # fmt: skip
        self._optimiser.zero_grad()
        (loss / count).backward()  # type: ignore[no-untyped-call]
        sums = team.total_gradients(self._optimiser.params, sums)
        return {k: v / count for k, v in sums.items()} | {"grad_norm": self._optimiser.step()}

    def improve_vae(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one step on encoder and decoders with stored trials."""
        rows = self.buffer.sample(self.config.vae.batch_trials, generator)
        loss, metrics = self.vae_loss(rows, generator)
        self._vae_adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._vae_params, self.config.vae.max_grad_norm)
        self._vae_adam.step()
        return metrics

    def vae_loss(self, rows: Rows, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return minus the mean ELBO of trials, differentiable, and metrics (detached)."""
        vae, valid = self.config.vae, rows["valid"]
        beliefs = self.encoder.beliefs(self.transitions(rows))
        kl, n = belief_kl(beliefs), len(valid)
        prefixes = self._draw(n, vae.horizons, generator)
        at = self._draw(n, vae.decodes, generator)
        chosen = Belief(*(x[prefixes] for x in beliefs))
        noise = torch.randn(chosen.mean.shape, generator=generator, device=self.device)
        parts = self.log_likelihoods({k: v[at] for k, v in rows.items()}, chosen.sample(noise))
        coefs = {"reward": vae.reward_coef, "state": vae.state_coef}
        log_prob = torch.stack([coefs[k] * v for k, v in parts.items()]).sum(0)
        explained = reconstruction(log_prob, valid[at], weight=n / len(at))
        loss = negative_elbo(explained, kl[prefixes], valid[prefixes], vae.kl_weight)
        with torch.no_grad():
            pairs = valid[prefixes][:, None] & valid[at][None]
            metrics = {f"{k}_log_prob": masked_mean(v, pairs) for k, v in parts.items()}
            metrics |= {"elbo": -loss.detach(), "belief_kl": masked_mean(kl, valid)}
            metrics["belief_std"] = (0.5 * beliefs.log_var[-1]).exp().mean()
        return loss, metrics

    def _draw(self, n: int, most: int, generator: torch.Generator) -> Tensor:
        """Return all of 0 .. n - 1, or `most` different ones in order if that is fewer."""
        if n <= most:
            return torch.arange(n, device=self.device)
        drawn = torch.randperm(n, generator=generator, device=generator.device)[:most]
        return drawn.sort().values.to(self.device)

    def log_likelihoods(self, rows: Rows, m: Tensor) -> dict[str, Tensor]:
        """Return log p of the rewards (and next observations) of S transitions under K samples m: [K, S, B] each."""
        vae, found = self.config.vae, dict[str, Tensor]()
        obs, next_obs = self.normaliser(rows["obs"]), self.normaliser(rows["next_obs"])
        if "reward" in self.decoders:
            seen = next_obs if vae.reward_from == "next_obs" else torch.cat([obs, rows["action"], next_obs], dim=-1)
            coin = vae.reward_likelihood == "bernoulli"
            target = (rows["reward"] > 0).to(obs.dtype) if coin else self.reward_in_units(rows["reward"])
            found["reward"] = log_likelihood(self.decoders["reward"](seen, m), target[..., None], vae.reward_likelihood)
        if "state" in self.decoders:
            seen = torch.cat([obs, rows["action"]], dim=-1)
            found["state"] = log_likelihood(self.decoders["state"](seen, m), next_obs, "gaussian")
        return found

    # --- saving -----------------------------------------------------------------------------------------------------

    def _parts(self) -> dict[str, Any]:
        return {
            "optimiser": self._optimiser, "buffer": self.buffer, "reward_moments": self._reward_moments,
            "value_scale": self._value_scale,
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser states, statistics and the stored trials, copied."""
        weights = {k: v.detach().clone() for k, v in self.modules.state_dict().items()}
        parts = {k: v.state_dict() for k, v in self._parts().items()}
        own = {"weights": weights, "vae_adam": copy.deepcopy(self._vae_adam.state_dict())}
        return own | parts | self.normaliser.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit; raises CheckpointError if it belongs to other settings."""
        try:
            self.modules.load_state_dict(state["weights"])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"this checkpoint does not fit the varibad agent of this config: {shortened(error)}"
            ) from error
        for key, part in self._parts().items():
            part.load_state_dict(state[key])
        self._vae_adam.load_state_dict(copy.deepcopy(state["vae_adam"]))
        self.normaliser.load_state_dict(state)
