"""Who wears a ring leaves no trace in what an agent does later, in two pasts that differ in that alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.agents.baselines.forgetting import Forgetting
from metarl.agents.rl2.agent import RL2Config
from metarl.seeding import generator
from metarl.tasks import Tasks
from metarl.trial import run_trial

N, ENCOUNTERS, TURNS = 24, 6, 3


def pasts() -> tuple[Any, list[Tasks], Tensor]:
    """Return a world, two sets of visitors that differ where a ring is worn, and who wears one."""
    family = envs.make("npc/companion", identity="id", opt_out=0.5, n_encounters=ENCOUNTERS, n_turns=TURNS)
    world, tasks = family.make_world(N), family.sample("train", N, generator(0))
    spy = RL2Config(episodes_per_trial=ENCOUNTERS).build(world.spec, seed=0)
    run_trial(world, spy, tasks, (1,), seed=7)  # rings follow from the seed
    rings = world.rings()
    others = tasks[[*range(1, N), 0]].values["style"]
    changed = {**tasks.values, "style": torch.where(rings, others, tasks.values["style"])}
    return world, [tasks, Tasks(changed, tasks.names, tasks.groups)], rings


def first_actions(world: Any, agent: Any, tasks: Tasks) -> Tensor:
    trial = run_trial(world, agent, tasks, (ENCOUNTERS,), seed=7)
    return trial.query.action[::TURNS]


@pytest.mark.parametrize("memory", ["gru", "matching"])
def test_an_agent_that_forgets_does_the_same_in_both_pasts_and_one_that_does_not_differs(memory: Any) -> None:
    world, (one, other), rings = pasts()
    assert 0.3 < float(rings.float().mean()) < 0.7
    spec = world.spec
    agent = RL2Config(episodes_per_trial=ENCOUNTERS, memory=memory, normalise_inputs=False).build(spec, seed=1)
    with torch.no_grad():
        agent.network.head.weight.mul_(300.0)  # a fresh policy hardly heeds its memory
    forgetting = Forgetting(agent, first=spec.obs_dim - 3, ring=spec.obs_dim - 2)
    assert torch.equal(first_actions(world, forgetting, one), first_actions(world, forgetting, other))
    assert not torch.equal(first_actions(world, agent, one), first_actions(world, agent, other))


def test_where_nobody_wears_a_ring_it_is_the_agent_itself() -> None:
    family = envs.make("npc/companion", identity="id", n_encounters=3, n_turns=2)
    world, tasks = family.make_world(5), family.sample("train", 5, generator(0))
    spec = world.spec
    agent = RL2Config(episodes_per_trial=3, memory="lstm").build(spec, seed=1)
    forgetting = Forgetting(agent, first=spec.obs_dim - 3, ring=spec.obs_dim - 2)
    plain, wrapped = (run_trial(world, a, tasks, (3,), seed=3).query for a in (agent, forgetting))  # type: ignore[arg-type]
    assert torch.equal(plain.action, wrapped.action)
    assert torch.equal(plain.log_prob, wrapped.log_prob)
