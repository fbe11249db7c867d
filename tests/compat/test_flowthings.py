"""Old names for old scripts."""

import json
import ssl
from contextlib import closing

import pytest
import requests
from client.recording import FLOW, TOKEN, answer, page
from client.scripted_server import ScriptedServer
from client.scripted_server import answer as scripted

import flowkit
from flowkit import errors
from flowkit.compat import flowthings
from flowkit.compat.flowthings import (
    API,
    EXISTS,
    FlowThingsBadRequest,
    FlowThingsError,
    FlowThingsException,
    FlowThingsForbidden,
    FlowThingsNotFound,
    FlowThingsServerError,
    M,
    Modify,
    P,
    Params,
    RequestFunction,
    Token,
    defaults,
    mem,
)
from flowkit.errors import ConnectError, ConnectionLost, DeadlineExceeded, SettingsError

CREDS = Token("nora", TOKEN)

NAMES = [
    "API", "Token", "M", "P", "mem", "AGE", "EXISTS", "HAS", "MATCHES", "NOT", "defaults",
    "Params", "Modify",
    "FlowThingsError", "FlowThingsException", "FlowThingsBadRequest", "FlowThingsForbidden",
    "FlowThingsNotFound", "FlowThingsServerError",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_old_name_is_there(name):
    """The exports of 13.1, and their aliases."""
    assert name in flowthings.__all__
    assert getattr(flowthings, name) is not None


def test_the_aliases_are_the_things_themselves():
    """``Params`` is ``P``, ``Modify`` is ``M``, the language is flowkit's."""
    assert (Params, Modify) == (P, M)
    assert mem is flowkit.mem
    assert EXISTS is flowkit.EXISTS


def test_the_old_defaults_are_the_old_ones():
    """TLS, the old hosts, version 0.1; the process' new defaults are not touched."""
    assert (defaults.secure, defaults.host, defaults.ws_host) == (
        True,
        "api.flowthings.io",
        "ws.flowthings.io",
    )
    assert (defaults.version, defaults.async_lib, defaults.params) == ("0.1", None, {})
    assert defaults.encoder is json
    assert flowkit.defaults.host is None
    assert repr(API(CREDS)) == "<API https://api.flowthings.io as nora>"
    assert API(CREDS).options.version == "0.1"


def test_the_old_defaults_can_be_changed_and_are_checked(monkeypatch):
    """``defaults.host`` leads old scripts to their platform; a misspelt name is an error."""
    monkeypatch.setattr(defaults, "host", "localhost:9")
    monkeypatch.setattr(defaults, "secure", False)
    assert repr(API(CREDS)) == "<API http://localhost:9 as nora>"
    with pytest.raises(SettingsError):
        defaults.hots = "x"


ERRORS = [
    (400, FlowThingsBadRequest),
    (403, FlowThingsForbidden),
    (401, FlowThingsForbidden),
    (404, FlowThingsNotFound),
    (500, FlowThingsServerError),
    (503, FlowThingsServerError),
    (429, FlowThingsException),
]


def fixed(response):
    """A request function, as old scripts brought them, that gives one answer."""

    class Answer:
        status_code = response.status
        headers = response.headers
        content = response.body

    def request(method, url, **options):
        request.seen = (method, url, options)
        return Answer()

    return request


@pytest.mark.parametrize(("status", "old"), ERRORS)
def test_what_flowkit_raises_is_caught_under_the_old_names(status, old):
    """The class of the status, and both old bases."""
    for kind in (old, FlowThingsException, FlowThingsError):
        with pytest.raises(kind) as caught:
            API(CREDS, request=fixed(answer(status=status, errors=["no"])), retries=0).flow.find()
        error = caught.value
        assert error.errors == ["no"]
        assert (error.method, error.path) == ("GET", "/v0.1/nora/flow")


def test_every_error_of_flowkit_is_a_flowthings_error():
    """Nothing that this library raises escapes ``except FlowThingsError``."""
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type):
            assert issubclass(kind, FlowThingsError)


def test_a_request_function_is_called_like_that_of_requests():
    """Method, whole URL, headers and data; time, redirects and verification where it takes them."""
    request = fixed(answer([1]))
    api = API(CREDS, request=request, host="localhost:9", secure=False, verify="ca.pem")

    assert api.flow.find(mem.a == 1, limit=2) == [1]
    method, url, options = request.seen
    assert (method, url) == (
        "GET",
        "http://localhost:9/v0.1/nora/flow?limit=2&filter=a%20%3D%3D%201",
    )
    assert options["headers"]["x-auth-token"] == TOKEN
    assert (options["data"], options["verify"], options["allow_redirects"]) == (
        None,
        "ca.pem",
        False,
    )
    assert 0 < options["timeout"] <= 30
    api.flow.create({"path": "/nora/a"})
    assert json.loads(request.seen[2]["data"]) == {"path": "/nora/a"}


