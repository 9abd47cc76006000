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

REPRODUCTIONS: dict[str, Reproduction] = {
    "rl2-gridworld": Reproduction(
        "rl2-gridworld",
        "RL² on the 5x5 gridworld of VariBAD, 4 episodes per trial",
        (
            Level("episode 1", episode_mean(0, 1), 3.5, "Bayes-optimal 4.00"),
            Level("lowest of episodes 2-4", worst_episode(1, 4), 10.5, "Bayes-optimal 11.07"),
        ),
    ),
    "rl2-transformer-gridworld": Reproduction(
        "rl2-transformer-gridworld",
        "RL² with a causal transformer on the 5x5 gridworld of VariBAD, 4 episodes per trial",
        (
            Level("episode 1", episode_mean(0, 1), 3.8, "Bayes-optimal 4.00, less 5 %"),
            Level("lowest of episodes 2-4", worst_episode(1, 4), 10.52, "Bayes-optimal 11.07, less 5 %"),
        ),
    ),
    "varibad-gridworld": Reproduction(
        "varibad-gridworld",
        "VariBAD on the 5x5 gridworld of its paper, 4 episodes per trial",
        (
            Level("episode 1", episode_mean(0, 1), 3.5, "Bayes-optimal 4.00"),
            Level("lowest of episodes 2-4", worst_episode(1, 4), 10.5, "Bayes-optimal 11.07"),
        ),
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
        (
            Level("after 1 step", phase_mean(1), -20.0, "Finn et al. 2017, appendix C: -11.68"),
            Level("after 2 steps", phase_mean(2), -13.0, "Finn et al. 2017, appendix C: -3.33"),
            Level("after 3 steps", phase_mean(3), -12.0, "Finn et al. 2017, appendix C: -3.23"),
        ),
    ),
    "maml-navigation-500": Reproduction(
        "maml-navigation",
        "MAML-TRPO on 2-D navigation for the 500 iterations of its paper",
        (
            Level("after 1 step", phase_mean(1), -11.68, "Finn et al. 2017, appendix C"),
            Level("after 2 steps", phase_mean(2), -3.33, "Finn et al. 2017, appendix C"),
            Level("after 3 steps", phase_mean(3), -3.23, "Finn et al. 2017, appendix C"),
        ),
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
    "ml1-reach-rl2": Reproduction(
        "ml1-reach-quick", "RL² on Meta-World ML1 reach, a short run to measure cost, not skill", ()
    ),
    "ml1-reach-maml": Reproduction(
        "maml-ml1-reach",
        "MAML-TRPO on Meta-World ML1 reach, a short run to measure cost, not skill",
        (),
        train=(
            "--train.n-iterations",
            "20",
            "--agent.episodes-per-step",
            "2",
            "--train.validation-adapt-episodes",
            "2",
        ),
        evaluate=("--adapt-episodes", "2", "--eval-episodes", "1", "--n-tasks", "10"),
    ),
    "ml10-rl2": Reproduction(
        "rl2-ml10",
        "RL² on Meta-World ML10, a short run to measure cost, not skill",
        (),
        train=(
            "--train.n-iterations",
            "20",
            "--agent.episodes-per-trial",
            "2",
            "--train.validation-adapt-episodes",
            "1",
        ),
        evaluate=("--adapt-episodes", "1", "--eval-episodes", "1", "--n-tasks", "20"),
    ),
    "ml10-maml": Reproduction(
        "maml-ml10",
        "MAML-TRPO on Meta-World ML10, a short run to measure cost, not skill",
        (),
        train=(
            "--train.n-iterations",
            "20",
            "--agent.episodes-per-step",
            "1",
            "--train.validation-adapt-episodes",
            "1",
        ),
        evaluate=("--adapt-episodes", "1", "--eval-episodes", "1", "--n-tasks", "20"),
    ),
    **NPC_REPRODUCTIONS,
}
