"""Task distributions of the companion: visitors of each split, and reference policies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from metarl.envs.families import check_count, pick
from metarl.envs.npc.family import NpcFamily
from metarl.envs.npc.people import styles as people_styles
from metarl.envs.npc.reference import Policy, Random
from metarl.envs.npc.shift import Shift
from metarl.errors import ConfigError
from metarl.seeding import derive, mix
from metarl.spec import WorldSpec
from metarl.tasks import Tasks, check_split

from . import references as references
from .identities import KNOWN, NEW_HANDS, NEW_SCRIPTS
from .styles import TINY, Styles
from .world import CompanionSettings, CompanionWorld, companion_spec

SHIFTS = ("visitor", "drift", "interface", "sensor")
CROWD = 5
"""Visitors of a trial of the split `test-crowd`."""
_PARTS = 10
"""Groups of visitors fall into so many parts; the first is for validation, the next three for tests."""


class CompanionTasks(NpcFamily):
    """Groups of visitors whose styles follow the answers of 2,800 people to a questionnaire.

    * `train`, `validation`, `test`: groups, none of which is in two of these; a quarter of all styles is in none.
      Outside training the letters are other drawings than there;
    * `test-combinations`: groups of styles kept from training, every factor's value of which was met in training;
    * `test-scripts` (glyphs only): the groups' letters come from scripts never seen;
    * `test-crowd` (glyphs only): five visitors in a trial;
    * `test-all`: all of these together.
    """

    def __init__(
        self,
        name: str,
        settings: CompanionSettings,
        styles: Styles,
        prior: Tensor,
        *,
        held_out: bool,
        shift: str = "",
        n_validation: int = 256,
        n_test: int = 1024,
    ) -> None:
        """`prior` [n styles] is the prior over styles; with `held_out` a quarter is kept for two test splits."""
        self.world_settings, self.styles = settings, styles
        self.shift = Shift.parse(shift, SHIFTS)
        keep = torch.where(styles.held_out(), 0.0, prior.double()) if held_out else prior.double()
        self.prior = keep / keep.sum()
        rest = torch.where(styles.held_out(), prior.double(), 0.0)
        self.kept = rest / rest.sum().clamp(min=1e-12)
        glyphs = settings.identity == "glyph"
        extra = ("test-combinations",) * held_out + ("test-scripts", "test-crowd", "test-all") * glyphs
        super().__init__(
            name, {**asdict(settings), "held_out": held_out, "shift": shift, "prior": _digest_of(prior)},
            n_episodes=settings.n_encounters, extra_splits=extra, n_validation=n_validation, n_test=n_test,
        )  # fmt: skip
        self.n_visitors = CROWD if glyphs else settings.n_visitors

    def draw(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw groups of visitors, those who replace them in a visitor shift, and the kind of their letters."""
        prior = self.kept if split in ("test-combinations", "test-all") else self.prior
        style = _group(prior, n, self.n_visitors, self._part(split), self.world_settings.n_visitors, generator)
        later = _styles(prior, (n, self.n_visitors), generator)
        device = generator.device
        glyphs, crowd = self.world_settings.identity == "glyph", split in ("test-crowd", "test-all")
        count = CROWD if crowd and glyphs else self.world_settings.n_visitors
        letters = {"train": KNOWN, "test-scripts": NEW_SCRIPTS, "test-all": NEW_SCRIPTS}.get(split, NEW_HANDS)
        return Tasks.of(
            self.name, style=style, later=later, count=torch.full((n,), count, device=device),
            letters=torch.full((n,), letters, device=device),
        )  # fmt: skip

    def _part(self, split: str) -> tuple[int, int]:
        """Return which parts of all groups belong to a split."""
        if split in ("test-combinations", "test-all"):
            return (0, _PARTS)
        return {"train": (4, _PARTS), "validation": (0, 1)}.get(split, (1, 4))

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return companion_spec(self.name, self.world_settings, self.styles)

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> CompanionWorld:
        """Build a world of `num_envs`."""
        return CompanionWorld(
            self.name, num_envs, self.world_settings, self.styles, self.prior, n_rows=self.n_visitors,
            shift=self.shift, device=device,
        )  # fmt: skip

    def policies(self, split: str) -> dict[str, Callable[[], Policy]]:
        """Return the reference policies; all but the oracle know the prior over visitors in training, and no more.

        For styles kept from training there is also a filter that holds any combination possible ("bayes_smoothed"),
        and under a shift one that is not aware of it ("bayes_unaware"), while the others reckon with it. They are told
        who is there, which an NPC must see for itself where visitors show a glyph.
        """
        rho = self.world_settings.rho
        model = references.FilterModel.of(self.styles, self.prior, rho, self.shift)
        make = partial(partial, model=model)
        known: dict[str, Callable[[], Policy]] = {
            "random": Random,
            "non_adaptive": make(references.NonAdaptive),
            "forgetful": make(references.Filter, memory="encounter"),
            "forgetful_look_ahead": make(references.Filter, memory="encounter", play="look-ahead"),
            "pooled": make(references.Filter, memory="pooled"),
            "bayes_greedy": make(references.Filter),
            "thompson": make(references.Filter, play="thompson"),
            "bayes_look_ahead": make(references.Filter, play="look-ahead"),
            "oracle": make(references.Oracle),
        }
        if split in ("test-combinations", "test-all"):
            open_minded = references.FilterModel.of(self.styles, self._smoothed(), rho, self.shift)
            known["bayes_smoothed"] = partial(references.Filter, model=open_minded, play="look-ahead")
        if self.shift is not None:
            unaware = references.FilterModel.of(self.styles, self.prior, rho, None)
            known["bayes_unaware"] = partial(references.Filter, model=unaware, play="look-ahead")
        return known

    def _smoothed(self) -> Tensor:
        """Return the prior of training, a tenth of which is what it would be were the factors independent."""
        independent = torch.ones(self.styles.n, dtype=torch.float64)
        for f, size in enumerate(self.styles.sizes):
            column = self.styles.factors[:, f]
            marginal = torch.zeros(size, dtype=torch.float64).index_add(0, column, self.prior)
            independent = independent * marginal[column]
        return 0.9 * self.prior + 0.1 * independent


