import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import metarl
from metarl.agent import WorldSpec
from metarl.checkpoint import join_state, split_state, state_fingerprint
from metarl.errors import CheckpointError, ConfigError
from metarl.evaluation import Evaluation, evaluate
from metarl.experiments import codec
from metarl.experiments.cli.main import main
from metarl.experiments.overrides import Request
from metarl.experiments.train import load_run, start
from metarl.protocol import Protocol
from metarl.signals import StopSignals
from metarl.spec_json import space_from_json, space_to_json, spec_from_json, spec_to_json
from metarl.summary import summarise
from metarl.task_distribution import TaskDistribution
from tests.experiments.process_settings import process_settings  # noqa: F401
from tests.metarl.tiny import TinyConfig

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"hidden": 8, "episodes_per_trial": 2}

pytestmark = pytest.mark.usefixtures("process_settings")


@pytest.fixture
def tasks() -> TaskDistribution:
    return metarl.make_tasks("gridworld", held_out=3)


def trained(tasks: TaskDistribution, iterations: int, run_dir: Path | None) -> tuple[str, list[float]]:
    """Return a digest of a trained agent and its training returns."""
    agent = metarl.make_agent("rl2", tasks, seed=3, **SMALL)
    run = metarl.train(agent, tasks, iterations=iterations, run_dir=run_dir, n_tasks=4, progress="off")
    assert run.finished
    return state_fingerprint(agent.state_dict()), run.series("train/post_return").tolist()


def test_training_is_the_command_lines_to_the_bit_with_and_without_a_run_directory(
    tasks: TaskDistribution, tmp_path: Path
) -> None:
    with_directory, without = trained(tasks, 2, tmp_path / "a"), trained(tasks, 2, None)
    assert with_directory == without
    config = codec.from_json(json.loads((tmp_path / "a" / "config.json").read_text()))
    assert start(Request(config, tmp_path / "b", going_on=False), StopSignals()) == 0
    for folder in ("a", "b"):
        assert state_fingerprint(load_run(tmp_path / folder).agent.state_dict()) == with_directory[0]


def test_a_run_goes_on_bit_for_bit_from_python_and_from_the_command_line(
    tasks: TaskDistribution, tmp_path: Path
) -> None:
    whole = trained(tasks, 4, tmp_path / "whole")
    assert trained(tasks, 2, tmp_path / "a") != whole
    assert trained(tasks, 4, tmp_path / "a") == whole
    trained(tasks, 2, tmp_path / "b")
    assert main(["train", "--run-dir", str(tmp_path / "b"), "--resume", "--train.n-iterations", "4"]) == 0
    assert state_fingerprint(load_run(tmp_path / "b").agent.state_dict()) == whole[0]
    # One that is finished gives the agent back as it ended, and trains no more.
    assert trained(tasks, 4, tmp_path / "b") == whole


def test_a_new_run_begins_with_the_agent_as_it_is(tasks: TaskDistribution, tmp_path: Path) -> None:
    agent = metarl.make_agent("rl2", tasks, **SMALL)
    metarl.train(agent, tasks, iterations=1, n_tasks=4)
    before = state_fingerprint(agent.state_dict())
    metarl.train(agent, tasks, iterations=1, n_tasks=4, run_dir=tmp_path / "a", progress="off")
    assert state_fingerprint(load_run(tmp_path / "a", 0).agent.state_dict()) == before
    assert state_fingerprint(agent.state_dict()) != before


def test_what_an_agent_has_learnt_is_neither_lost_nor_hidden(tasks: TaskDistribution, tmp_path: Path) -> None:
    trained(tasks, 1, tmp_path / "a")
    agent = metarl.make_agent("rl2", tasks, seed=3, **SMALL)
    metarl.train(agent, tasks, iterations=1, n_tasks=5)
    with pytest.raises(ConfigError, match="neither fresh nor what"):
        metarl.train(agent, tasks, iterations=2, run_dir=tmp_path / "a", n_tasks=4, progress="off")
    metarl.train(agent, tasks, iterations=1, run_dir=tmp_path / "b", n_tasks=4, progress="off")
    begun = [json.loads((tmp_path / name / "run.json").read_text()) for name in "ab"]
    assert ["given_parameters" in facts for facts in begun] == [False, True]


