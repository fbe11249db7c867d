"""A small application for tests of the shells: it answers what it was asked."""

import json
import threading
import zlib

import gevent

from flowkit.errors import BadRequest
from flowkit.protocol.envelope import Response

_packer = zlib.compressobj(9, zlib.DEFLATED, 31)
BOMB = _packer.compress(bytes(50_000_000)) + _packer.flush()
"""Some 50 kB of gzip that open to 50 MB."""


class Echo:
    """Answers what it was asked; some paths misbehave on purpose."""

    def __init__(self):
        self.entered = threading.Event()
        self.may_go_on = threading.Event()
        self.seen = bool

    def handle(self, request):
        """As the application's."""
        first = request.segments[0] if request.segments else ""
        self.seen(first)
        if first == "fault":
            raise ZeroDivisionError("a secret inside")
        if first == "refuse":
            raise BadRequest("no: because", status=429, retry_after_s=7)
        if first == "split":
            return Response(200, {"x-a": "1\r\nx-b: 2"}, b"")
        if first == "large":
            return Response(
                200,
                {"content-type": "text/plain"},
                b"flowkit " * (int(request.params["size"]) // 8),
            )
        if first == "block":
            self.entered.set()
            self.may_go_on.wait(20)  # the thread itself, as parsing does
        if first == "wait":
            self.entered.set()
            self.wait()
        said = {
            "method": request.method,
            "segments": request.segments,
            "params": dict(request.params),
            "headers": dict(request.headers),
            "body": request.body.decode("latin-1"),
        }
        return Response(200, {"content-type": "application/json"}, json.dumps(said).encode())

    def wait(self):
        """Wait cooperatively, as the store does."""
        while not self.may_go_on.is_set():
            gevent.sleep(0.005)
