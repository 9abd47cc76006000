"""The rows of `metarl study table`: one entry per agent and world. To add an agent, add its entries here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metarl.errors import ConfigError

Measure = Literal["episode", "trial"]


@dataclass(frozen=True)
class Row:
    """One agent on one world; either a preset that is trained and evaluated, or the arguments of `baseline`."""

    world: str
    """Heading under which the row stands."""
    agent: str
    """Label of the row."""
    preset: str = ""
    """What `train` is called with; a name or package.module:function."""
    train: tuple[str, ...] = ()
    """Further arguments of `train`."""
    evaluate: tuple[str, ...] = ()
    """Further arguments of `evaluate`."""
    baseline: tuple[str, ...] = ()
    """Arguments of `baseline`, if there is no preset."""
    measure: Measure = "episode"
    """What is scored: the mean return of a scored episode, or the return of a whole trial, all episodes summed."""
    published: str = ""
    """What the literature says, with its source."""

    def __post_init__(self) -> None:
        """Raise ConfigError unless there is exactly one of preset and baseline."""
        if bool(self.preset) == bool(self.baseline):
            raise ConfigError(f"row {self.name!r} needs either a preset or the arguments of baseline; give one of them")

    @property
    def name(self) -> str:
        """What `--only` and files call the row."""
        return f"{self.agent}-{self.world}".lower().replace(" ", "-").replace("²", "2")


_DUAN = "Duan et al. 2016"
_CORNERS = ("--adapt-episodes", "20", "--n-seeds", "1", "--n-tasks", "4")
_GRID = ("--adapt-episodes", "20", "--eval-episodes", "1", "--n-seeds", "10", "--n-tasks", "21")
_CLOSED = ("--world.options", "closed=true")

ROWS: tuple[Row, ...] = (
    Row("gridworld", "RL²", "rl2-gridworld", published="figures only (Zintgraf et al. 2020)"),
    Row("gridworld", "RL² transformer", "rl2-transformer-gridworld"),
    Row("gridworld", "RL² SNAIL", "rl2-snail-gridworld"),
    Row("gridworld", "RL² MANN", "rl2-mann-gridworld"),
    Row("gridworld", "VariBAD", "varibad-gridworld", published="figures only (Zintgraf et al. 2020)"),
    Row("gridworld", "known-task oracle", "oracle-gridworld"),
    Row("gridworld", "exact-belief oracle", "belief-gridworld"),
    Row("gridworld", "MAML-TRPO", "maml-gridworld"),
    Row("gridworld", "fine-tuning", "finetune-navigation", train=("--world.name", "gridworld"), evaluate=_GRID),
    Row("gridworld", "scratch", "scratch-navigation", train=("--world.name", "gridworld"), evaluate=_GRID),
    Row("bandit", "RL²", "rl2-bandit", measure="trial", published=f"78.7 ({_DUAN}, table 1); Gittins 78.3"),
    Row("bandit", "MAML-TRPO", "maml-bandit", measure="trial"),
    Row("tabular-mdp", "RL²", "rl2-tabular-mdp", measure="trial", published=f"156.2 ({_DUAN}, table 2); PSRL 138.1"),
    Row("tabular-mdp", "RL² matching", "rl2-matching-tabular-mdp", measure="trial"),
    Row("tabular-mdp", "MAML-TRPO", "maml-tabular-mdp", measure="trial"),
    Row("navigation", "RL²", "rl2-navigation"),
    Row("navigation", "VariBAD", "varibad-navigation"),
    Row("navigation", "MAML-TRPO", "maml-navigation", published="−3.23 after 3 steps (Finn et al. 2017, appendix C)"),
    Row("navigation", "FOMAML", "fomaml-navigation"),
    Row("navigation", "Reptile", "reptile-navigation"),
    Row("navigation", "ANIL", "anil-navigation"),
    Row("navigation", "Meta-SGD", "meta-sgd-navigation"),
    Row("navigation", "CAVIA", "cavia-navigation"),
    Row("navigation", "ProMP", "promp-navigation"),
    Row("navigation", "DiCE-MAML", "dice-navigation"),
    Row("navigation", "LSTM optimiser", "lstm-navigation"),
    Row("navigation", "Siamese metric", "metric-navigation"),
    Row("navigation", "matching metric", "matching-navigation"),
    Row("navigation", "fine-tuning", "finetune-navigation"),
    Row("navigation", "known-task oracle", "oracle-navigation"),
    Row("navigation", "scratch", "scratch-navigation"),
    Row(
        "navigation",
        "SB3 PPO",
        # 60 episodes of 100 steps are what the others adapt on.
        baseline=("navigation", "--steps", "6000", "--rollout-steps", "75", "--n-tasks", "20", "--eval-episodes", "20"),
    ),
    Row("sparse-point-robot", "PEARL", "pearl-sparse-point-robot", published="figures only (Rakelly et al. 2019)"),
    Row("sparse-point-robot", "RL²", "rl2-sparse-point-robot"),
    Row("sparse-point-robot", "VariBAD", "varibad-sparse-point-robot"),
    Row("sparse-point-robot", "scratch", "scratch-navigation", train=("--world.name", "sparse-point-robot"),
        evaluate=("--adapt-episodes", "9", "--eval-episodes", "1", "--n-seeds", "10", "--n-tasks", "20")),
    Row("corner-point", "MAML-TRPO", "maml-corner"),
    Row("corner-point", "E-MAML", "emaml-corner", published="figures only (Stadie et al. 2018)"),
    Row("corner-point", "ProMP", "promp-corner", published="figures only (Rothfuss et al. 2019)"),
    Row("corner-point", "scratch", "scratch-navigation", train=("--world.name", "corner-point"), evaluate=_CORNERS),
    # The same without the hole in the reward, see `CornerPointWorld`.
    Row("corner-closed", "MAML-TRPO", "maml-corner", train=_CLOSED),
    Row("corner-closed", "E-MAML", "emaml-corner", train=_CLOSED),
    Row("corner-closed", "ProMP", "promp-corner", train=_CLOSED),
    Row("corner-closed", "scratch", "scratch-navigation", train=("--world.name", "corner-point", *_CLOSED),
        evaluate=_CORNERS),
)  # fmt: skip