def test_a_loaded_agent_goes_on_with_its_run_and_its_seed(tasks: TaskDistribution, tmp_path: Path) -> None:
    whole = trained(tasks, 2, tmp_path / "whole")
    agent = metarl.make_agent("rl2", tasks, seed=3, **SMALL)
    metarl.train(agent, tasks, iterations=1, run_dir=tmp_path / "a", n_tasks=4, progress="off")
    agent.save(tmp_path / "agent.safetensors")
    again = metarl.load_agent(tmp_path / "agent.safetensors")
    run = metarl.train(again, tasks, iterations=2, run_dir=tmp_path / "a", n_tasks=4, progress="off")
    assert (run.iteration, state_fingerprint(again.state_dict())) == (2, whole[0])


def test_a_run_that_goes_on_refuses_other_settings(tasks: TaskDistribution, tmp_path: Path) -> None:
    trained(tasks, 1, tmp_path / "a")
    agent = metarl.make_agent("rl2", tasks, seed=3, **{**SMALL, "hidden": 9})
    with pytest.raises(ConfigError, match=r"agent\.hidden is 8 in this run and cannot become 9"):
        metarl.train(agent, tasks, iterations=2, run_dir=tmp_path / "a", n_tasks=4)


def test_an_evaluation_is_the_strict_one_and_leaves_the_agent_alone(
    tasks: TaskDistribution,
) -> None:
    agent = metarl.make_agent("rl2", tasks, **SMALL)
    before = state_fingerprint(agent.state_dict())
    result = metarl.evaluate(agent, tasks, adapt_episodes=2, n_seeds=2)
    assert state_fingerprint(agent.state_dict()) == before
    strict = summarise(evaluate(agent, tasks, Protocol(adapt_episodes=2, n_seeds=2)))
    assert result.before.mean == strict["pre"]["return"]["mean"]["value"]
    assert tuple(result.after) == tuple(float(x) for x in strict["query"]["return"]["mean"].values())
    assert len(result.curve) == 3
    assert result.curve[-1] == result.after
    played = result.evaluation.trials.returns
    assert result.after.mean == pytest.approx(played[:, :, -1].mean())


def test_a_result_can_be_drawn_and_stored(tasks: TaskDistribution, tmp_path: Path) -> None:
    agent = metarl.make_agent("rl2", tasks, **SMALL)
    result = metarl.evaluate(agent, tasks, adapt_episodes=1, n_seeds=1)
    figure = result.plot(tmp_path / "a.png", others=[("again", result)])
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert len(figure.axes) == 1
    result.save(tmp_path / "a.json")
    again = Evaluation.from_json(json.loads((tmp_path / "a.json").read_text()))
    np.testing.assert_array_equal(again.trials.returns, result.evaluation.trials.returns)
    assert repr(result).startswith("Result(before=")


@pytest.mark.parametrize("name", ["maml-trpo", "rl2", "varibad", "metric", "finetune", "scratch", "random"])
def test_every_agent_comes_back_from_its_file_and_acts_alike(name: str, tmp_path: Path) -> None:
    tasks = metarl.make_tasks("point-robot", n_validation=4, n_test=4)
    agent = metarl.make_agent(name, tasks, seed=1)
    agent.save(tmp_path / "agent.safetensors")
    again = metarl.load_agent(tmp_path / "agent.safetensors")
    assert state_fingerprint(again.state_dict()) == state_fingerprint(agent.state_dict())
    assert again.spec == agent.spec
    one, two = (metarl.evaluate(a, tasks, adapt_episodes=2, n_seeds=1) for a in (agent, again))
    np.testing.assert_array_equal(one.evaluation.trials.returns, two.evaluation.trials.returns)


def test_settings_by_their_old_names_are_taken_with_a_warning(tasks: TaskDistribution) -> None:
    agent = metarl.make_agent("maml-trpo", tasks, seed=1)
    with pytest.warns(DeprecationWarning, match="the setting copies_per_task is now envs_per_task"):
        metarl.train(agent, tasks, iterations=1, n_tasks=2, copies_per_task=1, validate_every_iters=0)
    with pytest.warns(DeprecationWarning, match="the setting max_copies is now max_envs"):
        result = metarl.evaluate(agent, tasks, n_tasks=2, n_seeds=1, max_copies=2)
    assert result.evaluation.protocol.max_envs == 2


