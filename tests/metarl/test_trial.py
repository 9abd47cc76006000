"""`run_trial`: phases in order, adaptation between them, and errors that name what does not fit."""

from dataclasses import replace

import pytest
import torch

from metarl import envs
from metarl.collect import refuse_non_finite
from metarl.envs.classic.gridworld import GridWorld
from metarl.errors import ConfigError, WorldError
from metarl.rollout import Trial
from metarl.tasks import Tasks
from metarl.trial import envs_per_task, run_trial
from metarl.world import World
from tests.metarl.scripted import Uniform, Walker

GOALS = torch.tensor([[0.1, 0.0], [0.35, -0.5], [-0.25, 0.2]])
LENGTHS = [1, 5, 3]


def navigate(phases, copies=1, parallel=False, goals=GOALS, greedy=False, world=None):
    tasks = Tasks.of("navigation", goal=goals)
    world = world or envs.make("navigation").make_world(len(goals) * copies)
    agent = Walker(world.spec, goals, parallel=parallel)
    return agent, run_trial(world, agent, tasks, phases, seed=5, greedy=greedy)


def explore(phases, seed=5, copies=1, parallel=False, names=("goal(2,0)", "goal(4,4)")):
    family = envs.make("gridworld")
    tasks = family.all("train")
    tasks = tasks[[tasks.names.index(name) for name in names]]
    world = family.make_world(len(tasks) * copies)
    agent = Uniform(world.spec, parallel=parallel)
    return run_trial(world, agent, tasks, phases, seed=seed)


def test_phases_run_in_order_with_one_adaptation_between_each_two():
    agent, trial = navigate((2, 1, 3))
    assert [call[0] for call in agent.calls] == ["init", "act", "adapt", "act", "adapt", "act"]
    assert [r.n_episodes for r in trial.rollouts] == [2, 1, 3]
    assert agent.calls[0] == ("init", 3)
    assert [call[1] for call in agent.calls if call[0] == "adapt"] == list(trial.supports)
    assert trial.query is trial.rollouts[-1]
    assert len(trial.supports) == 2


def test_each_phase_acts_with_what_the_adaptations_before_it_learnt():
    _, trial = navigate((2, 1, 3))
    assert [r.aux["adaptations"].unique().tolist() for r in trial.rollouts] == [[0.0], [1.0], [2.0]]


