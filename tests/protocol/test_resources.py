"""The table of resources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit import limits
from flowkit.protocol.resources import BY_ROUTE, PREFIXES, RESOURCES, is_id, normal_path

SERVICES = "flow drop track group identity api_task mqtt_task rss_task token share device"
SERVICES += " stream"
SERVICES += " provisioning provisioning_token"

PATHS = [
    ("/nora/greenhouse", "/nora/greenhouse"),
    ("/nora/greenhouse/", "/nora/greenhouse"),
    ("//Nora///Green-House:1", "/nora/green-house:1"),
    ("/nora/:inbox", "/nora/:inbox"),
    ("/nora/a.b_c", "/nora/a.b_c"),
    ("/nora", None),
    ("nora/x", None),
    ("/nora/a b", None),
    ("/nora/é", None),
    ("/nora/a\n", None),
    ("", None),
    ("/n/" + "x" * 125, "/n/" + "x" * 125),
    ("/n/" + "x" * 126, None),
    ("/n/" + "/" * 2_000_000 + "x", None),
]


def test_the_resources_are_those_of_the_client():
    """One resource for each service name, each with a prefix and a route of its own."""
    assert set(RESOURCES) == set(SERVICES.split())
    assert len(PREFIXES) == len(BY_ROUTE) == len(RESOURCES)
    assert BY_ROUTE["api-task"].name == "api_task"


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda resource: resource.name)
def test_what_the_server_sets_is_neither_required_nor_given_a_default(resource):
    """The flags of a member do not contradict each other, and ids are the server's."""
    assert "id" in resource.server_set
    for name, member in resource.members.items():
        assert name == member.name
        assert not (member.read_only and (member.required or member.immutable or member.default))


def test_the_bounds_are_those_of_the_limits():
    """A Flow's capacity has its bound and default from one place."""
    capacity = RESOURCES["flow"].members["capacity"]

    assert (capacity.low, capacity.high) == (0, limits.flow_capacity_max)
    assert capacity.default == limits.flow_capacity_default


@pytest.mark.parametrize(("text", "path"), PATHS, ids=[text[:20] for text, _ in PATHS])
def test_a_path_has_one_form(text, path):
    """Slashes collapse, letters fall; what is no path has no form (1.3)."""
    assert normal_path(text) == path


@given(st.text(alphabet="/aB0:._- é", max_size=140))
def test_normalising_a_path_again_changes_nothing(text):
    """The normal form is its own normal form."""
    path = normal_path(text)

    assert path is None or normal_path(path) == path


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("f5a2c11e09b1e4d7a6c3f0010", True),
        ("d5a2c11e09b1e4d7a6c3f0010", False),
        ("F5a2c11e09b1e4d7a6c3f0010", False),
        ("f5a2c11e09b1e4d7a6c3f001", False),
        ("f5a2c11e09b1e4d7a6c3f0010\n", False),
        (None, False),
        (5, False),
    ],
)
def test_an_id_is_a_prefix_and_24_digits(text, fits):
    """Each resource knows its own ids."""
    assert RESOURCES["flow"].is_id(text) is fits
    assert is_id(text) or not fits
