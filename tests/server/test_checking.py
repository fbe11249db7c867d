"""Bodies against the table of members."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import BadRequest
from flowkit.protocol.resources import RESOURCES
from flowkit.server.checking import NOTES_MAX, check_create, check_update, settle

KINDS = [
    ("group", {"memberIds": ["i" + "0" * 24]}, []),
    ("group", {"memberIds": ["x"]}, ["memberIds: must be an array of ids"]),
    ("track", {"source": "/A/b", "destination": ["/a/c", "/a/d/"]}, []),
    ("track", {"source": "/a/b", "destination": ["x"]}, ["destination: must be"]),
    ("track", {"source": "/a/b", "metadata": []}, ["metadata: must be an object"]),
    (
        "api_task",
        {"js": "x", "destination": "/a/b", "periodicity": 5},
        ["periodicity: must be between 60000 and"],
    ),
    ("api_task", {"js": "x", "destination": "/a/b", "displayName": "x" * 2049}, ["displayName: "]),
    ("token", {"paths": []}, ["paths: must be an object of paths"]),
    ("token", {"paths": {}, "duration": -1}, ["duration: must be between 0 and"]),
    ("share", {"issuedTo": 5, "paths": {}}, ["issuedTo: must be an id"]),
    ("device", {"path": "/a/b", "reportPeriodicity": 1.5}, ["reportPeriodicity: must be a whole"]),
    ("flow", {"path": "/a/b", "capacity": 5.0}, []),
]


@pytest.mark.parametrize(("name", "body", "sentences"), KINDS)
def test_every_kind_has_its_rule(name, body, sentences):
    """Each sentence opens with the member."""
    said = []
    try:
        check_create(RESOURCES[name], body)
    except BadRequest as error:
        said = error.errors

    assert len(said) == len(sentences)
    assert all(each.startswith(start) for each, start in zip(said, sentences, strict=True))


def test_defaults_belong_to_a_create_only():
    """An update that names nothing changes nothing."""
    assert check_create(RESOURCES["flow"], {"path": "/A//b/"}).members == {
        "path": "/a/b",
        "capacity": 1000,
    }
    assert check_update(RESOURCES["flow"], {}).members == {}


def test_a_whole_float_is_a_whole_number():
    """``5.0`` is how some writers say 5; it is stored as 5."""
    members = check_create(RESOURCES["flow"], {"path": "/a/b", "capacity": 5.0}).members

    assert repr(members["capacity"]) == "5"


def test_notes_are_bounded():
    """A thousand unknown members are not a thousand sentences, and no name is long."""
    checked = check_update(RESOURCES["flow"], {f"{n}" + "x" * 500: n for n in range(1000)})

    assert len(checked.notes) == NOTES_MAX
    assert max(map(len, checked.notes)) < 120


def test_settling_tells_what_really_changes():
    """An immutable member that is repeated is no change."""
    current = {"id": "f1", "path": "/a/b", "capacity": 5, "creationDate": 1}
    checked = check_update(RESOURCES["flow"], current | {"capacity": 6})

    assert settle(RESOURCES["flow"], checked, current) == {"capacity": 6}
    assert checked.notes == []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(sorted(RESOURCES)), st.data())
def test_any_body_is_taken_or_refused_in_sentences(name, data):
    """No value of any member makes the check fail in another way."""
    resource = RESOURCES[name]
    members = st.sampled_from(sorted(resource.members))
    body = data.draw(st.dictionaries(members, values, max_size=4) | values)

    for check in (check_create, check_update):
        try:
            said = [f"{member}: ok" for member in check(resource, body, typed=True).members]
        except BadRequest as error:
            said = error.errors
            assert said
        assert all(sentence.split(":")[0] for sentence in said)
