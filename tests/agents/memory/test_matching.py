"""The matching memory: it sums up what was learned with whoever is here, and with nobody else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from metarl import envs
from metarl.agent import WorldSpec
from metarl.agents.memory.matching import Layout, MatchingConfig, MatchingCore, identity_layout
from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.errors import ConfigError
from metarl.seeding import generator
from metarl.trial import run_trial

STEPS, PEOPLE = 10, 3
LAYOUT = Layout((0, 1, 2), (3,))
"""Who is there, and one number more: what was said to the last action."""


def core(context: int = STEPS, **options: object) -> MatchingCore:
    config = MatchingConfig(key=6, evidence_hidden=8, readout=(12,), sharpness=60.0, **options)  # type: ignore[arg-type]
    return MatchingCore(config, 4, 5, context, LAYOUT, generator(0), "cpu")


def visits(who: list[int], said: Tensor) -> Tensor:
    """Return inputs [T, 1, 4] of visits by `who`; what one said to an action is seen a step later."""
    return torch.cat([torch.eye(PEOPLE)[who], said[:, None]], dim=1)[:, None]


@pytest.mark.parametrize("options", [{}, {"pooled": True}, {"pooled": True, "identity": ()}])
@pytest.mark.parametrize("n_steps", [1, STEPS, 2 * STEPS + 3])
def test_step_by_step_and_all_at_once_give_the_same(n_steps: int, options: dict[str, object]) -> None:
    memory, inputs = core(**options), torch.randn(n_steps, 4, 4, generator=generator(1))
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
    # Visitor 1 said so at step 1; it is seen at step 2, and found again at steps 4 and 5.
    assert float(moved[[0, 1, 3]].max()) < 1e-4
    assert float(moved[[4, 5]].min()) > 0.1


def test_what_is_found_is_the_sum_of_all_evidence_weighed_by_how_well_its_key_matches() -> None:
    memory, x = core(), torch.randn(STEPS, 1, 4, generator=generator(4))
    keys = [memory.key_net(row[:, :PEOPLE])[0] for row in x]
    evidence = [memory._evidence(row[:, PEOPLE:])[0] for row in x]
    t, found = STEPS - 1, torch.zeros(5)
    for s in range(1, STEPS):  # what is seen at step s answers to step s - 1; step 0 answers to nothing
        found = found + torch.sigmoid(60.0 * (keys[t] @ keys[s - 1] - 0.5)) * evidence[s]
    expected = memory._read(found, x[t, 0, PEOPLE:])
    assert torch.allclose(memory.unroll(x, memory.start(1))[0][t, 0], expected, atol=1e-4)


def test_pooled_reads_add_the_mean_of_all_evidence_and_how_long_the_trial_has_lasted() -> None:
    memory, x = core(pooled=True), torch.randn(STEPS, 1, 4, generator=generator(4))
    read: list[Tensor] = []
    memory.readout[0].register_forward_hook(lambda _m, inputs, _o: read.append(inputs[0]))
    memory.unroll(x, memory.start(1))
    evidence = torch.stack([memory._evidence(row[:, PEOPLE:])[0] for row in x])
    evidence[0] = 0.0
    for t in (0, 3, STEPS - 1):
        torch.testing.assert_close(read[0][t, 0, 5:10], evidence[: t + 1].mean(0))
        assert float(read[0][t, 0, 10].detach()) == pytest.approx((t + 1) / STEPS)
    assert len(read[0][0, 0]) == 5 + 5 + 1 + 1


def test_without_names_the_whole_observation_is_the_identity_and_is_evidence_too() -> None:
    spec = envs.make("tabular-mdp").spec
    assert identity_layout(spec, ()) == Layout(tuple(range(10)), (10,))
    config = RL2Config(hidden=8, memory="matching", matching=MatchingConfig(identity=()))
    memory = config.build(spec, seed=0).network.core
    assert isinstance(memory, MatchingCore)
    assert memory.rest.tolist() == list(range(10 + 5 + 2))  # state reached, action, reward, end of episode


def test_an_answer_many_steps_ago_teaches_as_well_as_the_last_one() -> None:
    memory = core(context=40)
    inputs = visits([0, *[1] * 38, 0], torch.ones(40)).requires_grad_()
    memory.unroll(inputs, memory.start(1))[0][-1].sum().backward()
    assert inputs.grad is not None
    said = inputs.grad[:, 0, PEOPLE].abs()
    # Row 1 holds what visitor 0 said to the first action, the last row what is seen now; the others are visitor 1's.
    assert float(said[1]) > 1e6 * float(said[2:-1].max())
    assert float(said[1]) > 0.1 * float(said[-1])


def test_rows_depend_on_themselves_alone() -> None:
    memory, inputs = core(), torch.randn(STEPS, 4, 4, generator=generator(2))
    whole = memory.unroll(inputs, memory.start(4))[0]
    one = memory.unroll(inputs[:, 2:3], memory.start(1))[0]
    assert torch.allclose(whole[:, 2:3], one, atol=1e-6)


def spec(space: spaces.Space[object]) -> WorldSpec:
    return WorldSpec(space, spaces.Discrete(2), 3)


def test_the_columns_are_those_of_the_named_entries() -> None:
    box = spaces.Box(0.0, 1.0, (2, 2), np.float32)
    space = spaces.Dict({"a": spaces.Discrete(3), "glyph": box, "z": box})
    assert identity_layout(spec(space), ("id", "glyph")) == Layout((3, 4, 5, 6), (2, 2))
    assert identity_layout(spec(space), ("glyph", "z")) == Layout(tuple(range(3, 11)), (8,))


def test_a_world_that_does_not_say_who_is_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a Dict observation with one of id, glyph"):
        identity_layout(spec(spaces.Discrete(3)), ("id", "glyph"))


@pytest.mark.parametrize("options", [{"encoder": (8,)}, {"readout": (8,)}])
def test_layers_that_mix_who_is_there_with_what_is_said_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="leave both empty"):
        RL2Config(memory="matching", **options)  # type: ignore[arg-type]


def test_convolutions_are_for_pictures() -> None:
    with pytest.raises(ConfigError, match="needs an identity that is one picture"):
        core(key_channels=(4,))
    picture = MatchingCore(
        MatchingConfig(key_channels=(2, 3)), 36, 5, 4, Layout(tuple(range(35)), (7, 5)), generator(0), "cpu"
    )
    outputs, _ = picture.unroll(torch.randn(3, 2, 36, generator=generator(3)), picture.start(2))
    assert outputs.shape == (3, 2, 128)


@pytest.mark.parametrize(
    ("name", "value"), [("key", 0), ("evidence_hidden", 0), ("sharpness", 0.0), ("key_hidden", (0,)), ("readout", ())]
)
def test_sizes_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        MatchingConfig(**{name: value})  # type: ignore[arg-type]


CONFIG = RL2Config(
    episodes_per_trial=4, memory="matching", hidden=16, matching=MatchingConfig(readout=(16,)), normalise_inputs=False,
    ppo=PPOConfig(epochs=1, minibatches=1, lr=1e-3),
)  # fmt: skip


@pytest.mark.parametrize("foresight", [0.0, 1.0])
@pytest.mark.parametrize("identity", ["id", "glyph"])
def test_the_first_pass_of_an_update_sees_the_policy_that_acted(identity: str, foresight: float) -> None:
    family = envs.make("npc/companion", n_encounters=4, n_turns=2, identity=identity)
    world = family.make_world(6)
    agent = replace(CONFIG, reward_prediction_coef=foresight).build(world.spec, seed=0)
    trial = run_trial(world, agent, family.sample("train", 6, generator(0)), (4,), seed=0)
    metrics = agent.update(trial, generator=generator(1))
    assert abs(metrics["kl"]) < 1e-6
    assert metrics["clip_fraction"] == 0.0
    assert metrics["grad_norm"] > 0.0
    assert ("foresight_loss" in metrics) == (foresight > 0)


def test_a_negative_weight_of_foresight_is_refused() -> None:
    with pytest.raises(ConfigError, match="reward_prediction_coef must be >= 0"):
        RL2Config(reward_prediction_coef=-1.0)


def learn(n_updates: int, **options: object) -> list[float]:
    """Return the mean engagement in the last encounter, per update, on two visitors known by number."""
    family = envs.make("npc/companion", n_visitors=2, n_encounters=4, n_turns=3, identity="id", held_out=False)
    world = family.make_world(64)
    ppo = PPOConfig(lr=4e-3, gamma=1.0, epochs=4, minibatches=2, entropy_coef=0.02)
    agent = replace(CONFIG, hidden=32, ppo=ppo, **options).build(world.spec, seed=0)
    found = []
    for i in range(n_updates):
        trial = run_trial(world, agent, family.sample("train", 64, generator(0, i)), (4,), seed=i)
        agent.update(trial, generator=generator(1, i))
        found.append(float(trial.query.reward.view(4, 3, -1)[3].mean()))
    return found


def test_with_foresight_a_policy_soon_remembers_each_visitor() -> None:
    """0.275 is what random manners bring, 0.335 the best fixed ones."""
    assert sum(learn(40, reward_prediction_coef=1.0)[-8:]) / 8 > 0.40


def test_filed_by_state_rewards_of_an_mdp_are_remembered_at_once() -> None:
    """25 updates: a GRU has not begun to learn by then, random play is 10 per episode, knowing the MDP 21.8."""
    family = envs.make("tabular-mdp")
    world = family.make_world(128)
    matching = MatchingConfig(identity=(), pooled=True, evidence_hidden=64, readout=(64,))
    ppo = PPOConfig(lr=4e-3, gamma=0.9, lam=0.7, entropy_coef=0.02)
    config = RL2Config(episodes_per_trial=4, memory="matching", matching=matching, reward_prediction_coef=0.5, ppo=ppo,
                       normalise_inputs=False)  # fmt: skip
    agent, noise = config.build(world.spec, seed=0), generator(0)
    for i in range(25):
        trial = run_trial(world, agent, family.sample("train", 128, noise), (4,), seed=i)
        agent.update(trial, generator=noise)
    unseen = family.all("validation")
    assert unseen is not None
    world = family.make_world(len(unseen))
    query = run_trial(world, agent, unseen, (4,), seed=999, greedy=True).query
    by_episode = query.reward.reshape(4, 10, -1).sum(1)
    first, last = by_episode[0], by_episode[3]
    gain = last - first
    assert float(gain.mean() - 2.6 * gain.std() / len(gain) ** 0.5) > 0.5
