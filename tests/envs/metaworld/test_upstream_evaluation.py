import gymnasium as gym
import numpy as np
import pytest
import torch

from metarl import envs
from metarl.agent import WorldSpec
from metarl.envs.metaworld.tasks import metaworld_module
from metarl.envs.metaworld.upstream_evaluation import UpstreamAgent, evaluate_upstream
from metarl.episodes import episode_table
from metarl.errors import ConfigError
from metarl.trial import run_trial
from metarl.upstream_counting import upstream_counting
from tests.envs.scripted import Reacher, Recorder

pytestmark = pytest.mark.metaworld

CLASSES = ("SawyerReachEnvV3", "SawyerPushEnvV3", "SawyerDoorEnvV3")
NAMES = ("reach-v3", "push-v3", "door-open-v3")


class FakeEnvs(gym.vector.VectorEnv):
    """Stands in for upstream's vector environment: goal i succeeds at a given step of each of its episodes.

    `first[i][e]` is the step of the first success in evaluation episode e of goal i, 0 for none; every episode lasts
    `horizon` steps otherwise. The observation counts steps; the reward is 100 at the last step and i before it.
    """

    def __init__(self, classes: list[str], first: np.ndarray, horizon: int) -> None:
        self.num_envs, self.classes, self.first, self.horizon = len(classes), classes, first, horizon
        self.metadata = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.single_action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, self.num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, self.num_envs)
        self.early, self.age = False, np.zeros(self.num_envs, int)
        self.episode = np.zeros(self.num_envs, int)
        self.actions: list[np.ndarray] = []

    def call(self, name, *args):
        if name == "toggle_terminate_on_success":
            self.early, self.episode = bool(np.all(args[0])), np.zeros(self.num_envs, int)

    def get_attr(self, name):
        return {"task_name": self.classes, "terminate_on_success": [self.early] * self.num_envs}[name]

    def obs(self):
        return np.stack([self.age, np.arange(self.num_envs)], axis=1).astype(np.float64)

    def reset(self, **_):
        self.age[:] = 0
        return self.obs(), {}

    def step(self, actions):
        self.actions.append(np.asarray(actions))
        self.age += 1
        at = np.minimum(self.episode, self.first.shape[1] - 1)
        success = self.age == self.first[np.arange(self.num_envs), at]
        terminated = success & self.early
        truncated = self.age >= self.horizon
        ended = terminated | truncated
        reward = np.where(truncated, 100.0, np.arange(self.num_envs))
        final = np.array([row if e else None for row, e in zip(self.obs(), ended, strict=True)], dtype=object)
        info = {"final_obs": final, "final_info": {"episode": {"r": reward}, "success": success.astype(float)}}
        self.age[ended] = 0
        self.episode += ended
        return self.obs(), reward, terminated, truncated, info


def spec(fake: FakeEnvs) -> WorldSpec:
    return WorldSpec(fake.single_observation_space, fake.single_action_space, fake.horizon)


# ---------------------------------------------------------------- counting


@pytest.mark.parametrize("seed", range(12))
def test_upstream_counting_is_the_number_that_upstreams_own_evaluation_prints(seed):
    from metaworld.evaluation import evaluation

    rng = np.random.default_rng(seed)
    n_classes, per_class, count = int(rng.integers(1, 4)), int(rng.integers(1, 7)), int(rng.integers(1, 5))
    classes = [c for c in CLASSES[:n_classes] for _ in range(per_class)]
    horizon = 9
    # Few different steps, so that many episodes finish together and the order of counting matters.
    first = rng.integers(0, 10, (len(classes), count)) * (rng.random((len(classes), 1)) < 0.6)
    fake = FakeEnvs(classes, first, horizon)
    adapter = UpstreamAgent(Recorder(spec(fake)), fake)
    rate, _, per_class_rate, _ = evaluation(adapter, adapter.envs, num_episodes=count)
    groups = [NAMES[CLASSES.index(c)] for c in classes]
    counted = upstream_counting(groups, first, np.full_like(first, horizon), episodes_per_group=count)
    assert counted.success_rate == pytest.approx(rate, abs=1e-12)
    assert counted.per_group == pytest.approx(per_class_rate, abs=1e-12)


def test_solved_goals_are_counted_again_upstream_and_once_strictly():
    first = np.zeros((10, 3), int)
    first[0] = 50  # one goal of ten is solved, at step 50 of 500
    counted = upstream_counting(["reach-v3"] * 10, first, np.full_like(first, 500))
    assert counted.success_rate == 1.0
    assert counted.strict_success_rate == 0.1
    assert counted.to_json()["label"] == "upstream-counting"
    # Rounds of two goals: one round of five holds the solved goal.
    rounds = upstream_counting(["reach-v3"] * 10, first, np.full_like(first, 500), goals_per_round=2)
    assert rounds.success_rate == pytest.approx(0.2)
    assert rounds.n_rounds == 5


@pytest.mark.parametrize(
    ("first", "length", "options", "message"),
    [
        ([[1, 1]], [[9, 9]], {}, "got 2; evaluate with eval_episodes=3"),
        ([[1, 1, 10]], [[9, 9, 9]], {}, "first_success from 0 to length"),
        ([[1, 1, 1]], [[9, 9, 9]], {"goals_per_round": 2}, "do not fill rounds of 2"),
        ([1, 1, 1], [9, 9, 9], {}, "one row per goal"),
    ],
)
def test_upstream_counting_refuses_what_it_cannot_count(first, length, options, message):
    with pytest.raises(ConfigError, match=message):
        upstream_counting(["reach-v3"], first, length, **options)


# ---------------------------------------------------------------- the adapter


