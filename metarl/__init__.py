"""metarl: meta-reinforcement learning for virtual worlds.

    import metarl

    tasks = metarl.make_tasks("gridworld")
    agent = metarl.make_agent("rl2", tasks, seed=0)
    run = metarl.train(agent, tasks, iterations=100, run_dir="runs/a")
    result = metarl.evaluate(agent, tasks, adapt_episodes=3)
    agent.save("a.safetensors")

This package is the kernel that worlds (`metarl.envs`), agents (`metarl.agents`) and mains (`metarl.experiments`) share.
It imports none of them: the functions below look them up when they are called, as `gymnasium.make` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["evaluate", "fast_defaults", "load_agent", "make_agent", "make_tasks", "train"]

if TYPE_CHECKING:
    from collections.abc import Collection
    from os import PathLike

    from .agent import Agent, SavableAgent
    from .facade import Result, TrainingRun
    from .task_distribution import TaskDistribution
    from .torch_settings import FastDefaults


def make_tasks(name: str, **options: Any) -> TaskDistribution:
    """Build the task distribution `name`: built in, of an installed plug-in, or `package.module:attribute`.

    `metarl worlds list` lists the names, `metarl worlds show NAME` the options. The first call in a process applies
    `fast_defaults()`. Raises: ConfigError for an unknown name or option, with the nearest ones.
    """
    tasks: TaskDistribution = _call("make_tasks", name, options)
    return tasks


def make_agent(
    agent: Any, tasks: TaskDistribution, *, seed: int = 0, device: Any = "cpu", **settings: Any
) -> SavableAgent:
    """Build an agent for the worlds of `tasks`, with fresh parameters that follow from `seed` (>= 0).

    `agent` is a name ("rl2", "maml-trpo", "varibad", "pearl", ...), whose settings may be given as keywords
    (`hidden=64`), or a config object.

    Raises: ConfigError for an unknown name or setting, with the nearest ones, a value out of range, or an agent that
    cannot act in these worlds.
    """
    built: SavableAgent = _call("make_agent", agent, tasks, seed, device, settings)
    return built


def train(
    agent: Agent,
    tasks: TaskDistribution,
    *,
    iterations: int,
    run_dir: str | PathLike[str] | None = None,
    seed: int | None = None,
    progress: str = "auto",
    wandb: str = "disabled",
    **settings: Any,
) -> TrainingRun:
    """Meta-train `agent` in place, up to `iterations` updates in all, by the very loop of `metarl train`.

    With `run_dir` it keeps a run directory there that every command reads: history, checkpoints, `--resume`; a run that
    is there already goes on, bit for bit. Without, nothing is written. `seed` is the root of every random stream
    (default: the one that `make_agent` was given); `settings` are the fields of `metarl.loop.LoopSettings`.
    SIGTERM and Ctrl-C end it after the iteration it is in, with a checkpoint; look at `finished` before you go on.
    Without `run_dir` each call does `iterations` updates, from the parameters that the agent has.

    Returns: a TrainingRun with `history`, one dict per iteration. Raises: ConfigError for settings that do not fit, or
    that differ from the run's; CheckpointError for a damaged run directory; NumericalError if a number is not finite.
    """
    run: TrainingRun = _call("train", agent, tasks, iterations, run_dir, seed, progress, wandb, settings)
    return run


def evaluate(agent: Agent, tasks: TaskDistribution, *, adapt_episodes: int = 3, **protocol: Any) -> Result:
    """Adapt `agent` to held-out tasks for `adapt_episodes` each, then score: every episode counted exactly once.

    `protocol` are the fields of `metarl.protocol.Protocol`: `split="test"`, `eval_episodes=1`, `n_seeds=3`,
    `n_tasks=None` (all of a finite split), `greedy=False`, `seed=0`, ... The agent is left as it was.

    Returns: a Result with `before`, `after`, `curve` and `plot()`. Raises: ConfigError for what cannot be played.
    """
    result: Result = _call("evaluate", agent, tasks, {"adapt_episodes": adapt_episodes, **protocol})
    return result


def load_agent(path: str | PathLike[str], *, device: Any = "cpu", trust: Collection[str] = ()) -> SavableAgent:
    """Rebuild the agent that `agent.save(path)` wrote. The file is data; code that it names must be ours or trusted.

    Raises: CheckpointError for a file that is missing, damaged or none of ours; ConfigError for code of somebody else
    that is not named in `trust` ("module:attribute").
    """
    agent: SavableAgent = _call("load_agent", path, device, trust)
    return agent


def fast_defaults(threads: int | None = 1, device: Any = "cpu") -> FastDefaults:
    """Apply the settings of torch and the C allocator that make this fast and repeatable; see `metarl.torch_settings`.

    Returns: what puts back those before, by `undo()` or at the end of a `with` block.
    """
    from .torch_settings import fast_defaults as apply

    return apply(threads, device)


def _call(function: str, *arguments: Any) -> Any:
    from .commandline import from_python
    from .containment import generators_kept
    from .registry import load_target

    with generators_kept():
        called = load_target(f"metarl.experiments.api:{function}", "function", ours=True)
    with from_python():
        return called(*arguments)
