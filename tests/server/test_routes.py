"""The URL table."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import BadRequest, NotFound
from flowkit.server.routes import ROUTES, methods_at, resolve

READING_POSTS = {"batch", "drop/{flow}/aggregate", "track/simulate", "track/backtest"}
"""Routes of POST that only read."""

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "protocol.rst"

ADDRESSES = [
    ("GET", ("flow",), "flow", {}),
    ("GET", ("flow", "f1"), "flow/{id}", {"id": "f1"}),
    ("PUT", ("flow", "f1", "capacity"), "flow/{id}/{member}", {"id": "f1", "member": "capacity"}),
    ("DELETE", ("drop", "f1"), "drop/{flow}", {"flow": "f1"}),
    (
        "PUT",
        ("drop", "f", "d", "m"),
        "drop/{flow}/{id}/{member}",
        {"flow": "f", "id": "d", "member": "m"},
    ),
    ("POST", ("batch",), "batch", {}),
]


def filled(pattern):
    """The segments of a pattern with something in its names."""
    return tuple(part.strip("{}") for part in pattern.split("/"))


@pytest.mark.parametrize(("method", "segments", "pattern", "args"), ADDRESSES)
def test_an_address_finds_its_route_and_names(method, segments, pattern, args):
    """The named segments are handed on as they came."""
    match = resolve(method, ("v4.0", "nora", *segments))

    assert (match.route.method, match.route.pattern) == (method, pattern)
    assert (match.account, dict(match.args), match.typed) == ("nora", args, False)


@pytest.mark.parametrize(
    ("version", "typed"), [("v0.1", True), ("v0.9", True), ("v1.0", False), ("v10.0", False)]
)
def test_the_version_decides_about_types_alone(version, typed):
    """``v0.*`` shows typed elements, every other version plain ones (0.2)."""
    assert resolve("GET", (version, "nora", "flow")).typed is typed


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.pattern}")
def test_every_route_is_reached_by_its_own_pattern(route):
    """No two rows of the table share an address and a method, and none hides another."""
    segments = ("v4.0", "nora", *filled(route.pattern))

    assert resolve(route.method, segments).route is route
    assert route.method in methods_at(segments)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.pattern}")
def test_what_changes_something_runs_on_the_writer(route):
    """GET, MGET and some POSTs read; everything else writes, or reads what waits to be written."""
    reads = route.method in ("GET", "MGET") or route.pattern in READING_POSTS
    if route.pattern.startswith("statistics/"):
        reads = False  # counts that wait for a commit are seen by the writer alone

    assert route.writes is not reads


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.pattern}")
def test_the_reference_page_names_every_route_with_its_parameters(route):
    """A row of the page for each row of the table."""
    written = PAGE.read_text(encoding="utf-8")
    wanted = "/" + route.pattern.replace("{", "<").replace("}", ">")
    rows = [line for line in written.splitlines() if f"``{route.method} {wanted}``" in line]

    assert rows, f"{route.method} {wanted} is not on the page"
    for name in sorted(route.params):
        assert f"``{name}``" in written


@given(st.text(max_size=6), st.lists(st.text(max_size=6), max_size=6))
def test_any_address_is_matched_or_refused(method, segments):
    """404 or 405 for whatever is not in the table."""
    try:
        match = resolve(method, segments)
    except (NotFound, BadRequest) as error:
        status = error.status
    else:
        status = 200
        segments = [match.route.pattern]

    assert status in (200, 404, 405)
    assert segments is not None
