"""What stays the same while code is rebuilt, as sha256 by name: agents, worlds, presets. `tools.same` compares them.

* agent/...: the state of every kind of agent after 3 iterations, its records without wall-clock keys, and every episode
  of a strict evaluation;
* world/...: the fingerprint of every task distribution, tasks of each of its splits, what its references are said to
  earn, how an NPC family's reference policies play, and all that 200 steps of random legal actions give;
* preset/...: a preset's whole config, the tasks that its evaluation plays, and its references there.

Names stay when classes, modules and functions are renamed. Most digests are those of one CPU and build; what is exact
on all, see `is_exact`, is committed (`python -m tools.same --write-exact` writes it anew).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

import metarl
from metarl import agents, envs, experiments
from metarl.envs.gym.world import GymWorld
from metarl.envs.npc.family import NpcFamily
from metarl.envs.npc.measure import play
from metarl.evaluation import evaluate, select_tasks
from metarl.experiments.build import build_agent, build_tasks, configure_torch
from metarl.experiments.codec import first_spelling
from metarl.experiments.presets import PRESETS
from metarl.log import WALL_CLOCK_KEYS
from metarl.loop import meta_train
from metarl.tasks import Tasks
from tests.experiments.every_agent import KINDS, config_of

ROOT = Path(__file__).resolve().parents[1]
N_ITERATIONS, N_STEPS, N_ENVS = 3, 200, 6

MUSEUM = str(ROOT / "envs/npc/maps/samples/museum.tmx")
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("corner-point", {"closed": True}),
    ("npc/guide", {"maps": [MUSEUM], "shift": "visitor@1"}),
    ("npc/guide-macro", {"maps": [MUSEUM]}),
    ("npc/guide-macro", {"synthetic": True, "shift": "interface~0.3"}),
    ("npc/companion", {"rho": 0.5, "opt_out": 0.1, "shift": "visitor~0.2"}),
    ("npc/companion", {"synthetic": True, "reward_in_obs": True}),
    ("npc/assets", {"reward_in_obs": True}),
    ("metaworld/ML1", {"task": "reach-v3", "core": "python"}),
    ("metaworld/ML1", {"task": "push-v3", "action_repeat": 4, "terminate_on_success": True}),
)
"""Options that neither a preset nor `NEEDED` gives."""
NEEDED: dict[str, dict[str, Any]] = {
    "revealed": {"world": "gridworld", "what": "belief", "trial_episodes": 3},
    "metaworld/custom": {"train": ["drawer-open-v3"], "test": ["door-open-v3"]},
    "npc/assets-replay": {"path": "prices.csv", "n_assets": 2, "horizon": 5},
}
"""Options without which a world cannot be built."""
UNSTEPPED = ("metaworld/ML25", "metaworld/ML45")
"""Their physics is ML10's; only their tasks are measured."""
EXACT_STEPS = ("bandit", "gridworld")
EXACT_TASKS = (
    *EXACT_STEPS, "navigation", "point-robot", "corner-point", "npc/guide-tiny", "npc/assets-regime", "npc/assets-tiny",
)  # fmt: skip
"""Worlds of whole numbers, comparisons and single exactly rounded operations: no transcendental functions, no products
of matrices, no sums whose order a kernel may choose. When in doubt, a world is left out."""


def digest(*values: Any) -> str:
    """Return a sha256 of nested values: arrays bit by bit with dtype and shape, dicts in the order of their keys."""
    sha = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, torch.Tensor | np.ndarray):
            array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
            sha.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        elif isinstance(value, Tasks):
            feed([dict(value.values), value.names, value.groups])
        elif isinstance(value, Mapping):
            for key in sorted(value, key=repr):
                sha.update(repr(key).encode())
                feed(value[key])
        elif isinstance(value, list | tuple):
            sha.update(f"[{len(value)}]".encode())
            for item in value:
                feed(item)
        else:
            sha.update(repr(value).encode())

    feed(values)
    return sha.hexdigest()


