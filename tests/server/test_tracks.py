"""What a Track means: destinations, a script's answer, loops."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit import limits
from flowkit.server.tracks import (
    Output,
    TrackFault,
    can_only_loop,
    destinations_of,
    outputs_of,
    passed_on,
)

A, B = "/nora/a", "/nora/b"
ONE, TWO = {"elems": {"n": 1}}, {"elems": {"n": 2}}


@pytest.mark.parametrize(
    ("destination", "paths"),
    [(None, []), (A, [A]), ([A, B], [A, B]), ([A, B, A], [A, B])],
)
def test_destinations_are_a_list_whatever_was_given(destination, paths):
    """Nothing, a string or a list; each path counts once."""
    assert destinations_of({"destination": destination}) == paths


def test_a_drop_is_passed_on_without_what_is_the_servers():
    """Elements, key and location go on; ids, dates and version do not."""
    drop = {
        "id": "d1",
        "flowId": "f1",
        "path": A,
        "creationDate": 5,
        "version": 3,
        "elems": {"n": 1},
        "fhash": "k",
        "location": {"lat": 1, "lon": 2},
    }
    body = {"elems": {"n": 1}, "fhash": "k", "location": {"lat": 1, "lon": 2}}

    assert passed_on(drop, [A, B]) == [Output(A, body), Output(B, body)]


@pytest.mark.parametrize(
    ("value", "destinations", "outputs"),
    [
        (None, [A], []),
        (None, [], []),
        (ONE, [A], [(A, ONE)]),
        (ONE, [A, B], [(A, ONE), (B, ONE)]),
        ([], [A], []),
        ([], [], []),
        ([ONE, TWO], [A, B], [(A, ONE), (B, ONE), (A, TWO), (B, TWO)]),
        ({A: ONE}, [], [(A, ONE)]),
        ({A: [ONE, TWO], B: [TWO]}, [], [(A, ONE), (A, TWO), (B, TWO)]),
        ({A: []}, [], []),
        ({B: ONE}, [A, B], [(B, ONE)]),
        ({"/Nora//A/": ONE}, [A], [(A, ONE)]),
        ({"elems": {}, "id": "d1", "path": B, "creationDate": 1}, [A], [(A, {"elems": {}})]),
        ({"elems": {}, "fhash": None, "location": None}, [A], [(A, {"elems": {}})]),
        ({"elems": {}, "fhash": "k"}, [A], [(A, {"elems": {}, "fhash": "k"})]),
    ],
)
def test_what_a_script_may_return(value, destinations, outputs):
    """A Drop, an array, a map from path to either, or nothing (6.2)."""
    assert outputs_of(value, destinations) == [Output(path, body) for path, body in outputs]


@pytest.mark.parametrize(
    ("value", "destinations", "sentence"),
    [
        (True, [A], "returned true or false, not a Drop"),
        (5, [A], "returned a number, not a Drop"),
        (0.5, [A], "returned a number, not a Drop"),
        ("x", [A], "returned a string, not a Drop"),
        ({}, [A], "has no object elems"),
        ({"elems": 5}, [A], "has no object elems"),
        ([ONE, None], [A], "is null, not an object"),
        ([[ONE]], [A], "is an array, not an object"),
        ({A: [5]}, [], "is a number, not an object"),
        ({A: ONE, "elems": {}}, [], "has no destination"),
        (ONE, [], "without paths and the Track has no destination"),
        ({B: ONE}, [A], "returned Drops for /nora/b, which is not a destination"),
        ({"/nora": ONE}, [], "which is no path of a Flow"),
        ({"/nora/ü": ONE}, [], "which is no path of a Flow"),
        ([ONE] * (limits.track_outputs_max + 1), [A], "returned 1001 Drops, the limit is 1000"),
        ([ONE] * (limits.track_outputs_max // 2 + 1), [A, B], "returned 1002 Drops"),
    ],
)
def test_what_a_script_may_not_return(value, destinations, sentence):
    """Anything else is a fault, in a sentence that says which."""
    with pytest.raises(TrackFault, match=sentence):
        outputs_of(value, destinations)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda some: (
        st.lists(some, max_size=3)
        | st.dictionaries(st.sampled_from(["elems", "fhash", A, B, "/", "x"]), some, max_size=3)
    ),
    max_leaves=12,
)


@given(value=JSON, destinations=st.lists(st.sampled_from([A, B]), unique=True))
def test_any_answer_is_understood_or_refused(value, destinations):
    """Never another exception; every output has elements and goes where it may."""
    outputs = []
    with suppress(TrackFault):
        outputs = outputs_of(value, destinations)
    for output in outputs:
        assert isinstance(output.body["elems"], dict)
        assert set(output.body) <= {"elems", "fhash", "location"}
        assert output.path in (destinations or [A, B])


def track(name, source, destination, **more):
    """A Track's members."""
    return {"id": name, "source": source, "destination": destination, **more}


C = "/nora/c"


@pytest.mark.parametrize(
    ("saved", "others", "loops"),
    [
        (track("t", A, A), [], True),
        (track("t", A, B), [], False),
        (track("t", A, [B, A]), [], True),
        (track("t", A, B), [track("u", B, A)], True),
        (track("t", A, B), [track("u", B, C), track("v", C, A)], True),
        (track("t", A, B), [track("u", B, C), track("v", C, B)], False),
        (track("t", A, B), [track("u", B, A, filter="n > 1")], False),
        (track("t", A, B), [track("u", B, A, js="function (d) { return d; }")], False),
        (track("t", A, B), [track("u", B, A, disabled=True)], False),
        (track("t", A, A, filter="n > 1"), [], False),
        (track("t", A, A, filter=""), [], True),
        (track("t", A, A, js="function (d) { return d; }"), [], False),
        (track("t", A, A, disabled=True), [], False),
        (track("t", A, B), [track("t", B, A)], False),  # as it was before the change
    ],
)
def test_a_track_that_can_only_loop(saved, others, loops):
    """Certain where nothing on the way back to the source can stop a drop, and only there."""

    def certain_from(path):
        return [one for one in others if one["source"] == path]

    assert can_only_loop(saved, certain_from) is loops


PATHS = st.sampled_from([A, B, C, "/nora/d"])


@given(ways=st.lists(st.tuples(PATHS, PATHS), max_size=8), source=PATHS, to=PATHS)
def test_the_warning_is_reachability(ways, source, to):
    """For filter-less Tracks it says whether a walk from the destination meets the source."""
    others = [track(f"t{n}", one, other) for n, (one, other) in enumerate(ways)]
    reached = {to}
    for _ in ways:
        reached |= {other for one, other in ways if one in reached}

    found = can_only_loop(
        track("new", source, to), lambda path: [one for one in others if one["source"] == path]
    )

    assert found is (source in reached)
