"""Playing: a person's answers reach the NPC, as if the visitor had shown them, and what was played is kept."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from metarl import envs
from metarl.envs.npc.family import NpcFamily
from metarl.experiments.cli.main import main as command
from metarl.experiments.npc.play import Visitor
from tests.experiments.npc.test_watch import data_of


def typed(monkeypatch: pytest.MonkeyPatch, answers: str) -> None:
    """Let the person type `answers`, a line each."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answers))


def play(out: Path, *words: str) -> int:
    return command(["npc", "play", *words, "--out", str(out)])


@pytest.mark.parametrize("mood", [0, 4])
def test_what_the_person_says_is_what_the_npc_sees(mood: int, monkeypatch: pytest.MonkeyPatch) -> None:
    family = envs.make("npc/companion", identity="id")
    assert isinstance(family, NpcFamily)
    world = family.make_world(1)
    world.set_tasks(family.fixed_tasks("test")[:1])
    met = Visitor(world)
    met.reset(seed=0)
    typed(monkeypatch, f"{mood + 1}\n" * 7)
    for turn in range(7):  # one encounter of six turns, and one turn of the next
        obs, reward, *_, info = met.step(torch.tensor([[0, 0, 0]]))
        assert float(reward) == mood / 4
        shown = info["final_obs"]["vec"][0, :6]
        assert shown.tolist() == torch.eye(6)[mood].tolist()
        # The first observation of the next encounter still shows the last mood of the one before.
        assert torch.equal(obs["vec"][0, :6], shown), turn


@pytest.mark.parametrize("deal", [False, True])
def test_a_person_may_take_an_offer_or_leave_it(deal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    family = envs.make("npc/assistant")
    assert isinstance(family, NpcFamily)
    world = family.make_world(1)
    world.set_tasks(family.fixed_tasks("test")[:1])
    met = Visitor(world)
    met.reset(seed=0)
    typed(monkeypatch, f"{int(deal) + 1}\n" * 8)
    ends = []
    for offer in range(1 if deal else 8):
        *_, terminated, _, info = met.step(torch.tensor([offer]))
        ends.append(bool(terminated))
        assert bool(info["success"]) is deal
    assert ends == [True] if deal else [False] * 7 + [True]


def test_a_whole_trial_is_kept_as_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "3\n" * 100)
    words = ("npc/companion", "--policy", "bayes_greedy", "--option", "identity=id")
    assert play(tmp_path / "played.html", *words) == 0
    data = data_of((tmp_path / "played.html").read_text())
    frames = [f for e in data["trials"][0]["episodes"] for f in e["frames"][1:]]
    assert len(frames) == 72
    assert {f["mood"] for f in frames} == {2}
    assert frames[0]["belief"] != frames[-1]["belief"]


def test_a_person_may_be_the_npc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "2\n1\n5\n" * 72)
    assert play(tmp_path / "played.html", "npc/companion", "--as", "npc", "--option", "identity=id") == 0
    data = data_of((tmp_path / "played.html").read_text())
    assert data["trials"][0]["episodes"][0]["actions"] == [[1, 0, 4]] * 6


def test_nonsense_is_asked_again_and_q_ends_the_game(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "great\n0\n6\n2\nq\n")
    assert play(tmp_path / "played.html", "npc/companion", "--policy", "random", "--option", "identity=id") == 0
    shown = capsys.readouterr().out
    assert shown.count("please type a number from 1 to 5, or q") == 3
    assert "nothing was kept" in shown
    assert not (tmp_path / "played.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gridworld"], "'gridworld' is none"),
        (["npc/companion", "--policy", "orcle"], "did you mean 'oracle'"),
        (["npc/companion", "--as", "npc", "--policy", "oracle"], "leave out --npc and --policy"),
        (["npc/companion", "--npc", "runs/nowhere"], "runs/nowhere"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(tmp_path / "played.html", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
