"""Typed elements: both ways, and every type with what it takes and refuses."""

import pytest
from hypothesis import given

from flowkit.errors import BadRequest
from flowkit.server.elements import TYPES, infer, read_typed, show_typed
from tests.strategies import elems

ID = "5a2c11e09b1e4d7a6c3f0010"

INFERRED = [
    ("x", "string"),
    (True, "boolean"),
    (5, "integer"),
    (2**31 - 1, "integer"),
    (2**31, "long"),
    (-(2**31) - 1, "long"),
    (1.0, "float"),
    ([], "list"),
    ({}, "map"),
    (None, None),
]

TAKEN = [
    ("string", "x", "x"),
    ("boolean", False, False),
    ("integer", 7, 7),
    ("long", 7, 7),
    ("float", 7, 7),
    ("date", 1342404840000, 1342404840000),
    ("email", "a@b.c", "a@b.c"),
    ("uri", "http://x/", "http://x/"),
    ("html", "<b onclick='x'>y</b><script>z</script>", "<b>y</b>"),
    ("id", f"f{ID}", f"f{ID}"),
    ("id", ID, ID),
    ("dropRef", {"flowId": ID, "dropId": f"d{ID}"}, {"flowId": ID, "dropId": f"d{ID}"}),
    (
        "dropRef",
        {"flowId": {"type": "id", "value": ID}, "dropId": {"type": "id", "value": ID}},
        {"flowId": ID, "dropId": ID},
    ),
    ("location", {"lat": 1, "lon": 2.5}, {"lat": 1, "lon": 2.5}),
    ("list", [1, "a"], [1, "a"]),
    ("set", [1, 2, 1.0, True, "1"], [1, 2, True, "1"]),
    ("sortedSet", [3, "b", 1, True, False, 3], [1, 3, "b", False, True]),
    ("map", {"a": 1}, {"a": 1}),
    ("sortedMap", {"b": 1, "a": 2}, {"a": 2, "b": 1}),
]

REFUSED = [
    ("string", 5, "must be a string"),
    ("boolean", 0, "must be true or false"),
    ("integer", True, "must be a whole number of 32 bits"),
    ("integer", 2**31, "must be a whole number of 32 bits"),
    ("long", 1.5, "must be a whole number"),
    ("float", "1", "must be a number"),
    ("date", "2018-01-01", "must be a whole number of milliseconds since 1970"),
    ("email", 5, "must be a string"),
    ("uri", None, "must be a string"),
    ("html", 5, "must be a string"),
    ("id", "xyz", "must be an id"),
    ("dropRef", {"flowId": ID}, "must be an object of flowId and dropId"),
    ("list", {}, "must be an array"),
    ("set", 5, "must be an array"),
    ("sortedSet", "abc", "must be an array"),
    ("map", [], "must be an object"),
    ("sortedMap", 5, "must be an object"),
]


@pytest.mark.parametrize(("value", "name"), INFERRED)
def test_plain_values_have_the_type_that_inference_gives(value, name):
    """The types of 2.1 follow from the plain value; null has none."""
    assert infer(value) == name


@pytest.mark.parametrize(("name", "given_value", "stored"), TAKEN)
def test_a_typed_value_is_stored_plain_with_its_type_beside_it(name, given_value, stored):
    """The type stands in the map exactly if inference would not give it."""
    plain, types = read_typed({"x": {"type": name, "value": given_value}})

    assert list(plain.items()) == [("x", stored)]
    assert repr(plain["x"]) == repr(stored), "order and types of the entries count"
    assert types == ({} if infer(stored) == name else {"elems.x": name})


def test_every_type_of_the_table_is_tried():
    """No type is missing from the cases above."""
    assert {name for name, _, _ in TAKEN} == set(TYPES)
    assert {name for name, _, _ in REFUSED} | {"location"} == set(TYPES)


@pytest.mark.parametrize(("name", "value", "why"), REFUSED)
def test_a_value_that_is_not_of_its_type_is_refused(name, value, why):
    """The sentence names the element."""
    with pytest.raises(BadRequest) as caught:
        read_typed({"x": {"type": name, "value": value}})

    assert caught.value.errors == [f"elems.x: {why}"]


@pytest.mark.parametrize("value", [{"lat": 91, "lon": 0}, {"lat": 0}, {"lat": True, "lon": 0}, 5])
def test_a_location_outside_the_globe_is_refused(value):
    """Latitude and longitude have their bounds (2.4)."""
    with pytest.raises(BadRequest) as caught:
        read_typed({"x": {"type": "location", "value": value}})

    assert caught.value.errors[0].startswith("elems.x")


def test_an_unknown_type_is_refused_and_every_fault_is_told():
    """One sentence for each bad element."""
    with pytest.raises(BadRequest) as caught:
        read_typed(
            {
                "a": {"type": "colour", "value": 1},
                "b": {"type": "list", "value": [{"type": "date", "value": "x"}]},
            }
        )

    assert caught.value.errors == [
        "elems.a: Unknown element type: colour",
        "elems.b.0: must be a whole number of milliseconds since 1970",
    ]


@pytest.mark.parametrize(
    "value",
    [{"type": "date"}, {"type": 5, "value": 1}, {"type": "date", "value": 1, "unit": "ms"}],
)
def test_what_is_not_exactly_a_type_and_a_value_is_a_map(value):
    """Only the two keys with a string for the type make a typed value (2.1)."""
    assert read_typed({"x": value}) == ({"x": value}, {})


def test_types_inside_collections_keep_their_place_through_sorting():
    """The path of an inner type counts the entries as they are stored."""
    given_value = [9, {"type": "date", "value": 5}, 5]

    plain, types = read_typed({"s": {"type": "sortedSet", "value": given_value}})

    assert plain == {"s": [5, 9]}
    assert types == {"elems.s": "sortedSet", "elems.s.0": "date"}


def test_names_with_dots_do_not_meet_members_of_maps():
    """``a.b`` and ``b`` in ``a`` are different elements."""
    plain, types = read_typed({"a.b": {"type": "date", "value": 1}, "a": {"b": 2}})

    assert types == {"elems.a\\.b": "date"}
    assert show_typed(plain, types)["a"] == {"type": "map", "value": {"b": 2}}


def test_elements_are_shown_typed():
    """Every element carries its type; null has none (2.3)."""
    shown = show_typed({"t": 21.4, "ok": True, "n": None, "d": 5}, {"elems.d": "date"})

    assert shown == {
        "t": {"type": "float", "value": 21.4},
        "ok": {"type": "boolean", "value": True},
        "n": None,
        "d": {"type": "date", "value": 5},
    }


@pytest.mark.parametrize(("name", "given_value", "stored"), TAKEN)
def test_what_is_shown_reads_back_as_the_same(name, given_value, stored):
    """A typed answer sent back changes nothing, whatever the type."""
    first = read_typed({"x": {"type": name, "value": given_value}})

    assert read_typed(show_typed(*first)) == first


@given(elems())
def test_plain_elements_survive_the_typed_form(plain):
    """Show, then read: the same plain values without any recorded type."""
    assert read_typed(show_typed(plain, {})) == (plain, {})


@given(elems())
def test_a_map_that_looks_typed_survives_too(inner):
    """What was stored by a version without types is not misread by one with types."""
    tricky = {"x": {"type": "date", "value": inner}, "y": [{"type": "nothing", "value": 1}]}

    assert read_typed(show_typed(tricky, {})) == (tricky, {})
