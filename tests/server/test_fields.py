"""The allow-list: every member has its column, and names inside maps cannot leave their quotes."""

import apsw
import pytest
import strategies
from hypothesis import given

from flowkit.protocol.resources import RESOURCES
from flowkit.server.fields import FIELDS, JSON_TYPES, TABLES, index_step, json_path
from flowkit.server.store import schema
from flowkit.server.store.rows import FLOW_MEMBERS, IDENTITY_MEMBERS


@pytest.fixture(scope="module")
def connection():
    """An empty store's database."""
    opened = apsw.Connection(":memory:")
    schema.create_tables(opened, ":memory:")
    return opened


@pytest.mark.parametrize("resource", FIELDS)
def test_every_listed_column_exists_as_described(connection, resource):
    """Each field names a column of its table, and says rightly whether it may be NULL."""
    columns = {
        name: bool(required) or bool(key)
        for _, name, _, required, _, key in connection.execute(
            f"PRAGMA table_info({TABLES[resource]})"
        )
    }

    for field in FIELDS[resource].values():
        assert columns[field.column] is not field.nullable


def test_the_members_are_those_of_the_store_and_of_the_protocol():
    """No stored member is missing from the list, and nothing else is on it."""
    assert {name: field.column for name, field in FIELDS["flow"].items()} == FLOW_MEMBERS
    assert {name: field.column for name, field in FIELDS["identity"].items()} == IDENTITY_MEMBERS
    assert {*FIELDS["drop"], "path", "flowId"} == {*RESOURCES["drop"].members}


def test_inner_columns_are_on_no_list():
    """``seq``, ``born``, ``until`` and ``at`` are no members: no filter can name them."""
    for fields in FIELDS.values():
        assert not {"seq", "born", "until", "at", "key", "head", "account"} & {*fields}


ODD = [
    "a",
    'a"b',
    "a\\b",
    "",
    "a.b",
    "a[0]",
    "$",
    "é😀",
    "a\nb",
    "a'b",
    "0",
    "#-1",
    "\\u0041",
    '"',
    " ",
]


@pytest.mark.parametrize("name", ODD, ids=repr)
def test_odd_names_are_names(connection, name):
    """Whatever a name holds, its path finds the value of that name and no other."""
    body = apsw.jsonb_encode({name: 5, "other": {name: 6}})

    found = connection.execute(
        "SELECT ? ->> ?, ? ->> ?",
        (body, json_path((name,)), body, json_path(("other", name))),
    ).fetchall()
    assert found == [(5, 6)]


@given(strategies.paths())
def test_a_path_never_breaks_out(path):
    """Any path is a JSON path that SQLite reads, into an object that has nothing of it."""
    opened = apsw.Connection(":memory:")

    found = opened.execute("SELECT ? ->> ?", (apsw.jsonb_encode({}), json_path(path))).fetchall()
    assert found == [(None,)]


def test_an_index_is_a_step_of_digits():
    """Digits are an index, within what SQLite can count; everything else is none."""
    assert index_step("12") == "[12]"
    assert index_step("007") == "[7]"
    assert index_step("4294967296") is None
    assert index_step("#-1") is None
    assert index_step("१") is None
    assert index_step("-1") is None


def test_inferred_types_have_json_types(connection):
    """Each inferred type is what ``json_type`` says of such a value."""
    values = {"integer": 1, "long": 2**40, "float": 1.5, "string": "", "map": {}, "list": []}

    for name, value in values.items():
        body = apsw.jsonb_encode({"a": value})
        found = connection.execute("SELECT json_type(?, '$.a')", (body,)).get
        assert found in JSON_TYPES[name]
    assert JSON_TYPES["boolean"] == ("true", "false")
