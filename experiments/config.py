"""What one run is: world, agent, training, evaluation, logging. A preset returns one; `config.json` stores one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar

import torch
import tyro
from tyro.constructors import PrimitiveConstructorSpec

from metarl.agent import Agent, WorldSpec
from metarl.commandline import command, spoken
from metarl.errors import MOST, MOST_SEED, ConfigError
from metarl.evaluation import Protocol as EvaluationProtocol
from metarl.loop import LoopSettings

from .cli.world_options import format_options, parse_options


class AgentConfig(Protocol):
    """What every agent's frozen config dataclass offers."""

    algorithm: ClassVar[str]

    def build(self, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> Agent:
        """Return the agent with fresh parameters that follow from `seed`; raises ConfigError if it cannot act here."""
        ...


A_co = TypeVar("A_co", bound=AgentConfig, covariant=True)

_OPTIONS = PrimitiveConstructorSpec[dict[str, Any]](
    nargs="*",
    metavar="KEY=VALUE",
    instance_from_str=parse_options,
    is_instance=lambda value: isinstance(value, dict),
    str_from_instance=format_options,
)


@dataclass(frozen=True)
class WorldConfig:
    """Which task distribution to build, as in `envs.make(name, **options)`."""

    name: str
    """A name that `metarl worlds list` lists, or package.module:attribute."""
    options: Annotated[Mapping[str, Any], _OPTIONS] = field(default_factory=dict)
    """Options of that world; those given on the command line are added to the preset's. Values are JSON or text."""

    def __post_init__(self) -> None:
        """Raise ConfigError for an empty name."""
        if not self.name:
            raise ConfigError(f"world.name is empty; `{command('worlds', 'list')}` lists the names")


@dataclass(frozen=True)
class LogConfig:
    """Where records go besides metrics.jsonl."""

    wandb: Annotated[Literal["online", "offline", "disabled"], tyro.conf.arg(aliases=["--wandb"])] = "offline"
    """Weights & Biases: online needs credentials; offline writes to the run directory for a later `wandb sync`."""
    wandb_project: str = "metarl"
    """Project of the W&B run."""
    wandb_entity: str | None = None
    """User or team of the W&B run (None: the default one of the credentials)."""
    wandb_group: str | None = None
    """Group of the W&B run, to tell seeds of one experiment together."""
    wandb_tags: tuple[str, ...] = ()
    """Tags of the W&B run besides algorithm, world and the world's options."""
    wandb_system_metrics: bool = False
    """Let W&B watch CPU, memory and GPU of this machine."""
    wandb_artifacts: bool = False
    """Hand W&B the newest and the best checkpoint as an artifact when training ends or stops."""
    tensorboard: bool = False
    """Also write TensorBoard files to the run directory (needs the extra `tensorboard`)."""
    progress: Literal["auto", "rich", "plain", "off"] = "auto"
    """What the terminal shows: rich is a live table, plain one line per iteration, auto picks by the terminal."""


_MOST_THREADS = 1024
_MOST_FLOAT = torch.finfo(torch.float32).max


def _check_numbers(path: str, value: Any) -> None:
    """Raise ConfigError naming a number, however deep, that is NaN or that no counter or float32 can hold."""
    if isinstance(value, int) and abs(value) > MOST:
        raise ConfigError(f"{path} is {value}; it must lie within +-{MOST}")
    if isinstance(value, float) and (math.isnan(value) or _MOST_FLOAT < abs(value) < math.inf):
        raise ConfigError(f"{path} is {value}; it must be a number that float32 can hold")
    if dataclasses.is_dataclass(value):
        for inner in dataclasses.fields(value):
            _check_numbers(f"{path}.{inner.name}", getattr(value, inner.name))
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            _check_numbers(f"{path}.{key}", entry)
    elif isinstance(value, list | tuple):
        for i, entry in enumerate(value):
            _check_numbers(f"{path}[{i}]", entry)


@dataclass(frozen=True)
class ExperimentConfig(Generic[A_co]):
    """One run."""

    name: str
    """Names the run in tables and directories."""
    world: WorldConfig
    """The tasks."""
    agent: A_co
    """The agent."""
    train: LoopSettings = field(default_factory=LoopSettings)
    """The outer loop."""
    evaluation: EvaluationProtocol = field(default_factory=EvaluationProtocol)
    """The strict protocol that `evaluate` plays unless told otherwise."""
    log: LogConfig = field(default_factory=LogConfig)
    """Logging."""
    seed: int = 0
    """Root of every random stream of training, >= 0."""
    device: str = "cpu"
    """torch device of agent and tensor worlds: cpu, cuda or cuda:N."""
    threads: int | None = 1
    """CPU threads of torch, >= 1 (None: one per CPU this process may use; the number is written to config.json).
    Small networks gain nothing from a second thread and lose much when another process wants the core; and with 1 the
    results do not depend on the machine's number of CPUs."""

    def __post_init__(self) -> None:
        """Check what the parts cannot check themselves."""
        if not self.name:
            raise ConfigError("name is empty; give the run a name")
        if not 0 <= self.seed <= MOST_SEED:
            raise ConfigError(f"seed must be >= 0 and at most {MOST_SEED}, got {self.seed}")
        if self.threads is not None and not 1 <= self.threads <= _MOST_THREADS:
            raise ConfigError(f"threads must be 1 to {_MOST_THREADS}, or None, got {self.threads}")
        for part in ("agent", "train"):
            _check_numbers(part, getattr(self, part))
        if self.evaluation.split == "train":
            raise ConfigError('evaluation.split is "train", which measures no adaptation; use "test" or "validation"')


AnyConfig = ExperimentConfig[Any]


def check_device(name: str) -> torch.device:
    """Return the torch device `name`; raises ConfigError if there is no such thing on this machine."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is unknown to torch; use cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not supported; use cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        here = spoken("--device cpu", "device='cpu'")
        raise ConfigError(f"device {name!r}: torch {torch.__version__} sees no GPU here; use {here}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r}: this machine has {torch.cuda.device_count()} GPUs, counted from 0")
    return device
