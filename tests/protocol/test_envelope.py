"""Requests, answers and the envelope."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    PlatformError,
    ServerError,
    TooManyRequests,
)
from flowkit.protocol.envelope import CREATED, PROCESSED, Request, failure, read_envelope, success

STATUSES = [
    (400, BadRequest),
    (401, Forbidden),
    (403, Forbidden),
    (404, NotFound),
    (405, BadRequest),
    (409, Conflict),
    (413, BadRequest),
    (429, TooManyRequests),
    (500, ServerError),
    (503, ServerError),
]


def test_a_target_is_read_into_its_parts():
    """Segments and parameters are decoded; the last of doubled names wins; slashes do not count."""
    request = Request.from_target("GET", "/v4.0//nora/drop/a%2Fb%20c/?limit=2&only=&limit=3")

    assert request.segments == ("v4.0", "nora", "drop", "a/b c")
    assert request.params == {"limit": "3", "only": ""}


parts = st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable())


@given(st.lists(parts, max_size=4), st.dictionaries(parts, st.text(max_size=8), max_size=3))
def test_a_target_survives_writing_and_reading(segments, params):
    """Whatever stands in a segment or a parameter is escaped and comes back."""
    request = Request("GET", tuple(segments), params)

    again = Request.from_target("GET", request.target)

    assert (again.segments, again.params) == (request.segments, request.params)


def test_a_good_answer_has_the_known_words():
    """200 and 201 open with the sentences of the original platform; notes follow."""
    assert success({})["head"]["messages"] == [PROCESSED]
    made = success({"id": "x"}, status=201, messages=["capcity: …"], position="p1.x")

    assert made["head"]["messages"] == [CREATED, "capcity: …"]
    assert made["head"]["position"] == "p1.x"
    assert made["head"]["ok"] is True


@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_a_refusal_comes_back_as_the_error_that_it_was(status, kind):
    """An error turned into an envelope and read again has its class, status and sentences."""
    error = kind("a: is wrong", "b: too", status=status, messages=["note"])

    with pytest.raises(PlatformError) as caught:
        read_envelope(status, failure(error))

    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.errors) == (status, ["a: is wrong", "b: too"])
    assert caught.value.messages == ["note"]


def test_one_sentence_in_the_place_of_a_list_stays_whole():
    """Not every server in front of the platform writes ``head.errors`` as a list."""
    with pytest.raises(BadRequest) as caught:
        read_envelope(400, {"head": {"errors": "nope"}})

    assert caught.value.errors == ["nope"]


def test_success_needs_the_status_and_the_word():
    """A 200 with ``ok`` false is a failure, with the status that the head says."""
    with pytest.raises(NotFound):
        read_envelope(200, {"head": {"ok": False, "status": 404, "errors": ["gone"]}, "body": {}})


@pytest.mark.parametrize("status", [301, 304])
def test_a_redirect_is_an_error(status):
    """Nothing outside 2xx is a success."""
    with pytest.raises(BadRequest):
        read_envelope(status, {"head": {"ok": True}, "body": {}})


@pytest.mark.parametrize("envelope", [None, [], {}, {"head": []}, "x"])
def test_what_is_no_envelope_is_told_apart(envelope):
    """Something else than an envelope is not taken for one."""
    with pytest.raises(ValueError, match="envelope"):
        read_envelope(200, envelope)


def test_an_answer_offers_head_and_references():
    """A caller who wants more than the body gets it."""
    answer = read_envelope(200, success([1], references={"i1": {"name": "nora"}}))

    assert answer.body == [1]
    assert answer.references == {"i1": {"name": "nora"}}
    assert answer.messages == [PROCESSED]
