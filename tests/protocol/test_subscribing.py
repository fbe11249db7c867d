"""What a subscribe asks for: each member, each fault in a sentence of its own, and the way back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import BadRequest
from flowkit.protocol.subscribing import DEFAULT_KINDS, KINDS, Subscribe
from flowkit.query.nodes import Age, Everything
from flowkit.query.parse import parse
from tests.strategies import near_filters

FLOW, OTHER = "f5a2c11e09b1e4d7a6c3f0010", "f5a2c11e09b1e4d7a6c3f0011"
PLACE = f"p1.{FLOW}.k3v9q2xz.1842"
PLAIN: dict[str, Any] = {"msgId": "1", "object": "drop", "type": "subscribe", "flowId": FLOW}
NAMED: dict[str, Any] = {**PLAIN, "sub": "hot"}
HOT = parse("temp > 30")

GOOD = [
    ("a plain subscription", PLAIN, Subscribe(FLOW)),
    ("a plain one by path, in its one form", {"path": "//Nora/Air/"}, Subscribe(None, "/nora/air")),
    (
        "a plain one of some members",
        {**PLAIN, "only": "id,elems"},
        Subscribe(FLOW, only=("id", "elems")),
    ),
    ("a plain one with types", {**PLAIN, "hints": True}, Subscribe(FLOW, hints=True)),
    ("the id counts beside a path", {**PLAIN, "path": "/nora/air"}, Subscribe(FLOW)),
    ("null is as if it was not there", {**PLAIN, "sub": None, "live": None}, Subscribe(FLOW)),
    ("null in a reader too", {**NAMED, "live": None, "slow": None}, Subscribe(FLOW, sub="hot")),
    ("a reader", NAMED, Subscribe(FLOW, sub="hot")),
    ("a filter", {**NAMED, "filter": "temp > 30"}, Subscribe(FLOW, sub="hot", filter=HOT)),
    ("from a place", {**NAMED, "since": PLACE}, Subscribe(FLOW, sub="hot", since=PLACE)),
    ("from the start", {**NAMED, "since": "start"}, Subscribe(FLOW, sub="hot", since="start")),
    (
        "by path, from a place in a flow that may be another by now",
        {"path": "/nora/air", "sub": "a", "since": PLACE.replace(FLOW, OTHER)},
        Subscribe(None, "/nora/air", "a", since=PLACE.replace(FLOW, OTHER)),
    ),
    (
        "kinds, in their one order, each once",
        {**NAMED, "changes": ["evict", "create", "evict"]},
        Subscribe(FLOW, sub="hot", changes=("create", "evict")),
    ),
    ("a lossy listener", {**NAMED, "slow": "drop"}, Subscribe(FLOW, sub="hot", slow="drop")),
    ("a view", {**NAMED, "live": True}, Subscribe(FLOW, sub="hot", live=True)),
    (
        "a view that squashes, from a place",
        {**NAMED, "live": True, "slow": "squash", "since": PLACE},
        Subscribe(FLOW, sub="hot", live=True, slow="squash", since=PLACE),
    ),
    ("the longest name", {**PLAIN, "sub": "é" * 64}, Subscribe(FLOW, sub="é" * 64)),
]

NO_ID = "flowId: is not the id of a Flow"
NO_NAME = "sub: a text of 1 to 64 characters is needed"
NO_KINDS = "changes: a list out of create, replace, update, delete, evict is needed"
NO_SLOW = "slow: must be one of disconnect, drop, squash"
NO_PLACE = "since: … is not a position: they look like p1.<flow id>.<epoch>.<number>"
NO_AGE = "filter: AGE cannot be used in a live query"
SORTED_VIEW = "{}: cannot be used in a live query, sort what it holds"

BAD = [
    ("no flow", {"sub": "hot"}, ["flowId: is required, or path instead of it"]),
    ("an id of something else", {"flowId": "d" + FLOW[1:]}, [NO_ID]),
    ("an id that is no text", {"flowId": 5}, [NO_ID]),
    ("a path that is none", {"path": "nora air"}, ["path: is not the path of a Flow"]),
    ("a path that is no text", {"path": ["/nora/air"]}, ["path: is not the path of a Flow"]),
    *[
        (f"{name} without a name", {**PLAIN, name: value}, [NO_NAME])
        for name, value in (
            ("since", "start"),
            ("filter", "temp > 30"),
            ("changes", ["create"]),
            ("live", True),
            ("slow", "drop"),
        )
    ],
    *[
        (f"a name that is {sub!r:.9}", {**PLAIN, "sub": sub}, [NO_NAME])
        for sub in ("", "x" * 65, 5, ["hot"], {})
    ],
    ("a filter that cannot be read", {**NAMED, "filter": "temp >"}, ["filter: "]),
    ("a filter that is no text", {**NAMED, "filter": 5}, ["filter: a text is needed, not 5"]),
    ("hints that are no boolean", {**NAMED, "hints": "yes"}, ["hints: 0, 1, true"]),
    ("members that are no names", {**NAMED, "only": 5}, ["only: names with commas"]),
    ("no position", {**NAMED, "since": "now"}, [NO_PLACE + ', or "start"']),
    ("a number as position", {**NAMED, "since": 5}, [NO_PLACE + ', or "start"']),
    ("a list as position", {**NAMED, "since": [PLACE]}, [NO_PLACE + ', or "start"']),
    (
        "a position of another flow",
        {**NAMED, "since": PLACE.replace(FLOW, OTHER)},
        ["since: is a position of another Flow"],
    ),
    ("a view from the start", {**NAMED, "live": True, "since": "start"}, [NO_PLACE]),
    ("live that is no boolean", {**NAMED, "live": "yes"}, ["live: true or false is needed"]),
    ("live that is a number", {**NAMED, "live": 1}, ["live: true or false is needed"]),
    (
        "kinds of a view",
        {**NAMED, "live": True, "changes": ["create"]},
        ["changes: cannot be used with live, a view gets all of them"],
    ),
    ("an unknown kind", {**NAMED, "changes": ["create", "touch"]}, [NO_KINDS]),
    ("pass is part of create", {**NAMED, "changes": ["pass"]}, [NO_KINDS]),
    ("no kinds", {**NAMED, "changes": []}, [NO_KINDS]),
    ("kinds that are no list", {**NAMED, "changes": "create"}, [NO_KINDS]),
    ("kinds that are no texts", {**NAMED, "changes": [["create"], {}]}, [NO_KINDS]),
    ("an unknown way of being slow", {**NAMED, "slow": "fast"}, [NO_SLOW]),
    ("a list as a way of being slow", {**NAMED, "slow": ["drop"]}, [NO_SLOW]),
    (
        "a view that drops",
        {**NAMED, "live": True, "slow": "drop"},
        ["slow: drop is for a listener only"],
    ),
    (
        "a listener that squashes",
        {**NAMED, "slow": "squash"},
        ["slow: squash is for a view (live) only"],
    ),
    *[
        (f"{name} in a view", {**NAMED, "live": True, name: value}, [SORTED_VIEW.format(name)])
        for name, value in (
            ("start", 0),
            ("skip", 1),
            ("limit", 10),
            ("sort", "elems.temp"),
            ("order", "asc"),
        )
    ],
    ("AGE in a view", {**NAMED, "live": True, "filter": "AGE < 5"}, [NO_AGE]),
    (
        "AGE of a member, deep in the filter of a view",
        {**NAMED, "live": True, "filter": "temp > 1 && NOT (a == 1 || AGE('location') > 5)"},
        [NO_AGE],
    ),
    (
        "everything at once",
        {"flowId": 1, "filter": "temp >", "since": "x", "slow": "x", "changes": "x", "hints": "x"},
        [NO_ID, "filter: ", "hints: ", NO_NAME, NO_PLACE, NO_SLOW, NO_KINDS],
    ),
]


@pytest.mark.parametrize(("said", "asked"), [row[1:] for row in GOOD], ids=[r[0] for r in GOOD])
def test_a_good_message_is_read(said, asked):
    """Each member has its meaning and its default (positions 6)."""
    assert Subscribe.read(said) == asked


@pytest.mark.parametrize(("said", "faults"), [row[1:] for row in BAD], ids=[r[0] for r in BAD])
def test_a_bad_message_gets_a_sentence_for_each_fault(said, faults):
    """Every fault is told at once, each opens with the member that is wrong."""
    with pytest.raises(BadRequest) as refused:
        Subscribe.read(said)

    assert len(refused.value.errors) == len(faults)
    for sentence, begins in zip(refused.value.errors, faults, strict=True):
        opening, _, rest = begins.partition("…")
        assert sentence.startswith(opening)
        assert rest in sentence


def test_age_is_a_fine_filter_of_a_listener():
    """A listener's AGE is asked at the time of the change (positions 4)."""
    asked = Subscribe.read({**NAMED, "filter": "AGE < 5"})

    assert isinstance(asked.filter, Age)


