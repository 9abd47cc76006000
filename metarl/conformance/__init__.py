"""The conformance suite: does a task distribution with its world keep the contracts that agents rely on?

Every check is named and answers pass, fail or skip with one sentence that says what was seen and what to do. Nothing
here knows any particular world. `metarl doctor NAME` prints the findings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch

from metarl.errors import ConfigError, nearest
from metarl.tasks import TaskDistribution, check_distribution, lacks

from . import actions, family, interface, stepping, waiting
from .probe import Fault, NotApplicable, Probe, global_rng

Check = Callable[[Probe], str]
"""Returns what was seen; raises Fault or NotApplicable."""

CHECKS: dict[str, Check] = {
    "api": interface.check_api,
    "gymnasium": interface.check_gymnasium,
    "splits": family.check_splits,
    "sampling": family.check_sampling,
    "fingerprint": family.check_fingerprint,
    "determinism": stepping.check_determinism,
    "batch size": stepping.check_batch_size,
    "autoreset": stepping.check_autoreset,
    "masked reset": stepping.check_masked_reset,
    "aliasing": stepping.check_aliasing,
    "set tasks": stepping.check_set_tasks,
    "task effect": family.check_task_effect,
    "hidden tasks": family.check_hidden_tasks,
    "snapshot": stepping.check_snapshot,
    "waiting": waiting.check_waiting,
    "hidden numbers": waiting.check_hidden,
    "finite": actions.check_finite,
    "action effect": actions.check_action_effect,
    "action bounds": actions.check_action_bounds,
    "references": family.check_references,
    "speed": actions.measure_speed,
}
"""All checks in the order they run. If "api" fails, those that step the world are skipped."""

_WITHOUT_WORLD = ("splits", "sampling", "fingerprint")


@dataclass(frozen=True)
class Finding:
    """The answer of one check."""

    check: str
    status: Literal["pass", "fail", "skip"]
    message: str
    """One line: what was seen and, after a failure, what to do."""


def check_world(
    source: TaskDistribution | Callable[[], TaskDistribution],
    *,
    n_copies: int = 8,
    n_steps: int = 64,
    seed: int = 0,
    device: torch.device | str = "cpu",
    only: Sequence[str] | None = None,
) -> list[Finding]:
    """Run the checks named in `only` (all by default) and return their findings in order.

    `source` is a task distribution, or a function that builds one (then it is also built twice and compared).
    `n_copies` is the batch size of the runs, at least 4; `n_steps` their length in steps.

    Raises: ConfigError for an unknown check or a size that is too small. Whatever the world raises becomes a finding.
    """
    for name in only or ():
        if name not in CHECKS:
            raise ConfigError(f"there is no check {name!r}; {nearest(name, CHECKS)}")
    if n_copies < 4 or n_steps < 8:
        raise ConfigError(f"the checks need n_copies >= 4 and n_steps >= 8, got {n_copies} and {n_steps}")
    rebuild = None if lacks(source) == [] else source
    probe = Probe(
        _build(source), cast("Callable[[], TaskDistribution] | None", rebuild), n_copies, n_steps, seed, device
    )
    findings: list[Finding] = []
    try:
        broken = False
        for name in CHECKS:
            if only is not None and name not in only and not (name == "api" and set(only) - {*_WITHOUT_WORLD}):
                continue
            if broken and name not in _WITHOUT_WORLD:
                findings.append(Finding(name, "skip", 'mend what "api" found first'))
                continue
            finding = _run(name, probe)
            broken |= name == "api" and finding.status == "fail"
            findings.append(finding)
    finally:
        probe.close()
    return findings


def _build(source: object) -> TaskDistribution:
    """Return `source`, or what it builds; raises ConfigError if that is no task distribution."""
    return check_distribution(source() if lacks(source) and callable(source) else source)


def _run(name: str, probe: Probe) -> Finding:
    """Run one check; whatever it raises becomes a finding."""
    try:
        with global_rng(0):
            return Finding(name, "pass", CHECKS[name](probe))
    except Fault as fault:
        return Finding(name, "fail", str(fault))
    except NotApplicable as reason:
        return Finding(name, "skip", str(reason))
    except Exception as error:  # a world under examination may fail in any way
        where = _last_frame(error)
        return Finding(name, "fail", f"raised {type(error).__name__}{where}: {error}")


def _last_frame(error: Exception) -> str:
    """Return " at file:line" of the frame that raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
