"""Which tier is asked, and what the lifecycle room does about graphs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memcube_common.search.tiers import exact_max, rerank_size, tier
from memcube_lifecycle.graphs import Chores, chores
from memcube_lifecycle.store import Graph, GraphIndex


def graph(name: str, *, is_wanted: bool = True, stands: bool = False) -> Graph:
    return Graph("p", 1, 384, name, f"build {name}", is_wanted, stands)


def index(name: str, *, is_whole: bool = True) -> GraphIndex:
    return GraphIndex(name, is_whole, f"drop {name}")


def test_few_vectors_are_compared_all_and_many_may_be_asked_of_a_graph() -> None:
    assert tier(small=True, dimensions=384, candidates=100) == 0
    assert tier(small=False, dimensions=384, candidates=100) == -400
    assert tier(small=None, dimensions=1536, candidates=100) == -200, "not counted yet: right for every size"


def test_more_is_compared_exactly_where_codes_are_short() -> None:
    assert rerank_size(384, 100) == 400
    assert rerank_size(1536, 100) == 200
    assert rerank_size(384, 400) == 800
    assert exact_max(384) > exact_max(1536)


def test_a_graph_that_is_wanted_is_built_and_one_that_is_whole_is_left_alone() -> None:
    todo = chores([graph("new"), graph("old", stands=True)], [index("old")])
    assert todo == Chores((), (), (graph("new"),), ())


def test_what_a_builder_left_behind_is_dropped_and_built_anew() -> None:
    todo = chores([graph("a")], [index("a", is_whole=False)])
    assert todo == Chores((), (index("a", is_whole=False),), (graph("a"),), ())


def test_a_graph_that_stands_without_its_index_is_not_asked_until_it_is_built() -> None:
    todo = chores([graph("a", stands=True)], [])
    assert todo == Chores((graph("a", stands=True),), (), (graph("a", stands=True),), ())


def test_a_whole_index_that_nobody_noted_is_noted() -> None:
    assert chores([graph("a")], [index("a")]) == Chores((), (), (), (graph("a"),))


_names = st.sampled_from("abcdef")
_graphs = st.lists(
    st.builds(graph, _names, is_wanted=st.booleans(), stands=st.booleans()).filter(lambda g: g.is_wanted or g.stands),
    unique_by=lambda g: g.name,
)
_indexes = st.lists(st.builds(index, _names, is_whole=st.booleans()), unique_by=lambda i: i.name)


@given(_graphs, _indexes)
def test_after_a_round_there_is_nothing_to_do(graphs: list[Graph], indexes: list[GraphIndex]) -> None:
    """Whatever a crash left behind: one round makes indexes, notes and wishes agree."""
    todo = chores(graphs, indexes)
    names = ({i.name for i in indexes} - {i.name for i in todo.drop}) | {g.name for g in todo.build}
    noted = ({g.name for g in graphs if g.stands} - {g.name for g in todo.forget}) | {
        g.name for g in (*todo.build, *todo.note)
    }
    left = [
        graph(g.name, is_wanted=g.is_wanted, stands=g.name in noted) for g in graphs if g.is_wanted or g.name in noted
    ]
    assert not {g.name for g in todo.build} & ({i.name for i in indexes} - {i.name for i in todo.drop})
    assert chores(left, [index(name) for name in names]) == Chores((), (), (), ())
