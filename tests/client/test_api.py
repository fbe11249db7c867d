"""The API object and the one door that every call goes through."""

import contextlib
import json
import logging
import pickle
import re
import threading
import time

import pytest
from client.recording import FLOW, REPLAYS, TOKEN, Recorder, answer, page, recorded
from hypothesis import example, given, settings
from hypothesis import strategies as st

import flowkit
from flowkit import API, Token, limits, mem
from flowkit.client.address import base_url
from flowkit.client.calls import Result
from flowkit.client.options import Defaults
from flowkit.client.retry import Retry
from flowkit.client.services import Service
from flowkit.errors import (
    BadRequest,
    Conflict,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    FilterError,
    FlowKitError,
    Forbidden,
    NotFound,
    ProtocolError,
    ServerError,
    SettingsError,
    TooManyRequests,
    UsageError,
)
from flowkit.protocol.envelope import Response

CREDS = Token("nora", TOKEN)


# --- how an API is set up -------------------------------------------------------------------------

# host, secure, base URL
HOSTS = [
    ("localhost", None, "http://localhost"),
    ("localhost:8080", None, "http://localhost:8080"),
    ("127.0.0.1:8080", None, "http://127.0.0.1:8080"),
    ("127.9.9.9", None, "http://127.9.9.9"),
    ("[::1]:8080", None, "http://[::1]:8080"),
    ("box.localhost", None, "http://box.localhost"),
    ("localhost:8080", True, "https://localhost:8080"),
    ("flows.example.com", None, "https://flows.example.com"),
    ("flows.example.com:81", False, "http://flows.example.com:81"),
    ("192.168.1.5", None, "https://192.168.1.5"),
    ("http://flows.example.com/", None, "http://flows.example.com"),
    ("https://localhost:8443", None, "https://localhost:8443"),
    ("https://[fe80::1]:1", True, "https://[fe80::1]:1"),
]


@pytest.mark.parametrize(("host", "secure", "wanted"), HOSTS)
def test_a_host_is_a_name_with_a_port_or_a_url(host, secure, wanted):
    """Without ``secure`` the URL decides, else loopback is plain and everything else TLS."""
    assert base_url(host, secure) == wanted


@pytest.mark.parametrize(
    ("host", "secure"),
    [
        ("http://x", True),
        ("https://x", False),
        ("ftp://x", None),
        ("x/path", None),
        ("http://x/v4.0", None),
        ("http://x?y=1", None),
        ("x:99999", None),
        ("x:port", None),
        ("a b", None),
        ("x\nHost: y", None),
        ("http://", None),
        (8080, None),
        ("https://nora:hush@x", None),
        ("nora:hush@x", None),
        ("nora:hush @x", None),
        ("[::1", None),
        ("::1", None),
        ("8080", None),
        (":8080", None),
        ("x:0", None),
        ("x,y", None),
        ("a%20b", None),
    ],
)
def test_a_host_that_is_none_is_refused(host, secure):
    """Every other text raises a SettingsError, which shows no password."""
    with pytest.raises(SettingsError) as caught:
        base_url(host, secure)

    assert "hush" not in str(caught.value)


def test_an_ipv6_address_without_brackets_is_told_about_them():
    """``::1:8080`` could be read in two ways, so neither is guessed."""
    with pytest.raises(SettingsError, match=r"\[::1\]:8080"):
        base_url("::1:8080")


def test_without_a_host_the_environment_says_it_or_an_error_does(monkeypatch):
    """There is no default host."""
    monkeypatch.delenv("FLOWKIT_HOST", raising=False)
    with pytest.raises(SettingsError, match=r"no host was given.*FLOWKIT_HOST"):
        API(CREDS)
    monkeypatch.setenv("FLOWKIT_HOST", "localhost:8080")
    assert repr(API(CREDS)) == "<API http://localhost:8080 as nora>"


def test_a_transport_needs_no_host(monkeypatch):
    """It knows its own way: neither the environment nor the defaults are looked at."""
    monkeypatch.setenv("FLOWKIT_HOST", "not a host")
    api = API(CREDS, transport=Recorder())

    assert repr(api) == "<API Recorder as nora>"
    assert api.options.base_url is None


