"""The assistant: what a turn pays and shows, what stays hidden, and how references compare."""

import json

import pytest
import torch

from metarl import envs
from metarl.conformance import check_world
from metarl.envs.npc.assistant.catalogue import dominant, shelf
from metarl.envs.npc.assistant.references import Oracle
from metarl.envs.npc.audit import alone_as_among_many, no_leak, play_named
from metarl.envs.npc.measure import play
from metarl.errors import ConfigError
from metarl.seeding import generator
from tests.envs.npc.same_history import actions_after

J = 12
SMALL = {"domains": ("electricity",), "n_catalogues": 64}


def world_of(n=256, seed=0, split="train", **options):
    family = envs.make("npc/assistant", **{**SMALL, **options})
    world = family.make_world(n)
    world.set_tasks(family.sample(split, n, generator(seed, "tasks")))
    obs, info = world.reset(seed=seed)
    return family, world, obs, info


def answers_to(world, action, times=40):
    """Ask the same thing again and again in new dialogues; return the answers [times, n]."""
    found = []
    for _ in range(times):
        world.reset()
        world.step(torch.full((world.num_envs,), action))
        found.append(world.state["answer"])
    return torch.stack(found)


@pytest.mark.parametrize(
    "options",
    [{}, {"limits": True, "critique": True, "n_categories": 3}, {"anonymise": True}, {"shift": "visitor~0.5"}],
)
def test_the_world_keeps_the_contract(options):
    findings = check_world(lambda: envs.make("npc/assistant", **{"n_catalogues": 64, **options}), n_steps=40)
    assert [f"{f.check}: {f.message}" for f in findings if f.status == "fail"] == []


def test_the_tiny_world_keeps_the_contract():
    assert [f.check for f in check_world(lambda: envs.make("npc/assistant-tiny")) if f.status == "fail"] == []


def test_the_first_observation_tells_nothing_of_the_visitor_and_one_copy_is_as_many():
    family = envs.make("npc/assistant", n_catalogues=64)
    assert no_leak(family).holds
    assert alone_as_among_many(family).holds


def test_the_best_offer_is_mostly_taken_and_pays_what_it_is_worth():
    _, world, _, _ = world_of(n=2000)
    state, fits = world.state, world.state["admissible"]
    best = state["utility"].masked_fill(~fits, -torch.inf).argmax(1)
    _, reward, terminated, _, info = world.step(best)
    assert float(info["success"].float().mean()) == pytest.approx(torch.sigmoid(torch.tensor(3.0)).item(), abs=0.02)
    assert torch.equal(terminated, info["success"])
    top = state["utility"].masked_fill(~fits, -torch.inf).amax(1)
    mean = (state["utility"] * fits).sum(1) / fits.sum(1)
    worth = (top - mean) / (top - mean + 0.3)
    taken = info["success"]
    assert torch.allclose(reward[taken], worth[taken], atol=1e-5)
    assert bool(reward[~taken] == pytest.approx(-0.12))


def test_an_offer_of_another_category_is_always_refused():
    _, world, _, _ = world_of()
    wrong = world.state["admissible"].long().argmin(1)
    _, reward, terminated, _, _ = world.step(wrong)
    assert not terminated.any()
    assert torch.allclose(reward, torch.tensor(-0.12))
    assert bool((world.action_mask(world.state).gather(1, wrong[:, None]) == 0).all())


def test_a_visitor_leaves_after_the_last_turn():
    _, world, _, _ = world_of(n=8)
    for turn in range(8):
        obs, reward, terminated, truncated, info = world.step(torch.full((8,), J + 6))
        assert torch.allclose(reward, torch.tensor(-0.04 if turn < 7 else -0.54))
    assert terminated.all()
    assert not truncated.any()
    assert not info["success"].any()
    # The last answer is in the first observation of the next dialogue.
    assert torch.equal(obs["vec"][:, :11], info["final_obs"]["vec"][:, :11])