@pytest.mark.parametrize(("copies", "parallel"), [(1, False), (1, True), (2, True)])
def test_every_task_plays_exactly_the_episodes_of_each_phase(copies, parallel):
    _, trial = navigate((4, 2), copies=copies, parallel=parallel)
    for rollout, n in zip(trial.rollouts, (4, 2), strict=True):
        ended = (rollout.last & rollout.valid).sum(0).reshape(3, copies)
        assert ended.tolist() == [[n // copies] * copies] * 3
        per_task = rollout.valid.sum(0).reshape(3, copies).sum(1)
        assert per_task.tolist() == [n * length for length in LENGTHS]
    assert trial.n_steps == 6 * sum(LENGTHS)


def test_each_phase_of_a_world_that_ends_early_starts_with_a_fresh_episode():
    _, trial = navigate((2, 2))
    assert torch.equal(trial.query.obs[0], torch.zeros(3, 2))
    assert trial.query.episode[0].tolist() == [0, 0, 0]


def test_trap_5_3_the_last_reward_of_a_phase_opens_the_next_one():
    _, trial = navigate((2, 2))
    support, query = trial.rollouts
    for copy in range(3):
        last = int(support.valid[:, copy].sum()) - 1
        assert query.start.prev_reward[copy] == support.reward[last, copy] == query.aux["prev_reward"][0, copy]
        assert torch.equal(query.aux["prev_action"][0, copy], support.action[last, copy])
    assert query.aux["prev_done"][0].all()
    assert not support.aux["prev_done"][0].any()
    assert support.start.prev_reward.tolist() == [0.0, 0.0, 0.0]


def test_memory_goes_on_from_phase_to_phase():
    _, trial = navigate((2, 2))
    assert trial.query.aux["steps"][0].tolist() == [2.0 * n for n in LENGTHS]


def test_worlds_in_step_go_straight_on_from_phase_to_phase():
    trial = explore((1, 2))
    support, query = trial.rollouts
    assert torch.equal(query.obs[0], torch.zeros(2, 2))
    assert torch.equal(query.aux["prev_reward"][0], support.reward[-1])
    assert query.aux["steps"][0].tolist() == [15.0, 15.0]
    assert query.last.nonzero()[:, 0].unique().tolist() == [14, 29]


def test_a_seed_decides_the_whole_trial():
    def rewards(seed: int) -> torch.Tensor:
        return torch.cat([r.action for r in explore((2, 1), seed=seed).rollouts])

    assert torch.equal(rewards(1), rewards(1))
    assert not torch.equal(rewards(1), rewards(2))


def test_a_used_world_gives_the_same_trial_as_a_new_one():
    family = envs.make("bandit")
    tasks, world = family.all("test")[:6], family.make_world(6)
    agent = Uniform(world.spec, parallel=False)
    first = run_trial(world, agent, tasks, (20,), seed=1)
    run_trial(world, agent, family.all("test")[6:12], (7,), seed=2)
    again = run_trial(world, agent, tasks, (20,), seed=1)
    assert torch.equal(first.query.reward, again.query.reward)
    assert torch.equal(first.query.action, again.query.action)


@pytest.mark.parametrize("phases", [(3,), (2, 2)])
def test_one_tasks_results_do_not_depend_on_the_other_tasks(phases):
    others = torch.tensor([[0.45, 0.45], [0.35, -0.5], [0.05, 0.0]])
    (_, a), (_, b) = navigate(phases), navigate(phases, goals=others)
    for mine, theirs in zip(a.rollouts, b.rollouts, strict=True):
        n = int(mine.valid[:, 1].sum())
        assert torch.equal(mine.valid[:n, 1], theirs.valid[:n, 1])
        for name in ("obs", "action", "reward", "terminated", "truncated", "next_obs", "episode"):
            assert torch.equal(getattr(mine, name)[:n, 1], getattr(theirs, name)[:n, 1]), name


def test_the_world_runs_each_copy_on_its_own_task():
    trial = explore((4,), copies=2, parallel=True)
    at = trial.query.next_obs
    expected = torch.full(at.shape[:2], -0.1)
    for copy, goal in enumerate(([2.0, 0.0], [2.0, 0.0], [4.0, 4.0], [4.0, 4.0])):
        expected[:, copy][(at[:, copy] == torch.tensor(goal)).all(-1)] = 1.0
    assert torch.equal(trial.query.reward, expected)
    assert (expected == 1.0).any()


def test_greedy_is_chosen_phase_by_phase():
    agent, _ = navigate((1, 1, 1), greedy=(False, True, False))
    assert [call[1] for call in agent.calls if call[0] == "act"] == [False, True, False]
    agent, _ = navigate((1, 1), greedy=True)
    assert [call[1] for call in agent.calls if call[0] == "act"] == [True, True]


@pytest.mark.parametrize(
    ("phases", "parallel", "limit", "expected"),
    [
        ((20, 20), True, 1_000_000, 20),
        ((20, 20), True, 8, 5),
        ((10, 4), True, 1_000_000, 2),
        ((3, 1), True, 1_000_000, 1),
        ((4,), False, 1_000_000, 1),
    ],
)
def test_as_many_copies_as_divide_every_phase(phases, parallel, limit, expected):
    world = envs.make("gridworld").make_world(1)
    assert envs_per_task(Uniform(world.spec, parallel=parallel), phases, limit) == expected


def test_copies_that_tasks_cannot_share_are_refused():
    world = envs.make("navigation").make_world(4)
    with pytest.raises(ConfigError, match="4 envs, which 3 tasks cannot share evenly; build it with a multiple of 3"):
        navigate((1,), world=world)


def test_a_trial_without_tasks_is_refused():
    with pytest.raises(ConfigError, match="0 tasks"):
        navigate((1,), goals=GOALS[:0], world=envs.make("navigation").make_world(4))


def test_an_agent_with_memory_is_refused_several_copies():
    with pytest.raises(ConfigError, match=r"carries memory .* 2 per task\. Set envs_per_task=1"):
        navigate((2,), copies=2, parallel=False)


def test_episodes_that_copies_cannot_share_are_refused():
    with pytest.raises(ConfigError, match="3 episodes per task cannot be shared by 2 envs"):
        navigate((2, 3), copies=2, parallel=True)


def test_one_greedy_flag_too_few_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        navigate((1, 1), greedy=(True,))


class Cracked(GridWorld):
    """Pays NaN on the goal."""

    def transition(self, state, actions, streams, clock):
        state, reward, terminated, success = super().transition(state, actions, streams, clock)
        return state, torch.where(reward == 1.0, float("nan"), reward), terminated, success


def test_a_reward_that_is_not_a_number_names_task_copy_phase_and_step():
    family = envs.make("gridworld")
    tasks = family.all("train")
    tasks = tasks[[tasks.names.index(n) for n in ("goal(4,4)", "goal(2,0)")]]
    world = Cracked(4)

    class Right(Uniform):
        def choose(self, state, step, generator):
            return torch.full((len(step.obs),), 2)

    agent = Right(world.spec, parallel=True)
    # Walking right for two steps reaches (2, 0) in the second task's two envs.
    with pytest.raises(WorldError, match=r"gave a reward that is not finite: task 'goal\(2,0\)', env 2, step 1"):
        run_trial(world, agent, tasks, (2, 2), seed=0)


class Dazzled(GridWorld):
    """Shows NaN in the first observation of one episode of env 1, and nowhere else."""

    def __init__(self, episode: int) -> None:
        super().__init__(2)
        self.episode = episode

    def initial(self, streams, episode):
        return super().initial(streams, episode) | {"episode": episode, "age": torch.zeros(2)}

    def transition(self, state, actions, streams, clock):
        following, *rest = super().transition(state, actions, streams, clock)
        return following | {"episode": state["episode"], "age": state["age"] + 1}, *rest

    def observation(self, state):
        obs = super().observation(state)
        if "episode" not in state:
            return obs
        dazzled = (state["age"] == 0) & (state["episode"] == self.episode) & torch.tensor([False, True])
        return torch.where(dazzled[:, None] & (torch.arange(obs.shape[1]) == 1), torch.nan, obs)


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize(("episode", "step"), [(0, 0), (1, 15), (2, 0)])
def test_a_first_observation_that_is_not_a_number_is_the_worlds_fault(episode, step, parallel):
    """Of the trial, of a later episode in the same phase, of a later phase: each before the agent acts on it."""
    tasks = envs.make("gridworld").all("train")[:2]
    world = Dazzled(episode)
    agent = Uniform(world.spec, parallel=parallel)
    message = (
        rf"gave a first observation that is not finite: task '.*', env 1, step {step} of the phase, entry \[1\] is nan"
    )
    with pytest.raises(WorldError, match=message):
        run_trial(world, agent, tasks, (2, 1), seed=0)
    run_trial(Dazzled(episode=9), Uniform(world.spec, parallel=parallel), tasks, (2, 1), seed=0)


def test_of_several_numbers_that_are_not_finite_the_earliest_is_named():
    """As devices are asked that must not be waited for at each step: once per phase, on all steps at once."""
    world = envs.make("gridworld").make_world(3)
    world.set_tasks(envs.make("gridworld").all("train")[:3])
    world.reset(seed=0)
    obs, reward, valid = torch.zeros(4, 3, 2), torch.zeros(4, 3), torch.ones(4, 3, dtype=torch.bool)
    numbers = {"first observation": obs, "reward": reward, "observation": obs.clone()}
    refuse_non_finite(world, numbers, valid)
    reward[0, 0], valid[0, 0] = torch.nan, False  # an idle env may hold anything
    refuse_non_finite(world, numbers, valid)
    reward[1:, 2] = torch.inf
    numbers["observation"][1, 2, 0] = torch.nan
    with pytest.raises(WorldError, match=r"gave a reward that is not finite: .* env 2, step 1 of the phase;"):
        refuse_non_finite(world, numbers, valid)
    obs[1, 2, 1] = -torch.inf
    with pytest.raises(WorldError, match=r"a first observation .* env 2, step 1 of the phase, entry \[1\] is -inf;"):
        refuse_non_finite(world, numbers, valid)


def test_trials_count_steps_over_all_phases_and_copies():
    trial = explore((2, 4), copies=2, parallel=True)
    assert isinstance(trial, Trial)
    assert trial.n_steps == (2 + 4) * 15 * 2


@pytest.mark.parametrize("phases", [(5, 1), (2, 3, 1), (1, 1, 1, 1, 1, 1)])
def test_where_something_outlives_an_episode_phases_make_no_difference(phases: tuple[int, ...]) -> None:
    """Dialogues end early, and the next one opens with the last reaction: idle envs must neither move nor draw."""
    family = envs.make("npc/assistant")
    tasks = family.sample("train", 7, generator=torch.Generator().manual_seed(0))

    class Asker(Uniform):
        """Asks once, then goes through the offers: the same in each episode, whatever the others do."""

        def choose(self, state, step, generator):
            return torch.where(step.prev_done, 17, step.action_mask[:, :12].long().argmax(1))

    def play(phases: tuple[int, ...]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        world = family.make_world(7)
        trial = run_trial(world, Asker(world.spec, parallel=False), tasks, phases, seed=3)
        obs, reward = [], []
        for copy in range(7):
            rows = [(r.obs[:, copy][r.valid[:, copy]], r.reward[:, copy][r.valid[:, copy]]) for r in trial.rollouts]
            obs.append(torch.cat([o for o, _ in rows]))
            reward.append(torch.cat([r for _, r in rows]))
        return obs, reward

    whole, split = play((6,)), play(phases)
    assert len({len(o) for o in whole[0]}) > 1, "all envs end together, so nothing was shown"
    for a, b in zip(whole[0] + whole[1], split[0] + split[1], strict=True):
        assert torch.equal(a, b)


def test_a_world_that_carries_but_cannot_wait_is_refused() -> None:
    world = envs.make("navigation").make_world(3)
    world.spec = replace(world.spec, persists_across_episodes=True)
    world.freeze = lambda idle: World.freeze(world, idle)  # type: ignore[method-assign]
    with pytest.raises(WorldError, match=r"navigation.*freeze"):
        navigate((2, 1), world=world)
