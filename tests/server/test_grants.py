"""Paths with flags and a lifetime: what Tokens and Shares have in common."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import BadRequest, Forbidden
from flowkit.protocol.resources import normal_path
from flowkit.server.auth import Credential
from flowkit.server.checking import Checked
from flowkit.server.handlers.grants import check_grants, demand_own, shown_grant
from flowkit.server.store.base import Account, StoredObject

FLAGS = ("dropRead", "dropWrite")
NORA = Credential(Account("nora", "i" + "0" * 24))

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
PATHS = st.text("/aB:.é", max_size=8) | st.text(max_size=4) | st.just("/" + "a/" * 90)
GIVEN = st.dictionaries(
    PATHS, VALUES | st.dictionaries(st.sampled_from([*FLAGS, "x"]), st.booleans() | VALUES)
)


@given(GIVEN, VALUES)
def test_anything_is_normalised_or_refused(paths, alias):
    """What passes has known flags with booleans at normal paths; the alias is a number of ms."""
    checked = Checked({"paths": paths}, ignored={"expiresInMs": alias})
    try:
        check_grants(checked, "Token", FLAGS)
    except BadRequest as error:
        faults = error.errors
    else:
        faults = []

    assert all(isinstance(each, str) for each in faults)
    if faults:
        return
    assert checked.members["paths"]
    for path, flags in checked.members["paths"].items():
        assert normal_path(path) == path or path.count("/") == 1
        assert set(flags) <= set(FLAGS)
        assert all(isinstance(value, bool) for value in flags.values())
    assert alias is None or checked.members["duration"] == alias


@given(st.dictionaries(st.sampled_from(["/a/b", "/A/b/", "//a//b"]), st.just({"dropRead": True})))
def test_normalising_twice_changes_nothing(paths):
    """What is stored may be sent again."""
    if not paths:
        return
    once = Checked({"paths": paths})
    check_grants(once, "Token", FLAGS)
    twice = Checked({"paths": once.members["paths"]})
    check_grants(twice, "Token", FLAGS)

    assert once.members == twice.members == {"paths": {"/a/b": {"dropRead": True}}}


@pytest.mark.parametrize("path", ["/nora", "/nora/x", "/nora/:inbox"])
def test_the_own_namespace_can_be_given(path):
    """All of it, or a part."""
    demand_own(NORA, [path])


@pytest.mark.parametrize("path", ["/noras", "/nor", "/bob/nora", "/bob"])
def test_nothing_else_can(path):
    """Refused by name."""
    with pytest.raises(Forbidden, match=f"paths: {path} is not in the namespace of the account"):
        demand_own(NORA, ["/nora/x", path])


@pytest.mark.parametrize(
    ("duration", "now_ms", "left"),
    [(None, 0, None), (0, 0, None), (50, 100, 50), (50, 149, 1), (50, 150, 0), (50, 900, 0),
     (50, 98, 50)],
)  # fmt: skip
def test_what_is_left_is_between_nothing_and_all(duration, now_ms, left):
    """Never below 0, and never more than it was given, though its request came before it."""
    doc = {"creationDate": 100} | ({} if duration is None else {"duration": duration})

    shown = shown_grant(StoredObject("token", "nora", doc), now_ms)

    assert shown.get("expiresInMs") == left
