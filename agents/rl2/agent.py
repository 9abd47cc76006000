"""RL²: a recurrent policy that learns to learn by being trained, with PPO, on whole trials.

Duan et al. 2016 (arXiv:1611.02779) and Wang et al. 2016 (arXiv:1611.05763). The memory sees observation, previous
action, previous reward and previous end-of-episode flag, those of an episode's last step included, and lives through
all episodes of a trial. The objective is the return of the whole trial: advantages run across episode boundaries.

Deviations from Duan et al.: PPO (arXiv:1707.06347) in place of TRPO; inputs are standardised by running statistics;
orthogonal weights without weight normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metarl import spaces as flat
from metarl.agent import ActOutput, Savable, State, TimeStep, WorldSpec
from metarl.agents.memory.recurrent import AuxiliaryLossCore, CoreSize, RecurrentNet
from metarl.agents.nn.action_head import ActionHead
from metarl.agents.nn.normaliser import Normaliser
from metarl.agents.nn.reward_scale import ClassScale, TrialScale, check_dense_reward, objective_reward
from metarl.agents.ppo import Optimiser, RunningMoments, Targets, ValueScale, explained_variance, minibatches, ppo_loss
from metarl.deprecated import renamed_fields
from metarl.distributed import group
from metarl.errors import CheckpointError, ConfigError, shortened
from metarl.returns import gae, standardise
from metarl.rollout import Rollout, Trial
from metarl.seeding import generator as stream

from .auxiliary_losses import AuxiliaryLosses
from .config import RL2Settings
from .row_net import RowNet, make_net

INPUT_CLIP = 10.0
"""Largest standardised observation entry or reward that the memory sees."""


@renamed_fields(foresight_coef="reward_prediction_coef", inference_coef="task_inference_coef")
@dataclass(frozen=True)
class RL2Config(RL2Settings):
    """Settings of RL²-PPO, and the agent that they make."""

    def build(self, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> RL2:
        """Return the agent with weights that follow from `seed`.

        Raises: ConfigError for an observation or action space without a flat view or distribution, or
        `dense_reward` in a world that has none.
        """
        return RL2(self, spec, seed=seed, device=device)


@dataclass(frozen=True)
class _Batch:
    """A batch of whole trials: what one update walks through. All tensors are [T, B, ...]."""

    inputs: Tensor
    action: Tensor
    action_mask: Tensor | None
    targets: Targets
    auxiliary: dict[str, Tensor]

    def pick(self, index: tuple[Any, ...]) -> _Batch:
        mask = None if self.action_mask is None else self.action_mask[index]
        auxiliary = {k: v[index] for k, v in self.auxiliary.items()}
        return _Batch(self.inputs[index], self.action[index], mask, self.targets.pick(index), auxiliary)


class RL2(Savable):
    """The agent. A trial's state is its memory, where zeros mean that nothing is known.

    "h" [N, hidden]; for an LSTM also "c", for others what their cores say; with `see_transition` also "prev_obs"
    [N, obs_dim]; with `reward_input` "trial" also the sums that scale the trial's rewards.
    """

    name = "rl2"
    parallel_episodes = False
    learning_state = ("optimiser",)

    def __init__(self, config: RL2Config, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> None:
        """Build networks, optimiser and statistics; raises ConfigError for unsupported spaces."""
        self.config, self.spec, self.device = config, spec, torch.device(device)
        self.train_phases = (config.episodes_per_trial,)
        check_dense_reward(config.dense_reward, spec, "rl2")
        self._head = ActionHead(
            spec.action_space, init_std=config.init_std, min_std=config.min_std,
            state_dependent_std=config.state_dependent_std, device=self.device,
        )  # fmt: skip
        self.distribution = self._head.distribution
        self._auxiliary = AuxiliaryLosses(
            spec,
            self._head.n_outputs,
            reward_prediction_coef=config.reward_prediction_coef,
            task_inference_coef=config.task_inference_coef,
        )
        self.needs_privileged_info = config.task_inference_coef > 0
        self._has_auxiliary = config.reward_prediction_coef > 0 or config.task_inference_coef > 0
        self.adapts_within_episode = config.memory != "none"
        n_policy, n_times = self._auxiliary.task_inference.stop, config.episodes_per_trial * spec.horizon
        shared = not config.separate_value

        def net(role: str, n_outputs: int, gains: list[float]) -> RecurrentNet | RowNet:
            return make_net(
                config.rows, spec, (1 + config.see_transition) * spec.obs_dim + spec.action_dim + 2, n_outputs,
                per_action=self._auxiliary.per_action if role == "policy" else [],
                core=lambda n, g: config.memory_config.build(
                    CoreSize(n, config.hidden, n_times, g, self.device, config.memory_steps, spec)
                ), encoder=config.encoder,
                layer_norm=config.layer_norm, readout=config.readout, head_gains=gains,
                generator=stream(seed, "rl2", role), device=self.device,
            )  # fmt: skip

        self.network = net("policy", n_policy + shared, [0.01] * n_policy + [1.0] * shared)
        self._value = None if shared else net("value", 1, [1.0])
        self._modules = nn.ModuleDict({"policy": self.network, "head": self._head})
        if self._value is not None:
            self._modules["value"] = self._value
        self._optimiser = Optimiser(list(self._modules.parameters()), config.ppo)
        self._obs_moments = RunningMoments((spec.obs_dim,), rate=0.01, device=self.device)
        self._reward_moments = RunningMoments((), rate=0.01, device=self.device)
        self.normaliser = Normaliser(config.normaliser, spec.obs_dim, self.device)
        self._trial_scale = TrialScale(self.device) if config.reward_input == "trial" else None
        self._class_scale = ClassScale(self.device) if config.reward_objective == "class" else None
        self._value_scale = ValueScale(config.ppo, self.device, n_times)

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        """Return one phase of all episodes: the memory adapts at every step, `adapt` has nothing to add."""
        return (n_episodes,) if n_episodes else ()

    def init(self, n_tasks: int) -> State:
        """Return empty memories."""
        state = self.network.core.start(n_tasks)
        if self.config.see_transition:
            state["prev_obs"] = torch.zeros(n_tasks, self.spec.obs_dim, device=self.device)
        if self._trial_scale is not None:
            state |= self._trial_scale.start(n_tasks)
        return state

    def _inputs(
        self, obs: Tensor, prev_action: Tensor, prev_reward: Tensor, prev_done: Tensor, prev_obs: Tensor | None
    ) -> Tensor:
        """Return what the memory sees, [..., n_inputs]; the one place that decides it.

        `prev_reward` is raw, or in units of the trial where `reward_input` says so.
        """
        reward, plain = prev_reward * self.config.reward_scale, self.config.normalise_inputs
        seen = [obs] if prev_obs is None else [obs, prev_obs]
        if self.normaliser.enabled:
            seen = [self.normaliser(x) for x in seen]
        elif plain:
            mean, std = self._obs_moments.mean, self._obs_moments.std
            seen = [((x - mean) / std).clamp(-INPUT_CLIP, INPUT_CLIP) for x in seen]
        if self._trial_scale is not None:
            reward = reward.clamp(-INPUT_CLIP, INPUT_CLIP)
        elif plain:
            reward = (reward / self._reward_moments.rms).clamp(-INPUT_CLIP, INPUT_CLIP)
        return torch.cat([*seen, prev_action, reward.unsqueeze(-1), prev_done.to(obs.dtype).unsqueeze(-1)], dim=-1)

    @torch.no_grad()
    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        """Choose one action per trial and remember the step; aux: "value" [B], raw, if the head shares it."""
        prev_reward, sums = step.prev_reward, State()
        if self._trial_scale is not None:
            prev_reward, sums = self._trial_scale.step(prev_reward, state)
        x = self._inputs(step.obs, step.prev_action, prev_reward, step.prev_done, state.get("prev_obs"))
        out, memory = self.network.step(x, {k: state[k] for k in self.network.core.keys})
        memory = {**memory, **sums}
        if self.config.see_transition:
            memory["prev_obs"] = step.obs
        params = self._head(out, step.action_mask)
        aux = {} if self._value is not None else {"value": out[..., -1]}
        if greedy:
            action = self.distribution.mode(params)
            log_prob = torch.zeros(len(x), device=self.device)
        else:
            action = self.distribution.sample(params, generator)
            log_prob = self.distribution.log_prob(params, action)
        return memory, ActOutput(self._head.world_action(action), log_prob, aux)

    def adapt(self, state: State, rollout: Rollout) -> State:
        """Return the memory as it is: it took everything in while acting."""
        return state

    def sequence_inputs(self, rollout: Rollout) -> Tensor:
        """Return what the memory saw during a rollout that opens a trial: [T, B, inputs], standardised as of now."""
        start = rollout.start
        flat_action = flat.flatten(self.spec.action_space, rollout.action, batch_dims=2)
        prev_action = torch.cat([start.prev_action[None], flat_action[:-1]])
        prev_reward = torch.cat([start.prev_reward[None], rollout.shown_reward[:-1]])
        if self._trial_scale is not None:
            counts = torch.cat([torch.ones_like(rollout.valid[:1]), rollout.valid[:-1]])
            prev_reward = self._trial_scale.sequence(torch.where(counts, prev_reward, 0.0))
        prev_done = torch.cat([start.prev_done[None], rollout.last[:-1]])
        prev_obs = None
        if self.config.see_transition:
            prev_obs = torch.cat([torch.zeros_like(rollout.obs[:1]), rollout.obs[:-1]])
        return self._inputs(rollout.obs, prev_action, prev_reward, prev_done, prev_obs)

    def value_in_returns(self, head_value: Tensor) -> Tensor:
        """Return what the value head said about the steps of a trial [T, B] in units of a return of the objective."""
        return self._value_scale.to_return(head_value)

    def evaluate_actions(
        self, inputs: Tensor, action: Tensor, action_mask: Tensor | None, memories: dict[str, State]
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, State]]:
        """Return log-probability, entropy and head value [T, B] of a stretch of trials, and the memories after it.

        `memories` holds the memory before the stretch per network: "policy" and, if it has its own, "value".
        """
        out, value, after = self._unroll(inputs, memories)
        params = self._head(out, action_mask)
        return self.distribution.log_prob(params, action), self.distribution.entropy(params), value, after

    def _unroll(self, inputs: Tensor, memories: dict[str, State]) -> tuple[Tensor, Tensor, dict[str, State]]:
        """Return the network's outputs and the head value along a stretch of trials, and the memories after it."""
        out, memory = self.network.unroll(inputs, memories["policy"])
        after, value = {"policy": memory}, out[..., -1]
        if self._value is not None:
            read, after["value"] = self._value.unroll(inputs, memories["value"])
            value = read[..., 0]
        return out, value, after

    def start_memories(self, n_trials: int) -> dict[str, State]:
        """Return the empty memories that `evaluate_actions` starts a trial from."""
        nets = {"policy": self.network} | ({} if self._value is None else {"value": self._value})
        return {name: net.core.start(n_trials) for name, net in nets.items()}

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        """Run PPO on a batch of whole trials.

        Minibatches are sets of whole trials. With `bptt_steps`, each is walked through in chunks: chunk c starts from
        the memory that the *current* parameters produced over chunk c - 1 in this very pass, with the gradient cut
        there; the chunks' gradients add up to one optimiser step, so no carry is ever stale. Running statistics change
        after the pass, hence the first minibatch sees probability ratios of exactly 1.

        Raises: ConfigError unless the trial has the one phase of `train_phases`.
        """
        if len(trial.rollouts) != 1:
            raise ConfigError(f"rl2 trains on trials of one phase, got {len(trial.rollouts)}; use agent.train_phases")
        rollout = trial.query
        batch, metrics = self._prepare(rollout, self._objective_reward(trial))
        sums: list[dict[str, Tensor]] = []
        for shares in minibatches(rollout.obs.shape[1], self.config.ppo, generator, self.device):
            for rows in shares:
                whole = len(shares) == 1
                sums.append(self._minibatch(batch if whole else batch.pick((slice(None), rows)), generator))
        metrics |= {k: torch.stack([s[k] for s in sums]).mean() for k in sums[0]}
        metrics["kl"] = sums[-1]["kl"]
        if self.config.normalise_inputs:
            self._obs_moments.update(rollout.obs, rollout.valid)
            self._reward_moments.update(rollout.reward * self.config.reward_scale, rollout.valid)
        if self.normaliser.enabled:
            self.normaliser.update(rollout)
        self._optimiser.end_update()
        return dict(zip(metrics, torch.stack([v.float() for v in metrics.values()]).tolist(), strict=True))

    def _objective_reward(self, trial: Trial) -> Tensor:
        """Return the reward that the update maximises, [T, B].

        A class's scale takes the batch in first: nothing that acted depended on it, and the first batch needs one too.
        """
        rollout = trial.query
        reward = objective_reward(rollout, dense=True) if self.config.dense_reward else rollout.reward
        if self._class_scale is None:
            return reward
        self._class_scale.update(reward, rollout.valid, trial.tasks.groups)
        return self._class_scale(reward, trial.tasks.groups)

    @torch.no_grad()
    def _prepare(self, rollout: Rollout, reward: Tensor) -> tuple[_Batch, dict[str, Tensor]]:
        """Compute all that stays fixed during an update: inputs, and advantages and value targets of `reward`."""
        ppo, valid = self.config.ppo, rollout.valid
        inputs = self.sequence_inputs(rollout)
        if self._value is None:
            head = rollout.aux["value"]
        else:
            head = self._value.unroll(inputs, self._value.core.start(inputs.shape[1]))[0][..., 0]
        value = self.value_in_returns(head)
        advantage = trial_advantages(reward, value, valid, ppo.gamma, ppo.lam)
        returns = torch.where(valid, advantage + value, torch.zeros_like(value))
        head_layer = (self._value or self.network).head
        self._value_scale.update(returns, valid, head_layer.weight[-1], head_layer.bias[-1])
        metrics = {"explained_variance": explained_variance(value, returns, valid), "advantage": advantage.abs().mean()}
        if ppo.standardise_advantages:
            advantage = standardise(advantage, valid, dims=(0, 1))
        targets = Targets(rollout.log_prob, advantage, self._value_scale.to_head(returns), valid)
        auxiliary = self._auxiliary.targets(rollout, reward) if self._has_auxiliary else {}
        return _Batch(
            inputs, self._head.flat_action(rollout.action, batch_dims=2), rollout.action_mask, targets, auxiliary
        ), metrics

    def _minibatch(self, batch: _Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one optimiser step, each process on its share of the trials; return metrics per valid step."""
        n_steps, n_trials = batch.inputs.shape[:2]
        count, team, whole = batch.targets.valid.sum().clamp(min=1).float(), group().over(n_trials), batch
        if team.size > 1:
            batch = whole.pick((slice(None), team.share(n_trials)))
        memories, totals = self.start_memories(batch.inputs.shape[1]), dict[str, Tensor]()
        chunk = self.config.bptt_steps or n_steps
        self._optimiser.zero_grad()
        if isinstance(self.network.core, AuxiliaryLossCore):
            # It compares trials, so that all processes hold all of it.
            core_loss = self.network.core.auxiliary_loss(whole.inputs, generator)
            if core_loss is not None:
                (core_loss / team.size).backward()  # type: ignore[no-untyped-call]
                totals["memory_lesson"] = core_loss.detach() * count / team.size
        for begin in range(0, n_steps, chunk):
            part = batch if chunk >= n_steps else batch.pick((slice(begin, begin + chunk),))
            out, value, memories = self._unroll(part.inputs, memories)
            params = self._head(out, part.action_mask)
            log_prob, entropy = self.distribution.log_prob(params, part.action), self.distribution.entropy(params)
            memories = {name: {k: v.detach() for k, v in m.items()} for name, m in memories.items()}
            loss, sums = ppo_loss(
                log_prob, entropy, value, part.targets, self.config.ppo, entropy_coef=self._optimiser.entropy_coef
            )
            if self._has_auxiliary:
                auxiliary_loss, errors = self._auxiliary.loss(out, part.auxiliary, part.targets.valid)
                loss, sums = loss + auxiliary_loss, sums | errors
            (loss / count).backward()  # type: ignore[no-untyped-call]
            totals |= {k: v + totals.get(k, 0.0) for k, v in sums.items()}
        totals = team.total_gradients(self._optimiser.params, totals)
        return {k: v / count for k, v in totals.items()} | {"grad_norm": self._optimiser.step()}

    def _parts(self) -> dict[str, Any]:
        scale = {} if self._class_scale is None else {"class_scale": self._class_scale}
        return {
            "optimiser": self._optimiser, "obs_moments": self._obs_moments, "reward_moments": self._reward_moments,
            "value_scale": self._value_scale, **scale,
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser state and running statistics, copied."""
        weights = {k: v.detach().clone() for k, v in self._modules.state_dict().items()}
        parts = {k: v.state_dict() for k, v in self._parts().items()}
        return {"weights": weights} | parts | (self.normaliser.state_dict() if self.normaliser.enabled else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit; raises CheckpointError if it belongs to other settings."""
        try:
            self._modules.load_state_dict(state["weights"])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"this checkpoint does not fit the rl2 agent of this config: {shortened(error)}"
            ) from error
        for key, part in self._parts().items():
            part.load_state_dict(state.get(key, {}) if key == "class_scale" else state[key])
        self.normaliser.load_state_dict(state)


def trial_advantages(reward: Tensor, value: Tensor, valid: Tensor, gamma: float, lam: float) -> Tensor:
    """Return the generalised advantage [T, B] of the *trial's* return: episode ends neither cut the sum nor the value.

    What an episode teaches pays off in later ones, so a step is credited with them too (Duan et al. 2016, section 2.2).
    The trial's own end is final: nothing is bootstrapped there. Steps that are not valid count as 0.
    """
    zero = torch.zeros_like(value)
    reward, value = torch.where(valid, reward, zero), torch.where(valid, value, zero)
    next_value = torch.cat([value[1:], zero[:1]])
    never = torch.zeros_like(valid)
    return gae(reward, value, next_value, never, never, gamma, lam)