def test_the_repr_of_an_api_shows_host_and_account_only():
    """Neither it nor that of a service or of the options' holder shows the secret."""
    api = API(CREDS, host="localhost:1")

    assert repr(api) == "<API http://localhost:1 as nora>"
    for service in (api.flow, api.drop, api.drop(FLOW), api.statistics, api.root, api.websocket):
        assert TOKEN not in repr(service)
    assert TOKEN not in repr(vars(api.options) if hasattr(api.options, "__dict__") else api.options)


@pytest.mark.parametrize(
    "options",
    [
        {"hots": "x"},
        {"host": "x", "secrue": True},
        {"host": "x", "request": print},
        {"encoder": json},
    ],
)
def test_an_unknown_keyword_is_an_error(options):
    """Nothing is swallowed."""
    with pytest.raises(TypeError, match=r"hots|secrue|request|encoder"):
        API(CREDS, **options)


def test_options_are_keywords():
    """Only the credentials stand by position."""
    with pytest.raises(TypeError):
        API(CREDS, "localhost")


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": True},
        {"timeout": float("inf")},
        {"timeout": (3, 30)},
        {"retries": -1},
        {"retries": 1.5},
        {"retries": True},
        {"version": "four"},
        {"verify": 3},
        {"params": {"refs": True}},
        {"params": {"timeout": 3}},
        {"params": [("limit", 3)]},
        {"async_lib": "twisted"},
        {"async_lib": "eventlet"},
        {"transport": ...},
        {"ws_host": "a b"},
    ],
    ids=repr,
)
def test_an_option_that_cannot_work_is_refused(options):
    """The error comes when the API is made, not with the first call."""
    with pytest.raises(UsageError):
        API(CREDS, host="localhost", **options)


@pytest.mark.parametrize("creds", [None, "nora", ("nora",), {"account": "nora"}, 3])
def test_credentials_are_a_token_or_a_pair(creds):
    """Anything else is an error that says what to write."""
    with pytest.raises(UsageError, match="Token"):
        API(creds, host="localhost")


def test_gevent_is_accepted_as_module_and_as_name():
    """``async_lib`` keeps the field's habits."""
    import gevent

    for library in (gevent, "gevent"):
        API(CREDS, host="localhost", async_lib=library).close()


def test_options_are_read_once():
    """Neither the defaults nor a dict that was passed reach an API that is there already."""
    params = {"limit": 3}
    api, recorder = recorded(answer([]), params=params)
    params["limit"] = 99
    api.flow.find()

    assert recorder.last.params == {"limit": "3"}
    with pytest.raises(TypeError):
        api.options.params["limit"] = 4


def test_defaults_are_checked_and_independent():
    """An unknown name, and ``refs`` in the parameters, are refused; no dict is shared."""
    defaults = Defaults()
    defaults.host = "localhost:9"
    defaults(secure=False, timeout=3)

    assert (defaults.host, defaults.timeout, flowkit.defaults.host) == ("localhost:9", 3, None)
    for change in ({"hots": "x"}, {"params": {"refs": True}}):
        with pytest.raises(SettingsError):
            defaults(**change)
    with pytest.raises(SettingsError):
        defaults.secrue = True
    with pytest.raises(AttributeError):
        _ = defaults.secrue
    defaults.params["limit"] = 5
    assert Defaults().params == {}


def test_default_parameters_are_sent_and_a_call_overrides_them():
    """``params`` of the API stand below those of the call."""
    api, recorder = recorded(answer([]), params={"hints": False, "limit": 5})
    api.flow.find(limit=7)

    assert recorder.last.params == {"hints": "0", "limit": "7"}


def test_refs_that_slipped_into_the_defaults_are_refused_when_an_api_is_made(monkeypatch):
    """Changing the dict itself does not get past the check."""
    monkeypatch.setitem(flowkit.defaults.params, "refs", True)

    with pytest.raises(SettingsError, match="refs"):
        API(CREDS, host="localhost")


