from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from metarl.agents.maml.agent import MAMLConfig
from metarl.errors import CheckpointError, ConfigError, MetarlError
from metarl.evaluation import Protocol
from metarl.experiments import codec
from metarl.experiments.build import build_agent, build_tasks
from metarl.experiments.cli.world_options import format_options, parse_options
from metarl.experiments.config import AnyConfig, ExperimentConfig, WorldConfig, check_device
from metarl.experiments.overrides import check_changes, parse_overrides
from metarl.experiments.presets import PRESETS, describe_presets, load_preset
from metarl.loop import Plan
from metarl.seeding import generator
from tests.experiments import tiny_presets
from tests.metarl.tiny import TinyConfig


def stored(config: AnyConfig) -> dict[str, Any]:
    return json.loads(json.dumps(codec.to_json(config), allow_nan=False))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_a_config_that_json_gives_back(name):
    config = load_preset(name)
    assert config.name == name
    assert codec.from_json(stored(config)) == config
    assert f"  {name} " in describe_presets()


def marked(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.metaworld) if "ml1" in name else name


@pytest.mark.parametrize("name", [marked(name) for name in sorted(PRESETS)])
def test_the_parts_of_every_preset_fit_together(name):
    config = load_preset(name)
    if "metaworld" in config.world.name:  # no worker processes just to look at the spaces
        world = WorldConfig(config.world.name, {**config.world.options, "n_workers": 0})
        config = dataclasses.replace(config, world=world)
    tasks = build_tasks(config)
    agent = build_agent(config, tasks, check_device("cpu"))
    plan = Plan.of(agent, config.train)
    # A memory is looked at, and scored, over as many episodes as it was trained on; a posterior takes any number.
    if not agent.parallel_episodes and len(agent.train_phases) == 1:
        n_episodes = sum(agent.train_phases)
        assert sum(plan.validation_phases) == config.evaluation.n_episodes == n_episodes
        assert getattr(tasks, "n_pulls", n_episodes) == n_episodes
    assert sum(plan.validation_phases) == sum(
        (config.train.validation_adapt_episodes, config.train.validation_eval_episodes)
    )
    for split, n in (("train", config.train.n_tasks), ("validation", config.train.n_validation_tasks)):
        assert len(tasks.sample(split, n, generator(0, split))) == n
    listed = tasks.all(config.evaluation.split)
    assert listed is None or (config.evaluation.n_tasks or 0) <= len(listed)


def test_a_built_in_agent_is_stored_by_name_and_a_foreign_one_by_target():
    assert stored(tiny_presets.maml())["agent"]["type"] == "maml-trpo"
    assert stored(tiny_presets.tiny())["agent"]["type"] == "tests.metarl.tiny:TinyConfig"
    assert codec.from_json(stored(tiny_presets.tiny())).agent == TinyConfig()


def test_infinite_floats_and_tuples_survive_json():
    agent = MAMLConfig(hidden=(3, 4), kl_limit=float("inf"))
    config = dataclasses.replace(tiny_presets.maml(), agent=agent)
    assert codec.from_json(stored(config)).agent == agent


def changed(path: str, value: Any) -> dict[str, Any]:
    content = stored(tiny_presets.maml())
    at = content
    *parents, last = path.split(".")
    for parent in parents:
        at = at[parent]
    at[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("agent.aplha", 0.1, r"unknown key 'agent.aplha'; did you mean 'alpha'"),
        ("trian", {}, r"unknown key 'trian'; did you mean 'train'"),
        ("world.option", {}, r"unknown key 'world.option'; did you mean 'options'"),
        ("agent.alpha", "big", r"agent.alpha is \"big\", expected float"),
        ("agent.second_order", 1, r"agent.second_order is 1, expected bool"),
        ("agent.hidden", [8, 0.5], r"agent.hidden\[1\] is 0.5, expected int"),
        ("agent.inner_objective", "x", r"agent.inner_objective is \"x\", expected one of 'likelihood-ratio'"),
        ("agent.inner_steps", True, r"agent.inner_steps is true, expected int"),
        ("agent.alpha", -1.0, r"alpha must be >= 0 and finite, got -1.0"),
        ("agent.type", "maml-trop", r"unknown agent 'maml-trop'; did you mean 'maml-trpo'"),
        (
            "agent.type",
            "os:getcwd",
            r"names code that is neither built in nor installed: 'os:getcwd'; if .* --trust os:getcwd",
        ),
        ("agent", 3, r"agent is 3, expected an object with \"type\""),
        ("train.n_tasks", 0, r"train.n_tasks must be >= 1, got 0"),
        ("log.wandb", "cloud", r"log.wandb is \"cloud\", expected one of 'online', 'offline', 'disabled'"),
        ("threads", 0, r"threads must be 1 to 1024, or None, got 0"),
        ("seed", -3, r"seed must be >= 0 and at most [0-9]+, got -3"),
        ("evaluation.split", "train", r"evaluation.split is \"train\""),
    ],
)
def test_a_wrong_entry_is_named_with_what_was_expected(path, value, message):
    with pytest.raises(ConfigError, match=message):
        codec.from_json(changed(path, value))


