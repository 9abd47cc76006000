"""Task distributions of the dialogues: `npc/assistant`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from metarl.envs.families import check_options
from metarl.envs.npc.draws import tally
from metarl.envs.npc.family import NpcFamily, settings_of
from metarl.envs.npc.people import DOMAINS
from metarl.envs.npc.reference import Policy
from metarl.envs.npc.shift import Shift
from metarl.spec import WorldSpec
from metarl.tasks import Tasks, check_split

from .catalogue import N_ATTRIBUTES, Shelf, dominant, shelf
from .references import Bank, policies
from .world import AssistantConfig, AssistantWorld, assistant_spec

HELD_OUT_SHARE = 0.15
"""The visitors whose dominant attribute is about this common never have the last intent in training."""


class AssistantTasks(NpcFamily):
    """Visitors drawn from the bank of a domain; validation and test are other people.

    In each domain there is one attribute (`special`) such that visitors who differ most from the average in it are
    never after the last category in training, nor in validation and test. Splits beside these three, all of people
    never met: `test-worlds`, catalogues of offers half-way between real ones; `test-combinations`, only such visitors,
    after the last category only; `test-domain`, a domain never met (train tickets); `test-all`, the first two at once.
    """

    visible_parameters = ("domain", "pool", "order", "sign")
    """What a catalogue shows."""

    def __init__(self, name: str, config: AssistantConfig) -> None:
        """Take the constants from `config`."""
        held_out = tuple(d for d, known in DOMAINS.items() if known.held_out and d not in config.domains)
        self.config, self.domains = config, (*config.domains, *held_out)
        self._shelves = [self.shelf(d) for d in self.domains]
        self.special = [self._special(s) for s in self._shelves]
        """Number of the attribute per domain."""
        extra = ["test-worlds"]
        if config.n_categories > 1:
            extra += ["test-combinations", "test-all"]
        if held_out:
            extra.append("test-domain")
        super().__init__(name, settings_of(config), n_episodes=config.n_episodes, extra_splits=tuple(extra))

    def shelf(self, domain: str) -> Shelf:
        """Return catalogues and visitors of a domain."""
        config = self.config
        return shelf(domain, config.n_offers, config.n_catalogues, config.synthetic)

    @staticmethod
    def _special(found: Shelf) -> int:
        count = tally(dominant(found.bank, found.mean, found.sd), N_ATTRIBUTES)
        return int((count / len(found.bank) - HELD_OUT_SHARE).abs().argmin())

    def people(self, split: str, domain: int) -> Tensor:
        """Return the part-worths of those who may appear in `split`, float32 [P, 6]."""
        found = self._shelves[domain]
        bank = {"train": found.bank, "validation": found.validation}.get(split, found.test)
        if split in ("test-combinations", "test-all"):
            bank = bank[dominant(bank, found.mean, found.sd) == self.special[domain]]
        return found.mean + self.config.het * (bank - found.mean)

    def draw(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw visitors, one per version that a shift leads through, all of one domain."""
        check_split(self.name, split, self.splits)
        config, device = self.config, generator.device
        n_domains = len(config.domains)
        if split == "test-domain":
            domain = torch.randint(n_domains, len(self.domains), (n,), generator=generator, device=device)
        else:
            domain = torch.randint(n_domains, (n,), generator=generator, device=device)
        u = torch.rand(n, config.versions, generator=generator, device=device)
        beta = torch.zeros(n, config.versions, N_ATTRIBUTES, device=device)
        special = torch.zeros(n, dtype=torch.bool, device=device)
        for number, found in enumerate(self._shelves):
            bank = self.people(split, number).to(device)
            chosen = bank[(u * len(bank)).long().clamp(max=len(bank) - 1)]
            here = domain == number
            beta = torch.where(here[:, None, None], chosen, beta)
            is_special = dominant(chosen[:, 0], found.mean.to(device), found.sd.to(device)) == self.special[number]
            special |= here & is_special
        beta = self._versions(beta, generator)
        intents = self._intents(split, special)
        order, sign = self._columns(n, generator)
        if config.anonymise:
            beta = beta.gather(2, order[:, None].expand_as(beta)) * sign[:, None]
        pool = torch.full((n,), int(split in ("test-worlds", "test-all")), device=device)
        return Tasks.of(self.name, beta=beta, domain=domain, pool=pool, order=order, sign=sign, intents=intents)

    def _intents(self, split: str, special: Tensor) -> Tensor:
        """Return the chances of the categories, float32 [n, C]."""
        c = self.config.n_categories
        chances = torch.full((len(special), c), 1.0 / c, device=special.device)
        if c == 1 or split == "test-domain":
            return chances
        if split in ("test-combinations", "test-all"):
            rest = torch.zeros(c, device=special.device)
            rest[-1] = 1.0
        else:
            rest = torch.full((c,), 1.0 / (c - 1), device=special.device)
            rest[-1] = 0.0
        return torch.where(special[:, None], rest, chances)

    def _columns(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the order and the signs in which columns of attributes are shown."""
        device = generator.device
        if not self.config.anonymise:
            return torch.arange(N_ATTRIBUTES, device=device).repeat(n, 1), torch.ones(n, N_ATTRIBUTES, device=device)
        order = torch.rand(n, N_ATTRIBUTES, generator=generator, device=device).argsort(1)
        sign = torch.where(torch.rand(n, N_ATTRIBUTES, generator=generator, device=device) < 0.5, -1.0, 1.0)
        return order, sign

    def _versions(self, beta: Tensor, generator: torch.Generator) -> Tensor:
        """Return what changes from version to version; without such a shift all are as version 0."""
        change = Shift.parse(self.config.shift)
        kind = "" if change is None else change.kind
        if kind == "visitor":
            return beta
        rows = [beta[:, 0]]
        for v in range(1, beta.shape[1]):
            at = torch.randint(N_ATTRIBUTES, (len(beta),), generator=generator, device=beta.device)
            one = torch.nn.functional.one_hot(at, N_ATTRIBUTES).bool()
            other = {"drift": beta[:, v], "interface": -rows[-1]}.get(kind, rows[-1])
            rows.append(torch.where(one, other, rows[-1]))
        return torch.stack(rows, 1)

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return assistant_spec(self.name, self.config)

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> AssistantWorld:
        """Build `num_envs` dialogues."""
        return AssistantWorld(self.name, num_envs, self.config, self.domains, device=device)

    def policies(self, split: str) -> dict[str, Callable[[], Policy]]:
        """Return makers of the reference policies."""
        n_met = len(self.config.domains)
        met = [self.people("train", d) for d in range(n_met)]
        return policies(Bank.of(met, [len(s.attributes) for s in self._shelves[n_met:]]), self.config)


def make(**options: Any) -> AssistantTasks:
    """Build the family; options are those of `AssistantConfig`."""
    check_options("npc/assistant", options, (f.name for f in fields(AssistantConfig)))
    for key in ("domains", "sensitive"):
        if key in options:
            value = options[key]
            options = {**options, key: tuple(value) if isinstance(value, list | tuple) else (value,)}
    return AssistantTasks("npc/assistant", AssistantConfig(**options))
