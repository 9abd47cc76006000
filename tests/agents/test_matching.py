"""The matching memory: it sums up what was learned with whoever is here, and with nobody else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

import envs
from agents.matching import Layout, MatchingConfig, MatchingCore, identity_layout
from agents.ppo import PPOConfig
from agents.rl2 import RL2Config
from metarl.agent import WorldSpec
from metarl.errors import ConfigError
from metarl.seeding import generator
from metarl.trial import run_trial

STEPS, PEOPLE = 10, 3
LAYOUT = Layout((0, 1, 2), (4, 5, 6))
"""Who is there (3 columns) and one number more, now and at the step before."""


def core(context: int = STEPS, **options: object) -> MatchingCore:
    config = MatchingConfig(key=6, evidence_hidden=8, sharpness=60.0, **options)  # type: ignore[arg-type]
    return MatchingCore(config, 8, 5, context, LAYOUT, generator(0), "cpu")


def visits(who: list[int], said: Tensor) -> Tensor:
    """Return inputs [T, 1, 8] of visits by `who`; what each said to the last action is seen a step later."""
    now = torch.cat([torch.eye(PEOPLE)[who], said[:, None]], dim=1)
    before = torch.cat([torch.zeros(1, PEOPLE), now[:-1, :PEOPLE]])
    return torch.cat([now, before, torch.zeros(len(who), 1)], dim=1)[:, None]


@pytest.mark.parametrize("n_steps", [1, STEPS, 2 * STEPS + 3])
def test_step_by_step_and_all_at_once_give_the_same(n_steps: int) -> None:
    memory, inputs = core(), torch.randn(n_steps, 4, 8, generator=generator(1))
    state, outputs = memory.start(4), []
    for row in inputs:
        state = memory.step(row, state)
        outputs.append(state["h"])
    whole, last = memory.unroll(inputs, memory.start(4))
    assert torch.allclose(torch.stack(outputs), whole, atol=1e-5)
    assert all(torch.allclose(state[k].float(), last[k].float(), atol=1e-5) for k in memory.keys)
    half, middle = memory.unroll(inputs[: n_steps // 2 + 1], memory.start(4))
    rest, _ = memory.unroll(inputs[n_steps // 2 + 1 :], middle) if n_steps > 1 else (half[:0], middle)
    assert torch.allclose(torch.cat([half, rest]), whole, atol=1e-5)


def test_what_one_visitor_said_changes_nothing_for_another_and_much_when_that_one_is_back() -> None:
    memory, said = core(), torch.arange(6.0)
    other = said.clone()
    other[2] = 9.0
    who = [0, 1, 2, 0, 1, 1]
    a, b = (memory.unroll(visits(who, v), memory.start(1))[0][:, 0] for v in (said, other))
    moved = (a - b).detach().abs().amax(1)
    # Visitor 1 said so after step 1, and comes back at steps 4 and 5.
    assert float(moved[:4].max()) < 1e-4
    assert float(moved[[4, 5]].min()) > 0.1


def test_evidence_adds_up() -> None:
    memory = core()
    one, many = (memory.unroll(visits([0] * n, torch.ones(n)), memory.start(1))[0][-1, 0] for n in (3, 9))
    gap = float((many.detach() / one.detach()).median())
    assert gap > 2.0


def test_an_answer_many_steps_ago_teaches_as_well_as_the_last_one() -> None:
    memory = core(context=40)
    inputs = visits([0, *[1] * 38, 0], torch.ones(40)).requires_grad_()
    memory.unroll(inputs, memory.start(1))[0][-1].sum().backward()
    assert inputs.grad is not None
    said = inputs.grad[:, 0, PEOPLE].abs()
    # Row 1 holds what visitor 0 said to the first action; the others what visitor 1 said.
    assert float(said[1]) > 100 * float(said[2:].max())


def test_rows_depend_on_themselves_alone() -> None:
    memory, inputs = core(), torch.randn(STEPS, 4, 8, generator=generator(2))
    whole = memory.unroll(inputs, memory.start(4))[0]
    one = memory.unroll(inputs[:, 2:3], memory.start(1))[0]
    assert torch.allclose(whole[:, 2:3], one, atol=1e-6)


def spec(space: spaces.Space[object]) -> WorldSpec:
    return WorldSpec(space, spaces.Discrete(2), 3)


def test_the_columns_are_those_of_the_named_entries() -> None:
    box = spaces.Box(0.0, 1.0, (2, 2), np.float32)
    space = spaces.Dict({"a": spaces.Discrete(3), "glyph": box, "z": box})
    assert identity_layout(spec(space), ("id", "glyph")) == Layout((3, 4, 5, 6), (14, 15, 16, 17))


def test_a_world_that_does_not_say_who_is_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a Dict observation with one of id, glyph"):
        identity_layout(spec(spaces.Discrete(3)), ("id", "glyph"))


@pytest.mark.parametrize("options", [{"see_transition": False}, {"see_transition": True, "encoder": (8,)}])
def test_settings_that_hide_who_was_there_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="set them to true and"):
        RL2Config(memory="matching", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"), [("key", 0), ("evidence_hidden", 0), ("sharpness", 0.0), ("key_hidden", (0,))]
)
def test_sizes_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        MatchingConfig(**{name: value})  # type: ignore[arg-type]


CONFIG = RL2Config(
    episodes_per_trial=4, memory="matching", see_transition=True, hidden=16, readout=(16,),
    ppo=PPOConfig(epochs=1, minibatches=1, lr=1e-3),
)  # fmt: skip


@pytest.mark.parametrize("identity", ["id", "glyph"])
def test_the_first_pass_of_an_update_sees_the_policy_that_acted(identity: str) -> None:
    family = envs.make("npc/companion", n_encounters=4, n_turns=2, identity=identity)
    world = family.make_world(6)
    agent = CONFIG.build(WorldSpec.of(world), seed=0)
    trial = run_trial(world, agent, family.sample("train", 6, generator(0)), (4,), seed=0)
    metrics = agent.update(trial, generator=generator(1))
    assert abs(metrics["kl"]) < 1e-6
    assert metrics["clip_fraction"] == 0.0
    assert metrics["grad_norm"] > 0.0


def test_a_policy_with_this_memory_learns_to_remember_each_visitor() -> None:
    """Two visitors of two tastes: what pleases one now pleases that one later, in either order."""
    family = envs.make("npc/companion", n_visitors=2, n_encounters=4, n_turns=3, identity="id", held_out=False)
    ppo = PPOConfig(lr=5e-3, gamma=1.0, epochs=4, minibatches=2, entropy_coef=0.02)
    world = family.make_world(96)
    agent = replace(CONFIG, hidden=32, readout=(64,), ppo=ppo).build(WorldSpec.of(world), seed=0)
    first, later = [], []
    for i in range(60):
        trial = run_trial(world, agent, family.sample("train", 96, generator(0, i)), (4,), seed=i)
        agent.update(trial, generator=generator(1, i))
        reward = trial.query.reward.view(4, 3, -1).mean((1, 2))
        first.append(float(reward[0]))
        later.append(float(reward[3]))
    assert sum(later[-8:]) / 8 > sum(first[-8:]) / 8 + 0.03
    assert sum(later[-8:]) / 8 > 0.36
