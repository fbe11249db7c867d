"""A server that has nothing to do: whoever subscribes is sent messages that were made beforehand.

It speaks as much of protocol 9 as a subscriber needs, so that one client after another can be timed
against the same bytes. Prints its port; the argument is how many messages a subscription gets.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import sys
import threading

from fan_out import pushed

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
POSITION = "p1.f5a2c11e09b1e4d7a6c3f0010.k3v9q2xz"


def frame(text: str) -> bytes:
    """A text frame of a server."""
    data = text.encode()
    size = len(data)
    return (bytes([0x81, size]) if size < 126 else b"\x81\x7e" + struct.pack("!H", size)) + data


def reader_message(sub: str, step: int) -> str:
    """The message for a reader: as the plain one, with its name, the change and the position."""
    place = f'"sub":"{sub}","change":"create","position":"{POSITION}.{step + 1}",'
    return pushed(step).replace('"type":"message",', f'"type":"message",{place}', 1)


class Visitor:
    """One connection: requests, then a WebSocket, then the messages."""

    def __init__(self, connected: socket.socket, plain: bytes, count: int) -> None:
        self.connected = connected
        self.plain = plain
        self.count = count
        self.buffer = b""

    def serve(self) -> None:
        """Serve it until it leaves."""
        try:
            while self.answer_request():
                pass
            while True:
                said = json.loads(self.read_text())
                if said.get("type") == "subscribe":
                    self.subscribe(said)
        except (OSError, EOFError):
            self.connected.close()

    def need(self, size: int) -> bytes:
        """The next *size* bytes."""
        while len(self.buffer) < size:
            self.more()
        got, self.buffer = self.buffer[:size], self.buffer[size:]
        return got

    def more(self) -> None:
        """Read on."""
        piece = self.connected.recv(65_536)
        if not piece:
            raise EOFError
        self.buffer += piece

    def answer_request(self) -> bool:
        """Answer one request; False once it was an upgrade."""
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        if length := re.search(rb"content-length: *(\d+)", head, re.IGNORECASE):
            self.need(int(length[1]))
        if key := re.search(rb"sec-websocket-key: *(\S+)", head, re.IGNORECASE):
            accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
            self.connected.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            return False
        told = {"ok": True, "status": 201, "errors": [], "messages": [], "references": {}}
        body = json.dumps({"head": told, "body": {"id": "s1"}}).encode()
        self.connected.sendall(
            b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        return True

    def read_text(self) -> bytes:
        """The next frame of the client, taken for a text."""
        size = self.need(2)[1] & 0x7F
        if size == 126:
            size = struct.unpack("!H", self.need(2))[0]
        mask = self.need(4)
        data = self.need(size)
        text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        return text if text.startswith(b"{") else b"{}"

    def subscribe(self, said: dict) -> None:
        """Confirm a subscription and send all messages of it."""
        sub = said.get("sub")
        body: dict = {}
        data = self.plain
        if sub is not None:
            flow = POSITION.split(".")[1]
            body = {"sub": sub, "resource": flow, "position": f"{POSITION}.0", "mode": "live"}
            data = b"".join(frame(reader_message(sub, step)) for step in range(self.count))
        told = {"msgId": said.get("msgId"), "ok": True, "status": 200, "errors": [], "messages": []}
        self.connected.sendall(frame(json.dumps({"head": told, "body": body})))
        self.connected.sendall(data)


def main() -> None:
    """Serve until the process is ended."""
    count = int(sys.argv[1])
    plain = b"".join(frame(pushed(step)) for step in range(count))
    with socket.create_server(("127.0.0.1", 0)) as door:
        print(door.getsockname()[1], flush=True)
        while True:
            visitor = Visitor(door.accept()[0], plain, count)
            threading.Thread(target=visitor.serve, daemon=True).start()


if __name__ == "__main__":
    main()
