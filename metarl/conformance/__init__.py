"""The conformance suite: does a task distribution with its world keep the contracts that agents rely on?

Every check is named and answers pass, fail or skip with one sentence that says what was seen and what to do. Nothing
here knows any particular world. `metarl doctor NAME` prints the findings.

Some checks are about what training and evaluation build on: the kinds of everything that is handed over, the ends of
episodes, tasks that are taken, splits that share none. Those are also *tried out*, on a few envs for a few steps,
before a run begins (`try_out`), and the full examination begins with the same try-out: so both refuse the same worlds
in the same words. The other checks are about what makes results repeatable and comparable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch

from metarl.commandline import command
from metarl.deprecated import renamed
from metarl.errors import ConfigError, MetarlError, nearest
from metarl.task_distribution import TaskDistribution, check_distribution, lacks

from . import actions, family, gym_actions, interface, stepping, waiting
from .blame import blame, raised
from .probe import Fault, NotApplicable, Probe, global_rng

__all__ = ["CHECKS", "TRIED_OUT", "Check", "Finding", "blame", "check_world", "try_out"]

Check = Callable[[Probe], str]
"""Returns what was seen; raises Fault or NotApplicable."""

CHECKS: dict[str, Check] = {
    "family": family.check_family,
    "splits": family.check_splits,
    "sampling": family.check_sampling,
    "fingerprint": family.check_fingerprint,
    "api": interface.check_api,
    "gymnasium": interface.check_gymnasium,
    "tasks": interface.check_tasks,
    "finite": actions.check_finite,
    "autoreset": stepping.check_autoreset,
    "aliasing": stepping.check_aliasing,
    "env actions": gym_actions.check_env_actions,
    "action bounds": actions.check_action_bounds,
    "observation bounds": interface.check_observation_bounds,
    "determinism": stepping.check_determinism,
    "batch size": stepping.check_batch_size,
    "masked reset": stepping.check_masked_reset,
    "set tasks": stepping.check_set_tasks,
    "task effect": family.check_task_effect,
    "hidden tasks": family.check_hidden_tasks,
    "snapshot": stepping.check_snapshot,
    "waiting": waiting.check_waiting,
    "hidden numbers": waiting.check_hidden,
    "action effect": actions.check_action_effect,
    "references": family.check_references,
    "speed": actions.measure_speed,
}
"""All checks in the order they run. After a failure of "family" or "api" those that build on it are skipped."""

TRIED_OUT = tuple(CHECKS)[: list(CHECKS).index("action bounds") + 1]
"""The checks without which no run begins."""

_TRIED_COPIES, _TRIED_STEPS = 4, 16
_WITHOUT_WORLD = ("family", "splits", "sampling", "fingerprint")


@dataclass(frozen=True)
class Finding:
    """The answer of one check."""

    check: str
    status: Literal["pass", "fail", "skip"]
    message: str
    """One line: what was seen and, after a failure, what to do."""


@renamed(n_copies="num_envs")
def check_world(
    source: TaskDistribution | Callable[[], TaskDistribution],
    *,
    num_envs: int = 8,
    n_steps: int = 64,
    seed: int = 0,
    device: torch.device | str = "cpu",
    only: Sequence[str] | None = None,
) -> list[Finding]:
    """Run the checks named in `only` (all by default) and return their findings in order.

    `source` is a task distribution, or a function that builds one (then it is also built twice and compared).
    `num_envs` is the batch size of the runs, at least 4; `n_steps` their length in steps.

    Raises: ConfigError for an unknown check or a size that is too small. Whatever the world raises becomes a finding.
    """
    for name in only or ():
        if name not in CHECKS:
            raise ConfigError(f"there is no check {name!r}; {nearest(name, CHECKS)}")
    if num_envs < 4 or n_steps < 8:
        raise ConfigError(f"the checks need num_envs >= 4 and n_steps >= 8, got {num_envs} and {n_steps}")
    found, rebuild = _build(source)
    names = [n for n in CHECKS if only is None or n in only or (n == "api" and set(only) - {*_WITHOUT_WORLD})]
    tried = _examine(_small(found, rebuild, device), [n for n in names if n in TRIED_OUT])
    failed = {f.check: f for f in tried if f.status == "fail"}
    return _examine(Probe(found, rebuild, num_envs, n_steps, seed, device), names, failed)


def try_out(
    source: TaskDistribution | Callable[[], TaskDistribution],
    *,
    device: torch.device | str = "cpu",
    name: str = "NAME",
    options: Mapping[str, Any] = MappingProxyType({}),
) -> TaskDistribution:
    """Return the distribution `source`, or what it builds, if a small run of its world keeps the contract.

    `name` and `options` are what `doctor` would be asked about. A tensor world takes a tenth of a second or so, any
    other a few episodes of 4 envs.

    Raises: ConfigError with the sentence of the first check of `TRIED_OUT` that fails.
    """
    found, rebuild = _build(source)
    for finding in _examine(_small(found, rebuild, device), TRIED_OUT, stop=True):
        if finding.status == "fail":
            words = [word for k, v in options.items() for word in ("--option", f"{k}={v}")]
            raise ConfigError(
                f"world {name!r} does not keep the contract, {finding.check}: {finding.message} "
                f"(`{command('doctor', name, *words)}` makes all checks)"
            )
    return found


def _build(source: object) -> tuple[TaskDistribution, Callable[[], TaskDistribution] | None]:
    """Return `source` or what it builds, and what builds it anew; raises ConfigError if that is no distribution."""
    if lacks(source) and callable(source):
        return check_distribution(source()), source
    return check_distribution(source), None


def _small(
    found: TaskDistribution, rebuild: Callable[[], TaskDistribution] | None, device: torch.device | str
) -> Probe:
    """Return what a try-out examines."""
    return Probe(found, rebuild, _TRIED_COPIES, _TRIED_STEPS, 0, device, thorough=False)


def _examine(
    probe: Probe, names: Sequence[str], failed: Mapping[str, Finding] = MappingProxyType({}), *, stop: bool = False
) -> list[Finding]:
    """Return the findings of the checks `names`; those of `failed` stand. With `stop` the first failure is the last."""
    findings: list[Finding] = []
    broken = ""
    try:
        for name in names:
            if broken == "family" or (broken == "api" and name not in _WITHOUT_WORLD):
                findings.append(Finding(name, "skip", f'mend what "{broken}" found first'))
                continue
            findings.append(failed[name] if name in failed else _run(name, probe))
            if findings[-1].status == "fail":
                broken = name if name in ("family", "api") else broken
                if stop:
                    break
    finally:
        with suppress(Exception):  # of the world under examination
            probe.close()
    return findings


def _run(name: str, probe: Probe) -> Finding:
    """Run one check; whatever it raises becomes a finding."""
    here = os.getcwd()
    try:
        with global_rng(0):
            seen = CHECKS[name](probe)
        if os.getcwd() != here:
            raise Fault(
                f"it changed the current folder to {os.getcwd()!r}, and relative paths lead elsewhere then; give "
                f"absolute paths to what needs it"
            )
        return Finding(name, "pass", seen)
    except (Fault, MetarlError) as fault:
        return Finding(name, "fail", " ".join(str(fault).split()))
    except NotApplicable as reason:
        return Finding(name, "skip", str(reason))
    except (Exception, SystemExit) as error:  # a world under examination may fail in any way
        return Finding(name, "fail", raised(error))
    finally:
        os.chdir(here)
