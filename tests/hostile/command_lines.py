"""Command lines that are right but for one value, which is nonsense, out of range or of another kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from metarl.seeding import generator
from tests.hostile import Case, Surroundings

N_LINES = 1_000
_NO_TEXT = ["", " ", "\udcff", "x", "None", "nan", "-inf"]
NONSENSE = {
    "count": [*_NO_TEXT, "-1", "inf", "1.5", "1e3", "0x10", "1_0", "²", "１", "9" * 30, "9" * 5_000, "2147483648",
              "1 2"],
    "seed": [*_NO_TEXT, "-1", "inf", "0.5", "1e3", "0x10", "1_0", "²", "9" * 30, "9" * 5_000, "[1]"],
    "number": [*_NO_TEXT, "inf", "1e999", "1,5", "1_0", "-1", "1 2", "[1]"],
    "word": ["", "nonsense", "TEST", " test", "../test", "te st", "\udcff", "0", "'", "$x", "test\n", "train;", "%s",
             "{}"],
    "checkpoint": ["", "nonsense", "-1", "1.5", "²", "１", "9" * 30, "9" * 5_000, "LAST", " last", "\udcff", "77",
                   "1e0"],
    "device": ["", "gpu", "cuda:99", "cpu:x", "mps", "meta", "CPU", "\udcff", "cuda:-1", "0", "cpu "],
    "option": ["", "x", "=1", "nonsense=1", "held_out=-1", "held_out=1e999", "held_out=[1]", "held_out={}",
               "held out=1",
               "\udcff=1", "held_out=" + "9" * 5_000, "held_out=" + "[" * 5_000, "held_out=NaN", "held_out=text"],
    "new file": ["", "/", ".", "/nowhere/x.json", "/dev/null/x.json", "/proc/x.json", "x" * 300 + ".json", "RUN",
                 "PIPE", "LINK", "/dev/zero"],
    "run": ["", "/", ".", "nowhere", "/dev/null", "PIPE", "RUN/config.json", "RUN/results", "x" * 300, "\udcff", "x\n",
            "os:system", "--", "RUN/checkpoints"],
    "json": ["", "/", ".", "nowhere.json", "/dev/null", "/dev/zero", "PIPE", "LINK", "RUN/config.json",
             "RUN/metrics.jsonl"],
    "name": ["", "nonsense", " ", "\udcff", "os:system", "os:nonsense", "os:", ":x", "nonsense:x", "0", "../x", "%s",
             "-1"],
    "switch": ["", "nonsense", "1", "YES", "None", "\udcff"],
}  # fmt: skip
_PLAY = {"--device": "device", "--split": "word", "--seed": "seed"}
_EVALUATE = {
    "--adapt-episodes": "count", "--eval-episodes": "count", "--n-seeds": "count", "--n-tasks": "count",
    "--max-envs": "count", "--checkpoint": "checkpoint", "--upstream-evals": "count", "--upstream-goals": "count",
} | _PLAY  # fmt: skip
_TRAIN = {
    "--seed": "seed", "--threads": "count", "--device": "device", "--train.n-iterations": "count",
    "--train.n-tasks": "count", "--train.validate-every-iters": "count", "--train.n-validation-tasks": "count",
    "--train.checkpoint-every-iters": "count", "--agent.hidden": "count", "--agent.episodes-per-trial": "count",
    "--agent.ppo.lr": "number", "--agent.ppo.epochs": "count", "--agent.ppo.minibatches": "count",
    "--agent.ppo.clip": "number", "--evaluation.n-seeds": "count", "--evaluation.seed": "seed",
    "--evaluation.split": "word", "--evaluation.greedy": "switch", "--log.wandb": "word", "--log.progress": "word",
    "--world.options": "option", "--world.name": "name", "--from": "run", "--log.tensorboard": "switch",
}  # fmt: skip
COMMANDS: tuple[tuple[tuple[str, ...], dict[str, str]], ...] = (
    (("evaluate", "RUN"), _EVALUATE),
    (("evaluate",), {"": "run"}),
    (("train", "rl2-gridworld", "--run-dir", "OUT", "--wandb", "disabled"), _TRAIN),
    (("train",), {"": "name"}),
    (("train", "--resume", "--run-dir"), {"": "run"}),
    (("study", "splits", "RUN"), {"--only": "word", "--device": "device"}),
    (("study", "splits"), {"": "run"}),
    (("report", "RUN"), {"--split": "word", "--protocol": "word", "--output": "new file"}),
    (("report",), {"": "run"}),
    (("worlds", "show", "gridworld", "--references"), {"--episodes": "count", "--split": "word", "--option": "option"}),
    (("worlds", "show", "npc/guide-tiny"), {"--measure": "count"}),
    (("worlds", "show"), {"": "name"}),
    (("worlds", "audit", "npc/assets-held"), {"--trials": "count"}),
    (("worlds", "audit"), {"": "name"}),
    (("worlds", "check", "SCENE"), {"--cell-m": "number", "--picture": "new file", "--glb": "new file"}),
    (("worlds", "check"), {"": "json"}),
    (("npc", "watch", "npc/guide-tiny", "--policy", "random"),
     {"--visitors": "count", "--shown": "count", "--seed": "seed", "--split": "word", "--out": "new file"}),
    (("npc", "watch"), {"": "run"}),
    (("npc", "play", "npc/guide-tiny"), {"--seed": "seed", "--split": "word", "--policy": "word", "--as": "word",
     "--npc": "run"}),
    (("doctor", "gridworld", "--check", "spaces"),
     {"--num-envs": "count", "--steps": "count", "--seed": "seed", "--device": "device", "--json": "new file"}),
    (("doctor",), {"": "name"}),
    (("bench", "profile", "RUN"),
     {"--iterations": "count", "--warm-up": "count", "--n-tasks": "count", "--json": "new file"}),
    (("study", "coverage", "RUN"),
     {"--episodes": "count", "--radius": "number", "--batch": "count", "--into": "new file"} | _PLAY),
    (("study", "transfer", "RUN"), {"--episodes": "count", "--n-tasks": "count", "--finetunings": "count"} | _PLAY),
    (("bench", "parity"),
     {"--table": "json", "--goals": "count", "--goals-v1": "count", "--steps": "count", "--seed": "seed",
      "--workers": "count", "--rewards": "word", "--cores": "word", "--classes": "word"}),
    (("baseline", "gridworld"),
     {"--steps": "count", "--num-envs": "count", "--hidden": "count", "--lr": "number", "--gamma": "number",
      "--n-tasks": "count", "--split": "word", "--seed": "seed", "--algorithm": "word", "--into": "new file"}),
    (("study", "table", "--only", "rl2-gridworld"), {"--seeds": "count", "--budget": "number"}),
    (("reproduce", "rl2-gridworld"), {"--seed": "seed", "--device": "device"}),
    (("reproduce",), {"": "name"}),
    (("bench", "npc", "--quick"), {"--out": "new file"}),
    (("bench", "agents", "--quick"), {"--rounds": "count", "--scenario": "word", "--device": "device"}),
    (("bench",), {"": "word"}),
)  # fmt: skip
_FINE = {("--threads", "None"), ("--device", "CPU")}
_PYTHON = ("1_0", "\uff11")
"""Whole numbers to Python, and so to `train`, whose settings are Python's."""


