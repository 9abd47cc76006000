import pytest

from tools import import_graph
from tools.import_graph import below, circles, reduced, written


def test_the_page_shows_the_imports_as_they_are() -> None:
    page = import_graph.PAGE.read_text()
    assert written(page, import_graph.text()) == page, "run `make graph`"


def test_a_circle_is_found_and_a_chain_is_none() -> None:
    assert circles({("a", "b"), ("b", "c")}) == set()
    assert circles({("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")}) == {"a", "b", "c"}


def test_an_arrow_goes_where_a_longer_way_says_the_same() -> None:
    edges = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}
    assert reduced(edges) == {("a", "b"), ("b", "c"), ("a", "d")}
    assert all(below(reduced(edges), box) == below(edges, box) for box in "abcd")


def test_the_rooms_are_measured_apart() -> None:
    import grimp

    graph = grimp.build_graph("metarl", cache_dir=None)
    kernel, _ = import_graph.arrows(graph, "metarl")
    assert {"metarl.loop", "metarl.world"} <= kernel
    assert not kernel & {"metarl.envs", "metarl.agents", "metarl.experiments"}
    boxes, edges = import_graph.arrows(graph, "metarl.agents")
    assert ("metarl.agents.rl2", "metarl.agents.memory") in edges
    assert {"metarl.agents.nn", "metarl.agents.maml"} <= boxes


def test_a_circle_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_graph, "arrows", lambda *_: ({"m.a", "m.b"}, {("m.a", "m.b"), ("m.b", "m.a")}))
    with pytest.raises(SystemExit, match=r"circles through m\.a, m\.b"):
        import_graph.section(None, "m", "it")  # type: ignore[arg-type]
