"""The HTTP shell: bytes of a socket to ``App.handle(Request)`` and its ``Response`` back to bytes.

Rules of this module:

* It runs on a native thread of its own with a gevent loop, one greenlet per connection, and works
  the same whether or not the process is monkey-patched.
* Every wait has a bound: for the head, the body, the next request, for a reader of the answer, for
  the end of a stop. Nothing is kept beyond a bound of ``limits.py``.
* What HTTP itself forbids is refused here, in the platform's envelope (``message.py`` says what);
  everything else is the application's business. A client never sees a traceback, and a client that
  goes away leaves no line in the log.

Why no library: the design page has the figures of pywsgi, h11 and httptools, and what each of them
lets through. Gevent's sockets stay.

Source: protocol 3.1 to 3.4.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import gevent
import gevent.pool
import gevent.socket

from flowkit import green, limits
from flowkit.protocol.envelope import Request, Response
from flowkit.server import message
from flowkit.server.answers import refusal
from flowkit.server.asked import Watch
from flowkit.server.exchange import Application, Bounds, answer
from flowkit.server.listening import bound_socket, connections_max
from flowkit.server.message import Head, Refused
from flowkit.server.metrics import Metrics

__all__ = ["Application", "Bounds", "HttpServer"]

_log = logging.getLogger(__name__)

_RECV_BYTES = 64 * 1024
_SEND_BYTES = 256 * 1024
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


TakeOver = Callable[[Any, Head, bytes], bool]
"""Takes a connection out of the hands of the HTTP shell, or does not."""


class HttpServer:
    """An application behind a listening socket, on a thread of its own.

    Args:
        app: answers the requests.
        host, port: where to listen; port 0 takes a free one. The socket is bound at once, requests
            are answered from ``start()`` on.
        bounds: time-outs and sizes.
        watch: sees the requests that are refused before the application has them, and counts.
        take_over: given the socket, the head and what was read behind it of each request; whether
            it has taken the connection over, which is then no concern of this server any more.

    Raises:
        OSError: the address cannot be had.
    """

    def __init__(
        self,
        app: Application,
        host: str,
        port: int,
        *,
        bounds: Bounds | None = None,
        watch: Watch | None = None,
        take_over: TakeOver | None = None,
    ) -> None:
        self.app = app
        self.watch = watch
        self.take_over = take_over
        self.bounds = bounds or Bounds()
        self.stopping = False
        self.connections: set[_Connection] = set()
        self._host = host
        self._socket = bound_socket(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.held_bytes = 0
        self.answers_bytes = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self._aside = green.Slots(limits.bodies_aside_max)
        self._begun = False
        self._stop: green.Cell[float] = green.Cell()
        self._at_once: green.Cell[None] = green.Cell()
        self._stopped: green.Cell[None] = green.Cell()

    @property
    def url(self) -> str:
        """Where it answers, for example ``http://127.0.0.1:8080``."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    def start(self) -> None:
        """Begin to answer; returns at once. Connections made since the constructor are served."""
        self._begun = True
        green.start_thread(self._run, name="flowkit-http")

    def handle(self, request: Request) -> Response:
        """Ask the application; beside the event loop if the body is large and parsing it long."""
        if len(request.body) < limits.body_aside_bytes_min:
            return self.app.handle(request)
        cell: green.Cell[Response] = green.Cell()
        with self._aside:
            green.start_thread(_handle_into, cell, self.app, request, name="flowkit-large-body")
            return cell.get()

    def stop(self, grace_s: float | None = None) -> None:
        """Stop and wait until everything is closed; from any thread or greenlet.

        No connection is accepted any more, idle ones are closed, requests under way get *grace_s*
        seconds (default: the bound) to end.
        """
        self.begin_stop(grace_s)
        self.wait_stopped()

    def begin_stop(self, grace_s: float | None = None) -> None:
        """Ask for a stop and return at once; a second call means: without any further waiting."""
        if not self._begun:
            self._socket.close()
            self._stopped.set(None)
        if not self._stop.set(self.bounds.shutdown_timeout_s if grace_s is None else grace_s):
            self._at_once.set(None)

    @property
    def is_stopping_at_once(self) -> bool:
        """Whether a stop was asked for twice."""
        return self._at_once.is_ready

    def on_stopped(self, callback: Callable[[], object]) -> None:
        """Call *callback* once everything is closed; it must not wait."""
        self._stopped.on_ready(lambda _: callback())

    def wait_stopped(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of a stop; whether it has come."""
        return self._stopped.wait(timeout_s)

    def _run(self) -> None:
        """The life of the server's thread."""
        listener = gevent.socket.socket(fileno=self._socket.detach())
        pool = gevent.pool.Pool(connections_max(self.bounds.connections_max))
        try:
            accepting = gevent.spawn(self._accept, listener, pool)
            if self.watch is not None:
                gevent.spawn(self._count, self.watch.metrics)
            grace_s = self._stop.get()
            self.stopping = True
            accepting.kill()
            self._accept_waiting(listener, pool)
            listener.close()
            self._end_connections(pool, grace_s)
        finally:
            listener.close()
            self._stopped.set(None)
            gevent.get_hub().destroy(destroy_loop=True)

    def _count(self, metrics: Metrics) -> None:
        """Show the connections and what they carry, and measure how late the loop comes."""
        metrics.watch("flowkit_http_connections", lambda: len(self.connections))
        metrics.watch("flowkit_http_received_bytes_total", lambda: self.received_bytes)
        metrics.watch("flowkit_http_sent_bytes_total", lambda: self.sent_bytes)
        while True:
            due_s = time.monotonic() + limits.loop_sample_s
            gevent.sleep(limits.loop_sample_s)
            metrics.observe("flowkit_loop_stall_seconds", max(0.0, time.monotonic() - due_s))

    def _accept(self, listener: Any, pool: Any) -> None:
        """Accept for ever. The pool makes it wait while there are too many connections."""
        while True:
            try:
                sock, peer = listener.accept()
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    _log.warning("no further connection can be accepted: %s", error)
                    gevent.sleep(0.2)
                continue
            pool.spawn(_Connection(self, sock, peer[0]).run)

    def _accept_waiting(self, listener: Any, pool: Any) -> None:
        """Accept those who were connected before the stop: their requests are under way."""
        listener.settimeout(0)
        while not pool.full():
            try:
                sock, peer = listener.accept()
            except OSError:
                return
            pool.spawn(_Connection(self, sock, peer[0]).run)

    def _end_connections(self, pool: Any, grace_s: float) -> None:
        for connection in self.connections:
            connection.end_if_idle()

        def end_by_force() -> None:
            self._at_once.wait(grace_s)
            pool.kill()

        force = gevent.spawn(end_by_force)
        pool.join()
        force.kill()


def _handle_into(cell: green.Cell[Response], app: Application, request: Request) -> None:
    try:
        cell.set(app.handle(request))
    except BaseException as error:  # noqa: BLE001 - raised again where the cell is waited for
        cell.fail(error)


class _Connection:
    """One connection: requests in, answers out, in order."""

    __slots__ = ("_bounds", "_buffer", "_held_bytes", "_idle", "_peer", "_server", "_sock")

    def __init__(self, server: HttpServer, sock: Any, peer: str) -> None:
        self._server = server
        self._bounds = server.bounds
        self._sock = sock
        self._peer = peer
        self._buffer = bytearray()
        self._held_bytes = 0
        self._idle = True

    def run(self) -> None:
        """Serve until either side has enough."""
        self._server.connections.add(self)
        try:
            wait_s = self._bounds.head_timeout_s
            while self._serve_one(wait_s):
                wait_s = self._bounds.keep_alive_timeout_s
                if self._buffer:  # pipelined: the other connections have their turn first
                    gevent.sleep(0)
        except OSError:
            pass  # the client went away, or reads nothing: nobody is left to be told
        except Exception:  # noqa: BLE001 - the last frame of a connection: the log is all there is
            _log.exception("a connection ended with an error of the server")
        finally:
            self._let_go()
            self._server.connections.discard(self)
            self._sock.close()

    def end_if_idle(self) -> None:
        """Let a connection end that waits for a request; one that has arrived is still read."""
        if self._idle:
            self._stop_receiving()

    def _stop_receiving(self) -> None:
        with contextlib.suppress(OSError):  # the client may have been faster
            self._sock.shutdown(socket.SHUT_RD)

    def _serve_one(self, wait_s: float) -> bool:
        """Serve the next request; whether there may be another one after it."""
        try:
            head = self._read_head(wait_s)
            if head is None:
                return False
            if self._is_taken_over(head):
                return False
            body = self._read_body(head)
        except Refused as refused:
            self._send(self._noted(refusal(refused)), keep_alive=False)
            self._linger()
            return False
        target = "/" if head.target == "*" else head.target
        method = "GET" if head.method == "HEAD" else head.method
        response = answer(
            self._server,
            lambda headers, plain: Request.from_target(
                method, target, headers, plain, peer=self._peer
            ),
            head.headers,
            body,
            self._bounds.body_max(head),
            on_slice=self._hold_unpacked,
        )
        del body
        self._let_go()
        response = self._bounded(self._noted(response), head)
        keep_alive = head.keep_alive and not self._server.stopping
        self._send(response, keep_alive=keep_alive, head=head)
        if keep_alive:
            return True
        if self._buffer or not self._server.stopping:  # a stop waits for nobody to hang up
            self._linger()
        return False

    def _is_taken_over(self, head: Head) -> bool:
        """Whether the connection belongs to somebody else from now on, as a WebSocket does."""
        take_over = self._server.take_over
        return take_over is not None and take_over(self._sock, head, bytes(self._buffer))

    def _noted(self, response: Response) -> Response:
        """*response* with a request id and counted, if the application has not seen to that."""
        watch = self._server.watch
        if watch is None or "x-request-id" in response.headers:
            return response
        return watch.refused(response)

    def _bounded(self, response: Response, head: Head) -> Response:
        """*response*, or a refusal where too many large answers to reads are on their way."""
        is_large = len(response.body) > _SEND_BYTES
        held = self._server.answers_bytes + len(response.body)
        if not is_large or head.method == "POST" or held <= self._bounds.answers_bytes_max:
            return response
        busy = Refused(
            "too many large answers are on their way: ask for this one again later",
            status=503,
            retry_after_s=1,
        )
        kept = {name: value for name, value in response.headers.items() if name[:2] == "x-"}
        refused = refusal(busy)
        return Response(refused.status, {**refused.headers, **kept}, refused.body)

    def _read_head(self, wait_s: float) -> Head | None:
        """The next head, or None if the client has no further request."""
        buffer = self._buffer
        if not buffer and not self._await_request(wait_s):
            return None
        deadline = time.monotonic() + self._bounds.head_timeout_s
        searched = 0
        while True:
            while buffer[:2] == b"\r\n":
                del buffer[:2]
            end = message.find_head_end(buffer, searched)
            if end >= 0:
                break
            searched = len(buffer)
            if not self._receive(deadline, "the headers"):
                if not buffer:
                    return None
                raise Refused("the connection ended within the headers")
        data = bytes(buffer[:end])
        del buffer[:end]
        return message.parse_head(data)

    def _await_request(self, wait_s: float) -> bool:
        """Wait for the first bytes of a request; False if none come."""
        if self._server.stopping:
            self._stop_receiving()
        self._idle = True
        self._sock.settimeout(wait_s)
        try:
            data = self._sock.recv(_RECV_BYTES)
        except TimeoutError:
            return False
        self._idle = False
        self._buffer += data
        self._server.received_bytes += len(data)
        return bool(data)

    def _read_body(self, head: Head) -> bytes:
        """The whole body, as it was sent."""
        bytes_max = self._bounds.body_max(head)
        if head.length == 0:
            return b""
        if head.length is not None and head.length > bytes_max:
            raise message.too_large(bytes_max)
        if head.expects_continue and not self._buffer:
            self._send_bytes(message.CONTINUE)
        deadline = time.monotonic() + self._bounds.body_timeout_s
        self._hold(len(self._buffer))
        if head.length is None:
            return self._read_chunks(bytes_max, deadline)
        buffer = self._buffer
        while len(buffer) < head.length:
            if not self._receive_body(deadline):
                raise Refused(
                    f"the connection ended after {len(buffer)} of {head.length} bytes of the body"
                )
        body = bytes(buffer[: head.length])
        del buffer[: head.length]
        return body

    def _hold(self, count: int) -> None:
        """Count bytes of a body; refuse a large one where all of them together are too much."""
        self._held_bytes += count
        self._server.held_bytes += count
        small = self._held_bytes < limits.body_aside_bytes_min
        if self._server.held_bytes > self._bounds.bodies_bytes_max and not small:
            raise Refused(
                "too many large bodies are under way: send this one again later",
                status=503,
                retry_after_s=1,
            )

    def _hold_unpacked(self, count: int) -> None:
        self._hold(count)
        gevent.sleep(0)

    def _let_go(self) -> None:
        self._server.held_bytes -= self._held_bytes
        self._held_bytes = 0

    def _read_chunks(self, bytes_max: int, deadline: float) -> bytes:
        body = message.ChunkedBody(bytes_max)
        while not body.feed(self._buffer):
            if not self._receive_body(deadline):
                raise Refused("the connection ended within the chunks of the body")
        return bytes(body.data)

    def _receive_body(self, deadline: float) -> bool:
        before = len(self._buffer)
        more = self._receive(deadline, "the body")
        self._hold(len(self._buffer) - before)
        return more

    def _receive(self, deadline: float, what: str) -> bool:
        """Add to the buffer what arrives; False at the end of the connection."""
        left_s = deadline - time.monotonic()
        try:
            if left_s <= 0:
                raise TimeoutError
            self._sock.settimeout(left_s)
            data = self._sock.recv(_RECV_BYTES)
        except TimeoutError:
            raise Refused(f"{what} did not arrive in time", status=408) from None
        self._buffer += data
        self._server.received_bytes += len(data)
        return bool(data)

    def _send(self, response: Response, *, keep_alive: bool, head: Head | None = None) -> None:
        headers = [
            *response.headers.items(),
            ("date", _date()),
        ]
        if response.status != 204:
            headers.append(("content-length", str(len(response.body))))
        if not keep_alive:
            headers.append(("connection", "close"))
        elif head is not None and head.minor == 0:
            headers.append(("connection", "keep-alive"))
        data = message.render_head(response.status, headers)
        if head is None or head.method != "HEAD":
            data += response.body
        self._send_bytes(data)

    def _send_bytes(self, data: bytes) -> None:
        """Send everything; a client that takes no slice of it within the bound is let go.

        So is one that takes a large answer slice by slice, but too slowly on the whole.
        """
        bounds, server = self._bounds, self._server
        server.sent_bytes += len(data)
        self._sock.settimeout(bounds.stall_timeout_s)
        if len(data) <= _SEND_BYTES:
            self._sock.sendall(data)
            return
        allowed_s = bounds.stall_timeout_s + len(data) / bounds.answer_bytes_per_s_min
        deadline = time.monotonic() + allowed_s
        server.answers_bytes += len(data)
        try:
            view = memoryview(data)
            for at in range(0, len(view), _SEND_BYTES):
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                self._sock.settimeout(min(left_s, bounds.stall_timeout_s))
                self._sock.sendall(view[at : at + _SEND_BYTES])
        finally:
            server.answers_bytes -= len(data)

    def _linger(self) -> None:
        """Read and forget what the client still sends.

        Closing with unread bytes makes the kernel reset the connection, and the client may lose
        the answer that it has not read yet.
        """
        self._sock.shutdown(socket.SHUT_WR)
        self._idle = True
        deadline = time.monotonic() + self._bounds.linger_timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            self._sock.settimeout(left_s)
            if not self._sock.recv(_RECV_BYTES):
                return


_dated: tuple[int, str] = (0, "")


def _date() -> str:
    """The value of the header Date, made once a second."""
    global _dated
    now = int(time.time())
    if _dated[0] != now:
        _dated = (now, formatdate(now, usegmt=True))
    return _dated[1]