@pytest.mark.parametrize(
    ("asked", "needs"),
    [
        (Subscribe(FLOW, sub="a"), False),
        (Subscribe(FLOW, sub="a", changes=("create", "replace", "update")), False),
        (Subscribe(FLOW, sub="a", changes=("create", "delete")), True),
        (Subscribe(FLOW, sub="a", changes=("evict",)), True),
        (Subscribe(FLOW, sub="a", live=True), True),
    ],
)
def test_who_sees_what_has_ended_needs_old_values(asked, needs):
    """Mark V is for views and for listeners of ends, mark E for the others (positions 4)."""
    assert asked.needs_old is needs


def test_only_a_place_is_a_position():
    """``"start"`` and now have none."""
    assert Subscribe(FLOW, sub="a").position is None
    assert Subscribe(FLOW, sub="a", since="start").position is None
    assert str(Subscribe(FLOW, sub="a", since=PLACE).position) == PLACE


def _readers() -> st.SearchStrategy[Subscribe]:
    place = st.sampled_from([(FLOW, None), (None, "/nora/air")])
    shown = st.sampled_from([None, ("id",), ("id", "elems.temp", "path")])
    listener = st.fixed_dictionaries(
        {
            "sub": st.text(min_size=1, max_size=64),
            "since": st.sampled_from([None, "start", PLACE]),
            "changes": st.sets(st.sampled_from(KINDS), min_size=1).map(
                lambda kinds: tuple(kind for kind in KINDS if kind in kinds)
            ),
            "slow": st.sampled_from(["disconnect", "drop"]),
            "filter": near_filters(),
        }
    )
    view = st.fixed_dictionaries(
        {
            "sub": st.text(min_size=1, max_size=64),
            "since": st.sampled_from([None, PLACE]),
            "live": st.just(True),
            "slow": st.sampled_from(["disconnect", "squash"]),
            "filter": near_filters().filter(
                lambda asked: not any(isinstance(rule, Age) for rule in asked.walk())
            ),
        }
    )
    plain = st.just({"filter": Everything(), "changes": DEFAULT_KINDS})
    return st.builds(
        lambda where, members, only, hints: Subscribe(*where, only=only, hints=hints, **members),
        place,
        st.one_of(listener, view, plain),
        shown,
        st.sampled_from([None, True, False]),
    )


@given(_readers())
def test_what_is_written_is_read_as_it_was(asked):
    """``read(message())`` is the same subscription, whatever it asks for."""
    assert Subscribe.read(asked.message()) == asked


_JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)
_MEMBERS = ("flowId", "path", "sub", "filter", "since", "changes", "live", "slow", "only", "hints")


@given(st.dictionaries(st.sampled_from(_MEMBERS), _JUNK), st.booleans())
def test_garbage_is_refused_or_read_never_a_fault_of_ours(said, with_flow):
    """Any JSON in any member ends in a subscription or in sentences about members."""
    faults: tuple[str, ...] = ()
    try:
        asked = Subscribe.read({**said, **({"flowId": FLOW, "sub": "a"} if with_flow else {})})
    except BadRequest as refused:
        faults = tuple(refused.errors)
    else:
        assert Subscribe.read(asked.message()) == asked

    assert all(sentence.partition(":")[0] in _MEMBERS for sentence in faults)
