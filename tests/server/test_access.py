"""The flow that a request is about: given, refused with a reason, or hidden."""

import pytest

from flowkit.errors import BadRequest, Forbidden, NotFound
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.server.access import checked_path, demand, flow_at, flow_with_id, is_readable
from flowkit.server.auth import Credential, Grant
from flowkit.server.store.base import Account

BOB = Account("bob", "i" + "b" * 24)

CASES = [
    # flags, action, public: the outcome
    ([], "read", False, 404),
    ([], "dropRead", False, 404),
    ([], "dropWrite", False, 404),
    ([], "read", True, 200),
    ([], "dropRead", True, 200),
    ([], "dropWrite", True, 403),
    ([], "write", True, 403),
    (["read"], "read", False, 200),
    (["read"], "write", False, 403),
    (["read"], "dropRead", False, 403),
    (["read"], "dropWrite", False, 403),
    (["write"], "read", False, 404),
    (["write"], "dropWrite", False, 404),
    (["dropRead"], "dropRead", False, 200),
    (["dropRead"], "dropWrite", False, 403),
    (["dropRead"], "read", False, 404),
    (["dropWrite"], "dropWrite", False, 200),
    (["dropWrite"], "dropRead", False, 404),
    (["read", "dropWrite"], "dropRead", False, 403),
]


@pytest.mark.parametrize(("flags", "action", "public", "outcome"), CASES)
def test_a_right_is_enough_and_a_refusal_hides_what_cannot_be_read(
    nora, flags, action, public, outcome
):
    """By id and by path alike; a 403 names the right and the path, a 404 nothing."""
    flow = nora.flow("/nora/x/y", public=public)
    who = Credential(BOB, "master", (Grant("/nora/x", frozenset(flags)),))

    def look(reader):
        return {flow_with_id(reader, who, flow["id"], action).id,
                flow_at(reader, who, "/nora/x/y", action).id}  # fmt: skip

    if outcome == 200:
        assert nora.app.store.read(look) == {flow["id"]}
    elif outcome == 403:
        with pytest.raises(Forbidden, match=f"no right {action} at /nora/x/y"):
            nora.app.store.read(look)
    else:
        with pytest.raises(NotFound) as raised:
            nora.app.store.read(look)
        assert raised.value.errors == [NOT_LOCATED]


def test_what_is_not_there_is_hidden_from_everybody(nora):
    """The same words as for what is hidden."""
    who = nora.app.store.read(lambda reader: Credential(reader.account("nora")))

    for look in (
        lambda reader: flow_with_id(reader, who, "f" + "0" * 24, "read"),
        lambda reader: flow_at(reader, who, "/nora/none", "read"),
    ):
        with pytest.raises(NotFound) as raised:
            nora.app.store.read(look)
        assert raised.value.errors == [NOT_LOCATED]


def test_making_something_is_refused_whether_or_not_it_is_there(nora):
    """403, so that nothing is told about other namespaces."""
    with pytest.raises(Forbidden, match="the account bob has no right write at /nora/x"):
        demand(Credential(BOB), "write", "/nora/x")
    demand(Credential(BOB), "write", "/bob/x")


def test_readable_goes_by_the_action(nora):
    """The flow, or its drops."""
    made = nora.flow("/nora/x")
    flow = nora.app.store.read(lambda reader: reader.flow(made["id"]))
    who = Credential(BOB, "token", (Grant("/nora", frozenset(["dropRead"])),))

    assert is_readable(flow, who, "dropRead")
    assert not is_readable(flow, who)


@pytest.mark.parametrize("text", ["", "x", "/x", "/x/é", None, 5, "/x/" + "y" * 200])
def test_a_path_of_a_parameter_is_checked(text):
    """Normalised, or refused by name."""
    assert checked_path("/Nora//x/") == "/nora/x"
    with pytest.raises(BadRequest, match="path: must be"):
        checked_path(text)
