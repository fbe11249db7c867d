"""The tree of errors: what each says, and that none loses its facts on the way."""

import copy
import pickle

import pytest

from flowkit import errors
from flowkit.protocol.envelope import Response

ASKED = {"method": "GET", "path": "/v4.0/nora/flow"}

# an error, and what str() says of it
SAID = [
    (errors.UsageError("7 is no id"), "7 is no id"),
    (errors.UsageError("7 is no id", hint="give a text"), "7 is no id (give a text)"),
    (errors.FilterError("no filter"), "no filter"),
    (errors.SettingsError("no host", hint="name one"), "no host (name one)"),
    (
        errors.LimitError("the filter", size=70_000, limit=65_536, unit="characters"),
        "the filter is 70000 characters, the limit is 65536 characters",
    ),
    (
        errors.OutboxFull("the outbox", size=3, limit=2, unit="entries"),
        "the outbox is 3 entries, the limit is 2 entries",
    ),
    (
        errors.OutboxError("/var/box.db", "disk is full", full=True),
        "the outbox /var/box.db: disk is full",
    ),
    (
        errors.FilterSyntaxError("expected a value", text="a ==", offset=4, hint="add one"),
        "expected a value at column 5 (add one)\n  a ==\n      ^",
    ),
    (
        errors.FilterSyntaxError("expected a value", text="a == 1 &&\nb == ", offset=15),
        "expected a value at line 2 column 6\n  b == \n       ^",
    ),
    (errors.ConnectError("no connection to h:1"), "no connection to h:1"),
    (
        errors.ConnectionLost("it ended", **ASKED, attempts=3),
        "GET /v4.0/nora/flow: it ended after 3 attempts",
    ),
    (errors.DeadlineExceeded("no answer within 5 s", **ASKED, attempts=1), None),
    (errors.ProtocolError("a page of HTML"), "a page of HTML"),
    (errors.Cancelled("stopped"), "stopped"),
    (errors.ServerError(), "500: no reason given"),
    (
        errors.BadRequest("a: is needed", "b: is too long", status=413, **ASKED, request_id="r1"),
        "GET /v4.0/nora/flow: 413: a: is needed; b: is too long [request r1]",
    ),
    (errors.Forbidden("no"), "403: no"),
    (errors.NotFound("not here", response=Response(404, {}, b"{}")), "404: not here"),
    (errors.Conflict("changed"), "409: changed"),
    (
        errors.TooManyRequests("slowly", retry_after_s=1.5, attempts=2),
        "429 after 2 attempts: slowly",
    ),
]


def names(table):
    """The class of each error, for the names of the cases."""
    return [type(error).__name__ for error, _ in table]


@pytest.mark.parametrize(("error", "text"), SAID, ids=names(SAID))
def test_an_error_says_its_facts(error, text):
    """The value, the place and the way out, in the order of reading."""
    assert text is None or str(error) == text


@pytest.mark.parametrize("error", [error for error, _ in SAID], ids=names(SAID))
@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_copy_keeps_every_fact(error, again):
    """Errors go to other threads and processes: class, words and attributes stay."""
    first = again(error)
    assert (type(first), str(first)) == (type(error), str(error))
    assert vars(first) == vars(error)

    first.origin = "script.py:7"
    assert again(first).origin == "script.py:7"
    assert error.origin is None


def test_every_class_is_in_the_table():
    """No class of the tree is left untried, but the two that only group others."""
    kinds = {value for value in vars(errors).values() if isinstance(value, type)}
    ours = {kind for kind in kinds if issubclass(kind, errors.FlowKitError)}
    groups = {errors.FlowKitError, errors.TransportError, errors.PlatformError}

    assert ours - groups <= {type(error) for error, _ in SAID}


def test_a_class_is_in_one_branch():
    """Mend the call, see to the disk, ask again, or read what the server said: never two."""
    branches = (
        errors.UsageError,
        errors.OutboxError,
        errors.TransportError,
        errors.PlatformError,
    )

    for error, _ in SAID:
        wanted = 0 if isinstance(error, errors.Cancelled) else 1
        assert sum(isinstance(error, branch) for branch in branches) == wanted


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.Forbidden),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (405, errors.BadRequest),
        (409, errors.Conflict),
        (413, errors.BadRequest),
        (429, errors.TooManyRequests),
        (499, errors.BadRequest),
        (500, errors.ServerError),
        (503, errors.ServerError),
    ],
)
def test_every_status_has_a_class(status, kind):
    """A status without a class of its own is told by its hundred."""
    assert errors.platform_error(status) is kind


def test_only_passing_failures_are_worth_a_repetition():
    """A time that is up and an answer that is no answer stay so."""
    worth = {type(error).__name__ for error, _ in SAID if getattr(error, "retryable", False)}

    assert worth == {"ConnectError", "ConnectionLost"}
