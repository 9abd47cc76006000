"""The reproductions there are: published experiments, and runs of our own that are measured against references."""

from __future__ import annotations

from .reproduction import (
    Level,
    Reproduction,
    episode_mean,
    phase_lead,
    phase_lead_low,
    phase_mean,
    trial_total,
    worst_episode,
)
from .reproductions_npc import NPC_REPRODUCTIONS

_METRIC_LEVELS = (
    Level("lead of the start", lambda e: float(phase_lead(1)(e).mean()), 0.0, "the average-task policy"),
    Level("the same, low end of 95 %", phase_lead_low(1), 0.0, "the average-task policy"),
)
_TABULAR_LEVELS = (
    Level("total reward of 10 episodes", trial_total, 150.0, "Duan et al. 2016, table 2: RL² 156.2, PSRL 138.1"),
)

_FINN = "Finn et al. 2017, appendix C"


def _trials_of_4(preset: str, about: str, first: float, lowest: float, less: str = "") -> Reproduction:
    """Return a run on the gridworld of VariBAD, whose Bayes-optimal values are known."""
    return Reproduction(
        preset,
        about,
        (
            Level("episode 1", episode_mean(0, 1), first, f"Bayes-optimal 4.00{less}"),
            Level("lowest of episodes 2-4", worst_episode(1, 4), lowest, f"Bayes-optimal 11.07{less}"),
        ),
    )


def _steps(*at_least: float, told: tuple[str, ...] = ("", "", "")) -> tuple[Level, ...]:
    """Return levels after one, two, ... inner steps; `told` says what the paper has beside them."""
    return tuple(
        Level(f"after {i} step{'s' * (i > 1)}", phase_mean(i), least, f"{_FINN}{said}")
        for i, (least, said) in enumerate(zip(at_least, told, strict=True), 1)
    )


def _cost(preset: str, about: str, train: str = "", evaluate: str = "") -> Reproduction:
    """Return a short run, to measure cost and not skill."""
    about = f"{about}, a short run to measure cost, not skill"
    return Reproduction(preset, about, (), train=tuple(train.split()), evaluate=tuple(evaluate.split()))


_SHORT = "--train.n-iterations 20 --agent.episodes-per-{} {} --train.validation-adapt-episodes {}"
_ONE = "--adapt-episodes 1 --eval-episodes 1 --n-tasks 20"

REPRODUCTIONS: dict[str, Reproduction] = {
    "rl2-gridworld": _trials_of_4(
        "rl2-gridworld", "RL² on the 5x5 gridworld of VariBAD, 4 episodes per trial", 3.5, 10.5
    ),
    "rl2-transformer-gridworld": _trials_of_4(
        "rl2-transformer-gridworld",
        "RL² with a causal transformer on the 5x5 gridworld of VariBAD, 4 episodes per trial",
        3.8, 10.52, ", less 5 %",
    ),
    "varibad-gridworld": _trials_of_4(
        "varibad-gridworld", "VariBAD on the 5x5 gridworld of its paper, 4 episodes per trial", 3.5, 10.5
    ),
    "rl2-bandit": Reproduction(
        "rl2-bandit",
        "RL² on Bernoulli bandits, n=100 pulls, k=5 arms",
        (Level("total reward of 100 pulls", trial_total, 78.0, "Duan et al. 2016, table 1: Gittins 78.3, RL² 78.7"),),
    ),
    "rl2-tabular-mdp": Reproduction(
        "rl2-tabular-mdp",
        "RL² on random tabular MDPs, n=10 episodes",
        _TABULAR_LEVELS,
    ),
    "rl2-tabular-mdp-250k": Reproduction(
        "rl2-tabular-mdp",
        "RL² on random tabular MDPs with the published 250,000 steps per update and 256 units, trained on a GPU",
        _TABULAR_LEVELS,
        train=(
            *("--device", "cuda", "--threads", "2", "--train.n-tasks", "2500", "--train.n-iterations", "850"),
            *("--train.checkpoint-every-iters", "50", "--agent.hidden", "256", "--agent.ppo.entropy-coef", "0.03"),
            *("--agent.ppo.anneal-iters", "850", "--agent.ppo.anneal-to", "0.1"),
        ),
        evaluate=("--device", "cpu"),
    ),
    "rl2-matching-tabular-mdp": Reproduction(
        "rl2-matching-tabular-mdp",
        "RL² on random tabular MDPs, its memory filed by state",
        (Level("total reward of 10 episodes", trial_total, 156.2, "Duan et al. 2016, table 2: RL² 156.2, PSRL 138.1"),),
    ),
    "maml-navigation": Reproduction(
        "maml-navigation",
        "MAML-TRPO on 2-D navigation, 1 inner step trained, 3 at test",
        _steps(-20.0, -13.0, -12.0, told=(": -11.68", ": -3.33", ": -3.23")),
    ),
    "maml-navigation-500": Reproduction(
        "maml-navigation",
        "MAML-TRPO on 2-D navigation for the 500 iterations of its paper",
        _steps(-11.68, -3.33, -3.23),
        # Little noise makes for long gradients: shorter later steps, chosen on validation tasks.
        train=("--train.n-iterations", "500", "--agent.later-alpha-factors", "0.25", "0.15"),
    ),
    "finetune-navigation": Reproduction(
        "finetune-navigation", "Multi-task PPO, then gradient fine-tuning, on 2-D navigation: the non-meta baseline", ()
    ),
    "metric-navigation": Reproduction(
        "metric-navigation",
        "A Siamese network picks from a library of 80 policies on 2-D navigation",
        _METRIC_LEVELS,
        studies=("transfer",),
    ),
    "matching-navigation": Reproduction(
        "matching-navigation",
        "A matching network picks from a library of 80 policies on 2-D navigation",
        _METRIC_LEVELS,
        studies=("transfer",),
    ),
    "pearl-sparse-point-robot": Reproduction(
        "pearl-sparse-point-robot",
        "PEARL on the sparse point robot, 9 episodes of adaptation by posterior sampling",
        (Level("sparse return of episode 10", episode_mean(9, 10), 8.0, "oracle 13.4"),),
    ),
    "ml1-reach-rl2": _cost("ml1-reach-quick", "RL² on Meta-World ML1 reach"),
    "ml1-reach-maml": _cost(
        "maml-ml1-reach", "MAML-TRPO on Meta-World ML1 reach", _SHORT.format("step", 2, 2),
        "--adapt-episodes 2 --eval-episodes 1 --n-tasks 10",
    ),
    "ml10-rl2": _cost("rl2-ml10", "RL² on Meta-World ML10", _SHORT.format("trial", 2, 1), _ONE),
    "ml10-maml": _cost("maml-ml10", "MAML-TRPO on Meta-World ML10", _SHORT.format("step", 1, 1), _ONE),
    **NPC_REPRODUCTIONS,
}  # fmt: skip