def test_the_websocket_host_is_the_http_host_unless_it_is_named():
    """``ws_host`` follows ``host``, scheme included."""
    assert API(CREDS, host="localhost:1").options.ws_url == "ws://localhost:1"
    api = API(CREDS, host="localhost:1", ws_host="wss.example.com")
    assert api.options.ws_url == "wss://wss.example.com"


# --- the request ----------------------------------------------------------------------------------


def test_a_request_carries_credentials_version_and_account():
    """Headers and the beginning of the path (3.1, 3.2)."""
    api, recorder = recorded(answer([]))
    api.flow.find()

    assert recorder.last.segments == ("v4.0", "nora", "flow")
    assert recorder.last.headers["x-auth-token"] == TOKEN
    assert recorder.last.headers["x-auth-account"] == "nora"
    assert re.fullmatch("[0-9a-f]{32}", recorder.last.headers["x-request-id"])
    assert recorder.last.body == b""


def test_services_use_the_credentials_of_the_moment():
    """Setting ``creds`` reaches every service, those of a flow included."""
    api, recorder = recorded(answer([]))
    drops = api.drop(FLOW)
    api.creds = ("nils", "other-token")
    drops.find()

    assert api.creds == Token("nils", "other-token")
    assert recorder.last.segments[1] == "nils"
    assert recorder.last.headers["x-auth-token"] == "other-token"


# Python value, text in the URL
PARAMS = [
    (True, "1"),
    (False, "0"),
    (5, "5"),
    (2.5, "2.5"),
    ("x y", "x y"),
    (["a", "b"], "a,b"),
    (("id", "elems.temp"), "id,elems.temp"),
    (mem.a == 1, "a == 1"),
]


@pytest.mark.parametrize(("value", "text"), PARAMS, ids=repr)
def test_query_parameters_are_the_platforms_texts(value, text):
    """Booleans are 1 and 0, lists joined with commas."""
    api, recorder = recorded(answer([]))
    api.flow.find(only=value)

    assert recorder.last.params == {"only": text}


def test_a_parameter_that_is_none_is_not_sent():
    """None means: not given."""
    api, recorder = recorded(answer([]))
    api.flow.find(limit=None)

    assert recorder.last.params == {}


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {"a": 1}, ..., b"x", CREDS, [CREDS]], ids=repr
)
def test_a_parameter_without_a_text_is_refused(value):
    """The error names the parameter and nothing is sent."""
    api, recorder = recorded(answer([]))

    with pytest.raises(UsageError, match="limit") as caught:
        api.flow.find(limit=value)
    assert recorder.requests == []
    assert TOKEN not in str(caught.value)


def test_the_parts_of_a_path_are_percent_encoded():
    """A member's name with a slash does not become two segments."""
    api, recorder = recorded(answer({}))
    api.flow.update_member(FLOW, "a/b?c", 1)

    assert recorder.last.path == f"/v4.0/nora/flow/{FLOW}/a%2Fb%3Fc"


@pytest.mark.parametrize("bad", ["", "..", "f1/../x?y", "a b", "x\n", None, 3, "é'"])
def test_what_is_no_id_is_refused_before_it_is_sent(bad):
    """No text can leave its place in the path: ``delete('')`` never deletes all."""
    api, recorder = recorded()

    for act in (api.flow.read, api.flow.delete, api.drop(FLOW).delete, api.drop):
        with pytest.raises(UsageError):
            act(bad)
    assert recorder.requests == []


def test_a_short_find_is_a_get_and_a_long_one_a_post_that_says_so():
    """Beyond the bound the parameters travel in the body, and nothing else changes (3.5)."""
    api, recorder = recorded(answer([]))
    api.drop(FLOW).find(mem.a.IN("x" * 10, "y"), limit=3)
    assert recorder.last.method == "GET"

    long = mem.a.IN(*(f"value {n}" for n in range(400)))
    api.drop(FLOW).find(long, limit=3)
    method, path, params, body = recorder.asked
    assert (method, path, params) == ("POST", f"drop/{FLOW}", {})
    assert body == {"filter": str(long), "limit": "3"}
    assert recorder.last.headers["x-http-method-override"] == "GET"