def test_answers_about_attributes_have_the_chances_of_the_law():
    family, world, _, _ = world_of(n=400)
    found = shelf("electricity", J, 64)
    answers = answers_to(world, J + 4)
    b = (world.params["beta"][:, 0, 4] - found.mean[4]) / found.sd[4]
    expected = (-0.5 * ((b[:, None] - torch.tensor([-1.0, 0.0, 1.0])) / 0.6) ** 2).softmax(1)
    for level in range(3):
        seen = (answers == level).float().mean(0)
        error = ((expected[:, level] * (1 - expected[:, level])).mean() / answers.numel()).sqrt()
        assert float((seen - expected[:, level]).mean().abs()) < 4 * float(error)
        assert float((seen - expected[:, level]).abs().max()) < 0.4
    assert family.name == "npc/assistant"


def test_answers_about_the_category_are_right_with_chance_085():
    _, world, _, _ = world_of(n=400, n_categories=3)
    right, seen = 0.0, torch.zeros(6)
    for _ in range(30):
        world.reset()
        intent = world.state["intent"]
        world.step(torch.full((400,), J + 6))
        answer = world.state["answer"]
        right += float((answer - 3 == intent).float().mean()) / 30
        seen += torch.bincount(answer, minlength=6)[:6]
    assert right == pytest.approx(0.85, abs=0.013)
    assert float(seen[:3].sum()) == 0.0


def test_with_limits_half_a_category_is_admissible_one_dialogue_in_two():
    _, world, _, _ = world_of(n=800, limits=True)
    limited = world.state["intent"] >= 2
    assert float(limited.float().mean()) == pytest.approx(0.5, abs=0.07)
    n = world.state["admissible"].sum(1)
    assert bool((n[~limited] == 6).all())
    assert bool((n[limited] >= 3).all())
    assert float(n[limited].float().mean()) < 5
    world.step(torch.full((800,), J + 7))
    told = world.state["answer"] - 3 == limited.long()
    assert float(told.float().mean()) == pytest.approx(0.85, abs=0.05)


def test_a_critique_names_what_is_worst():
    _, world, _, _ = world_of(critique=True)
    state = world.state
    wrong = state["admissible"].long().argmin(1)
    obs, *_ = world.step(wrong)
    assert bool((obs["vec"][:, -1] == 1).all())  # its category
    assert bool((obs["vec"][:, -7:-1] == 0).all())


def test_sensitive_questions_cost():
    _, world, _, _ = world_of(sensitive=(2, 3))
    costs = [float(world.step(torch.full((256,), J + a))[4]["cost"].mean()) for a in range(4)]
    assert costs == [0.0, 0.0, 1.0, 1.0]


def test_catalogues_are_balanced_and_equally_spread_in_all_domains():
    for domain in ("electricity", "swissmetro", "train-tickets"):
        found = shelf(domain, J, 256)
        average = found.offers[0] @ found.mean
        everyone = found.offers[0] @ found.bank.T
        assert float(everyone.var(1).mean().sqrt()) == pytest.approx(1.3, rel=1e-3)
        assert float(average.std(1).mean()) < 0.75 * 1.3, domain
        # Nobody is in two splits.
        keys = [{tuple(row) for row in part.tolist()} for part in (found.bank, found.validation, found.test)]
        assert not keys[0] & keys[2]
        assert not keys[1] & keys[2]


def test_held_out_combinations_never_occur_in_training_and_always_in_their_split():
    family = envs.make("npc/assistant", n_catalogues=16)
    for split, always in (("train", False), ("test", False), ("test-combinations", True)):
        tasks = family.sample(split, 600, generator(0)).values
        found = [family.shelf(d) for d in family.domains]
        special = torch.stack(
            [
                dominant(b[None], found[d].mean, found[d].sd)[0] == family.special[d]
                for b, d in zip(tasks["beta"][:, 0], tasks["domain"].tolist(), strict=True)
            ]
        )
        assert bool(special.all()) == always
        assert bool((tasks["intents"][special][:, 1] == float(always)).all())
        if not always:
            assert bool((tasks["intents"][~special] == 0.5).all())
            assert 0.02 < float(special.float().mean()) < 0.4