def test_an_agent_saved_by_an_earlier_version_comes_back(
    tasks: TaskDistribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = metarl.make_agent("rl2", tasks, seed=1)
    with monkeypatch.context() as earlier:
        earlier.setattr(codec, "SCHEMA_VERSION", 1)
        agent.save(tmp_path / "agent.safetensors")
    again = metarl.load_agent(tmp_path / "agent.safetensors")
    assert state_fingerprint(again.state_dict()) == state_fingerprint(agent.state_dict())


def test_pearl_comes_back_too(tmp_path: Path) -> None:
    agent = metarl.make_agent("pearl", metarl.make_tasks("sparse-point-robot"), seed=1)
    agent.save(tmp_path / "agent.safetensors")
    again = metarl.load_agent(tmp_path / "agent.safetensors")
    assert state_fingerprint(again.state_dict()) == state_fingerprint(agent.state_dict())


@pytest.mark.parametrize("at", [0.0, 0.02, 0.3, 0.7, 0.999])
def test_a_file_with_one_bit_changed_is_refused_in_one_line(at: float, tasks: TaskDistribution, tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    metarl.make_agent("rl2", tasks, **SMALL).save(path)
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        metarl.load_agent(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_names_code_of_somebody_else_runs_nothing_until_it_is_trusted(
    monkeypatch: pytest.MonkeyPatch, tasks: TaskDistribution, tmp_path: Path
) -> None:
    monkeypatch.delenv("METARL_TRUST", raising=False)
    agent, path = metarl.make_agent(TinyConfig(episodes=1), tasks), tmp_path / "agent.safetensors"
    agent.save(path)
    with pytest.raises(ConfigError, match=rf"^{path} names code .* add trust=\['tests.metarl.tiny:TinyConfig'\]$"):
        metarl.load_agent(path)
    again = metarl.load_agent(path, trust=["tests.metarl.tiny:TinyConfig"])
    assert state_fingerprint(again.state_dict()) == state_fingerprint(agent.state_dict())


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}"])
def test_what_is_no_agent_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"no agent that metarl saved|damaged"):
        metarl.load_agent(tmp_path / "a")
    with pytest.raises(CheckpointError, match="there is no file"):
        metarl.load_agent(tmp_path / "b")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: metarl.make_tasks("gridwold"), "did you mean 'gridworld'"),
        (lambda t: metarl.make_tasks("gridworld", held=3), "no option 'held'"),
        (lambda t: metarl.make_agent("rl3", t), "did you mean 'rl2'"),
        (lambda t: metarl.make_agent("rl2", t, hiden=3), "no setting 'hiden'; did you mean 'hidden'"),
        (lambda t: metarl.make_agent("rl2", t, seed=-1), "seed is -1"),
        (lambda t: metarl.make_agent(3, t), "neither the name of an agent nor a config"),
        (lambda t: metarl.make_agent("rl2", t, device="gpu"), "device 'gpu'"),
        (lambda t: metarl.train(metarl.make_agent("rl2", t), t, iterations=0), "^iterations must be >= 1"),
        (lambda t: metarl.train(metarl.make_agent("rl2", t), t, iterations=1, n_task=2), "did you mean 'n_tasks'"),
        (lambda t: metarl.evaluate(metarl.make_agent("rl2", t), t, n_seed=2), "did you mean 'n_seeds'"),
        (lambda t: metarl.evaluate(metarl.make_agent("rl2", t), t, split="train"), "no generalisation"),
        (lambda t: metarl.fast_defaults(0), "threads must be 1 to 1024"),
        (lambda t: metarl.fast_defaults(1.5), "threads must be 1 to 1024"),
        (lambda t: metarl.make_agent("rl2", t, ppo=3), "ppo is 3, expected an object"),
        (lambda t: metarl.make_agent("rl2", t, hidden=8.5), "hidden is 8.5, expected int"),
        (lambda t: metarl.make_agent("rl2", t, hidden="8"), 'hidden is "8", expected int'),
        (lambda t: metarl.make_agent("rl2", "gridworld"), "str is no task distribution"),
        (lambda t: metarl.train("rl2", t, iterations=1), "'rl2' is no agent: it lacks init"),
        (lambda t: metarl.train(metarl.make_agent("rl2", t), t, iterations=1.5), "^iterations is 1.5, expected int"),
        (lambda t: metarl.train(metarl.make_agent("rl2", t), t, iterations=True), "^iterations is true, expected int"),
        (lambda t: metarl.train(metarl.make_agent("rl2", t), t, iterations=1, seed=-1), "seed is -1"),
        (lambda t: metarl.train(metarl.make_agent("rl2", t), t, iterations=1, progress="foo"), 'progress is "foo"'),
        (lambda t: metarl.evaluate(metarl.make_agent("rl2", t), t, greedy="yes"), 'greedy is "yes", expected bool'),
        (
            lambda t: metarl.evaluate(metarl.make_agent("rl2", t), metarl.make_tasks("bandit")),
            "was built for worlds with",
        ),
        (lambda t: metarl.make_agent("rl2", t, ppo={"lrr": 1.0}), "^what was given has the unknown key 'ppo.lrr'"),
        (
            lambda t: metarl.train(metarl.make_agent("rl2", t), t, iterations=1, envs_per_task=2),
            "^envs_per_task=2, but",
        ),
        (
            lambda t: metarl.train(metarl.make_agent("rl2", t), t, iterations=1, run_dir=ROOT),
            "not an empty folder; choose another run_dir",
        ),
        (lambda t: metarl.make_agent("rl2", t, hidden=10**9), "this agent needs .* GiB or more"),
        (lambda t: metarl.make_agent("rl2", t, memory="transformer", transformer={"layers": 10**6}), "fewer layers"),
        (lambda t: metarl.make_agent("maml-trpo", t, hidden=(10**9, 10**9)), "this agent needs .* GiB or more"),
        (lambda t: metarl.make_tasks("CartPole-v1"), "one Gymnasium environment.*GymWorld.*docs/worlds.md"),
        (lambda t: metarl.make_tasks(gym.make("CartPole-v1")), "one Gymnasium environment.*GymWorld"),  # type: ignore[arg-type]
        (lambda t: metarl.make_tasks(3), "world is 3, expected a name"),  # type: ignore[arg-type]
        (lambda t: metarl.load_agent("x", trust="evil:Config"), "give a list of names"),
        (lambda t: metarl.make_agent("rl2", t).save("no/such/folder/x"), "cannot write no/such/folder/x"),
    ],
)
def test_bad_input_is_named_with_its_remedy(call: object, message: str, tasks: TaskDistribution) -> None:
    with pytest.raises(ConfigError, match=message):
        call(tasks)  # type: ignore[operator]


