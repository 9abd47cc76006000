"""The watch page: complete, self-contained, and alive in a real browser that clicks through it."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from metarl import envs
from metarl.agents.baselines.random_policy import RandomConfig
from metarl.envs.npc.family import NpcFamily
from metarl.envs.npc.reference import Policy
from metarl.experiments.cli.main import main as command
from metarl.experiments.npc.recording import DRAWS, record_agent, record_policy
from metarl.experiments.npc.watch import render
from metarl.seeding import generator
from metarl.trial import run_trial

FAMILIES = ["npc/companion", "npc/assets-held", "npc/assistant", "npc/guide-macro", "npc/guide"]


def data_of(page: str) -> dict[str, Any]:
    """Return what a page shows."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return dict(json.loads(found.group(1)))


def page_of(folder: Path, world: str, policy: str = "random", *more: str) -> Path:
    """Write the page of a reference policy."""
    path = folder / f"{world.replace('/', '-')}.html"
    words = ["npc", "watch", world, "--policy", policy, "--visitors", "6", "--shown", "2", "--out", str(path), *more]
    assert command(words) == 0
    return path


@pytest.mark.parametrize("world", FAMILIES)
def test_a_page_holds_every_step_and_asks_nobody_for_anything(world: str, tmp_path: Path) -> None:
    text = page_of(tmp_path, world).read_text()
    data = data_of(text)
    family = envs.make(world)
    assert isinstance(family, NpcFamily)
    assert len(data["trials"]) == 2
    for trial in data["trials"]:
        assert len(trial["episodes"]) == family.n_episodes
        for episode, total in zip(trial["episodes"], trial["returns"], strict=True):
            assert len(episode["frames"]) == len(episode["actions"]) + 1
            assert sum(episode["rewards"]) == pytest.approx(total, abs=1e-3)
            assert all("hidden" in frame and "belief" in frame for frame in episode["frames"])
    assert not re.search(r"""(src|href|url|fetch|import)\s*[=(]\s*["']?(https?:)?//""", text)
    assert "default-src 'none'" in text


def test_an_agent_is_asked_what_else_it_might_do_without_changing_what_it_does() -> None:
    family = envs.make("npc/companion")
    assert isinstance(family, NpcFamily)
    tasks = family.fixed_tasks("test")[:3]
    world = family.make_world(3)
    agent = RandomConfig().build(world.spec, seed=0)
    kept = record_agent(
        family, agent, tasks, onlooker=None, n_shown=2, seed=5, greedy=False, device=torch.device("cpu")
    )
    alone = run_trial(world, agent, tasks, (*agent.phases(family.n_episodes - 1), 1), seed=5)
    shown = [a for e in kept["trials"][0]["episodes"] for a in e["actions"]]
    played = torch.cat([r.action[r.valid[:, 0], 0] for r in alone.rollouts])
    assert shown == played.reshape(len(shown), -1).tolist()
    shares = torch.tensor(kept["trials"][0]["episodes"][0]["shares"])
    sizes = [len(names) for names in kept["actions"]]
    for part in torch.split(shares, sizes, dim=1):
        assert torch.allclose(part.sum(1), torch.ones(len(part)), atol=0.01)
        n = part.shape[1]
        assert (part.mean(0) - 1 / n).abs().max() < 5 * (1 / n / DRAWS / len(part)) ** 0.5 + 1e-3


def test_copies_that_wait_for_others_are_not_shown_stepping() -> None:
    family = envs.make("npc/assistant")
    assert isinstance(family, NpcFamily)
    tasks = family.fixed_tasks("test")[:6]
    agent = RandomConfig().build(family.make_world(6).spec, seed=0)
    phases = (*agent.phases(family.n_episodes - 1), 1)
    assert phases == (family.n_episodes - 1, 1)
    kept = record_agent(
        family, agent, tasks, onlooker=family.onlooker("test"), n_shown=6, seed=5, greedy=False,
        device=torch.device("cpu"),
    )  # fmt: skip
    alone = run_trial(family.make_world(6), agent, tasks, phases, seed=5)
    assert any(not bool(r.valid.all()) for r in alone.rollouts)  # somebody does wait
    for copy, trial in enumerate(kept["trials"]):
        played = torch.cat([r.action[r.valid[:, copy], copy] for r in alone.rollouts])
        assert len(trial["episodes"]) == family.n_episodes
        assert [a for e in trial["episodes"] for (a,) in e["actions"]] == played.tolist()
        for before, after in pairwise(trial["episodes"]):  # who is there was learnt, what is sought today was not
            assert after["frames"][0]["belief"]["beta"] == before["frames"][-1]["belief"]["beta"]
            assert after["frames"][0]["belief"]["category"] == [0.5, 0.5]


@pytest.mark.parametrize("world", ["npc/companion", "npc/assets-held", "npc/assistant", "npc/guide-macro"])
def test_who_looks_on_changes_nothing(world: str) -> None:
    family = envs.make(world)
    assert isinstance(family, NpcFamily)

    def watched(onlooker: Policy | None) -> dict[str, Any]:
        return record_policy(
            family, family.policies("test")["random"](), family.fixed_tasks("test")[:3], onlooker=onlooker, n_shown=3,
            seed=2, device=torch.device("cpu"),
        )  # fmt: skip

    plain, seen = watched(None), watched(family.onlooker("test"))
    beliefs = [f.pop("belief") for t in seen["trials"] for e in t["episodes"] for f in e["frames"]]
    assert seen == plain
    assert beliefs[0] != beliefs[-1]


