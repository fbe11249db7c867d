"""The fault proxy: each fault as a plain socket sees it, before a real echo server."""

import contextlib
import errno
import random
import socket
import threading
import time

import pytest
from own_process import needs_eventlet, run_process

from flowkit import UsageError
from flowkit.testing import FaultProxy
from flowkit.testing.schedules import KINDS, plan

SECOND = 1.0


class EchoServer:
    """Sends back what it gets; keeps how each of its connections ended."""

    def __init__(self):
        self.endings = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = self._door.getsockname()
        threading.Thread(target=self._let_in, daemon=True).start()

    def _let_in(self):
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._door.accept()
                threading.Thread(target=self._echo, args=(connected,), daemon=True).start()

    def _echo(self, connected):
        with connected:
            try:
                while data := connected.recv(65_536):
                    connected.sendall(data)
                self.endings.append("end")
            except OSError as error:
                self.endings.append(errno.errorcode[error.errno])

    def close(self):
        """Let nobody in any more."""
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()


@pytest.fixture
def server():
    """An echo server of the test's own."""
    opened = EchoServer()
    yield opened
    opened.close()


@pytest.fixture
def proxy(server):
    """A proxy before it."""
    with FaultProxy(server.address) as opened:
        yield opened


@pytest.fixture
def dial(proxy):
    """Make a connection through the proxy, with 5 s for whatever it does."""
    with contextlib.ExitStack() as ends:
        yield lambda: ends.enter_context(socket.create_connection((proxy.host, proxy.port), 5))


@pytest.fixture
def client(dial):
    """A connection through the proxy that has carried a byte each way."""
    made = dial()
    assert echoed(made, b"a") == b"a"
    return made


def echoed(client, data):
    """What comes back for *data*."""
    client.sendall(data)
    got = b""
    while len(got) < len(data) and (piece := client.recv(65_536)):
        got += piece
    return got


def duration_s(work, *args):
    """Seconds that a call takes."""
    began = time.monotonic()
    work(*args)
    return time.monotonic() - began


def is_silent(client, for_s=0.15):
    """Whether nothing comes, no end either, for a while."""
    client.settimeout(for_s)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(5)
    return False


def ending(client):
    """How a connection ended, and what came before."""
    got = b""
    try:
        while piece := client.recv(65_536):
            got += piece
    except ConnectionResetError:
        return got, "reset"
    return got, "end"


def ending_of_a_new_one(proxy):
    """How a connection ended that was cut as soon as it was made, maybe before we knew it was."""
    try:
        with socket.create_connection((proxy.host, proxy.port), 5) as client:
            return ending(client)[1]
    except ConnectionResetError:
        return "reset"


def soon(question):
    """Whether something becomes true within 5 seconds."""
    until = time.monotonic() + 5
    while not question() and time.monotonic() < until:
        time.sleep(0.002)
    return question()


def test_without_faults_everything_passes_unchanged(proxy, client):
    """A megabyte, both ways, and the counts say so."""
    data = bytes(range(256)) * 4_000
    writer = threading.Thread(target=client.sendall, args=(data,))
    writer.start()
    got = b""
    while len(got) < len(data) and (piece := client.recv(65_536)):
        got += piece
    writer.join(5)

    assert got == data
    counts = proxy.counts
    assert (counts.connections, counts.open) == (1, 1)
    assert (counts.bytes_up, counts.bytes_down) == (len(data) + 1, len(data) + 1)
    assert (counts.swallowed_up, counts.swallowed_down, dict(counts.faults)) == (0, 0, {})


def test_the_end_of_a_client_reaches_the_target(proxy, server, client):
    """A closed connection is closed at both ends, and not open any more."""
    client.shutdown(socket.SHUT_WR)

    assert ending(client) == (b"", "end")
    assert soon(lambda: server.endings == ["end"] and proxy.counts.open == 0)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_latency_delays_one_direction(proxy, client, direction):
    """Each byte comes so much later, whichever way is slow; and ways add up."""
    proxy.set(direction, latency_s=0.06)
    assert 0.06 <= duration_s(echoed, client, b"b") < SECOND

    proxy.set("both", latency_s=0.06)
    assert 0.12 <= duration_s(echoed, client, b"b") < SECOND
    assert proxy.counts.faults["latency_s"] == 3


