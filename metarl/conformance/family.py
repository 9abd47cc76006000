"""Checks of a task distribution: splits, sampling, fingerprint, what the observation gives away, references."""

from __future__ import annotations

import json
import math

import torch
from torch import Tensor

from metarl.errors import ConfigError
from metarl.seeding import derive, generator
from metarl.task_distribution import about, checked_references
from metarl.tasks import Tasks

from .interface import check_calls
from .probe import Fault, NotApplicable, Probe, Row, check_kind, difference, first_row, global_rng, go_on

METHODS = {
    "sample": (3, ()),
    "all": (1, ()),
    "fingerprint": (0, ()),
    "make_world": (1, ("device",)),
    "references": (2, ()),
}
"""How a distribution's methods are called: how many positional arguments, which keywords."""

REQUIRED_SPLITS = ("train", "validation", "test")
N_SAMPLED = 256
"""Tasks drawn from a split that is not finite."""


def _known(probe: Probe, split: str) -> Tasks:
    """Return all tasks of a finite split, or a sample."""
    tasks = probe.family.all(split)
    if tasks is None:
        return probe.draw(N_SAMPLED, "splits", split=split)
    if len(check_kind(f"all({split!r})", tasks)) == 0:
        raise Fault(f"all({split!r}) is empty; put at least one task in each split, or return None if it is infinite")
    return tasks