def test_an_episode_ends_with_what_its_filter_knew_before_it_turned_to_the_next() -> None:
    family = envs.make("npc/assistant")
    assert isinstance(family, NpcFamily)
    kept = record_policy(
        family, family.policies("test")["oracle"](), family.fixed_tasks("test")[:3], onlooker=family.onlooker("test"),
        n_shown=3, seed=2, device=torch.device("cpu"),
    )  # fmt: skip
    ends = [e["frames"][-1] for t in kept["trials"] for e in t["episodes"]]
    accepted = [f for f in ends if f["answer"] == "accepted"]
    assert accepted  # and so the category is known for sure
    assert all(f["belief"]["category"][f["hidden"]["intent"]] == 1.0 for f in accepted)


def test_the_band_is_students_interval_over_visitors_and_one_visitor_has_none() -> None:
    family = envs.make("npc/assets-tiny")

    def record(n: int) -> dict[str, Any]:
        return record_policy(
            family, family.policies("test")["random"](), family.sample("test", n, generator(0, "visitors")),
            onlooker=None, n_shown=n, seed=2, device=torch.device("cpu"),
        )  # fmt: skip

    kept, alone = record(5), record(1)
    returns = np.array([t["returns"] for t in kept["trials"]])
    low, high = stats.t.interval(0.95, 4, loc=returns.mean(0), scale=stats.sem(returns))
    assert kept["low"] == pytest.approx(low, abs=2e-3)
    assert kept["high"] == pytest.approx(high, abs=2e-3)
    assert set(alone["low"] + alone["high"]) == {None}


def test_names_cannot_break_out_of_the_page() -> None:
    evil = "</script><script>alert(1)</script>"
    recording = {
        "world": "npc/x", "n": 1, "actions": [["a"]], "mean": [0.0], "low": [None], "high": [None], "references": {},
        "trials": [{"task": evil, "returns": [0.0], "episodes": []}],
    }  # fmt: skip
    page = render(recording, evil, "test")
    assert evil not in page
    assert data_of(page)["trials"][0]["task"] == evil


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere"),
        (["gridworld", "--policy", "random"], "this is for NPC worlds only"),
        (["npc/companion", "--policy", "orcle"], "did you mean 'oracle'"),
        (["npc/companion", "--policy", "oracle", "--split", "tset"], "has no split 'tset'"),
        (["npc/companion", "--policy", "oracle", "--shown", "9", "--visitors", "3"], "--shown must be"),
        (["npc/companion", "--policy", "oracle", "--out", "/nowhere/x.html"], "--out"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["npc", "watch", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def believed(kind: str, frame: dict[str, Any]) -> list[float]:
    """Return the numbers of a frame's belief in the order in which a page shows them."""
    belief = frame["belief"]
    if kind == "companion":
        return [p for part in belief["style"] for p in part]
    if kind == "assistant":
        return [*belief["category"], *belief["beta"]]
    if kind == "assets":
        return [*belief["alpha"], *belief["mu"]] if "alpha" in belief else [*belief["good"], *belief["mean"]]
    liked = sorted(frame["hidden"]["interests"], key=lambda name: -frame["hidden"]["interests"][name])
    return [*(belief["interests"][name] for name in liked), belief["aversion"], belief["pace"]]


def test_a_world_without_a_filter_says_so(tmp_path: Path, browser: Any) -> None:
    path = page_of(tmp_path, "npc/assistant", "random", "--option", "anonymise=true")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.check("#reveal")
    assert "no exact Bayes filter" in page.inner_text("#truth")
    assert page.locator("#truth .value.belief").count() == 0
    assert page.locator("#truth .value.truth").count() > 0
    page.close()


@pytest.mark.parametrize("world", [*FAMILIES, "npc/assets-regime"])
def test_a_browser_clicks_through_the_page_without_an_error_or_a_request(
    world: str, tmp_path: Path, browser: Any
) -> None:
    path = page_of(tmp_path, world, "oracle")
    data = data_of(path.read_text())
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    errors: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    clock = page.locator("#clock")
    before = page.evaluate("document.getElementById('view').toDataURL()")
    assert "episode 1" in clock.inner_text()
    page.click("#next")
    assert clock.inner_text().endswith("step 1")
    page.click("#episodes button:nth-child(2)")
    assert "episode 2" in clock.inner_text()
    n_steps = len(data["trials"][0]["episodes"][1]["actions"])
    page.locator("#scrub").fill(str(n_steps))
    assert clock.inner_text().endswith(f"step {n_steps}")
    assert page.evaluate("document.getElementById('view').toDataURL()") != before
    assert "Tick" in page.inner_text("#truth")
    page.check("#reveal")
    assert "Tick" not in page.inner_text("#truth")
    assert "belief: of an exact Bayes filter" in page.inner_text("#truth")
    texts = page.locator("#truth .bar .value, #truth .pair:not(.head) .value.belief").all_inner_texts()
    expected = believed(data["kind"], data["trials"][0]["episodes"][1]["frames"][n_steps])
    assert [float(t.replace("−", "-")) for t in texts] == pytest.approx(expected, abs=0.051)
    page.click("#language")
    assert page.inner_text("#reveal + span") == "揭示隐藏信息"
    assert "信念：来自旁观的精确贝叶斯滤波器" in page.inner_text("#truth")
    page.select_option("#trial", "1")
    page.keyboard.press("1")
    page.select_option("#speed", "15")
    page.click("#play")
    for _ in range(100):  # the page's own policy forbids what playwright's waiting for a condition would evaluate
        if not clock.inner_text().endswith(" 0"):
            break
        page.wait_for_timeout(50)
    else:
        pytest.fail("it does not play")
    page.click("#play")
    for _ in range(3):  # every episode draws, to its end
        page.click("#language")
        for k in range(len(data["trials"][1]["episodes"])):
            page.click(f"#episodes button:nth-child({k + 1})")
            page.evaluate("go(episode().actions.length)")
    assert errors == []
    assert requests == [path.as_uri()]
    page.close()