def test_a_find_switches_exactly_at_the_bound():
    """A URL of the greatest length is still a GET, one byte more is not."""
    api, recorder = recorded(answer([]))
    api.flow.find(filter="")
    rest = limits.url_bytes_max - len(recorder.last.target) - len("?filter=")
    api.flow.find(filter="a" * rest)
    assert (recorder.last.method, len(recorder.last.target)) == ("GET", limits.url_bytes_max)
    api.flow.find(filter="a" * (rest + 1))
    assert recorder.last.method == "POST"


def test_unusual_methods_can_be_overridden():
    """``method_override`` sends MGET and MPUT as POST, with their right to be repeated kept."""
    api, recorder = recorded(ConnectionLost("gone"), answer({}), method_override=True)
    api.flow.read_many([FLOW])

    assert len(recorder.requests) == 2
    assert recorder.last.method == "POST"
    assert recorder.last.headers["x-http-method-override"] == "MGET"


# --- repeating ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure", [ConnectionLost("gone"), page(503), page(502), answer(status=429, errors=["slow"])]
)
def test_a_read_is_repeated_after_a_passing_failure(failure):
    """GET and MGET are safe to repeat, always."""
    for act in (lambda api: api.flow.find(), lambda api: api.flow.read_many([FLOW])):
        api, recorder = recorded(failure, failure, answer({"fine": 1}))

        assert act(api) == {"fine": 1}
        assert len(recorder.requests) == 3


def test_a_read_is_given_up_after_the_repetitions_allowed():
    """The last error is raised, and says how often it was tried."""
    api, recorder = recorded(page(503), retries=Retry(2, 0.0, 0.0))

    with pytest.raises(ServerError) as caught:
        api.flow.read(FLOW)
    assert len(recorder.requests) == caught.value.attempts == 3


def test_a_write_is_repeated_only_for_a_server_that_replays():
    """Before its header was seen a lost answer is an error; then the same id is sent again."""
    api, recorder = recorded(ConnectionLost("gone"))
    with pytest.raises(ConnectionLost):
        api.flow.create({"path": "/nora/a"})
    assert len(recorder.requests) == 1

    recorder.script = [answer([], headers=REPLAYS), ConnectionLost("gone"), answer({"id": FLOW})]
    api.flow.find()
    assert api.flow.create({"path": "/nora/a"}) == {"id": FLOW}
    first, second = recorder.requests[-2:]
    assert first.headers["x-request-id"] == second.headers["x-request-id"]
    assert first == second


def test_every_write_has_a_request_id_of_its_own():
    """128 random bits on POST, PUT, MPUT and DELETE."""
    api, recorder = recorded(answer({"id": FLOW}))
    api.flow.create({"path": "/nora/a"})
    api.flow.update({"id": FLOW, "capacity": 3})
    api.flow.update_many([{"id": FLOW, "capacity": 3}])
    api.flow.delete(FLOW)
    ids = [request.headers["x-request-id"] for request in recorder.requests]

    assert len(set(ids)) == 4
    assert all(len(bytes.fromhex(one)) == 16 for one in ids)


def test_a_write_that_was_never_sent_is_repeated():
    """No connection means that nothing was done."""
    api, recorder = recorded(ConnectError("refused"), answer({"id": FLOW}))

    assert api.flow.create({"path": "/nora/a"}) == {"id": FLOW}
    assert len(recorder.requests) == 2


@pytest.mark.parametrize(
    ("entries", "requests"),
    [
        ([{"elems": {}}], 1),
        ([{"elems": {}, "fhash": "a"}, {"elems": {}}], 1),
        ([{"elems": {}, "fhash": "a"}], 2),
        ([{"elems": {}, "origin": {"box": "b"}}], 2),
    ],
)
def test_an_array_create_is_repeated_only_if_nothing_can_be_stored_twice(entries, requests):
    """Each entry needs an ``fhash`` or an ``origin`` (3.2), even where the server replays."""
    written = answer([{}] * len(entries))
    api, recorder = recorded(answer([], headers=REPLAYS), ConnectionLost("gone"), written)
    api.flow.find()
    with contextlib.suppress(ConnectionLost):
        api.drop(FLOW).create_many(entries)

    assert len(recorder.requests) - 1 == requests


