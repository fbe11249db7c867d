"""The platform as a WSGI callable, checked by the standard library's validator."""

import gzip
import io
import json
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from echo_app import BOMB, Echo

from flowkit.server.exchange import Bounds
from flowkit.server.wsgi import wsgi_app


def call(app, method="GET", path="/", body=b"", **environ):
    """(status, headers, body) of one call through the validator."""
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "wsgi.input": io.BytesIO(body),
        **({"CONTENT_LENGTH": str(len(body))} if body else {}),
        **environ,
    }
    setup_testing_defaults(environ)
    seen = {}

    def start_response(status, headers, exc_info=None):
        seen.update(status=int(status.split()[0]), headers=dict(headers))

    # The validator warns of MGET and MPUT, which is all it has against them.
    result = validator(app)(environ, start_response)
    try:
        answer = b"".join(result)
    finally:
        result.close()
    return seen["status"], seen["headers"], answer


@pytest.fixture
def app():
    """The echo of the HTTP tests as WSGI."""
    return wsgi_app(Echo(), bounds=Bounds(body_bytes_max=100))


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_a_call_reaches_the_application(app):
    """Method, path, parameters, headers and body arrive decoded."""
    status, headers, body = call(
        app,
        "MGET",
        "/v4.0/\xc3\xa4",
        body=b'["f1"]',
        QUERY_STRING="x=%C3%A4+b&y=",
        HTTP_X_AUTH_TOKEN="secret",
        CONTENT_TYPE="application/json",
    )

    said = json.loads(body)
    assert status == 200
    assert said["method"] == "MGET"
    assert said["segments"] == ["v4.0", "ä"]
    assert said["params"] == {"x": "ä b", "y": ""}
    assert said["headers"]["x-auth-token"] == "secret"
    assert said["headers"]["content-type"] == "application/json"
    assert said["body"] == '["f1"]'
    assert headers["content-length"] == str(len(body))


def test_head_has_no_body(app):
    """The headers are those of the GET."""
    status, headers, body = call(app, "HEAD", "/large", QUERY_STRING="size=800")

    assert (status, headers["content-length"], body) == (200, "800", b"")


def test_gzip_goes_both_ways(app):
    """A packed body is unpacked, an answer is packed for who takes it."""
    _, _, body = call(app, "POST", "/a", gzip.compress(b"abc"), HTTP_CONTENT_ENCODING="gzip")
    assert json.loads(body)["body"] == "abc"

    asked = {"QUERY_STRING": "size=8000", "HTTP_ACCEPT_ENCODING": "gzip"}
    _, headers, body = call(app, "GET", "/large", **asked)
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == b"flowkit " * 1000


REFUSED = {
    "a body over the bound": (("POST", "/a", b"x" * 101), {}, 413),
    "a bomb": (("POST", "/v4.0/n/drop", BOMB), {"HTTP_CONTENT_ENCODING": "gzip"}, 413),
    "a path that is not UTF-8": (("GET", "/\xff"), {}, 400),
    "a refusal of the application": (("GET", "/refuse"), {}, 429),
    "a fault of the application": (("GET", "/fault"), {}, 500),
}


@pytest.mark.parametrize(("arguments", "environ", "status"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_an_envelope(app, arguments, environ, status):
    """Whatever is wrong, the answer has the shape of every other."""
    got, headers, body = call(app, *arguments, **environ)

    assert got == json.loads(body)["head"]["status"] == status
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["x-request-replay"] == "1"
    assert b"secret" not in body


@pytest.mark.parametrize("length", ["x", "-1", "\xb2"])
def test_a_length_that_is_no_number_is_refused(app, length):
    """Also where the server in front let it through."""
    seen = []
    environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": length, "wsgi.input": io.BytesIO(b"x")}
    body = b"".join(app(environ, lambda status, headers: seen.append(status)))

    assert seen == ["400 Bad Request"]
    assert b"Content-Length" in body


def test_a_body_without_a_length_is_read_where_the_server_ends_it(app):
    """Chunked bodies, if the server says that it takes care of their end; else there is none."""
    for terminated, seen in ((True, "abc"), (False, "")):
        environ = {
            "REQUEST_METHOD": "POST",
            "wsgi.input": io.BytesIO(b"abc"),
            "wsgi.input_terminated": terminated,
        }
        body = b"".join(app(environ, lambda status, headers: None))

        assert json.loads(body)["body"] == seen