def test_a_request_function_that_takes_little_gets_little():
    """Old functions knew neither time-outs nor verification."""
    seen = []

    class Answer:
        status_code = 200
        headers = {"X-Thing": "1"}  # noqa: RUF012 - as plain as an answer was
        text = '{"head": {}, "body": [1]}'

    def request(method, url, headers, data):
        seen.append((method, url))
        return Answer()

    api = API(CREDS, request=request)
    result = api.flow.find(envelope=True)

    assert (result.body, result.headers) == ([1], {"x-thing": "1"})
    assert seen == [("GET", "https://api.flowthings.io/v0.1/nora/flow")]


def test_the_real_requests_function_works_over_http():
    """``request=requests.request`` against a real socket."""
    with closing(ScriptedServer(lambda _: scripted(answer([{"id": FLOW}]).body))) as server:
        api = API(CREDS, request=requests.request, host=f"127.0.0.1:{server.port}", secure=False)

        assert api.flow.find() == [{"id": FLOW}]


FAILURES = [
    (requests.exceptions.ConnectionError("gone"), ConnectionLost),
    (requests.exceptions.ReadTimeout("slow"), DeadlineExceeded),
    (TimeoutError("slow"), DeadlineExceeded),
    (ConnectionRefusedError("no"), ConnectError),
    (ssl.SSLError("bad"), ConnectionLost),
]


@pytest.mark.parametrize(("error", "kind"), FAILURES, ids=lambda value: str(value)[:30])
def test_the_errors_of_a_request_function_become_flowkits(error, kind):
    """With the original as the cause."""

    def request(method, url, headers, data):
        raise error

    with pytest.raises(kind) as caught:
        API(CREDS, request=request, retries=0).flow.find()
    assert caught.value.__cause__ is error


def test_an_html_page_through_a_request_function_keeps_its_status():
    """The adapter does not read answers; the door does."""
    with pytest.raises(FlowThingsServerError) as caught:
        API(CREDS, request=fixed(page(502)), retries=0).flow.find()
    assert caught.value.status == 502


def test_a_request_function_that_answers_with_nothing_is_told_so():
    """A wrapper that forgets its ``return`` gets our error, not an AttributeError."""
    with pytest.raises(FlowThingsError, match="returned a NoneType"):
        API(CREDS, request=lambda method, url, headers, data: None).flow.find()


def test_an_encoder_does_the_encoding():
    """``dumps`` for bodies and ``loads`` for answers; the json module stands for flowkit's own."""

    class Encoder:
        @staticmethod
        def dumps(value):
            return json.dumps({"wrapped": value})

        @staticmethod
        def loads(text):
            return {**json.loads(text), "body": "read by the encoder"}

    request = fixed(answer({}))
    api = API(CREDS, request=request, encoder=Encoder)
    assert api.flow.create({"a": 1}) == "read by the encoder"
    assert request.seen[2]["data"] == b'{"wrapped": {"a": 1}}'
    api = API(CREDS, request=request, encoder=json)
    api.flow.create({"a": {3}})
    assert request.seen[2]["data"] == b'{"a": [3]}'


@pytest.mark.parametrize(
    "options",
    [
        {"encoder": object()},
        {"request": "requests"},
        {"verify": ssl.create_default_context(), "request": print},
    ],
)
def test_an_option_that_cannot_work_is_refused(options):
    """When the API is made."""
    with pytest.raises(SettingsError):
        API(CREDS, **options)


def test_unknown_keywords_and_positions_are_errors_here_too():
    """``hots=`` was silent once."""
    with pytest.raises(TypeError):
        API(CREDS, hots="x")
    with pytest.raises(TypeError):
        API(CREDS, None, "blindly passed on")


def test_an_api_of_old_is_an_api():
    """It has everything that the new one has."""
    api = API(CREDS, None, request=fixed(answer([])))

    assert isinstance(api, flowkit.API)
    assert isinstance(api._transport, RequestFunction)
    assert callable(getattr(api, "async"))
    api.close()


def test_an_example_of_the_old_manual_runs_on_the_platform():
    """The script of the old documentation, with the import changed and the platform in process."""
    with flowkit.embedded(account="nora") as inside:
        api = API(inside.creds, transport=inside._transport)
        flow = api.flow.create({"path": "/nora/test"})
        api.drop(flow["id"]).create({"elems": {"foo": {"type": "string", "value": "value"}}})

        assert api.flow.find(flow["id"])["path"] == "/nora/test"
        assert api.flow.find(mem.path == "/nora/test") == [flow]
        flows, refs = api.flow.find(limit=10, refs=True)
        assert flows == [flow]
        assert flow["creatorId"] in refs
        (drop,) = api.drop(flow["id"]).find(mem.elems.foo == "value")
        assert drop["elems"]["foo"] == {"type": "string", "value": "value"}
        api.flow.delete(flow["id"])
        with pytest.raises(FlowThingsNotFound):
            api.flow.find(flow["id"])