def test_a_missing_entry_takes_its_default_or_is_named():
    content = stored(tiny_presets.maml())
    del content["train"]["n_tasks"]
    assert codec.from_json(content).train.n_tasks == 20
    del content["world"]
    with pytest.raises(ConfigError, match=r"config\.json lacks 'world'"):
        codec.from_json(content)


def test_another_schema_version_is_one_line_that_says_what_to_do():
    with pytest.raises(
        CheckpointError, match=r"schema version 7, this metarl reads 1 and 2; use the version that wrote it"
    ):
        codec.from_json(stored(tiny_presets.tiny()) | {"schema_version": 7})


def test_a_value_that_json_cannot_hold_is_refused():
    config = dataclasses.replace(tiny_presets.tiny(), world=WorldConfig("gridworld", {"x": object()}))
    with pytest.raises(ConfigError, match="which JSON cannot store"):
        codec.to_json(config)


def test_world_options_are_json_or_text():
    words = ["task=reach-v3", "n=3", "on=true", 'list=[1, "a"]', 'text="3"', "empty="]
    options = parse_options(words)
    assert options == {"task": "reach-v3", "n": 3, "on": True, "list": [1, "a"], "text": "3", "empty": ""}
    assert parse_options(format_options(options)) == options
    with pytest.raises(ConfigError, match="world option 'held-out' is not of the form key=value"):
        parse_options(["held-out"])


def override(*words: str) -> AnyConfig:
    return parse_overrides(tiny_presets.maml(), words).config


def test_overrides_are_typed_and_leave_the_rest_alone():
    config = override("--agent.alpha", "0.3", "--agent.hidden", "5", "6", "--seed", "4", "--train.n-tasks", "9")
    base = tiny_presets.maml()
    assert config.agent == dataclasses.replace(base.agent, alpha=0.3, hidden=(5, 6))
    assert (config.seed, config.train.n_tasks) == (4, 9)
    assert config == dataclasses.replace(base, agent=config.agent, seed=4, train=config.train)


def test_world_options_are_added_to_those_of_the_preset():
    options = override("--world.options", "n_test=30", "speed=fast").world.options
    assert options == {"n_validation": 10, "n_test": 30, "speed": "fast"}


def test_wandb_has_a_short_flag():
    assert override("--wandb", "online").log.wandb == override("--log.wandb", "online").log.wandb == "online"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--agent.aplha", "1"], r"unknown setting '--agent.aplha'; did you mean '--agent.alpha'"),
        (["--agnet.alpha", "1"], r"unknown setting '--agnet.alpha'; did you mean '--agent.alpha'"),
        (["--wadnb", "offline"], r"unknown setting '--wadnb'; did you mean '--wandb'"),
        (["--agent.alpha", "x"], r"--agent.alpha: could not convert string to float: 'x'"),
        (["--agent.alpha", "-1"], r"alpha must be >= 0 and finite, got -1.0"),
        (["--agent.alpha"], r"[Mm]issing value for argument '--agent.alpha'"),
        (["--log.wandb", "cloud"], r"invalid choice 'cloud'.*'online', 'offline'"),
        (["--world.options", "n_test"], r"world option 'n_test' is not of the form key=value"),
        (["stray"], r"cannot place the word 'stray'"),
    ],
)
def test_a_wrong_word_is_one_line(words, message):
    with pytest.raises(MetarlError, match=message) as caught:
        override(*words)
    assert len(str(caught.value).splitlines()) == 1
    assert not set("│╭╰─") & set(str(caught.value))


def test_a_run_that_goes_on_takes_more_iterations_and_other_logging_only():
    base = tiny_presets.maml()
    longer = override("--train.n-iterations", "99", "--log.tensorboard", "--log.progress", "plain")
    assert check_changes(base, longer) == longer
    with pytest.raises(ConfigError, match=r"agent.alpha is 0.1 in this run and cannot become 0.2 when it goes on"):
        check_changes(base, override("--agent.alpha", "0.2"))
    with pytest.raises(ConfigError, match=r"world.options.n_test is 10 in this run and cannot become 11"):
        check_changes(base, override("--world.options", "n_test=11"))
    anywhere = dataclasses.replace(base, threads=None)
    assert check_changes(base, anywhere).threads == 1  # the number of threads stays what it was


def test_unknown_presets_and_functions_that_are_none_are_refused():
    with pytest.raises(ConfigError, match="unknown preset 'rl2-gird'; did you mean 'rl2-gridworld'"):
        load_preset("rl2-gird")
    with pytest.raises(ConfigError, match="returned a int; it must return an ExperimentConfig"):
        load_preset("tests.experiments.tiny_presets:not_a_config")
    with pytest.raises(ConfigError, match="has no 'tny'"):
        load_preset("tests.experiments.tiny_presets:tny")
    assert load_preset("tests.experiments.tiny_presets:tiny") == tiny_presets.tiny()


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ConfigError, match=f"device '{name}'"):
        check_device(name)


def test_names_and_evaluation_split_are_checked():
    with pytest.raises(ConfigError, match="name is empty"):
        ExperimentConfig("", WorldConfig("gridworld"), TinyConfig())
    with pytest.raises(ConfigError, match=r"world\.name is empty"):
        WorldConfig("")
    with pytest.raises(ConfigError, match="measures no adaptation"):
        ExperimentConfig("x", WorldConfig("gridworld"), TinyConfig(), evaluation=Protocol(split="train"))