@pytest.mark.parametrize("error", [DeadlineExceeded("late"), ProtocolError("html")])
def test_what_will_not_pass_is_not_repeated(error):
    """``TransportError.retryable`` decides."""
    api, recorder = recorded(error)

    with pytest.raises(type(error)):
        api.flow.find()
    assert len(recorder.requests) == 1


def test_one_time_bounds_all_attempts():
    """Each attempt gets what is left; a wait that would not fit is not begun."""
    api, recorder = recorded(page(503), retries=Retry(5, 0.02, 0.02))
    started = time.monotonic()

    with pytest.raises(ServerError):
        api.flow.find(timeout=0.05)
    assert time.monotonic() - started < 0.5
    assert recorder.timeouts == sorted(recorder.timeouts, reverse=True)
    assert recorder.timeouts[0] <= 0.05
    assert "timeout" not in recorder.last.params


def test_a_wait_longer_than_the_call_may_take_is_not_begun():
    """The refusal itself is raised at once; a later call in that time says why it is not made."""
    api, recorder = recorded(answer(status=429, headers={"retry-after": "3600"}))
    started = time.monotonic()

    with pytest.raises(TooManyRequests) as caught:
        api.flow.find()
    assert caught.value.retry_after_s == 3600
    with pytest.raises(DeadlineExceeded, match="the server asked for"):
        api.flow.find()
    assert len(recorder.requests) == 1
    assert time.monotonic() - started < 5