def test_latency_does_not_bound_what_passes_per_second(proxy, client):
    """Fifty pieces sent one after another are under way together, not one after another."""
    proxy.set("down", latency_s=0.1)

    def fifty():
        for _ in range(50):
            client.sendall(b"b")
            time.sleep(0.001)
        got = 0
        while got < 50:
            got += len(client.recv(50))

    assert 0.1 <= duration_s(fifty) < SECOND


def test_jitter_delays_unevenly_and_keeps_the_order(proxy, client):
    """Pieces come in order, at moments drawn anew for each."""
    proxy.set("up", jitter_s=0.02)
    spent = [duration_s(echoed, client, bytes([n])) for n in range(10)]

    assert max(spent) - min(spent) > 0.002
    assert echoed(client, bytes(range(100))) == bytes(range(100))


def test_bandwidth_bounds_bytes_per_second(proxy, client):
    """20 kB at 100 kB/s take 0.2 s."""
    proxy.set("down", bandwidth_bytes_per_s=100_000)

    assert 0.15 <= duration_s(echoed, client, bytes(20_000)) < SECOND


def test_slices_come_as_single_small_pieces(proxy, client):
    """A reader who is awake sees pieces no larger than asked, most of them of that size."""
    proxy.set("down", slice_bytes=3)
    client.sendall(bytes(30))
    pieces = []
    while sum(pieces) < 30:
        pieces.append(len(client.recv(100)))

    assert len(pieces) >= 3
    assert proxy.counts.faults["slice_bytes"] == 9


def test_a_stall_holds_back_and_loses_nothing(proxy, client):
    """Nothing comes until it is told to go on; then all of it does."""
    proxy.set("up", stall=True)
    client.sendall(b"late")
    assert is_silent(client)

    proxy.set(stall=False)
    assert client.recv(5) == b"late"


def test_a_stall_for_a_time_ends_by_itself(proxy, client, dial):
    """The seconds count from the call, for connections made later, too."""
    proxy.set(stall=0.5)

    assert 0.4 <= duration_s(echoed, client, b"b") < 2 * SECOND
    assert duration_s(echoed, dial(), b"b") < 0.4


def test_a_stalled_proxy_stops_reading(proxy, client):
    """The sender feels a full window at last: what a stall holds is bounded."""
    proxy.set("up", stall=True)
    client.settimeout(0.2)

    with pytest.raises(TimeoutError):
        client.sendall(bytes(30_000_000))


def test_a_stall_after_bytes_begins_in_the_middle(proxy, client):
    """The first bytes of an answer come, the rest only when the stall is ended."""
    proxy.set("down", stall_after_bytes=4)
    client.sendall(b"middle")
    assert client.recv(10) == b"midd"
    assert is_silent(client)

    proxy.heal()
    assert client.recv(10) == b"le"
    assert proxy.counts.faults["stall_after_bytes"] == 1


def test_a_black_hole_takes_everything_and_passes_nothing(proxy, server, client):
    """Bytes and the end of the connection: the target hears of neither."""
    proxy.set("up", black_hole=True)
    client.sendall(bytes(1_000))
    assert is_silent(client)
    client.shutdown(socket.SHUT_WR)

    assert soon(lambda: proxy.counts.swallowed_up == 1_000)
    assert (proxy.counts.bytes_up, server.endings) == (1, [])


def test_a_connection_that_lost_bytes_stays_lost(proxy, client, dial):
    """After healing new connections work; a stream with a hole is never delivered."""
    proxy.set("up", black_hole=True)
    client.sendall(b"b")
    assert soon(lambda: proxy.counts.swallowed_up == 1)
    proxy.heal()
    client.sendall(b"c")

    assert is_silent(client)
    assert echoed(dial(), b"d") == b"d"