_NEW_LOG_SETTINGS = ("wandb_tags", "wandb_system_metrics", "wandb_artifacts")
"""Switches that earlier commits did not have: off, they change nothing."""


def config_digest(config: Any) -> str:
    """Return a digest of all settings by the names that they had first; agents go by their algorithm."""
    stored = {k: v for k, v in first_spelling(config).items() if k != "schema_version"}
    stored["log"] = {k: v for k, v in stored["log"].items() if v or k not in _NEW_LOG_SETTINGS}
    return digest({**stored, "agent": {**stored["agent"], "type": config.agent.algorithm}})


def actions(world: Any, info: Mapping[str, Any], generator: torch.Generator) -> torch.Tensor:
    """Return legal actions drawn with nothing but exactly rounded arithmetic."""
    space, n = world.single_action_space, world.num_envs
    if isinstance(space, spaces.Box):
        low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
        return low + (high - low) * torch.rand(n, *space.shape, generator=generator)
    if isinstance(space, spaces.MultiDiscrete):
        return torch.stack([torch.randint(int(k), (n,), generator=generator) for k in space.nvec], 1)
    legal = info.get("action_mask", torch.ones(n, int(space.n), dtype=torch.bool))
    return torch.where(legal, torch.rand(n, int(space.n), generator=generator), -1.0).argmax(1)


def steps(world: Any, tasks: Tasks, n_steps: int) -> Iterator[Any]:
    """Yield everything that a world gives under random actions."""
    generator = torch.Generator().manual_seed(7)
    world.set_tasks(tasks)
    obs, info = world.reset(seed=5)
    yield obs, info
    for _ in range(n_steps):
        given = world.step(actions(world, info, generator))
        yield given, world.privileged_info() if world.n_privileged else None
        info = given[-1]


def played(world: Any, tasks: Tasks, n_steps: int) -> str:
    """Return a digest of `steps`, and end the world."""
    with contextlib.closing(world):
        return digest([digest(step) for step in steps(world, tasks, n_steps)])


def label(name: str, options: Mapping[str, Any]) -> str:
    """Return what a world with options is called here, wherever the tree lies."""
    return f"world/{name} {json.dumps(dict(options), sort_keys=True).replace(MUSEUM, Path(MUSEUM).name)}"


def world_options() -> list[tuple[str, dict[str, Any]]]:
    """Return every registered world, and every variant of one that is played here or in a preset."""
    plain = ((name, NEEDED.get(name, {})) for name in envs.WORLDS.builtin)
    presets = ((c.world.name, dict(c.world.options)) for c in (make() for make in PRESETS.values()))
    return list({label(*world): world for world in (*plain, *presets, *VARIANTS)}.values())


def carts() -> tuple[Any, Tasks]:
    """Return CartPole through the adapter for Gymnasium's environments, and poles of several lengths."""

    def apply_task(env: Any, task: Tasks) -> None:
        env.unwrapped.length = float(task.values["length"][0])

    tasks = Tasks.of("cart-pole", length=torch.arange(1, N_ENVS + 1) / 4.0)
    make_env = lambda task: gym.make("CartPole-v1").unwrapped  # noqa: E731
    return GymWorld(make_env, apply_task, N_ENVS, horizon=50, example=tasks[:1], name="cart-pole"), tasks


@cache
def family_of(called: str) -> Any:
    """Build the family that `label` called so; Meta-World's take seconds."""
    name, _, options = called.removeprefix("world/").partition(" ")
    return envs.make(name, **json.loads(options.replace('"museum.tmx"', json.dumps(MUSEUM)) or "{}"))


def is_exact(name: str, options: Mapping[str, Any], part: str) -> bool:
    """Return whether this part of a world is the same on every machine and build."""
    inner, beliefs = options.get("world", name), options.get("what") == "belief"
    return inner in {"tasks": EXACT_TASKS, "steps": () if beliefs else EXACT_STEPS}.get(part, ())


