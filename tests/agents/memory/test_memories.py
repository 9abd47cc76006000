"""Memories other than GRU and LSTM: acting step by step equals the full pass, rows stand alone, bad settings fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.agent import State
from metarl.agents.memory.mann import MANNConfig
from metarl.agents.memory.recurrent import CoreSize, MemoryCore
from metarl.agents.memory.snail import SNAILConfig
from metarl.agents.memory.transformer import TransformerConfig
from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.checkpoint import join_state, split_state, state_fingerprint
from metarl.errors import ConfigError
from metarl.seeding import generator
from metarl.trial import run_trial
from tests.agents.toy_world import ACTION_SPACES, ToyWorld, toy_tasks, toy_trial

SMALL = RL2Config(
    episodes_per_trial=3, hidden=8, ppo=PPOConfig(epochs=1, minibatches=1), transformer=TransformerConfig(heads=2),
    snail=SNAILConfig(filters=3, key_size=4, value_size=5), mann=MANNConfig(slots=6, width=4, heads=2),
)  # fmt: skip
LOOKING_BACK: tuple[Any, ...] = ("transformer", "snail")
NOT_RECURRENT: tuple[Any, ...] = (*LOOKING_BACK, "matching", "none")
KINDS: tuple[Any, ...] = ("transformer", "snail", "mann")
ALL = (*KINDS, "none")
STEPS = 12


def _core(kind: Any, trial_steps: int = STEPS) -> MemoryCore:
    return _built(replace(SMALL, memory=kind), trial_steps)


def _built(config: RL2Config, trial_steps: int = STEPS) -> MemoryCore:
    return config.memory_config.build(CoreSize(3, config.hidden, trial_steps, generator(0), torch.device("cpu")))


def _inputs(n_steps: int = STEPS, n_rows: int = 4) -> Tensor:
    return torch.randn(n_steps, n_rows, 3, generator=generator(1))


def _walk(core: MemoryCore, x: Tensor, memory: State) -> tuple[Tensor, State]:
    outputs = []
    for row in x.unbind(0):
        memory = core.step(row, memory)
        outputs.append(memory["h"])
    return torch.stack(outputs), memory


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


# --- one answer however a sequence is walked through ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("n_steps", [1, STEPS, 2 * STEPS + 5])
def test_acting_gives_the_outputs_of_the_full_pass_at_every_step(kind: Any, n_steps: int) -> None:
    """The longest sequence is more than two contexts: ring buffers and the window of the full pass forget alike."""
    core, x = _core(kind), _inputs(n_steps)
    full, last = core.unroll(x, core.start(4))
    steps, memory = _walk(core, x, core.start(4))
    assert _gap(full, steps) <= 1e-5
    assert set(last) == set(memory) == set(core.keys)
    assert all(_gap(last[k].float(), memory[k].float()) <= 1e-5 for k in core.keys)
    assert float(full.detach().std()) > 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [5, STEPS, 17])
def test_a_sequence_goes_on_from_any_memory(kind: Any, cut: int) -> None:
    core, x = _core(kind), _inputs(STEPS + 8)
    full, _ = core.unroll(x, core.start(4))
    first, memory = core.unroll(x[:cut], core.start(4))
    second, _ = core.unroll(x[cut:], memory)
    assert _gap(full, torch.cat([first, second])) <= 1e-5
    forgetful, _ = core.unroll(x[cut:], core.start(4))  # negative control
    assert _gap(full[cut:], forgetful) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_sees_a_later_one_and_all_see_the_first(kind: Any) -> None:
    core, x = _core(kind), _inputs()
    changed = x.clone()
    changed[7] += 1.0
    moved = (core.unroll(changed, core.start(4))[0] - core.unroll(x, core.start(4))[0]).detach().abs().amax((1, 2))
    assert float(moved[:7].max()) == 0.0
    assert float(moved[7:].min()) > 1e-5
    changed = x.clone()
    changed[0] += 1.0
    moved = (core.unroll(changed, core.start(4))[0] - core.unroll(x, core.start(4))[0]).detach().abs().amax((1, 2))
    assert float(moved.min()) > 1e-6


def test_without_memory_a_step_is_answered_by_itself() -> None:
    core, x = _core("none"), _inputs()
    changed = x.clone()
    changed[7] += 1.0
    moved = (core.unroll(changed, core.start(4))[0] - core.unroll(x, core.start(4))[0]).detach().abs().amax((1, 2))
    assert float(moved[7]) > 1e-5
    assert [t for t in range(STEPS) if moved[t] > 0] == [7]


@pytest.mark.parametrize("kind", LOOKING_BACK)
def test_what_lies_a_whole_context_back_is_forgotten(kind: Any) -> None:
    """One layer of attention only: more of them pass on what earlier steps had seen themselves."""
    config = replace(SMALL, memory=kind, transformer=TransformerConfig(layers=1), snail=SNAILConfig(blocks=1))
    core = _built(config)
    x = torch.zeros(3 * STEPS, 1, 3)
    x[0] = 3.0
    outputs, quiet = (core.unroll(v, core.start(1))[0].detach() for v in (x, torch.zeros_like(x)))
    moved = (outputs - quiet).abs().amax((1, 2))
    assert float(moved[: STEPS // 2].min()) > 1e-4
    # Convolutions hand on what they saw, up to 1 + 2 + 4 + 8 steps later; keys made of that live for a context more.
    assert float(moved[STEPS if kind == "transformer" else STEPS + 15 :].max()) < 1e-6


@pytest.mark.parametrize("kind", ALL)
def test_rows_stand_alone_even_at_different_steps(kind: Any) -> None:
    core, x = _core(kind), _inputs()
    memory = core.start(4)
    for t in range(9):
        new = core.step(x[t], memory)
        moving = torch.tensor([True, True, t < 4, False])  # rows 2 and 3 idle, as the trial loop lets them
        memory = {k: torch.where(moving.reshape(-1, *[1] * (v.dim() - 1)), v, memory[k]) for k, v in new.items()}
    after = core.step(x[9], memory)["h"]
    alone = {}
    for row, seen in ((0, 9), (2, 4), (3, 0)):
        _, one = _walk(core, x[:seen, row : row + 1], core.start(1)) if seen else (None, core.start(1))
        alone[row] = core.step(x[9, row : row + 1], one)["h"]
        assert _gap(after[row : row + 1], alone[row]) <= 1e-5
    assert _gap(alone[0], alone[3]) > 1e-2


@pytest.mark.parametrize("kind", ALL)
def test_a_step_leaves_the_memory_it_was_given_alone(kind: Any) -> None:
    core, x = _core(kind), _inputs()
    _, memory = core.unroll(x[:5], core.start(4))
    before = {k: v.clone() for k, v in memory.items()}
    core.step(x[5], memory)
    assert all(torch.equal(v, before[k]) for k, v in memory.items())
    assert not any(bool(v.any()) for v in core.start(2).values())  # zeros mean that nothing is known


# --- in the agent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("actions", ["masked", "multi-discrete", "matrix-box"])
def test_unchanged_parameters_give_a_ratio_of_one_whatever_the_action_space(kind: Any, actions: str) -> None:
    assert actions in ACTION_SPACES
    agent, trial = toy_trial(replace(SMALL, memory=kind, separate_value=actions == "masked"), actions=actions)
    metrics = agent.update(trial, generator=generator(1))
    assert metrics["kl"] == pytest.approx(0.0, abs=1e-8)  # the one step's ratios are those before it
    rollout = run_trial(ToyWorld(6, actions), agent, toy_tasks(6), (3,), seed=5).query
    action = rollout.action.flatten(2) if rollout.action.dim() > 2 else rollout.action
    log_prob, _, _, _ = agent.evaluate_actions(
        agent.sequence_inputs(rollout), action, rollout.action_mask, agent.start_memories(6)
    )
    assert _gap(log_prob[rollout.valid], rollout.log_prob[rollout.valid]) <= 1e-5


@pytest.mark.parametrize("kind", ALL)
def test_an_update_moves_every_parameter(kind: Any) -> None:
    agent, trial = toy_trial(replace(SMALL, memory=kind, encoder=(5,), readout=(6,), layer_norm=True))
    before = agent.state_dict()["weights"]
    agent.update(trial, generator=generator(1))
    after = agent.state_dict()["weights"]
    assert [name for name, value in after.items() if torch.equal(value, before[name])] == []


@pytest.mark.parametrize("kind", ALL)
def test_a_restored_agent_goes_on_bit_for_bit_whatever_the_global_generator(kind: Any) -> None:
    config = replace(SMALL, memory=kind, ppo=PPOConfig(epochs=2, minibatches=3, anneal_iters=5))
    torch.manual_seed(1)
    agent, trial = toy_trial(config)
    agent.update(trial, generator=generator(0))
    tensors, tree = split_state(agent.state_dict())
    torch.manual_seed(2)
    other: Any = config.build(agent.spec, seed=1)
    other.load_state_dict(join_state(tensors, tree))
    for round_ in range(2):
        for one in (agent, other):
            fresh = run_trial(ToyWorld(6), one, toy_tasks(6), (3,), seed=round_)
            one.update(fresh, generator=generator(round_))
    assert state_fingerprint(agent.state_dict()) == state_fingerprint(other.state_dict())


@pytest.mark.parametrize("kind", ALL)
def test_trials_longer_than_those_of_training_can_be_played(kind: Any) -> None:
    agent, _ = toy_trial(replace(SMALL, memory=kind), n=4)
    rollout = run_trial(ToyWorld(4), agent, toy_tasks(4), (9, 2), seed=3).query
    assert bool(rollout.log_prob.isfinite().all())


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOOKING_BACK)
def test_a_context_shorter_than_a_trial_is_refused(kind: Any) -> None:
    spec, part = ToyWorld(1).spec, {"transformer": TransformerConfig, "snail": SNAILConfig}[kind]
    config = replace(SMALL, memory=kind, **{kind: part(context=STEPS)})
    config.build(spec, seed=0)
    with pytest.raises(ConfigError, match=rf"rl2.{kind}.context must hold a whole training trial, 12 env steps"):
        replace(config, **{kind: part(context=STEPS - 1)}).build(spec, seed=0)


@pytest.mark.parametrize("kind", NOT_RECURRENT)
@pytest.mark.parametrize("wrong", [{"bptt_steps": 4}, {"memory_steps": 20}])
def test_settings_of_recurrent_memories_are_refused(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"rl2.{next(iter(wrong))} .*{kind}"):
        replace(SMALL, memory=kind, **wrong)
    replace(SMALL, memory="mann", **wrong)


def test_heads_that_do_not_fit_the_width_are_refused_with_the_next_width_that_does() -> None:
    with pytest.raises(ConfigError, match=r"rl2\.hidden must be a multiple .* got 20; try 24"):
        RL2Config(memory="transformer", hidden=20)
    RL2Config(memory="gru", hidden=20)


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        *((TransformerConfig, {name: 0}) for name in ("layers", "heads", "widening", "context")),
        *((SNAILConfig, {name: 0}) for name in ("blocks", "filters", "key_size", "value_size")),
        (SNAILConfig, {"context": 1}),
        *((MANNConfig, {name: 0}) for name in ("slots", "width", "heads")),
        (MANNConfig, {"slots": 2, "heads": 2}),
        (MANNConfig, {"usage_decay": 1.0}),
    ],
)
def test_settings_out_of_range_are_refused_by_name(part: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"rl2\.\w+\.{next(iter(wrong))}"):
        part(**wrong)
