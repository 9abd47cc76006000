"""Task distributions of the guide: `npc/guide-macro` (which exhibit next?) and `npc/guide` (walking there)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from metarl.envs.npc.family import NpcFamily
from metarl.envs.npc.reference import Policy, Random
from metarl.envs.npc.shift import Shift
from metarl.errors import ConfigError, nearest
from metarl.seeding import generator as stream
from metarl.spec import WorldSpec
from metarl.tasks import Tasks, check_split

from .layouts import Layouts, join, pool
from .macro import GuideMacro
from .maps import hand_drawn
from .micro import GuideMicro
from .references import Prior, policies
from .visitor_model import MIXED, MIXED_HELD_OUT, SINGLE, GuideSettings, People, Visitors, pace_pairs, theme_table
from .world import GuideWorld, Places

POOLS = (("plaza", "train"), ("rooms", "train"), ("plaza", "held-out"), ("rooms", "held-out"), ("maze", "held-out"),
         ("ring", "held-out"))  # fmt: skip
"""Kinds of layouts and the names of their draws; two neighbours make a place."""
KNOWN, NEW, OF_OTHER_KINDS, BY_HAND = 0, 1, 2, 3
"""Places: layouts of training; others of the same kinds; mazes and rings; hand-drawn maps."""
SHIFTS = ("visitor", "drift", "world", "interface", "sensor")
SIMILARITY = 0.7
"""Correlation of interests before and after a drift."""
_POOL_SIZES = {"train": 1024, "held-out": 512}
_SMOOTH_COPIES = 1


@cache
def drawn_places(n_exhibits: int) -> tuple[Layouts, tuple[int, ...]]:
    """Return the layouts of all places drawn by `guide_layouts`, and how many each place has."""
    pools = [pool(kind, _POOL_SIZES[key], n_exhibits, key) for kind, key in POOLS]
    sizes = tuple(len(a) + len(b) for a, b in zip(pools[::2], pools[1::2], strict=True))
    return join(pools), sizes


class GuideTasks(NpcFamily):
    """Visitors to be guided; see `docs/npc.md` for the splits."""

    def __init__(
        self,
        name: str,
        world: type[GuideWorld],
        settings: GuideSettings,
        people: People,
        *,
        maps: tuple[str, ...] = (),
        shift: str = "",
        n_test: int = 1024,
    ) -> None:
        """`world` is the kind of guide.

        Raises: ConfigError for values that cannot be, MapError (a ConfigError) for maps that cannot be walked.
        """
        self.guide, self.people, self._world = settings, people, world
        self.shift = Shift.parse(shift, SHIFTS)
        layouts, sizes = drawn_places(settings.n_exhibits)
        further = None
        if maps:
            drawn = hand_drawn(maps, settings.n_exhibits, first_theme=len(theme_table().rows) - 1)
            layouts, sizes, further = join([layouts, drawn.layouts]), (*sizes, len(drawn.layouts)), drawn.themes
        count = torch.tensor(sizes)
        self.places = Places(layouts, count.cumsum(0) - count, count, theme_table(further=further), bool(maps))
        self.maps = maps
        super().__init__(
            name,
            {
                **asdict(settings), "synthetic": people.synthetic, "n_people": people.n_people, "shift": shift,
                "layouts": layouts.digest(),
            },
            n_episodes=settings.n_episodes,
            extra_splits=("test-worlds", "test-combinations", *(("test-hand-drawn",) if maps else ()), "test-all"),
            n_validation=256,
            n_test=n_test,
        )  # fmt: skip
        # No list holds anybody twice.
        self._sizes = {s: min(n, len(self._prior_of(s)[0])) for s, n in self._sizes.items()}

    def _prior_of(self, split: str) -> tuple[Visitors, int, int]:
        """Return who comes, to which place, and what exhibits are drawn there."""
        check_split(self.name, split, self.splits)
        combined = split in ("test-combinations", "test-all")
        who = {"validation": "validation", "test": "test", "test-all": "test"}.get(split, "train")
        place = {"train": KNOWN, "test-worlds": OF_OTHER_KINDS, "test-all": OF_OTHER_KINDS, "test-hand-drawn": BY_HAND}
        mix = SINGLE if self.guide.themes == 1 else MIXED_HELD_OUT if combined else MIXED
        return Visitors(self.people.bank(who), pace_pairs(held_out=combined)), place.get(split, NEW), mix

    def draw(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` visitors, and for a shift what becomes of them."""
        visitors, place, mix = self._prior_of(split)
        versions = 1 if self.shift is None else 2 if self.shift.episode is not None else self.n_episodes
        drawn = [visitors.draw(n, generator) for _ in range(versions)]
        kind = "" if self.shift is None else self.shift.kind
        if kind == "drift":
            keep = (SIMILARITY, (1.0 - SIMILARITY**2) ** 0.5)
            for before, after in pairwise(drawn):
                after["interests"] = keep[0] * before["interests"] + keep[1] * after["interests"]
        values: dict[str, Tensor] = {}
        for name in drawn[0]:
            stays = kind not in ("visitor", "drift") or (kind == "drift" and name != "interests")
            values[name] = torch.stack([drawn[0 if stays else v][name] for v in range(versions)], 1)
        odd = torch.arange(versions) % 2 * int(kind == "world")
        other = NEW if place == OF_OTHER_KINDS else OF_OTHER_KINDS
        values["place"] = torch.where(odd > 0, other, place).expand(n, -1).contiguous()
        values["mix"] = torch.full((n,), mix)
        if kind == "sensor":
            values["blur"] = torch.where(torch.arange(versions) > 0, 2.0, 1.0).expand(n, -1).contiguous()
        if kind == "interface":
            values["wiring"] = self._wirings(n, versions, generator)
        return Tasks.of(self.name, None, **values)

    def _wirings(self, n: int, versions: int, generator: torch.Generator) -> Tensor:
        """Return what actions do, int64 [n, versions, actions]: as labelled at first, then shuffled.

        The macro world's "end", and the micro world's "wait" and "present", stay what they are.
        """
        actions, shuffled = (self.guide.n_exhibits + 1, self.guide.n_exhibits) if self._is_macro else (6, 4)
        plain = torch.arange(actions).expand(n, versions, -1).clone()
        for version in range(1, versions):
            plain[:, version, :shuffled] = torch.rand(n, shuffled, generator=generator).argsort(1)
        return plain

    @property
    def _is_macro(self) -> bool:
        return self._world is GuideMacro

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return self._world.spec_for(self.name, self.guide)

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> GuideWorld:
        """Build a world of `num_envs`."""
        return self._world(self.name, num_envs, self.guide, self.places, shift=self.shift, device=device)

    def prior(self, split: str) -> tuple[Prior, Prior]:
        """Return the prior over visitors in training, and the one that references for `split` filter with.

        On splits with unseen people the latter blurs the known ones, on splits with unheard-of (tau, kappa) it takes
        all nine pairs to be equally likely.
        """
        usual = pace_pairs(held_out=False)
        known = Prior(self.people.bank("train"), usual)
        bank = known.bank
        if split in ("validation", "test", "test-all"):
            bank = self.people.smooth_bank(_SMOOTH_COPIES, stream(0, "guide", "smooth"))
        if split in ("test-combinations", "test-all"):
            usual = torch.cat([usual, pace_pairs(held_out=True)])
        return known, Prior(bank, usual)

    def policies(self, split: str) -> dict[str, Callable[[], Policy]]:
        """Return makers of the reference policies by name."""
        check_split(self.name, split, self.splits)
        known, broad = self.prior(split)
        hazard = 0.0 if self.shift is None else self.shift.hazard or 0.12
        found = policies(known, broad, hazard=hazard)
        if not self._is_macro:
            from .leader import led_by

            found = {name: led_by(make) for name, make in found.items()}
        return {"random": Random, **found}

    def onlooker(self, split: str) -> Policy | None:
        """Return the filter alone, without the walking."""
        from .leader import Leader

        found = super().onlooker(split)
        return found.planner if isinstance(found, Leader) else found


