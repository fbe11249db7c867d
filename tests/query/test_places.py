"""Places: postal codes, and great-circle distances against known ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import FilterError
from flowkit.query.match import matches
from flowkit.query.meaning import near
from flowkit.query.nodes import UNITS_KM, Within
from flowkit.query.places import place_of, zip_table

CITIES = {
    "Oslo": (59.9139, 10.7522),
    "London": (51.5074, -0.1278),
    "New York": (40.7128, -74.0060),
    "Sydney": (-33.8688, 151.2093),
    "Nadi": (-17.7765, 177.4356),
    "Apia": (-13.8333, -171.7667),
    "north pole": (90, 0),
    "south pole": (-90, 0),
    "origin": (0, 0),
    "antipode": (0, 180),
    "one degree east": (0, 1),
}

# Kilometres on a sphere of radius 6371.0088 km, worked out from the chord between the two points,
# another formula than the one under test.
DISTANCES_KM = [
    ("Oslo", "London", 1153.75477),
    ("London", "New York", 5570.22987),
    ("Sydney", "London", 16993.95693),
    ("Nadi", "Apia", 1235.28504),
    ("north pole", "south pole", 20015.11443),
    ("origin", "antipode", 20015.11443),
    ("origin", "one degree east", 111.19508),
    ("north pole", "Oslo", 3345.42630),
]


@pytest.mark.parametrize(("one", "other", "km"), DISTANCES_KM, ids=lambda x: str(x))
def test_distances_are_the_known_ones(one, other, km):
    """Two places are as far apart as tables say, both ways, to one part in a hundred thousand."""
    (lat, lon), centre = CITIES[one], CITIES[other]

    assert near(lat, lon, centre, km * 1.00001)
    assert not near(lat, lon, centre, km * 0.99999)
    assert near(*centre, (lat, lon), km * 1.00001)


@pytest.mark.parametrize("unit", UNITS_KM)
def test_each_unit_has_its_length(unit):
    """One degree along the equator is 111.195 km, in any unit."""
    drop = {"location": {"lat": 0, "lon": 1}}
    distance = 111.19508 / UNITS_KM[unit]

    assert matches(Within(("location",), distance * 1.000001, unit, (0, 0)), drop)
    assert not matches(Within(("location",), distance * 0.999999, unit, (0, 0)), drop)


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_a_place_is_within_nothing_of_itself(lat, lon):
    """The distance is inclusive: zero is within zero."""
    assert near(lat, lon, (lat, lon), 0)


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_nothing_is_farther_than_half_round_the_earth(lat, lon):
    """The greatest distance is half a circumference."""
    assert near(lat, lon, (0, 0), 20_015.2)


def test_codes_of_the_united_states_are_known():
    """The package's table answers by the text of a code; leading zeros may have been lost."""
    pytest.importorskip("zipcodes")
    table = zip_table()

    lat, lon = table("11201")
    assert near(lat, lon, (40.694, -73.990), 2)
    assert table("00501") == table("501")
    assert table("11201-1234") == table("11201")
    assert table("1") is None
    assert table("99999") is None
    assert table("SW1A") is None
    assert table("") is None
    assert table("1120१") is None


def test_a_missing_table_and_a_missing_code_are_refused():
    """A filter that could match nothing is refused, not run (4.5.11, 4.5.13)."""
    with pytest.raises(FilterError, match=r"^filter: ZIP lookup is not available$"):
        place_of(None, "11201")
    with pytest.raises(FilterError, match="ZIP 00000 is not known"):
        place_of(lambda code: None, "00000")


def test_without_the_package_there_is_no_table(monkeypatch):
    """The table is an extra; without it there is None, no error."""
    monkeypatch.setitem(__import__("sys").modules, "zipcodes", None)

    assert zip_table() is None