def measure_world(name: str, options: Mapping[str, Any], exact: bool) -> Iterator[tuple[str, str]]:
    """Yield digests of a world's identity, of its tasks, references and policies, and of what it gives."""
    called = label(name, options)
    if exact and not is_exact(name, options, "tasks"):
        return
    family = family_of(called)
    drawn = [family.sample(split, N_ENVS, torch.Generator().manual_seed(3)) for split in family.splits]
    yield f"{called} tasks", digest(family.fingerprint(), drawn)
    if not exact:
        yield f"{called} references", digest(family.references("test", 3))
    if not exact and isinstance(family, NpcFamily) and (name, not options) != ("npc/guide", False):  # those walk long
        scores = {policy: vars(play(family, make(), "test", n=3)) for policy, make in family.policies("test").items()}
        yield f"{called} policies", digest(scores)
    if is_exact(name, options, "steps") or (not exact and name not in UNSTEPPED):
        yield f"{called} steps", played(family.make_world(N_ENVS), drawn[0], N_STEPS)


def measure_preset(name: str, exact: bool) -> Iterator[tuple[str, str]]:
    """Yield digests of a preset, of the tasks that it is evaluated on and of its references there."""
    config = PRESETS[name]()
    yield f"preset/{name} config", config_digest(config)
    if not exact or is_exact(config.world.name, config.world.options, "tasks"):
        family = family_of(label(config.world.name, config.world.options))
        yield f"preset/{name} evaluated on", digest(select_tasks(family, config.evaluation))
    if not exact:
        yield (
            f"preset/{name} references",
            digest(family.references(config.evaluation.split, config.evaluation.n_episodes)),
        )


def measure_agent(name: str) -> Iterator[tuple[str, str]]:
    """Yield digests of what training one kind of agent leaves and what evaluating it plays."""
    config = config_of(name)
    device = configure_torch(config)
    settings = dataclasses.replace(
        config.train, n_iterations=N_ITERATIONS, validate_every_iters=N_ITERATIONS, n_validation_tasks=4,
        validation_adapt_episodes=2,
    )  # fmt: skip
    tasks = build_tasks(config)
    agent = build_agent(config, tasks, device)
    records: list[dict[str, Any]] = []
    recorder = SimpleNamespace(stop_requested=False, log=records.append, save=lambda iteration, state: None)
    meta_train(agent, tasks, settings, recorder, seed=config.seed, device=device)
    yield f"agent/{name} state", digest(agent.state_dict())
    yield f"agent/{name} records", digest([{k: v for k, v in r.items() if k not in WALL_CLOCK_KEYS} for r in records])
    protocol = dataclasses.replace(config.evaluation, n_tasks=3, adapt_episodes=2, n_seeds=1)
    whole = evaluate(agent, tasks, protocol, references=False)
    yield f"agent/{name} evaluation", digest(vars(whole.trials), vars(whole.without_adaptation))


def measure(exact: bool = False) -> dict[str, str]:
    """Return all digests by name, or those alone that are the same on every machine."""
    for package in (metarl, envs, agents, experiments):
        where = Path(str(package.__file__)).resolve()
        assert where.is_relative_to(ROOT), f"{where} is imported, not the tree {ROOT}"
    found = dict[str, str]()
    for preset in PRESETS:
        found |= measure_preset(preset, exact)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        days = [f"{date(2024, 1, 1) + timedelta(days=k)},{100 + k * k % 17},{50 + k * k % 5}" for k in range(200)]
        Path("prices.csv").write_text("\n".join(["Date,A,B", *days]) + "\n")
        for name, options in world_options():
            found |= measure_world(name, options, exact)
    if not exact:
        found["world/CartPole-v1 of Gymnasium steps"] = played(*carts(), N_STEPS)
        for kind in KINDS:
            found |= measure_agent(kind)
    return found