def build(name: str, world: type[GuideWorld], options: dict[str, Any]) -> GuideTasks:
    """Return the family `name` with options of `GuideSettings`, `People` and `GuideTasks`.

    Raises: ConfigError for an unknown option or a value that cannot be.
    """
    rules = [f.name for f in fields(GuideSettings)]
    known = {*rules, "synthetic", "n_people", "shift", "maps", "n_test"}
    for option in options:
        if option not in known:
            raise ConfigError(f"{name} has no option {option!r}; {nearest(option, known)}")
    people = People(synthetic=_flag(name, options, "synthetic"), n_people=options.get("n_people"))
    maps = options.get("maps", ())
    if isinstance(maps, str) or not all(isinstance(m, str) for m in maps):
        raise ConfigError(f"{name} option maps is {maps!r}; pass a list of paths")
    settings = GuideSettings(**{k: v for k, v in options.items() if k in rules})
    return GuideTasks(
        name,
        world,
        settings,
        people,
        maps=tuple(maps),
        shift=options.get("shift", ""),
        n_test=options.get("n_test", 1024),
    )


def _flag(name: str, options: dict[str, Any], option: str) -> bool:
    value = options.get(option, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{name} option {option} is {value!r}; pass true or false")
    return value


def make_macro(**options: Any) -> GuideTasks:
    """Build `npc/guide-macro`; options are those of `GuideSettings`, `synthetic`, `n_people`, `shift`, `maps`."""
    return build("npc/guide-macro", GuideMacro, options)


def make(**options: Any) -> GuideTasks:
    """Build `npc/guide`; the options are those of `make_macro`."""
    return build("npc/guide", GuideMicro, options)
