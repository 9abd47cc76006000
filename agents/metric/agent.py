"""Adaptation by similarity: a new task starts from the policies of the known tasks that look most like it.

Meta-training keeps a library of policies, one for each of a number of training tasks, and one average-task policy that
is trained on all of them. A trial opens with the average-task policy; the transitions of that phase become a point in a
learned space (`metarl.agents.metric.task_metric`), and the nearest points of the library say which policies to start
from. Later phases of adaptation are policy gradient steps on their own episodes. The metric is a Siamese network
(Hadsell et al. 2006, contrastive loss) or a matching network (Vinyals et al. 2016, arXiv:1606.04080).

Which task is being played an agent learns only after the trial, from `Trial.tasks`. So a training query is played by
the policy that the metric has picked, and the own policy of the task learns from it by proximal policy optimisation
(Schulman et al. 2017, arXiv:1707.06347) with importance weights, bounded above, for actions that another one chose
(the decoupled objective of Hilton et al. 2021, arXiv:2110.00641). While policies are still alike the weights are near
1; once they differ, the metric has learnt to pick the own one. The share of tasks for which it does is
`own_slot_share`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from metarl.agent import ActOutput, Savable, State, TimeStep, WorldSpec
from metarl.agents.maml.inner_loop import Batch, gradient_step, make_batch
from metarl.agents.nn.functional import Params, PolicyNet
from metarl.agents.nn.normaliser import Normaliser
from metarl.agents.ppo import surrogate
from metarl.errors import CheckpointError, ConfigError
from metarl.returns import masked_mean
from metarl.rollout import Rollout, Trial
from metarl.seeding import generator as stream
from metarl.state import choose_rows, marked, unmarked

from .config import MetricSettings
from .policy_library import NO_SLOT, PolicyLibrary
from .policy_mixture import mixture_action, mixture_log_prob, mixture_outputs
from .task_metric import TaskMetric

__all__ = ["Metric", "MetricConfig"]

_PREFIX, _WEIGHT, _PHASES = "param/", "log-weight", "phases"


@dataclass(frozen=True)
class MetricConfig(MetricSettings):
    """Settings of the metric-based agent, and the agent that they make."""

    def build(self, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> Metric:
        """Return the agent with weights that follow from `seed`.

        Raises: ConfigError for an observation or action space without a flat view or distribution.
        """
        return Metric(self, spec, seed=seed, device=device)


class Metric(Savable):
    """The agent. A trial's state holds per task the parameters of K policies [N, K, ...] and their weights.

    "log-weight" [N, K]: of each policy in the mixture; "phases" int64 [N]: phases learnt from. K is 1 but for
    `initial` "actions".
    """

    name = MetricConfig.algorithm
    parallel_episodes = True
    learning_state = ("library/first", "library/second", "library/steps", "metric/adam")

    def __init__(self, config: MetricConfig, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> None:
        """See `MetricConfig.build`."""
        self.config, self.spec, self.device = config, spec, torch.device(device)
        self.train_phases: tuple[int, ...] = (config.support_episodes, config.episodes_per_step)
        self.net = PolicyNet(
            spec, hidden=config.hidden, activation=config.activation, init="orthogonal", last_gain=0.01,
            init_std=config.init_std, min_std=config.min_std,
        )  # fmt: skip
        self.metric = TaskMetric(config, spec, stream(seed, self.name, "reader"), self.device)
        self.library = PolicyLibrary(
            config.n_library, self.net.init(stream(seed, self.name, "policy"), self.device),
            (config.contexts_per_task, config.context_size, self.metric.width),
            lr=config.policy_lr, max_grad_norm=config.max_grad_norm, device=self.device,
        )  # fmt: skip
        self.normaliser = Normaliser(config.normaliser, spec.obs_dim, self.device)
        self._n_mixed = config.neighbours if config.initial == "actions" else 1
        self._n_updates = 0

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        """Return one phase for the metric to read, then one per fine-tuning; a single shorter one if there are fewer.

        Raises: ConfigError for a number of episodes that leaves a remainder.
        """
        first, each = self.config.support_episodes, self.config.episodes_per_step
        if n_episodes <= first:
            return (n_episodes,) if n_episodes else ()
        if (n_episodes - first) % each:
            raise ConfigError(
                f"metric adapts on {first} episodes and then on {each} at a time, which {n_episodes} adaptation "
                f"episodes do not fit; ask for {first + (n_episodes - first) // each * each}, or change "
                f"agent.episodes_per_step"
            )
        return (first, *[each] * ((n_episodes - first) // each))

    def init(self, n_tasks: int) -> State:
        """Return the average-task policy for each task."""
        return self.playing(torch.full((n_tasks,), self.library.average, device=self.device))

    def playing(self, rows: Tensor) -> State:
        """Return a state in which task i is played by row `rows[i]` (int64 [N]) of the library."""
        index = rows[:, None].expand(-1, self._n_mixed)
        log_weight = torch.full(index.shape, -torch.inf, device=self.device)
        log_weight[:, 0] = 0.0
        return self._state(self.library.rows(index), log_weight, torch.zeros_like(rows))

    @staticmethod
    def _state(phi: Params, log_weight: Tensor, phases: Tensor) -> State:
        return {**marked(_PREFIX, {k: v.detach() for k, v in phi.items()}), _WEIGHT: log_weight, _PHASES: phases}

    @torch.no_grad()
    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        """Sample from each task's own mixture; greedy takes the mode of its weightiest policy. The state stays."""
        n_tasks, mask = len(state[_PHASES]), step.action_mask
        grouped = None if mask is None else mask.reshape(n_tasks, -1, mask.shape[-1])
        obs = self.normaliser(step.obs).reshape(n_tasks, -1, step.obs.shape[-1])
        out = mixture_outputs(self.net, unmarked(_PREFIX, state), obs, grouped)
        log_weight, distribution = state[_WEIGHT], self.net.distribution
        action = mixture_action(distribution, out, log_weight, None if greedy else generator)
        world_action = self.net.world_action(action.flatten(0, 1))
        if greedy:
            return state, ActOutput(world_action, torch.zeros(len(step.obs), device=self.device), {})
        return state, ActOutput(world_action, mixture_log_prob(distribution, out, log_weight, action).flatten(), {})

    def adapt(self, state: State, rollout: Rollout) -> State:
        """Start from similar tasks' policies after the first phase, take gradient steps after the others.

        With `initial` "average", or as long as no task is known, there is nothing to start from: then the first phase
        is learnt from by gradient steps too.
        """
        fresh = state[_PHASES] == 0
        starts = self.config.initial != "average" and bool((self.library.n_contexts > 0).any())
        if not starts or not bool(fresh.any()):
            return self._finetuned(state, rollout)
        found = self.start_from(self.similarity(rollout))
        if bool(fresh.all()):
            return found
        tuned = self._finetuned(state, rollout)
        return choose_rows(~fresh, tuned, found)

    @torch.no_grad()
    def similarity(self, rollout: Rollout) -> Tensor:
        """Return how similar the tasks of a phase are to those of the library, in nats: [N, n_library].

        Slots without a context are at -inf.
        """
        known = self.metric.embed(self.library.contexts)
        return self.metric.similarity(self.metric.embed(self.metric.context(rollout)), known, self.library.n_contexts)

    @torch.no_grad()
    def start_from(self, similarity: Tensor) -> State:
        """Return the state after a first phase whose tasks are as similar to the library's as `similarity` says.

        [N, n_library], in nats; slots at -inf take no part.
        """
        nats, slots = similarity.topk(self.config.neighbours if self.config.initial != "nearest" else 1, dim=1)
        phases = torch.ones(len(nats), dtype=torch.int64, device=self.device)
        log_weight = nats.log_softmax(1)
        phi = self.library.rows(slots)
        if self.config.initial == "weights":
            weight = log_weight.exp()
            phi = {k: (weight.reshape(*weight.shape, *[1] * (v.dim() - 2)) * v).sum(1, True) for k, v in phi.items()}
            log_weight = torch.zeros_like(log_weight[:, :1])
        return self._state(phi, log_weight, phases)

    def _finetuned(self, state: State, rollout: Rollout) -> State:
        """Take `finetune_steps` steps on each task's clipped surrogate, advantages against the task's own baseline."""
        config, log_weight = self.config, state[_WEIGHT]
        batch, phi = self._batch(rollout), unmarked(_PREFIX, state)
        distribution = self.net.distribution

        def loss_of(params: Params) -> Tensor:
            out = mixture_outputs(self.net, params, batch.obs, batch.action_mask)
            log_prob = mixture_log_prob(distribution, out, log_weight, batch.action)
            log_prob = torch.where(batch.valid, log_prob, batch.log_prob)
            gain = surrogate(log_prob, batch.log_prob, batch.advantage, config.clip)
            return -masked_mean(gain, batch.valid, dims=(1,))

        with torch.enable_grad():
            for _ in range(config.finetune_steps):
                leaves = {name: value.detach().requires_grad_() for name, value in phi.items()}
                phi = gradient_step(leaves, loss_of, config.finetune_lr, create_graph=False)
        return self._state(phi, log_weight, state[_PHASES] + 1)

    def _batch(self, rollout: Rollout) -> Batch:
        return make_batch(self.net, self.normaliser.rollout(rollout), self.config.gamma, self.config.lam)

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        """Learn the metric, the average-task policy and the policies of the trial's tasks; returns metrics.

        `metric_loss`. `own_slot_share`: of the trial's tasks with a policy of their own, those whose policy was found
        the most similar. `library_tasks`: slots taken. `unknown_share`: of the trial's tasks, those without a slot.
        `importance_weight`: mean over query actions, bounded. `kl`: of the own policies' step, and `entropy` after it,
        nats; `average_kl` and `average_entropy` of the average-task policy.

        Raises: ConfigError unless the trial has the two phases of `train_phases`.
        """
        if len(trial.rollouts) != 2:
            raise ConfigError(
                f"metric trains on a support and a query phase, got {len(trial.rollouts)} phases; collect with "
                f"phases=agent.train_phases"
            )
        support, query = trial.rollouts
        nearest = self.similarity(support).max(1)
        slots = self.library.assign(trial.tasks.keys())
        known = slots != NO_SLOT
        own = known & (nearest.indices == slots) & nearest.values.isfinite()
        contexts = self.metric.training_contexts(support, generator)
        self.library.remember(slots, contexts)
        metrics = {
            "metric_loss": self.metric.learn(*self._metric_data(contexts[~known]), generator),
            "own_slot_share": own.sum() / known.sum().clamp(min=1),
            "library_tasks": torch.tensor(float(len(self.library.keys))),
            "unknown_share": (~known).float().mean(),
            **self._learn_policies(support, query, slots),
        }
        self.metric.take_in(contexts)
        self.normaliser.update(*trial.rollouts)
        self._n_updates += 1
        return dict(zip(metrics, torch.stack([v.float().cpu() for v in metrics.values()]).tolist(), strict=True))

    def _metric_data(self, others: Tensor) -> tuple[Tensor, Tensor]:
        """Return contexts and their numbers of the library's tasks and of this trial's `others` [n, 2, k, width]."""
        mine, n_mine = self.library.contexts, self.library.n_contexts
        if not len(others):
            return mine, n_mine
        room = mine.shape[1] - others.shape[1]
        padded = torch.cat([others, others.new_zeros(len(others), room, *others.shape[2:])], dim=1)
        return torch.cat([mine, padded]), torch.cat([n_mine, n_mine.new_full((len(others),), others.shape[1])])

    def _learn_policies(self, support: Rollout, query: Rollout, slots: Tensor) -> dict[str, Tensor]:
        """Train the average-task policy on the support and, after the warm-up, the tasks' own ones on the query."""
        config, distribution, library = self.config, self.net.distribution, self.library
        warm = self._n_updates < config.warmup_iters
        taking_part = torch.zeros_like(slots[:0]) if warm else (slots != NO_SLOT).nonzero().squeeze(1)
        index = slots[taking_part]
        everyone, own = self._batch(support), _pick(self._batch(query), taking_part)

        def log_probs(phi: Params, batch: Batch) -> tuple[Tensor, Tensor]:
            out = self.net(phi, batch.obs, batch.action_mask)
            log_prob = torch.where(batch.valid, distribution.log_prob(out, batch.action), batch.log_prob)
            return log_prob, masked_mean(distribution.entropy(out), batch.valid, dims=(1,))

        with torch.no_grad():
            before, _ = log_probs(library.rows(index), own)
            weight = (before - own.log_prob).exp().clamp(max=config.max_weight)

        def losses(phi: Params, batch: Batch, old: Tensor, advantage: Tensor) -> Tensor:
            log_prob, entropy = log_probs(phi, batch)
            gain = masked_mean(surrogate(log_prob, old, advantage, config.clip), batch.valid, dims=(1,))
            return -gain - config.entropy_coef * entropy

        def loss_of(phi: Params, average: Params) -> tuple[Tensor, Tensor]:
            shared = losses(average, everyone, everyone.log_prob, everyone.advantage)
            return losses(phi, own, before, weight * own.advantage), shared.mean()

        library.learn(index, config.policy_steps, loss_of)
        if warm:
            library.follow_average()
        with torch.no_grad():
            average = {k: v[library.average] for k, v in library.params.items()}
            found = {}
            for name, phi, batch, old in (
                ("", library.rows(index), own, before), ("average_", average, everyone, everyone.log_prob)
            ):  # fmt: skip
                log_prob, entropy = log_probs(phi, batch)
                ratio = log_prob - old
                found[f"{name}kl"] = masked_mean(ratio.exp() - 1.0 - ratio, batch.valid)
                found[f"{name}entropy"] = entropy.sum() / max(len(entropy), 1)
            found["importance_weight"] = masked_mean(weight, own.valid)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return library, metric and counters, copied."""
        return {
            "library": self.library.state_dict(),
            "metric": self.metric.state_dict(),
            "n_updates": self._n_updates,
            **self.normaliser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit; raises CheckpointError if it belongs to other settings."""
        missing = {"library", "metric", "n_updates"} - set(state)
        if missing:
            raise CheckpointError(
                f"this checkpoint is not one of a metric agent: it has no {', '.join(sorted(missing))}; it holds "
                f"{sorted(state)}"
            )
        self.metric.load_state_dict(state["metric"])
        self.library.load_state_dict(state["library"])
        self.normaliser.load_state_dict(state)
        self._n_updates = int(state["n_updates"])


def _pick(batch: Batch, tasks: Tensor) -> Batch:
    """Return the batch of some of its tasks (int64 [n])."""
    parts: dict[str, Any] = {f.name: getattr(batch, f.name) for f in fields(batch)}
    picked: dict[str, Any] = {name: None if part is None else part[tasks] for name, part in parts.items()}
    return Batch(**picked)