def test_an_end_is_swallowed_where_its_word_would_travel(proxy, server, client):
    """The client has gone into a black hole: the target goes on sending and hears nothing."""
    proxy.set("up", black_hole=True)
    client.close()

    assert soon(lambda: proxy.counts.faults.get("black_hole") == 1)
    assert (server.endings, proxy.counts.open) == ([], 1)


def test_reset_ends_both_sides_with_an_error(proxy, server, client, dial):
    """Each end of each open connection sees a reset; the next connection is fine."""
    assert proxy.reset() == 1

    assert ending(client) == (b"", "reset")
    assert soon(lambda: server.endings == ["ECONNRESET"])
    assert echoed(dial(), b"b") == b"b"


def test_reset_after_bytes_passes_just_so_many(proxy, server, client):
    """The bytes before come through, those after do not; counted from now."""
    proxy.set("up", reset_after_bytes=10)
    client.sendall(bytes(25))
    assert ending(client)[1] == "reset"
    assert soon(lambda: server.endings == ["ECONNRESET"])
    assert proxy.counts.bytes_up == 11

    proxy.set("up", reset_after_bytes=0)
    assert ending_of_a_new_one(proxy) == "reset"
    assert proxy.counts.faults["reset_after_bytes"] == 2


def test_close_after_bytes_delivers_them_and_ends_in_order(proxy, server, client):
    """The client gets ten bytes of the answer and then an end, not an error."""
    proxy.set("down", close_after_bytes=10)
    client.sendall(bytes(25))

    assert ending(client) == (bytes(10), "end")
    assert soon(lambda: server.endings == ["end"])
    client.close()
    assert soon(lambda: proxy.counts.open == 0)


def test_close_connections_ends_both_sides_in_order(proxy, server, client):
    """Both ends read an end."""
    assert proxy.close_connections() == 1

    assert ending(client) == (b"", "end")
    assert soon(lambda: server.endings == ["end"])


def test_a_half_open_connection_up_lets_the_client_believe(proxy, server, client):
    """The target's end is closed; the client may send for ever and hears nothing."""
    assert proxy.half_open("up") == 1
    assert soon(lambda: server.endings == ["end"])
    client.sendall(b"b")

    assert is_silent(client)
    assert soon(lambda: proxy.counts.swallowed_up == 1)
    client.close()
    assert soon(lambda: proxy.counts.open == 0)


def test_a_half_open_connection_down_lets_the_target_believe(proxy, server, client):
    """The client's end is closed; the target is told nothing."""
    proxy.half_open("down")

    assert ending(client) == (b"", "end")
    assert (server.endings, proxy.counts.open) == ([], 1)


def test_refuse_refuses_new_connections_only(proxy, client, dial):
    """Those that are open go on; the port is the same after it accepts again."""
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        dial()
    assert echoed(client, b"b") == b"b"

    proxy.accept()
    assert echoed(dial(), b"b") == b"b"


def test_ignore_answers_no_attempt_to_connect(proxy, client):
    """Connecting takes as long as the caller has patience; open connections go on."""
    proxy.ignore()
    with pytest.raises(TimeoutError):
        socket.create_connection((proxy.host, proxy.port), 0.2)

    assert echoed(client, b"b") == b"b"


def test_faults_of_new_and_of_open_connections_are_apart(proxy, client, dial):
    """``on`` says whom a setting concerns."""
    proxy.set(on="new", black_hole=True)
    assert echoed(client, b"b") == b"b"
    lost = dial()
    lost.sendall(b"b")
    assert is_silent(lost)

    proxy.set(black_hole=False)
    proxy.set(on="open", black_hole=True)
    client.sendall(b"c")
    assert is_silent(client)
    assert echoed(dial(), b"d") == b"d"