def test_the_server_sets_the_pace_of_all_calls():
    """After a 429 the calls of other threads wait too, then go."""
    api, recorder = recorded(
        answer(status=429, headers={"retry-after": "0.2"}), answer([]), retries=0
    )
    with pytest.raises(TooManyRequests):
        api.flow.find()
    started = time.monotonic()
    threads = [threading.Thread(target=api.flow.find) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert time.monotonic() - started >= 0.15
    assert len(recorder.requests) == 4


def test_a_date_in_retry_after_is_understood():
    """Both forms of the header give seconds; nonsense gives none."""
    for header, asked_s in (("Fri, 31 Dec 1999 23:59:59 GMT", 0.0), ("soon", None), ("-5", 0.0)):
        api, _ = recorded(answer(status=429, headers={"retry-after": header}), retries=0)
        with pytest.raises(TooManyRequests) as caught:
            api.flow.find()
        assert caught.value.retry_after_s == asked_s


# --- the answer -----------------------------------------------------------------------------------

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


@pytest.mark.parametrize(("status", "kind"), STATUSES)
@pytest.mark.parametrize("form", [answer, page], ids=["envelope", "html"])
def test_every_status_has_its_error(status, kind, form):
    """By ranges, whether or not the body is an envelope."""
    api, _ = recorded(form(status=status), retries=0)

    with pytest.raises(kind) as caught:
        api.flow.read(FLOW)
    assert caught.value.status == status


def test_an_error_says_what_was_asked_and_what_was_answered():
    """Its attributes and its text hold the whole story."""
    api, recorder = recorded(
        answer(status=400, errors=["capacity: too large", "path: taken"], messages=["hm"])
    )
    with pytest.raises(BadRequest) as caught:
        api.flow.create({"path": "/nora/a"})
    error = caught.value

    assert (error.status, error.errors, error.messages) == (
        400,
        ["capacity: too large", "path: taken"],
        ["hm"],
    )
    assert (error.method, error.path, error.attempts) == ("POST", "/v4.0/nora/flow", 1)
    assert error.request_id == recorder.last.headers["x-request-id"]
    assert error.response.status == 400
    assert str(error).startswith(
        "POST /v4.0/nora/flow: 400: capacity: too large; path: taken [request "
    )


def test_a_failure_of_the_network_says_what_was_asked():
    """Transport errors get method, path and attempts too."""
    api, _ = recorded(ConnectionLost("the peer closed"), retries=Retry(1, 0.0, 0.0))

    with pytest.raises(ConnectionLost) as caught:
        api.flow.read(FLOW)
    assert str(caught.value) == f"GET /v4.0/nora/flow/{FLOW}: the peer closed after 2 attempts"


def test_html_from_a_proxy_keeps_its_status_and_shows_its_beginning():
    """A failure becomes the error of the status, a success a ProtocolError with it."""
    html = "<html>\n <b>502 Bad Gateway</b>" + "x" * 10_000
    api, _ = recorded(page(502, html), retries=0)
    with pytest.raises(ServerError, match="<html> <b>502 Bad Gateway</b>xxx") as caught:
        api.flow.find()
    assert len(str(caught.value)) < 500

    api, _ = recorded(page(200, html))
    with pytest.raises(ProtocolError, match=r"status 200.*502 Bad Gateway") as caught:
        api.flow.find()
    assert caught.value.status == 200


@pytest.mark.parametrize(
    "body", ["[]", "3", "{}", '{"head": 3}', "", "{", '{"head": {"ok": true}', "NaN"]
)
def test_what_is_no_envelope_is_never_a_result(body):
    """Any other JSON, and broken JSON, raise."""
    api, _ = recorded(page(200, body or " "))

    with pytest.raises(ProtocolError):
        api.flow.find()


def test_a_head_that_is_not_ok_is_an_error_whatever_the_status():
    """HTTP 200 with ``ok`` false raises the error of ``head.status``."""
    api, _ = recorded(page(200, answer(status=404, errors=["gone"]).body.decode()))

    with pytest.raises(NotFound, match="gone"):
        api.flow.read(FLOW)


@pytest.mark.parametrize("status", [301, 302, 304, 307])
def test_a_redirect_is_an_error(status):
    """It is never followed: it would take the token elsewhere."""
    api, recorder = recorded(page(status, "", {"location": "https://evil.example.com/"}))

    with pytest.raises(ProtocolError, match=f"status {status}"):
        api.flow.find()
    assert len(recorder.requests) == 1


def test_an_empty_answer_is_none():
    """204, and a 2xx without a body, give None."""
    for status in (200, 204):
        api, _ = recorded(page(status, ""))
        assert api.flow.delete(FLOW) is None


def test_missing_errors_and_references_are_empty():
    """A head with nothing in it is enough, for success and for failure."""
    api, _ = recorded(page(200, '{"head": {}, "body": 1}'))
    assert api.flow.find(refs=True) == (1, {})
    api, _ = recorded(page(400, '{"head": {}}'))
    with pytest.raises(BadRequest) as caught:
        api.flow.find()
    assert caught.value.errors == []


def test_refs_give_a_pair():
    """``(body, references)``, whatever way the flag is written; 0 is not asked for."""
    references = {"i1": {"id": "i1"}}
    for asked, sent in ((True, "1"), (1, "1"), ("1", "1"), ("true", "true")):
        api, recorder = recorded(answer([3], references=references))
        assert api.flow.find(refs=asked) == ([3], references)
        assert recorder.last.params == {"refs": sent}
    api, recorder = recorded(answer([3], references=references))
    assert api.flow.find(refs=False) == [3]
    assert recorder.last.params == {"refs": "0"}


def test_the_whole_answer_can_be_had():
    """``envelope=True`` gives head, messages, headers, timing, attempts and request id."""
    api, recorder = recorded(
        page(503),
        answer(
            [1], messages=["hello"], headers={"x-thing": "y"}, position="p1", references={"a": {}}
        ),
    )
    result = api.drop(FLOW).find(positions=1, envelope=True)

    assert isinstance(result, Result)
    assert (result.body, result.status, result.attempts) == ([1], 200, 2)
    assert result.head["position"] == "p1"
    assert result.messages == ["hello"]
    assert result.references == {"a": {}}
    assert result.headers["x-thing"] == "y"
    assert 0 <= result.elapsed_s < 5
    assert result.request_id == recorder.last.headers["x-request-id"]
    assert "envelope" not in recorder.last.params


# --- secrets and the log --------------------------------------------------------------------------


def test_no_error_and_no_log_line_holds_the_secret(caplog):
    """Not even when a proxy echoes the request's headers."""
    caplog.set_level(logging.DEBUG)
    echo = f"<html>X-Auth-Token: {TOKEN}</html>"
    for failure in (
        page(502, echo),
        page(200, echo),
        page(302, echo),
        page(403, "{}", {"x-echo": TOKEN}),
        answer(status=400, errors=[echo]),
        answer(ok=False, errors=[echo]),
        ConnectionLost("gone"),
    ):
        api, _ = recorded(failure, retries=Retry(1, 0.0, 0.0))
        with pytest.raises(Exception, match=r".") as caught:
            api.flow.find()
        facts = vars(caught.value), pickle.dumps(caught.value)
        assert caught.value.__context__ is None  # JSON's own error would hold the whole page
        assert TOKEN not in f"{caught.value!s} {caught.value!r} {facts}"
    api, _ = recorded(answer({"tokenString": TOKEN}, messages=[echo]))
    assert api.token.create({"paths": {}})["tokenString"] == TOKEN
    assert "GET" in caplog.text
    assert TOKEN not in caplog.text


def test_requests_are_logged_at_debug_only(caplog):
    """A normal call says nothing at INFO."""
    caplog.set_level(logging.INFO, logger="flowkit")
    api, _ = recorded(answer([]))
    api.flow.find()

    assert caplog.records == []


def test_what_the_server_remarks_is_logged_once(caplog):
    """Unknown members are named by the server (1.2); each sentence is shown once."""
    api, _ = recorded(answer({"id": FLOW}, messages=["capcity: unknown, ignored"]))
    for _ in range(3):
        api.flow.create({"path": "/nora/a", "capcity": 5})

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "capcity" in caplog.text


# --- the raw call, services, the end --------------------------------------------------------------


def test_request_makes_any_call():
    """Path, query, data and parameters, by method."""
    api, recorder = recorded(answer({"x": 1}))

    assert api.request("mget", f"/drop/{FLOW}", ["d1"], {"limit": 2}) == {"x": 1}
    assert recorder.asked == ("MGET", f"drop/{FLOW}", {"limit": "2"}, ["d1"])
    api.request("GET", "flow?limit=2&filter=a%20%3D%3D%201", params={"limit": 3})
    assert recorder.asked == ("GET", "flow", {"limit": "3", "filter": "a == 1"}, None)
    api.request("GET", "flow/a%2Fb")
    assert recorder.last.path == "/v4.0/nora/flow/a%2Fb"
    assert api.request("GET", "/flow", params={"refs": True}) == ({"x": 1}, {})


def test_root_has_the_methods():
    """``api.root`` reaches every route."""
    api, recorder = recorded(answer([]))
    api.root.get("flow", limit=2)
    assert recorder.asked == ("GET", "flow", {"limit": "2"}, None)
    api.root.post("batch", [{"method": "GET", "path": "/flow"}])
    assert recorder.asked == ("POST", "batch", {}, [{"method": "GET", "path": "/flow"}])
    api.root.put("flow/f1", {"a": 1})
    api.root.delete("flow/f1")
    assert recorder.asked == ("DELETE", "flow/f1", {}, None)


def test_a_service_of_ones_own_has_all_verbs():
    """``add_service`` takes a class with a route; a taken name is refused."""

    class Weather(Service):
        route = "weather"

    api, recorder = recorded(answer([]))
    api.add_service("weather", Weather)
    api.weather.find(mem.town == "Oslo", limit=1)

    assert recorder.asked == ("GET", "weather", {"limit": "1", "filter": "town == 'Oslo'"}, None)
    for name in ("weather", "flow", "call", "a b", "_x", ""):
        with pytest.raises(UsageError):
            api.add_service(name, Weather)


def test_the_old_name_async_is_reachable():
    """``async`` is a keyword of Python, so only by getattr."""
    api, _ = recorded(answer([1]))
    calls = getattr(api, "async")()
    calls.flow.find()

    assert list(calls.results()) == [[1]]


def test_lazy_calls_go_through_the_same_verbs():
    """``api.lazy()`` gives thunks of the same answers."""
    api, recorder = recorded(answer([{"id": FLOW}]), answer([7]))
    lazy = api.lazy()
    flows = lazy.flow.find(mem.path == "/nora/a")

    assert lazy.drop(flows[0]["id"]).find() == [7]
    assert recorder.last.path == f"/v4.0/nora/drop/{FLOW}"


def test_a_plain_call_takes_thunks():
    """As an id, in a model, as a filter's value and among parameters; a ``P`` may hold one."""
    api, recorder = recorded(answer(FLOW), answer(3), answer({"id": FLOW}))
    lazy = api.lazy(batch=False)
    name, number = lazy.request("GET", "name"), lazy.request("GET", "number")
    assert (name, number) == (FLOW, 3)

    api.flow.read(name)
    assert recorder.asked[1] == f"flow/{FLOW}"
    api.drop(name).find(mem.a > number, flowkit.P(limit=number))
    assert recorder.asked == ("GET", f"drop/{FLOW}", {"limit": "3", "filter": "a > 3"}, None)
    api.flow.create({"path": "/nora/a", "deep": [{"n": number}]})
    assert recorder.asked[3] == {"path": "/nora/a", "deep": [{"n": 3}]}
    api.flow.update(flowkit.M({"id": FLOW}, capacity=number))
    assert recorder.asked == ("PUT", f"flow/{FLOW}", {}, {"capacity": 3})


def test_the_end_of_the_block_closes_the_transport():
    """``with API(...)`` and ``close()``; twice is as once."""
    recorder = Recorder(answer([]))
    with API(CREDS, transport=recorder) as api:
        assert not recorder.is_closed
    api.close()

    assert recorder.is_closed


def test_a_default_transport_is_a_function_of_the_url(monkeypatch):
    """``defaults.transport`` makes one for each API."""
    made = []
    monkeypatch.setattr(flowkit.defaults, "transport", lambda url: made.append(url) or Recorder())
    API(CREDS, host="localhost:7")

    assert made == ["http://localhost:7"]


def test_a_raw_filter_and_a_bool_are_told_apart():
    """A plain False as a filter is an error, as is everything that is no filter."""
    api, recorder = recorded(answer([]))

    for wrong in (False, True, 3, mem.a, {"a": 1}, object()):
        with pytest.raises((FilterError, UsageError)):
            api.flow.find(wrong)
        with pytest.raises(FilterError):
            api.flow.find_many(filter=wrong)
    for find in (api.flow.find, api.flow.find_many, api.flow.find_iter, api.drop(FLOW).find):
        with pytest.raises(FilterError, match="None"):
            find(None)
    assert recorder.requests == []


# --- whatever comes back --------------------------------------------------------------------------

KEYS = st.sampled_from(["status", "ok", "messages", "errors", "references", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 600) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner),
    max_leaves=8,
)
ENVELOPES = st.fixed_dictionaries({"head": st.dictionaries(KEYS, JSON)}, optional={"body": JSON})
BODIES = st.binary(max_size=20) | (JSON | ENVELOPES | ENVELOPES).map(
    lambda value: json.dumps(value).encode()
)
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "location", "x-request-replay"]), st.text(max_size=10)
)


@settings(max_examples=200)
@example(200, b'{"head": {"messages": 3}}', {})
@example(200, b'{"head": {"messages": [[1]]}}', {})
@example(200, b'{"head": {"references": [1]}}', {})
@example(400, b'{"head": {"errors": 3, "messages": 4}}', {})
@example(200, b'{"head": {"ok": false, "status": [1]}}', {})
@given(st.just(200) | st.integers(100, 599), BODIES, HEADERS)
def test_any_answer_is_a_result_or_one_of_our_errors(status, body, headers):
    """Nothing that a server or a proxy sends raises anything else, and every error can be shown."""
    api, _ = recorded(Response(status, headers, body), retries=0)
    outcome = None
    try:
        outcome = api.flow.find(envelope=True)
    except FlowKitError as error:
        outcome = error

    assert str(outcome)
    assert repr(outcome)
    if isinstance(outcome, Result):
        assert 200 <= status < 300
        assert isinstance(outcome.references, dict)
        assert isinstance(outcome.messages, list)