class TinyCompanionTasks(CompanionTasks):
    """One visitor of six styles, all equally likely: every split is the whole family."""

    exhaustive = True

    def all(self, split: str) -> Tasks:
        """Return the six styles."""
        return self.fixed_tasks(split)

    def fixed_tasks(self, split: str) -> Tasks:
        """Return the six styles."""
        check_split(self.name, split, self.splits)
        every = torch.arange(self.styles.n)
        one = torch.ones_like(every)
        return Tasks.of(self.name, style=every[:, None], later=every.flip(0)[:, None], count=one, letters=0 * one)

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw styles, each as often as any other up to one."""
        return pick(self.all(split), n, generator)

    def draw(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw styles, each as often as any other up to one."""
        return self.sample(split, n, generator)

    def policies(self, split: str) -> dict[str, Callable[[], Policy]]:
        """Add the best policy of all."""
        from .exact import BayesOptimal

        settings = self.world_settings
        optimal = partial(BayesOptimal, self.styles, settings.n_encounters * settings.n_turns)
        known = super().policies(split)
        if self.shift is not None or settings.rho:
            return known
        return known | {"bayes_optimal": optimal}


def _digest_of(prior: Tensor) -> list[float]:
    """Return the prior itself, rounded: it is part of what defines the family."""
    return [round(float(p), 6) for p in prior]


def _styles(prior: Tensor, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw styles int64 `shape` from `prior`."""
    weights = prior.to(generator.device).float()
    drawn = torch.multinomial(weights, shape[0] * shape[1], replacement=True, generator=generator)
    return drawn.view(shape)


def _group(
    prior: Tensor, n: int, width: int, part: tuple[int, int], counted: int, generator: torch.Generator
) -> Tensor:
    """Draw `n` groups of styles [n, width] that fall into `part` of all groups.

    The part of a group depends on the styles of its first `counted` visitors, whatever their order.
    """
    found: list[Tensor] = []
    missing = n
    while missing:
        drawn = _styles(prior, (4 * missing + 16, width), generator)
        ordered = drawn[:, :counted].sort(dim=1)[0]
        mark = torch.full_like(ordered[:, 0], derive(0, "companion-groups"))
        for column in ordered.unbind(1):
            mark = mix(mark + column + 1)
        number = (mark & 0x7FFF_FFFF) % _PARTS
        fits = drawn[(number >= part[0]) & (number < part[1])][:missing]
        found.append(fits)
        missing -= len(fits)
    return torch.cat(found)


def _settings(name: str, **options: Any) -> CompanionSettings:
    """Return checked settings."""
    limits = {"n_visitors": (1, CROWD), "n_encounters": (1, 1000), "n_turns": (1, 100)}
    for option, (low, high) in limits.items():
        check_count(name, option, options[option], low, high)
    if options["identity"] not in ("glyph", "id"):
        raise ConfigError(f"{name} option identity is {options['identity']!r}; choose 'glyph' or 'id'")
    for option in ("rho", "opt_out"):
        value = options[option]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ConfigError(f"{name} option {option} is {value!r}; pass a chance in 0..1")
        options[option] = float(value)
    return CompanionSettings(**options)


def make(
    n_visitors: int = 3,
    identity: str = "glyph",
    rho: float = 0.0,
    n_encounters: int = 12,
    n_turns: int = 6,
    opt_out: float = 0.0,
    held_out: bool = True,
    synthetic: bool = False,
    shift: str = "",
    reward_in_obs: bool = False,
    n_validation: int = 256,
    n_test: int = 1024,
) -> CompanionTasks:
    """Build the companion family; `synthetic` draws styles from invented people."""
    settings = _settings(
        "npc/companion", n_visitors=n_visitors, identity=identity, rho=rho, n_encounters=n_encounters, n_turns=n_turns,
        opt_out=opt_out, reward_in_obs=reward_in_obs,
    )  # fmt: skip
    prior = people_styles(synthetic=synthetic)
    return CompanionTasks(
        "npc/companion", settings, Styles(), prior, held_out=held_out, shift=shift, n_validation=n_validation,
        n_test=n_test,
    )  # fmt: skip


def make_tiny(n_encounters: int = 2, n_turns: int = 3, shift: str = "") -> TinyCompanionTasks:
    """Build the tiny family: one visitor, known by number, six styles, three moods."""
    settings = _settings(
        "npc/companion-tiny", n_visitors=1, identity="id", rho=0.0, n_encounters=n_encounters, n_turns=n_turns,
        opt_out=0.0, reward_in_obs=False,
    )  # fmt: skip
    prior = torch.full((TINY.n,), 1.0 / TINY.n)
    return TinyCompanionTasks("npc/companion-tiny", settings, TINY, prior, held_out=False, shift=shift)