def test_a_domain_never_met_is_asked_about_what_it_has_only():
    _, world, _, info = world_of(split="test-domain")
    mask = info["action_mask"][0]
    assert mask.tolist() == [True] * (J + 4) + [False, False, True]
    assert len(world.attributes(0)) == 4


def test_anonymous_columns_leave_utilities_alone():
    _, world, obs, _ = world_of(anonymise=True)
    _, plain, same, _ = world_of(anonymise=False)
    assert not torch.equal(obs["offers"][..., :6], same["offers"][..., :6])
    shown = (obs["offers"][..., :6] * world.latent()["beta"][:, None]).sum(2)
    assert torch.allclose(shown, world.state["utility"], atol=1e-5)
    assert plain.state["utility"].shape == shown.shape


@pytest.mark.parametrize("kind", ["visitor", "drift", "interface"])
def test_a_shift_changes_part_worths_from_its_dialogue_on(kind):
    _, world, _, _ = world_of(n=64, shift=f"{kind}@1")
    before = world.latent()["beta"]
    world.reset()
    after = world.latent()["beta"]
    changed = (before != after).sum(1)
    if kind == "visitor":
        assert float(changed.float().mean()) > 4
    else:
        assert int(changed.max()) == 1
    if kind == "interface":
        assert torch.allclose(before.abs(), after.abs())


def test_an_economy_shift_makes_questions_dearer():
    _, world, _, _ = world_of(n=16, shift="economy@1")
    cheap = world.step(torch.full((16,), J + 6))[1]
    world.reset()
    dear = world.step(torch.full((16,), J + 6))[1]
    assert float(cheap[0]) == pytest.approx(-0.04)
    assert float(dear[0]) == pytest.approx(-0.12)


def test_the_filter_is_bayes_rule_over_visitors_and_intents():
    family, world, _, _ = world_of(n=4)
    policy = family.policies("train")["bayes_greedy"]()
    policy.start(world, generator(0))
    policy.act()
    bank = family.people("train", 0)
    weight = torch.full((4, len(bank), 2), 1.0 / (2 * len(bank)))
    for action in (J + 4, J + 6, 3):
        before = world.state
        state = {k: v.clone() for k, v in before.items()}
        _, _, terminated, _, _ = world.step(torch.full((4,), action))
        policy.see(before, torch.full((4,), action), world.reached, terminated)
        answer = world.reached["answer"]
        if action == J + 4:
            b = (bank[:, 4] - world.mean[0, 4]) / world.sd[0, 4]
            p = (-0.5 * ((b[:, None] - world.levels) / 0.6) ** 2).softmax(1)
            weight = weight * p[:, answer].T[:, :, None]
        elif action == J + 6:
            weight = weight * torch.where(torch.arange(2) == (answer - 3)[:, None], 0.85, 0.15)[:, None]
        else:
            utility = state["offers"] @ bank.T  # [4, J, P]
            category = action % 2
            best = utility[:, category::2].amax(1)
            accept = torch.zeros(4, len(bank), 2)
            accept[:, :, category] = torch.sigmoid((utility[:, action] - best + 1.5) / 0.5)
            taken = world.reached["answer"] == world.n_answers - 2
            weight = weight * torch.where(taken[:, None, None], accept, 1 - accept)
    weight = weight / weight.sum((1, 2), keepdim=True)
    going_on = ~terminated
    assert bool(going_on.any())
    known = policy.weight[:, : len(bank)]  # the rest pads the bank to the size of another domain's
    assert torch.allclose(known[going_on], weight[going_on], atol=1e-5)
    people = weight.sum(2, keepdim=True).expand_as(weight) / 2
    assert torch.allclose(known[~going_on], people[~going_on], atol=1e-5)


def _another_visitor(world):
    """Swap visitors and their intents."""
    world.params = {**world.params, **{k: world.params[k].flip(0) for k in ("beta", "intents")}}
    hidden = {k: world._state[k].flip(0) for k in ("utility", "intent", "admissible")}
    world._state = {**world._state, **hidden}


def test_no_policy_but_the_oracles_looks_at_what_is_hidden():
    family = envs.make("npc/assistant", **SMALL)
    for name, make in family.policies("train").items():
        if "oracle" in name:
            continue
        chosen = [actions_after(family, make, swap) for swap in (None, _another_visitor)]
        assert torch.equal(*chosen), name