def test_a_target_that_is_not_there_resets():
    """The client is let in and cut; the log says why."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = gone.getsockname()
    with FaultProxy(nobody) as proxy:
        assert ending_of_a_new_one(proxy) == "reset"
        assert f"no connection to 127.0.0.1:{nobody[1]}" in proxy.log[-1]


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("http://127.0.0.1:81", "http://127.0.0.1:{}"),
        ("https://127.0.0.1", "https://127.0.0.1:{}"),
        ("localhost:81", "127.0.0.1:{}"),
        (("127.0.0.1", 81), "127.0.0.1:{}"),
    ],
)
def test_the_url_is_the_targets_with_its_own_port(target, url):
    """What a client of the target takes, it takes of the proxy."""
    with FaultProxy(target) as proxy:
        assert proxy.url == url.format(proxy.port)


@pytest.mark.parametrize(
    "target",
    ["localhost", "http://", "a:b", "ftp://there", ("localhost", "b"), ("localhost",), 80, None],
)
def test_a_target_without_a_port_is_refused(target):
    """The error names the value."""
    with pytest.raises(UsageError, match="names no port"):
        FaultProxy(target)


@pytest.mark.parametrize(
    "changes",
    [
        {"latency_s": -1},
        {"latency_s": None},
        {"latency_s": True},
        {"slice_bytes": 0},
        {"bandwidth_bytes_per_s": 0},
        {"black_hole": 1},
        {"stall": "yes"},
        {"stall": float("nan")},
        {"rest": 1},
    ],
)
def test_a_fault_that_cannot_be_is_refused(proxy, changes):
    """Name and value stand in the error, and nothing is set."""
    with pytest.raises(UsageError, match=next(iter(changes))):
        proxy.set(**changes)
    assert "up: healthy; down: healthy" in repr(proxy)


def test_directions_and_whom_are_checked(proxy):
    """Words that mean nothing are refused."""
    with pytest.raises(UsageError, match="sideways"):
        proxy.set("sideways", latency_s=1)
    with pytest.raises(UsageError, match="one direction"):
        proxy.half_open("both")
    with pytest.raises(UsageError, match="some"):
        proxy.set(on="some", latency_s=1)


def test_repr_and_log_say_what_is_set(proxy):
    """What is in force stands in the repr, what was asked in the log."""
    proxy.set("up", latency_s=0.5)
    assert "up: latency_s=0.5; down: healthy" in repr(proxy)
    assert proxy.log[-1].endswith("up: latency_s=0.5 (on all)")


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_of_each_kind_lies_within_its_time(kind):
    """Steps are of the kind, in order, do not overlap, and end in time."""
    steps = plan(1, 20, kinds=[kind]).steps
    ends = [step.at_s + step.lasts_s for step in steps]

    assert steps
    assert {step.kind for step in steps} == {kind}
    assert all(end < later.at_s for end, later in zip(ends, steps[1:], strict=False))
    assert ends[-1] <= 20


def test_equal_seeds_mean_equal_plans():
    """The same arguments draw the same steps; another seed draws others; repr draws it again."""
    drawn = plan("storm", 5, kinds=("stall", "reset"))

    assert plan("storm", 5, kinds=("stall", "reset")) == drawn
    assert plan("calm", 5, kinds=("stall", "reset")).steps != drawn.steps
    assert eval(repr(drawn), {"plan": plan}) == drawn
    assert str(drawn).splitlines()[1:] == [str(step) for step in drawn.steps]


@pytest.mark.parametrize(
    "arguments", [{"kinds": ["rain"]}, {"kinds": []}, {"every_s": (0, 1)}, {"lasting_s": (2, 1)}]
)
def test_a_plan_that_cannot_be_is_refused(arguments):
    """Unknown kinds and empty spans are errors."""
    with pytest.raises(UsageError):
        plan(1, **arguments)


def test_a_disturbance_does_its_plan_and_leaves_all_well(proxy, dial):
    """Every step stands in the log, in order; afterwards connections are as before."""
    quick = {"every_s": (0.005, 0.01), "lasting_s": (0.005, 0.01)}
    with proxy.disturb(3, 0.3, **quick) as disturbance:
        assert disturbance.wait(5)

    assert disturbance.plan == plan(3, 0.3, **quick)
    assert disturbance.is_over
    done = [line.strip().split("  ", 1)[1] for line in proxy.log]
    begun = done[done.index(f"disturb: {disturbance.plan!r}") + 1 :]
    for step in disturbance.plan.steps:
        words = next(iter(step.changes), "close" if step.kind == "close" else step.kind)
        assert any(words in line for line in begun), (step, begun)
    assert "accept; up: healthy; down: healthy" in repr(proxy)
    assert echoed(dial(), b"b") == b"b"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_faults_that_lose_nothing_change_nothing(proxy, client, seed):
    """Whatever is late, slow, cut up or held back: the stream is the same, byte for byte."""
    data = random.Random(seed).randbytes(100_000)
    lossless = ("latency", "bandwidth", "slice", "stall")

    def write():
        for at in range(0, len(data), 1_000):
            client.sendall(data[at : at + 1_000])
            time.sleep(0.003)  # so that it lasts as long as the faults do

    writer = threading.Thread(target=write)
    with proxy.disturb(
        seed, 0.4, kinds=lossless, every_s=(0.005, 0.02), lasting_s=(0.01, 0.05)
    ) as disturbance:
        writer.start()
        got = b""
        while len(got) < len(data) and (piece := client.recv(65_536)):
            got += piece
        assert got == data, disturbance
    writer.join(5)
    assert len(proxy.counts.faults) >= 2


def test_a_disturbance_that_is_stopped_takes_its_step_back(proxy, client):
    """The stall that is in force ends with it, and another may begin; two at once may not."""
    stalls = {"kinds": ["stall"], "every_s": (0.001, 0.001), "lasting_s": (30, 30)}
    disturbance = proxy.disturb(1, 40, **stalls)
    assert soon(lambda: "stalled_until" in repr(proxy))
    with pytest.raises(UsageError, match="still under way"):
        proxy.disturb(2)
    disturbance.stop()

    assert echoed(client, b"b") == b"b"
    proxy.disturb(2, 0.01).stop()


def test_a_closed_proxy_ends_its_connections_and_says_so(server):
    """Both ends hear of it, the port is free, and nothing more can be asked; twice is fine."""
    proxy = FaultProxy(server.address)
    client = socket.create_connection((proxy.host, proxy.port), 5)
    assert echoed(client, b"a") == b"a"
    proxy.disturb(1, 60)
    proxy.close()
    proxy.close()

    assert ending(client)[0] == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((proxy.host, proxy.port), 5)
    with pytest.raises(UsageError, match="closed"):
        proxy.set(latency_s=1)
    with pytest.raises(UsageError, match="closed"):
        proxy.disturb(1)
    client.close()


SCRIPT = """
    {patch}
    import socket, time
    from threading import Thread
    from flowkit.testing import FaultProxy

    door = socket.create_server(("127.0.0.1", 0))
    def echo(connected):
        while data := connected.recv(100):
            connected.sendall(data)
    def let_in():
        while True:
            Thread(target=echo, args=(door.accept()[0],), daemon=True).start()
    Thread(target=let_in, daemon=True).start()
    with FaultProxy(door.getsockname()) as proxy:
        client = socket.create_connection((proxy.host, proxy.port), 5)
        client.sendall(b"a")
        print(client.recv(1))
        proxy.set(latency_s=0.05)
        began = time.monotonic()
        client.sendall(b"b")
        print(client.recv(1), 0.1 <= time.monotonic() - began < 1)
        proxy.refuse()
        try:
            socket.create_connection((proxy.host, proxy.port), 5)
        except ConnectionRefusedError:
            print("refused")
        print(proxy.reset())
        try:
            print("closed" if client.recv(1) == b"" else "open")
        except ConnectionResetError:
            print("reset")
"""


@pytest.mark.slow
@pytest.mark.parametrize("by", ["gevent", "eventlet"])
def test_it_is_the_same_in_a_patched_process(by):
    """Latency, refusal and reset, from patched sockets: its loop is on a thread of the system."""
    patch, ending = "from gevent import monkey; monkey.patch_all()", "reset"
    if by == "eventlet":
        needs_eventlet()
        patch, ending = "import eventlet; eventlet.monkey_patch()", "closed"  # all that it shows
    printed = run_process(SCRIPT.format(patch=patch))

    assert printed.splitlines() == ["b'a'", "b'b' True", "refused", "1", ending]
