"""Every route, method and parameter of the protocol has a test; the table says which."""

import re
from pathlib import Path

import pytest

pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")

from flowkit.server.openapi import SESSIONS, UNVERSIONED
from flowkit.server.outside import METHODS
from flowkit.server.routes import ROUTES
from tests.scenarios import ALL
from tests.scenarios.coverage import NOT_YET, RULES, UNVERSIONED_TESTS, missing, rows

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "protocol.rst"

CRUD = {
    "GET /{r}",
    "GET /{r}/{id}",
    "MGET /{r}",
    "POST /{r}",
    "DELETE /{r}/{id}",
}
CHANGES = {"PUT /{r}/{id}", "MPUT /{r}", "PUT /{r}/{id}/{member}"}
UPDATABLE = ("flow", "track", "group", "identity", "device", "stream", "api-task", "rss", "mqtt")
PROTOCOL = {
    *(each.replace("{r}", name) for name in UPDATABLE for each in CRUD | CHANGES),
    *(each.replace("{r}", name) for name in ("token", "share") for each in CRUD),
    "POST /track/simulate",
    "POST /drop",
    "POST /drop/{flow}",
    "GET /drop/{flow}",
    "GET /drop",
    "GET /drop/{flow}/{id}",
    "MGET /drop/{flow}",
    "MGET /drop",
    "PUT /drop/{flow}/{id}",
    "MPUT /drop/{flow}",
    "PUT /drop/{flow}/{id}/{member}",
    "DELETE /drop/{flow}/{id}",
    "DELETE /drop/{flow}",
    "POST /drop/{flow}/aggregate",
    "GET /statistics/{type}/{id}",
    "GET /statistics/{type}/{id}/{year}",
    "GET /statistics/{type}/{id}/{year}/{month}",
    "GET /statistics/{type}/{id}/{year}/{month}/{day}",
    "POST /session",
    "POST /batch",
    "GET /origin/{box}",
}
"""The routes of the protocol reference, copied by hand from its sections 3.5, 5, 6.6, 9, 10, 12."""

PARAMETERS = set("filter limit start skip sort order only refs hints path level pretty".split())
"""The parameters of the protocol reference, section 3.6."""


def names_out(address):
    """An address without the names in its braces."""
    return re.sub(r"{\w+}", "{}", address)


def test_every_route_of_the_protocol_is_there():
    """Nothing of the reference is missing but what is said to be not yet there."""
    there = {names_out(f"{route.method} /{route.pattern}") for route in ROUTES}
    wanted = {names_out(each) for each in PROTOCOL - set(NOT_YET) - set(UNVERSIONED_TESTS)}

    assert sorted(wanted - there) == []
    assert there & {names_out(each) for each in NOT_YET} == set()


def test_every_parameter_of_the_protocol_is_there():
    """Some route has it."""
    assert PARAMETERS - {name for route in ROUTES for name in route.known} == set()


def test_every_route_and_parameter_is_shown():
    """A scenario's request meets it, with an answer that is no refusal."""
    assert list(missing()) == []


def test_every_address_of_the_server_itself_is_shown():
    """Each has a test, and the test is there."""
    there = {f"{method} /{path}" for path, methods in METHODS.items() for method in methods}
    described = {
        f"{method.upper()} {path}" for path, methods in SESSIONS.items() for method in methods
    } | {f"GET {path}" for path in UNVERSIONED}

    assert set(UNVERSIONED_TESTS) == there == described


@pytest.mark.parametrize(
    "reference", [*(each for _, _, each in RULES), *UNVERSIONED_TESTS.values()]
)
def test_what_a_rule_refers_to_is_there(reference):
    """The name of a scenario, or a file and a test in it."""
    file, _, name = reference.partition("::")
    if not file.endswith(".py"):
        assert reference in {each.name for each in ALL}
        return
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"^def {name or 'test_'}", text, re.MULTILINE)


def test_each_row_has_a_scenario_of_its_own_route():
    """The table is made from the requests themselves."""
    for row in rows():
        for scenario in row.scenarios:
            assert scenario.method in (row.route.method, "POST")


def test_the_page_shows_the_table():
    """The reference page has the three generated tables."""
    text = PAGE.read_text(encoding="utf-8")

    assert ".. flowkit-protocol::" in text
    assert ".. flowkit-rules::" in text
