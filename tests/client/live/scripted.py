"""A real WebSocket server on a port, whose every word a test writes itself.

It speaks as much of protocol 9 as a client needs: ``POST /session``, the upgrade, frames. Each
connection runs ``script(line)`` in a thread of its own.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import socket
import time

from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from flowkit.client.api import API
from flowkit.green import start_thread

FLOW = "f5a2c11e09b1e4d7a6c3f0010"


def place(seq, flow=FLOW, epoch="k3v9q2xz"):
    """A position."""
    return f"p1.{flow}.{epoch}.{seq}"


def message(sub, seq, **value):
    """A message of a reader: a drop was created as change *seq*."""
    return {
        "type": "message",
        "sub": sub,
        "resource": FLOW,
        "change": "create",
        "position": place(seq),
        "value": {"id": f"d{seq:024x}", "elems": {"n": seq}, **value},
    }


def after(said):
    """The number of the change that a subscribe wants to go on after."""
    since = said.get("since", "start")
    return 0 if since == "start" else int(since.rpartition(".")[2])


class Line:
    """One connection, from the server's side.

    Attributes:
        number: which connection of the desk it is, from 0.
        heard: every message that has come so far.
    """

    def __init__(self, connected, protocol, number):
        self.connected = connected
        self.protocol = protocol
        self.number = number
        self.heard = []
        self.pings = 0
        self._waiting = queue.SimpleQueue()

    def _flush(self):
        for data in self.protocol.data_to_send():
            if data:
                self.connected.sendall(data)

    def hear(self, timeout_s=10.0):
        """The next message that is no heartbeat.

        Raises:
            EOFError: the client has gone.
        """
        self.connected.settimeout(timeout_s)
        while self._waiting.empty():
            data = self.connected.recv(65_536)
            if not data:
                raise EOFError
            self.protocol.receive_data(data)
            self._take(self.protocol.events_received())
            self._flush()
        return self._waiting.get()

    def _take(self, events):
        for event in events:
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.PING:
                self.pings += 1
            elif event.opcode is Opcode.CLOSE:
                self._flush()
                raise EOFError
            elif event.opcode is Opcode.TEXT:
                said = json.loads(event.data)
                self.heard.append(said)
                if said.get("type") != "heartbeat":
                    self._waiting.put(said)

    def say(self, *messages):
        """Send messages, all at once."""
        for said in messages:
            text = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.protocol.send_text(text)
        self._flush()

    def raw(self, data):
        """Send bytes as they are."""
        self.connected.sendall(data)

    def reply(self, said, body=None, **head):
        """Confirm a message."""
        told = {"msgId": said.get("msgId"), "ok": True, "status": 200, "errors": [], "messages": []}
        self.say({"head": {**told, **head}, "body": {} if body is None else body})

    def refuse(self, said, status, *errors):
        """Refuse a message."""
        self.reply(said, {}, ok=False, status=status, errors=list(errors))

    def confirm(self, seq=0, mode="live"):
        """Hear a subscribe and confirm it at a position; what was heard."""
        said = self.hear()
        assert said["type"] == "subscribe", said
        body = {}
        if "sub" in said:
            body = {"sub": said["sub"], "resource": FLOW, "position": place(seq), "mode": mode}
        self.reply(said, body)
        return said

    def close(self, code, reason=""):
        """Close in order."""
        self.protocol.send_close(code, reason)
        self._flush()
        with contextlib.suppress(EOFError, OSError):
            self.hear(2.0)

    def stay(self):
        """Answer pings until the client has gone."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                self.hear(60.0)


class Desk:
    """The server; a context manager.

    Args:
        script: ``script(line)``, for each connection; when it returns the connection ends without a
            word.
        sessions: statuses of the first answers to ``POST /session``; then 201.
        tls: a context of a server.
        shake: status of the answer to the upgrade.

    Attributes:
        lines: the connections so far.
        asked: ``(method, target, headers)`` of each request.
        errors: what a script raised.
    """

    def __init__(self, script, *, sessions=(), tls=None, shake=101):
        self.script = script
        self.sessions = list(sessions)
        self.shake = shake
        self.tls = tls
        self.lines = []
        self.asked = []
        self.errors = []
        self._open = set()
        self._door = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._door.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        start_thread(self._accept, name="desk")

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._door.accept()
                start_thread(self._serve, connected, name="desk line")

    def _serve(self, connected):
        with contextlib.suppress(OSError, EOFError):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                connected = self.tls.wrap_socket(connected, server_side=True)
            self._open.add(connected)
            while head := self._head(connected):
                self._answer(connected, head)
        self._open.discard(connected)
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)
        connected.close()

    def _head(self, connected):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connected.recv(1)
            if not byte:
                return b""
            head += byte
        if length := re.search(rb"content-length: *(\d+)", head, re.IGNORECASE):
            left = int(length[1])
            while left:
                left -= len(connected.recv(left))
        return head

    def _answer(self, connected, head):
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        pairs = [line.partition(":") for line in lines[1:] if line]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self.asked.append((method, target, headers))
        if method == "POST":
            self._session(connected)
        elif self.shake != 101:
            connected.sendall(f"HTTP/1.1 {self.shake} No\r\ncontent-length: 0\r\n\r\n".encode())
        else:
            self._talk(connected, head)
            raise EOFError

    def _session(self, connected):
        status = self.sessions.pop(0) if self.sessions else 201
        is_ok = status == 201
        told = {"ok": is_ok, "status": status, "errors": [] if is_ok else ["no"], "messages": []}
        body = {"head": told, "body": {"id": f"s{len(self.asked)}"} if is_ok else {}}
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} Said\r\ncontent-length: {len(data)}\r\n\r\n"
        connected.sendall(head.encode() + data)

    def _talk(self, connected, head):
        protocol = ServerProtocol(max_size=None)
        protocol.receive_data(head)
        (request,) = protocol.events_received()
        protocol.send_response(protocol.accept(request))
        line = Line(connected, protocol, len(self.lines))
        line._flush()
        self.lines.append(line)
        try:
            self.script(line)
        except (EOFError, OSError):
            pass
        except BaseException as error:
            self.errors.append(error)
            raise

    def api(self, **options):
        """An API on it."""
        return API(("nora", "t" * 32), host=self.url, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):  # a forked child has done so before us
            self._door.shutdown(socket.SHUT_RDWR)  # whoever accepts wakes up
        self._door.close()
        for connected in list(self._open):
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        assert not self.errors, self.errors


def until(true, timeout_s=10.0):
    """Wait until *true()* is; fails the test if it does not come to be."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
