"""The evaluation protocol: what is counted, fixed before anything is played."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import check_ranges
from .deprecated import renamed_fields
from .errors import MOST, MOST_SEED, ConfigError


@renamed_fields(max_copies="max_envs")
@dataclass(frozen=True)
class Protocol:
    """For each held-out (task, seed): exactly A adaptation episodes, then exactly E evaluation episodes."""

    split: str = "test"
    """Split the tasks come from. Select checkpoints on "validation"; report on "test"."""
    adapt_episodes: int = 3
    """A: episodes per task that the agent may learn from; 0 or more."""
    eval_episodes: int = 1
    """E: episodes per task that are scored afterwards; 1 or more."""
    n_seeds: int = 3
    """S: how often every task is played from scratch, each time with its own noise; 1 or more."""
    n_tasks: int | None = None
    """N: tasks to play, evenly over classes; None means all of a finite split."""
    max_envs: int = 256
    """Most envs to run side by side; memory grows with it. Part of the noise streams: 1 or more."""
    greedy: bool = False
    """True: scored episodes take the policy's mode; False: they sample."""
    greedy_adaptation: bool = False
    """True: adaptation episodes take the mode too. Only for agents whose policy explores by what it remembers, not by
    its noise (RL²); a gradient step learns nothing from episodes without noise."""
    seed: int = 0
    """Root of all noise of the evaluation; 0 or more."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a count out of range."""
        counts = {
            f"0 to {MOST}": "adapt_episodes",
            f"1 to {MOST}": "eval_episodes n_seeds max_envs",
            f"1 to {MOST}, or None": "n_tasks",
            f"0 to {MOST_SEED}": "seed",
        }
        check_ranges(self, "evaluation.", counts)
        if not self.split:
            raise ConfigError('evaluation.split is empty; name one, usually "test"')

    @property
    def n_episodes(self) -> int:
        """Episodes per task and seed, A + E."""
        return self.adapt_episodes + self.eval_episodes