def lines() -> list[tuple[str, ...]]:
    """Return the command lines, always the same ones."""
    whole = [
        (*words, *([flag] if flag else []), value)
        for words, options in COMMANDS
        for flag, kind in options.items()
        for value in NONSENSE[kind]
        if (flag, value) not in _FINE and not (words[0] == "train" and value in _PYTHON)
    ]
    chosen = torch.randperm(len(whole), generator=generator(0, "command lines"))[:N_LINES]
    return [whole[i] for i in chosen.tolist()]


def cases(good: Path) -> Iterator[Case]:
    """Yield all cases; `good` is an intact run."""
    for words in lines():
        told = " ".join(word if len(word) < 40 else f"{word[:9]}...{len(word)}" for word in words)
        yield Case(ascii(told), partial(_make, good, words), "refused")


def _make(good: Path, words: tuple[str, ...], folder: Path) -> Surroundings:
    os.mkfifo(folder / "PIPE")
    (folder / "LINK").symlink_to("nowhere")
    (folder / "SCENE").mkdir()
    (folder / "OUT").mkdir()
    return Surroundings(arguments=tuple(_placed(word, good) for word in words), folder=folder)


def _placed(word: str, good: Path) -> str:
    return str(good) + word.removeprefix("RUN") if word.startswith("RUN") else word