def check_family(probe: Probe) -> str:
    """The distribution's members are of the kinds that the contract names and can be called as it calls them."""
    family = probe.family
    if not isinstance(family.name, str) or not family.name:
        raise Fault(f"name is {family.name!r}; give the distribution a name")
    if not isinstance(family.exhaustive, bool):
        raise Fault(f"exhaustive is {family.exhaustive!r}; set it to False, or to True if each split is all of it")
    splits = family.splits
    if not isinstance(splits, tuple | list) or not all(isinstance(s, str) for s in splits):
        raise Fault(f"splits is {splits!r}; give a tuple of names, as a property")
    check_calls("distribution", family, METHODS)
    said = about(family)
    try:
        json.dumps(dict(said.settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Fault(f"settings cannot be written as JSON ({error}); they are stored with every result") from error
    if isinstance(said.notes, str) or not all(isinstance(note, str) for note in said.notes):
        raise Fault(f"notes is {said.notes!r}; give a list of texts")
    return f"{family.name}: {len(METHODS)} methods, {len(splits)} splits"


def check_splits(probe: Probe) -> str:
    """The three splits exist, hold what is drawn from them, and share no task unless `exhaustive`."""
    family = probe.family
    missing = [s for s in REQUIRED_SPLITS if s not in family.splits]
    if missing:
        raise Fault(f"splits {list(family.splits)} lack {missing}; add them")
    keys = {split: set(_known(probe, split).keys()) for split in family.splits}
    _check_stranger(probe)
    for split in family.splits:
        _check_split(probe, split, keys[split])
    if family.exhaustive:
        if any(keys[s] != keys["train"] for s in REQUIRED_SPLITS):
            raise Fault(
                "exhaustive is True, but the splits hold different tasks; set it to False, or put all tasks in each"
            )
        return f"exhaustive: each split is all {len(keys['train'])} tasks"
    for i, a in enumerate(family.splits):
        for b in family.splits[i + 1 :]:
            if keys[a] & keys[b]:
                raise Fault(
                    f"splits {a!r} and {b!r} share {len(keys[a] & keys[b])} tasks; make them disjoint, or set "
                    f"exhaustive = True if each split is meant to be the whole distribution"
                )
    sizes = {s: len(keys[s]) if family.all(s) is not None else "infinite" for s in family.splits}
    return "disjoint: " + ", ".join(f"{s} {n}" for s, n in sizes.items())


def _check_stranger(probe: Probe) -> None:
    """A split that does not exist is refused with ConfigError."""
    try:
        probe.family.sample("no such split", 1, generator(probe.seed))
    except ConfigError:
        return
    except (Exception, SystemExit) as error:  # of whoever wrote it
        seen = f"raises {type(error).__name__} for"
    else:
        seen = "accepts"
    raise Fault(f"sample() {seen} a split that does not exist; call metarl.tasks.check_split first")


def _check_split(probe: Probe, split: str, known: set[str]) -> None:
    """Check the number of tasks drawn from one split, and where they come from."""
    drawn = probe.draw(5, "membership", split=split)
    if probe.family.all(split) is not None and not set(drawn.keys()) <= known:
        raise Fault(f"sample({split!r}) draws tasks that all({split!r}) does not list; draw from that list")
    if Tasks.from_json(drawn.to_json()).keys() != drawn.keys():
        raise Fault(f"tasks of {split!r} change on the way through JSON; keep parameters in plain numeric dtypes")


def check_sampling(probe: Probe) -> str:
    """A draw depends on its generator, and on nothing else."""
    for split in probe.family.splits:
        draws = []
        for state in (1, 2):
            with global_rng(state):
                draws.append(probe.draw(32, "sampling", split=split))
        if draws[0] != draws[1]:
            raise Fault(
                f"two draws of {split!r} with equal generators differ; draw from the generator that sample() is given, "
                f"never from a global one"
            )
        several = len(set(_known(probe, split).keys())) > 1
        if several and draws[0].keys() == probe.draw(32, "sampling", "other", split=split).keys():
            raise Fault(f"two seeds give the same 32 tasks of {split!r}; draw from the generator")
    return f"32 tasks of each of {len(probe.family.splits)} splits follow from the generator alone"


def check_fingerprint(probe: Probe) -> str:
    """The fingerprint is a stable, non-empty text, also across builds."""
    before = probe.family.fingerprint()
    probe.draw(4, "fingerprint")
    with global_rng(3):
        after = probe.family.fingerprint()
    if not isinstance(before, str) or not before:
        raise Fault(f"fingerprint() is {before!r}; return a non-empty digest of everything that defines the splits")
    if before != after:
        raise Fault(f"fingerprint() changed from {before} to {after} by sampling; digest the definition, not the state")
    if probe.rebuild is None:
        return f"{before} (one build only)"
    with global_rng(4):
        again = probe.rebuild().fingerprint()
    if again != before:
        raise Fault(f"two builds have fingerprints {before} and {again}; derive the tasks from fixed seeds only")
    return f"{before}, equal for two builds"


def _pushes(probe: Probe, n_steps: int, noise: Tensor) -> Tensor:
    """Return noise that keeps each env's first choice most of the time: random walks go too little far."""
    hold = torch.rand(n_steps, generator=generator(probe.seed, "hold")) < 0.8
    return torch.where(hold[:, None, None].to(noise.device), noise[:1], noise)


def check_task_effect(probe: Probe) -> str:
    """Different tasks give different results under the same actions."""
    world, tasks = probe.world(), probe.draw(None, "effect")
    if len(set(tasks.keys())) == 1:
        raise NotApplicable("all tasks drawn are the same")
    for attempt in range(4):
        runs: list[list[Row]] = []
        for chosen in (tasks, tasks[[*range(1, len(tasks)), 0]]):
            noise = _pushes(probe, probe.n_steps, probe.noise(world, probe.n_steps, "effect", attempt))
            with global_rng(0):
                first = probe.start(world, chosen, key=f"effect{attempt}")
                runs.append([first, *go_on(world, first, noise)])
        found = difference(runs[0], runs[1])
        if found:
            return f"other tasks, other results: {found}"
    raise NotApplicable(
        f"no effect of the task seen in 4 runs of {probe.n_steps} random steps; if rewards are not that sparse, "
        f"check that reset() applies the tasks"
    )


def check_hidden_tasks(probe: Probe) -> str:
    """The observation does not hold the task's parameters.

    Three runs with the same seed and actions and permuted tasks. First observations must be equal bit for bit, and no
    observation entry may equal a parameter in all envs of all three runs. A family whose `visible_parameters` (names
    of `Tasks.values`, or single entries like "goal[0]") are meant to be seen is examined for the others only.
    """
    world, tasks = probe.world(), probe.draw(None, "hidden")
    visible = tuple(about(probe.family).visible_parameters)
    n = len(tasks)
    orders = [list(range(n)), list(range(n))[::-1], [*range(3, n), *range(3)]]
    runs = [probe.drive(world, tasks[order], min(probe.n_steps, world.horizon, 32), key="hidden") for order in orders]
    if not visible:
        for run in runs[1:]:
            found = difference(runs[0][:1], run[:1])
            if found:
                raise Fault(
                    f"the first observation depends on the task ({found}); take the task out of the "
                    f"observation, or name what may be seen in the distribution's visible_parameters"
                )
    named = {(k, f"{k}[{j}]"): c for k, v in tasks.values.items() for j, c in _columns(v)}
    columns = {names[1]: column for names, column in named.items() if not {*names} & {*visible}}
    if not columns:
        raise NotApplicable("no parameter that varies and ought to be hidden" + _named(visible))
    for name, value in columns.items():
        found = _leak(runs, orders, value, affine=bool(visible))
        if found:
            raise Fault(f"task parameter {name} stands in the observation: {found}; take it out")
    return f"{len(columns)} hidden parameters, none in the observation" + _named(visible)


def _named(visible: tuple[str, ...]) -> str:
    return f" (visible by declaration: {', '.join(visible)})" if visible else ""


def _columns(value: Tensor) -> list[tuple[int, Tensor]]:
    """Return index and values (float64 [B]) of the entries of a parameter [B, ...] that vary."""
    flat = value.reshape(len(value), -1).to(torch.float64).T
    return [(j, c) for j, c in enumerate(flat) if bool((c != c[0]).any())]


def _leak(runs: list[list[Row]], orders: list[list[int]], value: Tensor, *, affine: bool) -> str:
    """Say where an observation entry equals `value` (or, at the first step, tracks it) in all runs, or return ""."""
    for t in range(len(runs[0])):
        equal: Tensor | None = None
        for run, order in zip(runs, orders, strict=True):
            obs, wanted = run[t]["obs"].to(torch.float64), value[order][:, None]
            close = (obs - wanted).abs().amax(dim=0) <= 1e-6 * max(1.0, float(value.abs().max()))
            if affine and t == 0:
                close |= _correlation(obs, wanted).abs() > 0.999
            equal = close if equal is None else equal & close
        if equal is not None and bool(equal.any()):
            return f"entry {int(equal.nonzero()[0])} of the flat observation at step {t}"
    return ""


def _correlation(obs: Tensor, wanted: Tensor) -> Tensor:
    """Return Pearson's correlation of each column of `obs` [B, d] with `wanted` [B, 1]; 0 for constant columns."""
    a, b = obs - obs.mean(dim=0), wanted - wanted.mean(dim=0)
    scale = (a.square().sum(dim=0) * b.square().sum(dim=0)).sqrt()
    return torch.where(scale > 1e-12, (a * b).sum(dim=0) / scale.clamp(min=1e-12), 0.0)


def check_references(probe: Probe) -> str:
    """References are finite and in order, and a uniformly random policy neither beats nor contradicts them."""
    n_episodes = 2
    references = checked_references(probe.family, "test", n_episodes)
    if not references:
        raise NotApplicable("the distribution states no reference returns")
    for name, values in references.items():
        if not all(math.isfinite(v) for v in values):
            raise Fault(f"reference {name!r} is {values}; give {n_episodes} finite returns, one per episode")
    mean, error = _random_return(probe)
    total = {name: sum(values) / n_episodes for name, values in references.items()}
    # The last term: rewards so rare that a sample may hold none, as large as the best reference, up to 5 in the sample.
    spread = max(abs(value - mean) for value in total.values())
    slack = 5.0 * error + 1e-2 * abs(mean) + 5.0 / N_SAMPLED * spread
    for low, high in (("random", "bayes_optimal"), ("random", "oracle"), ("bayes_optimal", "oracle")):
        if low in total and high in total and total[low] > total[high] + slack:
            raise Fault(f"reference {low!r} ({total[low]:.4g}) is above {high!r} ({total[high]:.4g}); recompute both")
    best = total.get("oracle", total.get("bayes_optimal", math.inf))
    if mean - slack > best:
        raise Fault(f"random actions earn {mean:.4g}, more than the best reference {best:.4g}; recompute the reference")
    if "random" in total and abs(mean - total["random"]) > slack:
        raise Fault(
            f"random actions earn {mean:.4g} +- {error:.2g}, reference 'random' says {total['random']:.4g}; it must be "
            f"the return of uniform actions on the test split"
        )
    return f"random actions earn {mean:.4g} +- {error:.2g}; " + ", ".join(f"{k} {v:.4g}" for k, v in total.items())


def _random_return(probe: Probe) -> tuple[float, float]:
    """Return mean and standard error of the return of one episode of uniform actions on 256 test tasks."""
    world = probe.fresh(N_SAMPLED)
    try:
        world.set_tasks(probe.draw(N_SAMPLED, "references", split="test"))
        obs, info = world.reset(seed=derive(probe.seed, "references"))
        first = first_row(world, obs, info)
        total = torch.zeros(N_SAMPLED, dtype=torch.float64, device=world.device)
        active = torch.ones(N_SAMPLED, dtype=torch.bool, device=world.device)
        for row in go_on(world, first, probe.noise(world, world.horizon, "references")):
            total += row["reward"] * active
            active &= ~(row["terminated"] | row["truncated"])
    finally:
        world.close()
    return float(total.mean()), float(total.std() / math.sqrt(N_SAMPLED))
