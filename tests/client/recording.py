"""A transport without a network: it keeps what was asked and gives the answers that were put in."""

from __future__ import annotations

import json

from flowkit import API, Token
from flowkit.client.retry import Retry
from flowkit.protocol.envelope import Response

FLOW = "f5a2c11e09b1e4d7a6c3f0010"
DROP = "d5a2c12009b1e4d7a6c3f0031"
TOKEN = "s3cr3t-0123456789-abcdefgh"

REPLAYS = {"x-request-replay": "1"}


def answer(body=None, status=200, *, ok=None, errors=(), messages=(), headers=None, **head):
    """A response with an envelope around *body*."""
    envelope = {
        "head": {
            "status": status,
            "ok": status < 300 if ok is None else ok,
            "messages": list(messages),
            "errors": list(errors),
            "references": {},
            **head,
        },
        "body": {} if body is None else body,
    }
    return Response(status, dict(headers or {}), json.dumps(envelope).encode())


def page(status, text="<html>nope</html>", headers=None):
    """A response that is not of the protocol."""
    return Response(status, dict(headers or {}), text.encode())


class Recorder:
    """A ``Transport``: *script* holds responses, or errors to raise; the last one stays."""

    def __init__(self, *script):
        self.script = list(script) or [answer()]
        self.requests = []
        self.timeouts = []
        self.is_closed = False

    def send(self, request, *, timeout_s):
        """The next step of the script."""
        self.requests.append(request)
        self.timeouts.append(timeout_s)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        return step(request) if callable(step) else step

    def close(self):
        """Only noted."""
        self.is_closed = True

    @property
    def last(self):
        """The last request."""
        return self.requests[-1]

    @property
    def asked(self):
        """Method, path below the account, query parameters and body of the last request."""
        request = self.last
        body = json.loads(request.body) if request.body else None
        return request.method, "/".join(request.segments[2:]), dict(request.params), body


def recorded(*script, **options):
    """An API over a ``Recorder``, and the recorder. It repeats without waiting."""
    recorder = Recorder(*script)
    options = {"retries": Retry(3, 0.0, 0.0), **options}
    return API(Token("nora", TOKEN), transport=recorder, **options), recorder
