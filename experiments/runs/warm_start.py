"""`train --from RUN[:CHECKPOINT]`: a new run that starts with what an earlier one had learnt."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl import run
from metarl.agent import Agent
from metarl.checkpoint import state_fingerprint
from metarl.commandline import command
from metarl.errors import CheckpointError, ConfigError
from metarl.experiments import codec
from metarl.experiments.build import build_tasks, find_point, read_config
from metarl.experiments.cli import trust
from metarl.experiments.config import AnyConfig
from metarl.spec import WorldSpec
from metarl.task_distribution import spec_of
from metarl.warm_start import warm_state

_STEPS = ("lr", "learning_rate", "metric_lr", "policy_lr", "meta_rate")
"""Names of settings that say how far an update goes."""


@dataclass(frozen=True)
class Start:
    """Where a new run begins."""

    state: Any
    """What `Agent.load_state_dict` takes."""
    facts: dict[str, Any]
    """What run.json says of it."""


def split_source(word: str) -> tuple[Path, str]:
    """Return run directory and checkpoint of RUN[:CHECKPOINT]; a directory whose name holds a colon is one."""
    head, colon, tail = word.rpartition(":")
    if colon and not run.is_run(Path(word)) and (tail in ("last", "best") or tail.isdecimal()):
        return Path(head), tail
    return Path(word), "last"


def find_start(word: str, config: AnyConfig, agent: Agent, trusted: Collection[str] = ()) -> Start:
    """Return what the fresh `agent` of `config` starts with, from the run that `word` names.

    Code that the run names must be built in, installed, `trusted` or also named by `config`.

    Iteration 0 of a run are the parameters that it began with. Raises: ConfigError if agent, spaces or architecture are
    others than that run's, naming the first difference; CheckpointError if it cannot be read.
    """
    folder, checkpoint = split_source(word)
    names = {*trusted, *trust.named(codec.to_json(config))}
    old, facts = read_config(folder, names), run.read_json(folder, run.FACTS)
    then, now = codec.agent_type(old.agent), codec.agent_type(config.agent)
    if then != now:
        raise ConfigError(f"--from {folder} holds a {then} agent and this run trains {now}; start from a {now} run")
    if old.world != config.world:
        _check_spaces(folder, old, agent.spec)
    point = _find(folder, checkpoint, old, agent.spec, facts)
    try:
        state = warm_state(agent, point.agent_state)
    except ConfigError as error:
        raise ConfigError(f"--from {folder} does not fit: {error}{_first_setting(old, config)}") from error
    before = int(facts.get("warm_start", {}).get("env_steps", 0))
    return Start(
        state,
        {
            "from": word,
            "run": folder.resolve().name,
            "run_id": facts.get("run_id"),
            "iteration": point.iteration,
            "env_steps": before + point.env_steps,
            "state": state_fingerprint(point.agent_state),
        },
    )


def _find(folder: Path, checkpoint: str, old: AnyConfig, spec: WorldSpec, facts: Mapping[str, Any]) -> run.ResumePoint:
    """Return the checkpoint; before the first one a run is what its seed makes it."""
    fresh = "warm_start" not in facts
    if fresh and (checkpoint == "0" or (checkpoint == "last" and run.newest_point(folder).agent_state is None)):
        return run.ResumePoint(0, 0, old.agent.build(spec, seed=old.seed).state_dict())
    return find_point(folder, checkpoint)


def _check_spaces(folder: Path, old: AnyConfig, spec: WorldSpec) -> None:
    """Raise ConfigError unless the earlier run's world shows and takes the same as the agent's."""
    then = spec_of(build_tasks(old))
    for what in ("observation_space", "action_space"):
        if getattr(then, what) != getattr(spec, what):
            raise ConfigError(
                f"--from {folder} was trained in {old.world.name!r} with {what.replace('_', ' ')} "
                f"{getattr(then, what)}, and this run's is {getattr(spec, what)}; they must be equal"
            )


def _first_setting(old: AnyConfig, new: AnyConfig) -> str:
    """Return the first setting of the agent that is another one, step sizes aside, as the end of a message."""
    before, now = (flat(codec.to_json(c)["agent"], "agent") for c in (old, new))
    for key in {**before, **now}:
        if before.get(key) != now.get(key) and key.rpartition(".")[2] not in _STEPS:
            return f"; {key} was {before.get(key)!r} there and is {now.get(key)!r} here"
    return ""


def flat(stored: Any, path: str = "") -> dict[str, Any]:
    """Return nested settings as {"outer.inner": value}, in order."""
    if not isinstance(stored, dict):
        return {path: stored}
    return {k: v for key, value in stored.items() for k, v in flat(value, f"{path}.{key}" if path else key).items()}


def advice(folder: Path, config: AnyConfig) -> str:
    """Return the command that goes on from a run's last good checkpoint with half the step sizes."""
    try:
        iteration = run.newest_point(folder).iteration
    except CheckpointError:
        iteration = 0
    words: list[str | Path] = ["--from", Path(f"{folder}:{iteration}")]
    settings = flat(codec.to_json(config)["agent"], "agent").items()
    sizes = {k: v for k, v in settings if _sets_steps(k, config) and isinstance(v, float) and v > 0}
    for key, value in sizes.items():
        words += [f"--{key.replace('_', '-')}", f"{value / 2:.3g}"]
    if not sizes:
        words.append("--help")  # an agent from elsewhere: its settings are there
    return command("train", *words, *trust.flags(codec.to_json(config)))


def _sets_steps(key: str, config: AnyConfig) -> bool:
    """Return whether a setting says how far an update of this agent goes."""
    outer = getattr(config.agent, "outer", None)  # MAML's outer step: a trust region, PPO or Reptile
    sizes = {"trpo": "agent.kl_limit", "ppo": "agent.ppo.lr", "reptile": "agent.reptile_step"}
    if outer in sizes and key in ("agent.alpha", *sizes.values()):
        return key in ("agent.alpha", sizes[outer])
    return key.rpartition(".")[2] in _STEPS
