"""`metarl npc watch RUN`: one self-contained HTML page on which a trained NPC gets to know its visitors.

RUN is a run directory on an NPC world; or, with --policy, the name of an NPC world whose reference policy plays. The
page shows the world, what the NPC does and might have done, the visitor's reactions, the returns per episode beside the
reference lines, and, when asked to, who the visitor is and what an exact Bayes filter that looked on believes. It needs
no network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import torch
from markupsafe import Markup

from metarl import __version__
from metarl.checkpoint import replace_file
from metarl.commandline import command
from metarl.envs.npc.family import NpcFamily
from metarl.envs.npc.reference import Policy
from metarl.errors import ConfigError, nearest
from metarl.evaluation import Protocol, select_tasks
from metarl.experiments.build import open_run
from metarl.experiments.cli.outputs import check_writable
from metarl.experiments.cli.parser import Parser, add_device, seed, whole
from metarl.experiments.cli.safe_text import one_line
from metarl.experiments.cli.trust import add_trust
from metarl.experiments.doctor import built_family
from metarl.tasks import check_split

from .recording import record_agent, record_policy

PROG = command("npc", "watch")
PAGE = Path(__file__).parent / "watch_page"
SCRIPTS = ("words.js", "core.js", "belief.js", "guide.js", "assistant.js", "companion.js", "assets.js", "start.js")
_MOST_VISITORS = 4096
_MOST_SHOWN = 32


def _parser() -> Parser:
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False)
    parser.add_argument("target", help="run directory that `train` wrote, or with --policy the name of an NPC world")
    parser.add_argument("--policy", metavar="NAME", help="a reference policy of the world, e.g. random or oracle")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="option of the world")
    parser.add_argument("--checkpoint", default="last", help="last, best (on validation tasks) or an iteration")
    parser.add_argument("--split", default="test", help="split that visitors come from")
    parser.add_argument("--visitors", type=whole(1), default=64, metavar="N", help="trials behind the mean curve")
    parser.add_argument("--shown", type=whole(1), default=4, metavar="M", help="trials that can be watched")
    parser.add_argument("--seed", type=seed, default=0, help="root of the noise")
    parser.add_argument("--greedy", action="store_true", help="the agent takes its most likely action")
    add_device(parser)
    add_trust(parser)
    parser.add_argument("--out", type=Path, metavar="PATH", help="where the page goes (RUN/watch-SPLIT.html)")
    return parser


def main(argv: Sequence[str]) -> int:
    """Play, write the page, and say where it is."""
    arguments = _parser().parse_args(list(argv))
    if not 1 <= arguments.shown <= min(_MOST_SHOWN, arguments.visitors) or arguments.visitors > _MOST_VISITORS:
        raise ConfigError(
            f"--shown must be 1 to {_MOST_SHOWN} of --visitors, those 1 to {_MOST_VISITORS}; got {arguments.shown} and "
            f"{arguments.visitors}"
        )
    out = arguments.out or _default_target(arguments)
    check_writable(out, "--out")
    if arguments.policy and arguments.device:
        raise ConfigError("--device is for a run; reference policies play on the CPU, leave it out")
    recording, who = _of_policy(arguments) if arguments.policy else _of_run(arguments)
    page = render(recording, who, arguments.split).encode(errors="backslashreplace")
    replace_file(out, page)
    print(f"page     {one_line(out)} ({len(page) / 1024:.0f} KiB); open it in any browser")
    return 0


def _default_target(arguments: argparse.Namespace) -> Path:
    if arguments.policy:
        return Path(f"watch-{arguments.target.replace('/', '-')}-{arguments.policy}.html")
    return Path(arguments.target) / f"watch-{arguments.split}.html"


def _of_run(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    if arguments.option:
        raise ConfigError("--option is for a world with --policy; a run keeps its own options")
    loaded = open_run(Path(arguments.target), arguments.checkpoint, device=arguments.device, trust=arguments.trust)
    family = npc_family(loaded.tasks, arguments.split)
    shown = _shown(family, arguments, loaded.config.device)
    recording = record_agent(family, loaded.agent, greedy=arguments.greedy, **shown)
    who = f"{loaded.config.agent.algorithm}, {loaded.config.name}, {loaded.env_steps:,} env steps"
    return recording | {"references": family.references(arguments.split, family.n_episodes)}, who


def _of_policy(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    family = npc_family(built_family(arguments.target, arguments.option), arguments.split)
    policy = reference_policy(family, arguments.policy, arguments.split)
    recording = record_policy(family, policy, **_shown(family, arguments, "cpu"))
    known = family.references(arguments.split, family.n_episodes)
    return recording | {"references": known}, f"reference policy “{arguments.policy.replace('_', ' ')}”"


def _shown(family: NpcFamily, arguments: argparse.Namespace, device: str) -> dict[str, Any]:
    """Return who is met, and how much of it is shown."""
    tasks = select_tasks(family, Protocol(split=arguments.split, n_tasks=arguments.visitors))
    onlooker = family.onlooker(arguments.split)
    about: dict[str, Any] = {"n_shown": arguments.shown, "seed": arguments.seed, "device": torch.device(device)}
    return {"tasks": tasks, "onlooker": onlooker, **about}


def reference_policy(family: NpcFamily, name: str, split: str) -> Policy:
    """Return a reference policy by its name; raises ConfigError for one that the family does not have."""
    policies = family.policies(split)
    if name not in policies:
        raise ConfigError(f"{family.name!r} has no reference policy {name!r}; {nearest(name, policies)}")
    return policies[name]()


def npc_family(family: Any, split: str) -> NpcFamily:
    """Return `family`; raises ConfigError unless it is one of NPC worlds and has `split`."""
    if not isinstance(family, NpcFamily):
        raise ConfigError(f"this is for NPC worlds only, and {getattr(family, 'name', family)!r} is none")
    check_split(family.name, split, family.splits)
    return family


def render(recording: dict[str, Any], who: str, split: str) -> str:
    """Return the page about a recording of `watch_record`, with "references" added."""
    world, n = recording["world"], recording["n"]
    data = recording | {
        "kind": world.removeprefix("npc/").partition("-")[0],
        "about": {"en": f"{who}; {n} visitors of the {split} split", "zh": f"{who}；{split} 划分中的 {n} 位访客"},
        "made": f"metarl {__version__}",
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html.j2").render(
        title=world,
        style=Markup((PAGE / "style.css").read_text(encoding="utf-8")),
        scripts=[Markup((PAGE / name).read_text(encoding="utf-8")) for name in SCRIPTS],
        data=Markup(text),
    )