def test_knowing_more_is_worth_more_and_knowing_the_visitor_saves_questions():
    family = envs.make("npc/assistant", **SMALL)
    played = {n: play(family, m(), "train", n=256) for n, m in family.policies("train").items()}
    means = {n: float(p.returns.mean()) for n, p in played.items()}
    order = ["random", "non_adaptive", "bayes_lasting", "persona_oracle", "oracle"]
    assert [means[n] for n in order] == sorted(means[n] for n in order)
    steps = played["bayes_lasting"].steps.mean(0)
    assert float(steps[0] - steps[-1]) > 1.0
    assert (
        float(played["bayes_lasting"].returns[:, -1].mean()) > float(played["forgetful"].returns[:, -1].mean()) + 0.05
    )


def test_the_hazard_filter_recovers_from_a_change_of_visitor():
    family = envs.make("npc/assistant", shift="visitor@3", **SMALL)
    played = play_named(family, "train", ["bayes_greedy", "bayes_hazard"], n=256)
    plain, hazard = played["bayes_greedy"], played["bayes_hazard"]
    assert float(hazard.returns[:, 3:].mean()) > float(plain.returns[:, 3:].mean()) + 0.03


def test_the_exact_value_of_the_tiny_world_is_what_its_policy_earns():
    family = envs.make("npc/assistant-tiny")
    exact = family.exact().next_dialogue(0, ())
    total = play(family, family.policies("train")["bayes_optimal"](), "train", n=1024).returns.sum(1)
    assert float(total.mean()) == pytest.approx(exact, abs=4 * float(total.std()) / 32)
    oracle = play(family, Oracle(), "train", n=1024).returns.sum(1)
    assert exact < float(oracle.mean())


def test_the_exact_value_of_one_turn_is_that_of_the_best_offer():
    family = envs.make("npc/assistant-tiny", horizon=1, n_episodes=1)
    world, bank = family.make_world(1), family.people("train", 0)
    expected = 0.0
    for offers in world.pool[0, 0]:
        utility = bank @ offers.T
        best, mean = utility.amax(1, keepdim=True), utility.mean(1, keepdim=True)
        accept = torch.sigmoid((utility - best + 1.5) / 0.5)
        pays = ((utility - mean) / (best - mean + 0.3)).clamp(-1, 1)
        expected += float((accept * pays + (1 - accept) * (-0.12 - 0.5)).mean(0).max()) / 2
    assert family.exact().next_dialogue(0, ()) == pytest.approx(expected, abs=1e-5)


def test_options_that_make_no_sense_are_refused():
    for options in (
        {"n_offers": 7},
        {"domains": ("groceries",)},
        {"shift": "world@2"},
        {"questions": (9,)},
        {"colour": 1},
    ):
        with pytest.raises(ConfigError):
            envs.make("npc/assistant", **options)


def test_an_unknown_option_of_the_tiny_dialogues_is_named():
    with pytest.raises(ConfigError, match=r"npc/assistant-tiny has no option 'colour'; it has .*n_episodes"):
        envs.make("npc/assistant-tiny", colour=1)
    assert envs.make("npc/assistant-tiny", n_episodes=2).n_episodes == 2


def test_invented_visitors_need_no_data_file():
    family = envs.make("npc/assistant", synthetic=True, **SMALL)
    real = envs.make("npc/assistant", **SMALL)
    assert family.people("train", 0).shape == real.people("train", 0).shape
    assert not torch.equal(family.people("train", 0), real.people("train", 0))


def test_a_frame_is_json_and_a_picture_shows_the_cards():
    _, world, _, _ = world_of(n=4)
    before = world.picture(1)
    world.step(torch.full((4,), 2))
    frame = json.loads(json.dumps(world.frame(1)))
    assert len(frame["offers"]) == 12
    assert frame["answer"] in ("accepted", "refused")
    assert "beta" in frame["hidden"]
    assert "beta" not in frame
    after = world.picture(1)
    assert after.dtype.name == "uint8"
    assert (after != before).any()