def test_a_run_directory_must_say_how_tasks_and_agent_were_made(tasks: TaskDistribution, tmp_path: Path) -> None:
    from metarl import envs

    agent = metarl.make_agent("rl2", tasks, **SMALL)
    with pytest.raises(ConfigError, match="how they were made"):
        metarl.train(agent, envs.make("gridworld"), iterations=1, run_dir=tmp_path / "a")
    assert not (tmp_path / "a").exists()


SPACES = [
    spaces.Box(-1.0, 1.0, (3,)),
    spaces.Box(np.array([-np.inf, 0.1]), np.array([np.inf, 0.3]), dtype=np.float64),
    spaces.Box(0, 255, (2, 2), dtype=np.uint8),
    spaces.Box(-(2**62) - 1, 2**62 + 1, (1,), dtype=np.int64),
    spaces.Discrete(4, start=2),
    spaces.MultiDiscrete([2, 3], start=[0, 5]),
    spaces.MultiBinary(3),
    spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Dict({"x": spaces.Box(0.0, 1.0, ())})}),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_space_comes_back_from_json_as_it_was(space: gym.Space) -> None:
    again = space_from_json(json.loads(json.dumps(space_to_json(space))))
    assert again == space
    assert str(again) == str(space)


def test_a_spec_comes_back_from_json_and_anything_else_is_refused() -> None:
    spec = WorldSpec(SPACES[0], SPACES[4], 7, has_dense_reward=True)
    stored = json.loads(json.dumps(spec_to_json(spec)))
    assert spec_from_json(stored, "it") == spec
    for broken in (
        None,
        [],
        {},
        stored | {"horizon": [1]},
        stored | {"more": 1},
        stored | {"action_space": {"kind": "x"}},
    ):
        with pytest.raises(CheckpointError, match="does not say what worlds"):
            spec_from_json(broken, "it")


def test_fast_defaults_are_undone_to_what_was_there_before() -> None:
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(False)
    with metarl.fast_defaults() as applied:
        assert (torch.get_num_threads(), applied.threads) == (1, 1)
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    applied.undo()  # twice is once
    assert torch.get_num_threads() == 1