def test_an_agent_with_memory_sees_every_terminal_transition():
    fake = FakeEnvs([CLASSES[0]] * 2, np.zeros((2, 9), int), horizon=3)
    agent = Recorder(spec(fake))
    evaluate_upstream(agent, fake, num_evals=2, adaptation_episodes=2, evaluation_episodes=4)
    adapting, evaluating = agent.steps[:6], agent.steps[6:12]
    assert [s.prev_done.tolist() for s in adapting] == [[i == 3, i == 3] for i in range(6)]
    assert [s.prev_reward.tolist() for s in adapting[:4]] == [[0.0, 0.0], [0.0, 1.0], [0.0, 1.0], [100.0, 100.0]]
    assert torch.equal(adapting[3].obs, torch.tensor([[0.0, 0.0], [0.0, 1.0]]))  # the next episode's first observation
    for t in range(1, 6):
        assert torch.equal(adapting[t].prev_action, torch.as_tensor(fake.actions[t - 1]))
    # Each evaluation episode opens with the transition that ended adaptation, and the memory it left.
    for opening in (evaluating[0], evaluating[3]):
        assert opening.prev_reward.tolist() == [100.0, 100.0]
        assert opening.prev_done.tolist() == [True, True]
        assert torch.equal(opening.prev_action, torch.as_tensor(fake.actions[5]))
    assert [c.tolist() for c in agent.counts[6:12]] == [[6, 6], [7, 7], [8, 8]] * 2
    assert evaluating[1].prev_reward.tolist() == [0.0, 1.0]
    # A new evaluation starts from nothing.
    assert agent.counts[12].tolist() == [0, 0]
    assert agent.steps[12].prev_reward.tolist() == [0.0, 0.0]


def test_adaptation_receives_whole_episodes_with_the_observation_before_each_reset():
    fake = FakeEnvs([CLASSES[0]] * 2, np.zeros((2, 9), int), horizon=3)
    agent = Recorder(spec(fake))
    evaluate_upstream(agent, fake, num_evals=1, adaptation_steps=2, adaptation_episodes=2, evaluation_episodes=1)
    assert len(agent.rollouts) == 2
    rollout = agent.rollouts[0]
    assert rollout.obs.shape == (6, 2, 2)
    assert rollout.n_tasks == 2
    assert rollout.n_episodes == 2
    assert rollout.next_obs[:, 0, 0].tolist() == [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
    assert rollout.obs[:, 0, 0].tolist() == [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]
    assert rollout.reward[:, 1].tolist() == [1.0, 1.0, 100.0, 1.0, 1.0, 100.0]
    assert rollout.truncated[:, 0].tolist() == [False, False, True] * 2
    assert rollout.episode[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert rollout.valid.all()
    assert rollout.aux["value"].shape == (6, 2)
    assert torch.equal(rollout.start.prev_done, torch.tensor([False, False]))
    assert torch.equal(agent.rollouts[1].start.prev_done, torch.tensor([True, True]))


def test_the_adapter_refuses_environments_that_do_not_fit():
    fake = FakeEnvs([CLASSES[0]], np.zeros((1, 1), int), horizon=3)
    other = WorldSpec(gym.spaces.Box(-1, 1, (5,)), fake.single_action_space, 3)
    with pytest.raises(ConfigError, match="recurrent_info_in_obs=False"):
        UpstreamAgent(Recorder(other), fake)
    adapter = UpstreamAgent(Recorder(spec(fake)), fake)
    adapter.init()
    with pytest.raises(ConfigError, match=r"pass adapter\.envs"):
        adapter.step(None)
    fake.metadata = {"autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}
    with pytest.raises(ConfigError, match="SAME_STEP"):
        UpstreamAgent(Recorder(spec(fake)), fake)


# ---------------------------------------------------------------- Meta-World itself


def test_an_agent_that_solves_k_of_n_goals_is_scored_k_of_n_strictly_and_more_by_upstreams_counting():
    n, k, horizon = 5, 2, 100
    family = envs.make("metaworld/ML1", task="reach-v3", n_workers=0, horizon=horizon)
    tasks = family.all("test")[:n]
    targets = tasks.values["goal"][:, 3:].float()
    targets[k:] = torch.tensor([0.0, 0.4, 0.5])  # the others are led away from their goals
    world = family.make_world(n)
    agent = Reacher(world.spec, targets)
    rollout = run_trial(world, agent, tasks, (3,), seed=0).query
    table = episode_table(rollout)
    world.close()
    assert table.success_any is not None
    assert table.success_any.float().mean(dim=0).tolist() == pytest.approx([k / n] * 3)

    first = first_success(rollout)
    counted = upstream_counting(tasks.groups, first, table.length)
    assert counted.strict_success_rate == k / n
    assert counted.success_rate == 1.0
    # Upstream's own evaluation, on upstream's own environments with the same goals, prints that number.
    upstream = metaworld_module().make_ml_envs(
        "reach-v3", seed=0, meta_batch_size=n, total_tasks_per_cls=n, split="test", terminate_on_success=True,
        task_select="pseudorandom", max_episode_steps=horizon,
    )  # fmt: skip
    score = evaluate_upstream(agent, upstream, num_evals=1, adaptation_episodes=1)
    upstream.close()
    assert score.success_rate == counted.success_rate
    assert score.per_class == counted.per_group


def first_success(rollout) -> np.ndarray:
    """Return [N, E] steps up to the first success of each episode, 0 for none."""
    horizon = int(rollout.last[:, 0].nonzero()[0]) + 1
    by_episode = rollout.success.T.reshape(rollout.n_tasks, -1, horizon)
    return torch.where(by_episode.any(-1), by_episode.int().argmax(-1) + 1, 0).numpy()
