"""`metarl npc play WORLD --as visitor`: be the visitor whom an NPC gets to know, in the terminal.

The NPC is a trained run (--npc RUN) or a reference policy of the world (--policy NAME). After what it does you say how
you take it; your answers stand in place of the simulated visitor's reactions. With --as npc you choose the NPC's
actions instead, and the world's own visitor reacts. The trial is kept as a page like that of `watch`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metarl.checkpoint import replace_file
from metarl.commandline import command
from metarl.envs.npc.family import NpcFamily
from metarl.envs.npc.reference import Policy
from metarl.envs.npc.world import NpcWorld
from metarl.errors import ConfigError
from metarl.experiments.build import load_run
from metarl.experiments.cli.outputs import check_writable
from metarl.experiments.cli.parser import Parser, seed
from metarl.experiments.cli.safe_text import one_line
from metarl.experiments.cli.trust import add_trust
from metarl.world import StepResult

from .play_text import did, scene
from .recording import record_agent, record_policy
from .watch import npc_family, reference_policy, render

PROG = command("npc", "play")
_QUIT = "q"


class Quit(Exception):
    """The person has had enough."""


def _parser() -> Parser:
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False)
    parser.add_argument("world", help="name of an NPC world, e.g. npc/companion")
    parser.add_argument("--as", dest="role", choices=("visitor", "npc"), default="visitor", help="whom you play")
    parser.add_argument("--npc", type=Path, metavar="RUN", help="run directory of the NPC that you meet")
    add_trust(parser)
    parser.add_argument("--policy", metavar="NAME", help="or a reference policy of the world (default: the best Bayes)")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="option of the world")
    parser.add_argument("--split", default="test", help="split that the surroundings come from")
    parser.add_argument("--seed", type=seed, default=0, help="root of the noise")
    parser.add_argument("--out", type=Path, default=Path("played.html"), metavar="PATH", help="where the page goes")
    return parser


def main(argv: Sequence[str]) -> int:
    """Play one trial with a person; returns 0, also if the person stops early."""
    arguments = _parser().parse_args(list(argv))
    if arguments.npc is not None and (arguments.policy or arguments.option):
        raise ConfigError("--npc brings its own world options and policy; leave out --policy and --option")
    if arguments.role == "npc" and (arguments.npc is not None or arguments.policy):
        raise ConfigError("with --as npc you are the NPC; leave out --npc and --policy")
    if arguments.policy == "":
        raise ConfigError("--policy is empty; name one, or leave it out for the best")
    check_writable(arguments.out, "--out")
    family, play = _table(arguments)
    print(f"{family.name}: {family.n_episodes} episodes. Answer with a number; {_QUIT} ends the game.\n")
    try:
        recording, who = play()
    except Quit:
        print("ended; nothing was kept")
        return 0
    page = render(recording | {"references": {}}, who, arguments.split)
    replace_file(arguments.out, page.encode(errors="backslashreplace"))
    print(f"page     {one_line(arguments.out)}")
    return 0


def _table(arguments: argparse.Namespace) -> tuple[NpcFamily, Callable[[], tuple[dict[str, Any], str]]]:
    """Return the family, and what plays one trial with a person in it and returns the recording and who played."""
    split = arguments.split
    loaded = None
    if arguments.npc is not None:
        loaded = load_run(arguments.npc, "last", device="cpu", trust=arguments.trust)
        family = npc_family(loaded.tasks, split)
        if family.name != arguments.world:
            raise ConfigError(f"{arguments.npc} was trained on {family.name!r}, not on {arguments.world!r}; play that")
    else:
        from metarl.experiments.doctor import built_family

        family = npc_family(built_family(arguments.world, arguments.option), split)
    everybody, met = family.fixed_tasks(split), _with_person(family, Visitor)
    kept: dict[str, Any] = {
        "tasks": everybody[arguments.seed % len(everybody)], "onlooker": family.onlooker(split), "n_shown": 1,
        "seed": arguments.seed, "device": torch.device("cpu"),
    }  # fmt: skip
    if loaded is not None:
        agent, who = loaded.agent, f"a person met {loaded.config.name}"
        return family, lambda: (record_agent(met, agent, greedy=False, **kept), who)
    if arguments.role == "npc":
        return family, lambda: (record_policy(family, Person(), **kept), "a person as the NPC")
    chosen = arguments.policy or next((n for n in reversed(family.policies(split)) if n.startswith("bayes")), "random")
    policy, who = reference_policy(family, chosen, split), f"a person met “{chosen.replace('_', ' ')}”"
    return family, lambda: (record_policy(met, policy, **kept), who)


def _with_person(family: NpcFamily, wrap: Callable[[NpcWorld], Any]) -> NpcFamily:
    """Return the family whose worlds have a person for a visitor."""

    class Met:
        def __getattr__(self, name: str) -> Any:
            return getattr(family, name)

        def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> Any:
            return wrap(family.make_world(num_envs, device=device))

    return Met()  # type: ignore[return-value]


class Visitor:
    """A world of one env whose visitor is the person at the terminal.

    The reward of a step is how good the answer was, from 0 to 1: nobody knows a person's own.
    """

    def __init__(self, world: NpcWorld) -> None:
        """Ask about steps of `world`."""
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def reset(self, **options: Any) -> Any:
        """Begin, and say where we are."""
        found = self._world.reset(**options)
        print(scene(self._world.frame(0), self._world))
        return found

    def step(self, actions: Any) -> StepResult:
        """Let the NPC act, ask the person, and put the answer where the reaction was."""
        world, action, said = self._world, torch.as_tensor(actions)[0], 0
        print(f"  the NPC: {did(action, world)}")
        choices = world.asks(0, action)
        if choices is not None:
            world.spoken = said = ask("  you:", choices)
        obs, reward, terminated, truncated, info = world.step(actions)
        world.spoken = None
        reward = torch.full_like(reward, said / (len(choices) - 1) if choices else 0.0)
        if bool(terminated[0] | truncated[0]):
            print("\n" + scene(world.frame(0), world))
        return obs, reward, terminated, truncated, info


class Person(Policy):
    """The person at the terminal as the NPC."""

    def act(self) -> Tensor:
        """Show the scene and ask for an action."""
        world = self.world
        print(scene(world.frame(0), world))
        mask = world.action_mask(world.state)
        chosen = []
        for names in world.action_names():
            legal = [i for i in range(len(names)) if mask is None or bool(mask[0, i])]
            chosen.append(legal[ask("what do you do?", [names[i] for i in legal])])
        action = torch.tensor([chosen])
        return action if len(chosen) > 1 or world.single_action_space.shape else action[:, 0]


def ask(question: str, choices: Sequence[str]) -> int:
    """Return the number of the choice that was typed, asking until there is one.

    Raises: Quit if the person ends it, or nothing more can be read.
    """
    print("  ".join([question, *(f"{i + 1} {c}" for i, c in enumerate(choices))]))
    while True:
        print("> ", end="", flush=True)
        line = sys.stdin.readline()
        word = line.strip().lower()
        if not line or word == _QUIT:
            raise Quit
        if word.isascii() and word.isdecimal() and 1 <= int(word) <= len(choices):
            return int(word) - 1
        print(f"please type a number from 1 to {len(choices)}, or {_QUIT}")