TEN_LINES = """
import metarl
tasks  = metarl.make_tasks("gridworld")
agent  = metarl.make_agent("rl2", tasks, seed=0, hidden=8)
run    = metarl.train(agent, tasks, iterations=2, run_dir="runs/a", n_tasks=4, progress="off")
result = metarl.evaluate(agent, tasks, adapt_episodes=3, n_seeds=1)
result.plot("curve.png")
agent.save("a.safetensors"); agent = metarl.load_agent("a.safetensors")
print(len(run.history), result)
import envs, agents, experiments, metarl_plugins
print(envs.mine, agents.mine, experiments.mine, metarl_plugins.mine)
"""


def test_a_project_with_folders_of_the_same_names_uses_both_its_own_and_ours(tmp_path: Path) -> None:
    for name in ("envs", "agents", "experiments", "metarl_plugins"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("mine = True\n")
    (tmp_path / "ten.py").write_text(TEN_LINES)
    # What an editable install puts on the path: see pyproject.toml.
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".ci" / "editable"), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "ten.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    history, own = ran.stdout.splitlines()
    assert history.startswith("2 Result(before=")
    assert own == "True True True True"
    assert (tmp_path / "curve.png").is_file()
    assert [p.name for p in (ROOT / ".ci" / "editable").iterdir()] == ["metarl"]


def test_importing_metarl_imports_no_other_room_and_no_torch() -> None:
    code = "import sys, metarl; print([n for n in sys.modules if n.startswith('metarl.') or n == 'torch'])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    assert importlib.util.find_spec("metarl.facade") is not None


@pytest.mark.parametrize(
    ("space", "hidden"),
    [(None, 10**9), (spaces.Discrete(10**9), 8), (spaces.Box(-1.0, 1.0, (2,)), 30_000)],
)
def test_a_file_that_describes_a_giant_is_refused_before_it_is_built(
    space: gym.Space | None, hidden: int, tasks: TaskDistribution, tmp_path: Path
) -> None:
    agent, path = metarl.make_agent("rl2", tasks, **SMALL), tmp_path / "agent.safetensors"
    agent.config = dataclasses.replace(agent.config, hidden=hidden)
    agent.spec = dataclasses.replace(agent.spec, observation_space=space or agent.spec.observation_space)
    agent.save(path)
    with pytest.raises(ConfigError, match=f"the agent that {path} describes needs .* GiB or more"):
        metarl.load_agent(path)


GENERATORS = """
import random, sys
import numpy as np, torch
def state():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
before = state()
import metarl
tasks = metarl.make_tasks("gridworld")
assert state() == before
metarl.make_agent("rl2", tasks, hidden=8).save(sys.argv[1])
metarl.load_agent(sys.argv[1])
assert state() == before
"""


def test_the_global_generators_stay_where_they_were(tmp_path: Path) -> None:
    words = [sys.executable, "-c", GENERATORS, str(tmp_path / "a")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("saving", "said"), [(True, "then saving a checkpoint"), (False, "nothing is written")])
def test_ctrl_c_promises_a_checkpoint_only_where_one_is_written(
    saving: bool, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    signals = StopSignals()
    with signals.installed(saving=saving):
        signal.raise_signal(signal.SIGINT)
        assert signals.requested
    assert said in capfd.readouterr().err


def test_a_file_with_nan_in_it_or_another_shape_is_refused(tasks: TaskDistribution, tmp_path: Path) -> None:
    for factor, told in ((float("nan"), "holds NaN"), (None, "does not fit the rl2 agent")):
        agent, path = metarl.make_agent("rl2", tasks, **SMALL), tmp_path / "agent.safetensors"
        tensors, tree = split_state(agent.state_dict())
        name = next(k for k, v in tensors.items() if v.is_floating_point() and v.dim() == 2)
        tensors[name] = tensors[name].repeat(2, 1) if factor is None else tensors[name] * factor
        spoilt = join_state(tensors, tree)
        agent.state_dict = lambda spoilt=spoilt: spoilt  # type: ignore[method-assign]
        agent.save(path)
        with pytest.raises(CheckpointError, match=told):
            metarl.load_agent(path)


@pytest.mark.parametrize("change", [{"horizon": -1}, {"horizon": True}, {"horizon": 10**15}, {"name": 5}])
def test_a_spec_out_of_range_is_refused(change: dict[str, object]) -> None:
    stored = spec_to_json(WorldSpec(SPACES[0], SPACES[4], 7))
    with pytest.raises(CheckpointError, match="does not say what worlds"):
        spec_from_json(stored | change, "it")
