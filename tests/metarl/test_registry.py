"""Names find their factories; plug-ins join in, and a broken one harms nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from metarl.errors import ConfigError, nearest
from metarl.registry import Registry, load_target

BUILTIN = {"counter": ("collections:Counter", "counts"), "ordered": ("collections:OrderedDict", "keeps order")}

PLUGIN = """
[metarl.tests.registry]
doubler = doubler_pkg:double
broken = doubler_pkg.broken:double
nameless = doubler_pkg:no_such_thing
counter = doubler_pkg:double
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Return a registry with two built-in names and a third party's package with one good and two broken entries."""
    package, metadata = tmp_path / "doubler_pkg", tmp_path / "doubler_pkg-2.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").write_text("def double(x=1):\n    return 2 * x\n", encoding="utf-8")
    (package / "broken.py").write_text("raise RuntimeError('half finished')\n", encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: doubler-pkg\nVersion: 2.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return Registry("thing", BUILTIN, group="metarl.tests.registry")


def test_a_plug_in_is_found_and_built_by_name(registry: Registry) -> None:
    entry = registry.entries()["doubler"]
    assert (entry.origin, entry.target, entry.error) == ("doubler-pkg", "doubler_pkg:double", "")
    assert registry.make("doubler", x=21) == 42


def test_a_broken_plug_in_is_listed_with_its_error_and_the_rest_works(registry: Registry) -> None:
    entries = registry.entries()
    assert entries["broken"].error == "RuntimeError: half finished"
    assert entries["nameless"].error.startswith("AttributeError")
    assert entries["counter of doubler-pkg"].error.startswith("the name 'counter' is built in")
    assert set(entries) == {"counter", "ordered", "doubler", "broken", "nameless", "counter of doubler-pkg"}
    with pytest.raises(ConfigError, match="'broken' of 'doubler-pkg' cannot be loaded: RuntimeError: half finished"):
        registry.make("broken")
    assert registry.make("counter", a=3) == {"a": 3}


def test_a_plug_in_cannot_replace_a_built_in_name(registry: Registry) -> None:
    assert registry.entries()["counter"].target == "collections:Counter"
    assert registry.make("counter") == {}


def test_a_built_in_name_does_not_wait_for_plug_ins(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl.registry.plugins", lambda group: pytest.fail("plug-ins were imported"))
    assert registry.make("ordered") == {}


def test_an_unknown_name_gets_the_nearest_ones(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="unknown thing 'conter'; did you mean 'counter'"):
        registry.make("conter")
    with pytest.raises(ConfigError, match="known: broken, counter, doubler, nameless, ordered"):
        registry.make("zzzz")


def test_an_unknown_option_is_not_mistaken_for_a_type_error_within_a_factory(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="thing 'doubler' has no option 'y'; known: x"):
        registry.make("doubler", y=1)
    with pytest.raises(ConfigError, match="thing 'doubler' cannot be built: TypeError: unsupported operand") as failed:
        registry.make("doubler", x=object())
    assert isinstance(failed.value.__cause__, TypeError)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("collections", "not of the form"),
        (":Counter", "not of the form"),
        ("no_such_module_at_all:x", "cannot import module 'no_such_module_at_all'"),
        ("collections:Conter", "has no 'Conter'; did you mean 'Counter'"),
    ],
)
def test_a_wrong_target_says_which_part_is_wrong(target: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_target(target)


def test_a_target_with_a_colon_needs_no_registration() -> None:
    assert Registry("thing", {}).make("collections:Counter", b=1) == {"b": 1}


def test_a_missing_option_and_a_target_that_cannot_be_called_are_named() -> None:
    with pytest.raises(ConfigError, match="needs the option 'a'; add a=VALUE"):
        Registry("thing", {}).make("bisect:bisect", x=1)
    with pytest.raises(ConfigError, match="is a str, not a function"):
        Registry("thing", {}).make("os:sep")


def test_of_many_names_only_the_nearest_are_told() -> None:
    said = nearest("zzz", [f"name-{i}" for i in range(50)])
    assert said.startswith("did you mean 'name-")
    assert said.count("name-") == 3
