"""M, a model being edited, and P, parameters as a value."""

import copy

import pytest
from client.recording import FLOW
from hypothesis import given
from hypothesis import strategies as st

from flowkit import M, P
from flowkit.errors import UsageError

DROP = {
    "id": "d1",
    "elems": {"temp": 21, "tags": ["a", "b"], "deep": {"x": 1}},
    "location": {"lat": 1, "lon": 2},
    "version": 0,
}


def _set(m):
    m["elems"]["temp"] = 22


def _deeper(m):
    m["elems"]["deep"]["x"] = 2


def _appended(m):
    m["elems"]["tags"].append("c")


def _removed(m):
    del m["elems"]["temp"]


def _deleted(m):
    del m["location"]


def _popped(m):
    m.pop("location")


def _retyped(m):
    m["version"] = False


def _floated(m):
    m["elems"]["temp"] = 21.0


def _read_only(m):
    m["elems"]["tags"].count("a")
    dict(m)


def _same(m):
    m["version"] = 0
    m["elems"] = copy.deepcopy(DROP["elems"])


def _undone(m):
    m["elems"]["temp"] = 5
    m["elems"]["temp"] = 21


CHANGES = [
    (_set, {"elems": {**DROP["elems"], "temp": 22}}),
    (_deeper, {"elems": {**DROP["elems"], "deep": {"x": 2}}}),
    (_appended, {"elems": {**DROP["elems"], "tags": ["a", "b", "c"]}}),
    (_removed, {"elems": {"tags": ["a", "b"], "deep": {"x": 1}}}),
    (_deleted, {"location": None}),
    (_popped, {"location": None}),
    (_retyped, {"version": False}),
    (_floated, {"elems": {**DROP["elems"], "temp": 21.0}}),
    (lambda m: m.modify("fhash", "k").modify("version", 1), {"fhash": "k", "version": 1}),
    (lambda m: m.update(fhash="k"), {"fhash": "k"}),
    (lambda m: m.setdefault("fhash", "k"), {"fhash": "k"}),
    (_read_only, {}),
    (_same, {}),
    (_undone, {}),
]


@pytest.mark.parametrize(("change", "wanted"), CHANGES)
def test_the_diff_holds_exactly_what_was_changed(change, wanted):
    """At any depth, deletions included, and the model it came from is untouched."""
    original = copy.deepcopy(DROP)
    m = M(original)
    change(m)

    # As text, because 21 == 21.0 and 0 == False.
    assert repr(sorted(m.diff.items())) == repr(sorted(wanted.items()))
    assert original == DROP


def test_done_gives_the_new_model_and_the_diff():
    """Both are plain and no longer tied to the M."""
    m = M(DROP, fhash="k")
    model, diff = m.done()
    m["elems"]["temp"] = 99

    assert model == {**DROP, "fhash": "k"}
    assert diff == {"fhash": "k"}
    assert type(model) is type(diff) is dict


def test_an_m_is_a_mapping():
    """Length, membership, iteration, equality and get are those of the changed model."""
    m = M({"a": 1, "b": 2}, c=3)
    del m["a"]

    assert m == {"b": 2, "c": 3}
    assert list(m) == ["b", "c"]
    assert (len(m), "a" in m, m.get("a")) == (2, False, None)
    assert repr(m) == "M({'b': 2, 'c': 3}, changed=['a', 'c'])"
    with pytest.raises(KeyError):
        m["a"]


@pytest.mark.parametrize("model", [None, "text", 3, [("a", 1)]])
def test_a_model_is_a_mapping(model):
    """Everything else is refused."""
    with pytest.raises(UsageError):
        M(model)


VALUES = st.recursive(
    st.integers(0, 3) | st.booleans() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=1), inner, max_size=2)
    ),
    max_leaves=5,
)
MODELS = st.dictionaries(st.sampled_from("abcd"), VALUES)


@given(MODELS, MODELS)
def test_the_diff_turns_the_old_model_into_the_new_one(before, after):
    """Applying the diff (None removes) to what was read gives what was meant."""
    m = M(before)
    for member in list(m):
        if member not in after:
            del m[member]
    for member, value in after.items():
        m[member] = value
    patched = {**before, **m.diff}
    patched = {name: value for name, value in patched.items() if value is not None}

    assert repr(sorted(patched.items())) == repr(sorted(after.items()))


class _Thunk:
    """The least that a thunk is to this module."""

    __flowkit_thunk__ = True

    def __init__(self, value):
        self.value = value
        self.reads = 0

    def _flowkit_read(self):
        self.reads += 1
        return self.value


def test_an_m_of_a_thunk_waits_only_when_it_is_read():
    """Making it does not touch the thunk."""
    thunk = _Thunk({"id": FLOW, "capacity": 1})
    m = M(thunk, capacity=2)
    repr(m)
    assert thunk.reads == 0

    assert m["id"] == m.id == FLOW
    assert m.diff == {"capacity": 2}
    assert thunk.reads == 1


def test_parameters_are_a_mapping_that_grows_by_calls():
    """Each call gives a new P; the first stays."""
    first = P(limit=10)
    second = first.order("asc").only("id", "path").refs()

    assert first == {"limit": 10}
    assert second == {"limit": 10, "order": "asc", "only": ("id", "path"), "refs": True}
    assert P({"odd name": 1}) == {"odd name": 1}
    assert copy.copy(first) == copy.deepcopy(first) == first
    assert repr(first) == "P({'limit': 10})"


def test_a_misspelt_parameter_is_refused():
    """A P knows its names; the way out for others is said in its docstring."""
    with pytest.raises(UsageError, match="limt"):
        P(limt=3)
    with pytest.raises(AttributeError):
        P().limt(3)


def test_every_known_parameter_has_its_method():
    """The constructor and the calls agree."""
    calls = [
        P().filter("a == 1"), P().hints(False), P().level("DAY"), P().limit(1), P().only("a"),
        P().order("asc"), P().path("/a/b"), P().refs(), P().sort("a"), P().start(1), P().timeout(2),
    ]  # fmt: skip
    for params in calls:
        ((name, value),) = params.items()
        assert P(**{name: value}) == params
