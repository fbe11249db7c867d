"""The bytes of a connection: the short way and the library agree, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from flowkit import limits
from flowkit.client.live.frames import Frames
from flowkit.errors import ConnectionLost, NotFound, ProtocolError, ServerError


def opened(tail=b"", cut=None):
    """The two ends of a connection after their handshake, and what came with its last bytes."""
    client, server = Frames("host:1", "/session/s1/ws"), ServerProtocol(max_size=None)
    server.receive_data(client.hello({"user-agent": "test"}))
    server.send_response(server.accept(server.events_received()[0]))
    data = b"".join(server.data_to_send()) + tail
    found = None
    for at in range(0, len(data), cut or len(data)):
        part = data[at : at + (cut or len(data))]
        if found is None:
            found = client.welcome(part)
        else:
            found += client.messages(part)
    return client, server, found


def frame(text, opcode=0x81):
    """A frame of a server."""
    size = len(text)
    if size < 126:
        return bytes([opcode, size]) + text
    if size < 65_536:
        return bytes([opcode, 126]) + size.to_bytes(2) + text
    return bytes([opcode, 127]) + size.to_bytes(8) + text


SIZES = st.sampled_from([0, 1, 125, 126, 127, 300, 65_535, 65_536, 70_000])
PIECES = st.lists(
    st.tuples(st.sampled_from(["text", "text", "parts", "ping", "pong"]), SIZES), max_size=8
)


@given(PIECES, st.integers(1, 5_000), st.randoms(use_true_random=False))
def test_every_message_comes_once_and_in_order(pieces, cut, chance):
    """Whole frames, fragments and control frames, cut anywhere, give what was sent."""
    data, expected, pings = b"", [], []
    for kind, size in pieces:
        text = bytes([97 + size % 26]) * size
        if kind == "text":
            data += frame(text)
            expected.append(text)
        elif kind == "parts":
            at = chance.randint(0, size)
            data += frame(text[:at], 0x01) + frame(b"between", 0x89) + frame(text[at:], 0x80)
            pings.append(b"between")
            expected.append(text)
        elif kind == "ping":
            data += frame(text[:125], 0x89)
            pings.append(text[:125])
        else:
            data += frame(text[:125], 0x8A)
    client, server, found = opened()
    for at in range(0, len(data), cut):
        found += client.messages(data[at : at + cut])
    server.receive_data(client.to_send())
    pongs = [event.data for event in server.events_received() if isinstance(event, Frame)]

    assert found == expected
    assert pongs == pings
    assert not client.is_over


@pytest.mark.parametrize("cut", [1, 2, 7, None])
def test_messages_right_behind_the_handshake_are_not_lost(cut):
    """A server may talk at once; its first words come with the last bytes of the answer."""
    _, _, found = opened(frame(b"one") + frame(b"two" * 100), cut)

    assert found == [b"one", b"two" * 100]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x83\x01a", 1002),  # a reserved opcode
        (b"\xc1\x01a", 1002),  # a reserved bit
        (b"\x81\x81aaaab", 1002),  # masked, which no server may do
        (b"\x80\x01a", 1002),  # a continuation of nothing
        (b"\x01\x01a\x81\x01b", 1002),  # a new message inside another
        (b"\x89\x7e\x00\x7e" + b"a" * 126, 1002),  # a ping that is too long
        (b"\x81\x7f" + (limits.answer_bytes_max * 2).to_bytes(8), 1009),  # larger than all answers
        (b"\x81\x7f" + b"\xff" * 8, 1009),
    ],
)
@pytest.mark.parametrize("cut", [1, None])
def test_what_breaks_the_rules_ends_the_connection(data, code, cut):
    """The faults of RFC 6455 are found, whole or byte by byte, and the other end is told."""
    client, server, _ = opened()
    for at in range(0, len(data), cut or len(data)):
        client.messages(data[at : at + (cut or len(data))])
    server.receive_data(client.to_send())
    (close,) = server.events_received()

    assert client.is_over
    assert close.opcode is Opcode.CLOSE
    assert server.close_rcvd.code == code


def test_the_code_and_reason_of_a_close_are_kept():
    """What stood before the close is heard, what stands behind it is not."""
    client, server, _ = opened()
    server.send_text(b"last")
    server.send_close(1013, "too slow")
    found = client.messages(b"".join(server.data_to_send()) + frame(b"behind"))

    assert found == [b"last"]
    assert (client.code, client.reason) == (1013, "too slow")
    assert client.messages(frame(b"later")) == []


@given(st.binary(max_size=300))
def test_garbage_raises_nothing(data):
    """Whatever bytes come after the handshake: messages, or the end of the connection."""
    client, _, _ = opened()
    found = client.messages(data)

    assert all(isinstance(message, bytes) for message in found)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", NotFound),
        (b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", ServerError),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", ProtocolError),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ProtocolError),
        (b"x" * (limits.request_head_bytes_max + 1), ProtocolError),
    ],
)
@pytest.mark.parametrize("cut", [50, None])
def test_a_refused_handshake_says_what_the_server_said(answer, kind, cut):
    """The status is the error's; what is no answer to a handshake is no protocol."""
    client = Frames("host:1", "/session/s1/ws")
    client.hello({})

    def welcome():
        for at in range(0, len(answer), cut or len(answer)):
            client.welcome(answer[at : at + (cut or len(answer))])

    with pytest.raises(kind) as raised:
        welcome()

    assert getattr(raised.value, "retry_after_s", None) == (7.0 if kind is ServerError else None)


def test_an_end_during_the_handshake_is_a_loss():
    """Half an answer and then nothing."""
    client = Frames("host:1", "/session/s1/ws")
    client.hello({})
    client.welcome(b"HTTP/1.1 101 Switch")

    with pytest.raises((ConnectionLost, ProtocolError)):
        client.welcome(b"")


def test_the_headers_of_the_transport_stand_in_the_handshake():
    """Each once; the protocol's own are not lost."""
    hello = Frames("host:1", "/p/session/s1/ws").hello({"user-agent": "x", "Cookie": "a=b"})
    lines = hello.decode().split("\r\n")

    assert lines[0] == "GET /p/session/s1/ws HTTP/1.1"
    assert "user-agent: x" in lines
    assert "Cookie: a=b" in lines
    assert [line.lower() for line in lines].count("host: host:1") == 1
