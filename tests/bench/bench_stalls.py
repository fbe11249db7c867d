"""How long one large request holds up everybody else.

A server in a process of its own. Beside it another account creates single drops at a steady pace;
each is timed from the moment it was due, so that what waits behind a stall counts as late, too. In
turn the large requests of a device or of a script are sent, one after the other, with a breath
between them. ``QUICK=1`` sends fewer of them; ``ONLY=arrays,digests`` only those.
"""

import base64
import hashlib
import http.client
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from server_process import ServerProcess  # noqa: E402

TIMES = 2 if os.environ.get("QUICK") else 3
BREATH_S = 0.5
WORKERS = 8
PERIOD_S = 0.08
"""Each worker of the probe creates one drop in so many seconds: 100 a second of all together."""

MIB = 1 << 20
PIECE = 512 * 1024
BOX = secrets.token_hex(16)
ELEMS = {"temp": 21.5, "humidity": 40, "state": "ok"}


class Caller:
    """One connection with one token."""

    def __init__(self, url: str, account: str, token: str) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
        self.prefix = f"/v4.0/{account}"
        self.headers = {"X-Auth-Token": token}

    def ask(self, method: str, path: str, body: bytes | object = b"") -> object:
        """The body of the answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request(method, self.prefix + path, data, self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise AssertionError(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text)["body"]


# The probe: a process of its own


def probe(url: str, token: str) -> None:
    """Create single drops until the input ends; print how late each was, and what it took, in s."""
    late: list[float] = []
    taken: list[float] = []
    has_ended = threading.Event()

    def work(number: int) -> None:
        caller = Caller(url, "bob", token)
        due = time.perf_counter() + PERIOD_S * number / WORKERS
        while not has_ended.wait(max(0.0, due - time.perf_counter())):
            began = time.perf_counter()
            caller.ask("POST", "/drop", {"path": "/bob/probe", "elems": ELEMS})
            taken.append(time.perf_counter() - began)
            late.append(time.perf_counter() - due)
            due += PERIOD_S

    workers = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    print("ready", flush=True)
    sys.stdin.read()
    has_ended.set()
    for worker in workers:
        worker.join()
    print(json.dumps([late, taken]))


class Beside:
    """The probe, for as long as a context lasts."""

    def __init__(self, url: str, token: str) -> None:
        self.command = [sys.executable, __file__, "probe", url, token]

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *exc: object) -> None:
        said, _ = self.process.communicate(timeout=60)
        self.late, self.taken = (sorted(each) for each in json.loads(said))

    def told(self, late: list[float] | None = None) -> str:
        """The quantiles of how late they were, or of something else, in milliseconds."""
        late = self.late if late is None else late
        p50, p99 = late[len(late) // 2], late[int(len(late) * 0.99)]
        return f"{p50 * 1e3:9.1f} {p99 * 1e3:9.1f} {late[-1] * 1e3:9.1f}"


# The large requests


class Line:
    """The numbers of a stream of the outbox."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(4)
        self.at, self.last = 0, ""

    def origin(self) -> dict[str, object]:
        """The origin of the next entry."""
        self.at += 1
        message = secrets.token_hex(8)
        found = {"box": BOX, "stream": self.name, "sequence": self.at, "message": message}
        if self.last:
            found["after"] = self.last
        self.last = message
        return found


def plain(_device: Caller | None, _line: Line) -> bytes:
    """An array of drops."""
    return json.dumps([{"path": "/nora/field", "elems": ELEMS}] * 10_000).encode()


def evicting(_device: Caller | None, _line: Line) -> bytes:
    """An array of drops for a Flow that is full."""
    return json.dumps([{"path": "/nora/full", "elems": ELEMS}] * 10_000).encode()


def numbered(_device: Caller, line: Line) -> bytes:
    """An array of drops, each with its place in a line."""
    one = {"path": "/nora/field", "elems": ELEMS}
    return json.dumps([{**one, "origin": line.origin()} for _ in range(10_000)]).encode()


def messages(_device: Caller, line: Line) -> bytes:
    """An array of messages to a stream."""
    one = {"message": {"group": "g", "stream": "air", "elems": ELEMS}}
    return json.dumps([{**one, "origin": line.origin()} for _ in range(10_000)]).encode()


def upload(device: Caller, message: str, size: int) -> dict[str, object]:
    """So many bytes as an upload; what its claim says."""
    summed = hashlib.sha256()
    block = secrets.token_bytes(PIECE)
    count = size // PIECE
    for number in range(count):
        data = number.to_bytes(4) + block[4:]
        summed.update(data)
        device.ask("PUT", f"/upload/{BOX}/{message}/{number}", data)
    return {"pieces": count, "bytes": size, "sha256": summed.hexdigest()}


def digested(device: Caller, line: Line) -> bytes:
    """A message whose payload is an upload of 64 MiB."""
    origin = line.origin()
    claim = upload(device, origin["message"], 64 * MIB)
    said = {"group": "g", "stream": "air", "upload": claim}
    return json.dumps([{"message": said, "origin": origin}]).encode()


def _chunks(device: Caller, line: Line, size: int) -> list[dict[str, dict[str, object]]]:
    name, entries = secrets.token_hex(8), []
    for number in range(64 * MIB // size):
        origin = line.origin()
        said = {"group": "g", "stream": "air", "messageId": name, "chunkId": f"c{number}"}
        said["upload"] = upload(device, origin["message"], size)
        entries.append({"message": said, "origin": origin})
    entries[-1]["message"]["complete"] = "message"
    return entries


def joined(device: Caller, line: Line) -> bytes:
    """A message in 64 chunks of 1 MiB, each an upload, and its completion, in one request."""
    return json.dumps(_chunks(device, line, MIB)).encode()


def completed(device: Caller, line: Line) -> bytes:
    """The completion of a message in four chunks of 16 MiB that have come before."""
    entries = _chunks(device, Line(), 16 * MIB)
    del entries[-1]["message"]["complete"]
    device.ask("POST", "/drop", entries)
    name = entries[0]["message"]["messageId"]
    said = {"group": "g", "stream": "air", "messageId": name, "complete": "message"}
    return json.dumps([{"message": said, "origin": line.origin()}]).encode()


def concatenated(device: Caller, line: Line) -> bytes:
    """Four messages of 15 MiB in a batch whose payloads become one, and its end."""
    batch, entries = secrets.token_hex(8), []
    for _ in range(4):
        origin = line.origin()
        said = {"group": "g", "stream": "day", "batchId": batch}
        said["upload"] = upload(device, origin["message"], 15 * MIB)
        entries.append({"message": said, "origin": origin})
    entries[-1]["message"]["complete"] = "batch"
    return json.dumps(entries).encode()


def object_of_a_mebibyte(device: Caller, line: Line) -> bytes:
    """Eight messages of nearly 1 MiB each that are JSON objects."""
    entries = []
    text = json.dumps({f"e{number}": number / 7 for number in range(32_000)}).encode()
    for _ in range(8):
        said = {"group": "g", "stream": "air", "data": base64.b64encode(text).decode()}
        entries.append({"message": said, "origin": line.origin()})
    return json.dumps(entries).encode()


LARGE = {
    "arrays": ("array of 10,000 drops", plain),
    "origins": ("array of 10,000 drops with origin", numbered),
    "evictions": ("array of 10,000 drops, full Flow", evicting),
    "messages": ("array of 10,000 messages", messages),
    "digests": ("message of 64 MiB, uploaded", digested),
    "joins": ("64 uploaded chunks of 1 MiB, joined", joined),
    "completions": ("completion of 4 chunks of 16 MiB", completed),
    "batches": ("batch of 4 uploads of 15 MiB, joined", concatenated),
    "objects": ("8 messages that are objects of 1 MiB", object_of_a_mebibyte),
}


def send(sender: Caller, body: bytes) -> float:
    """Send a large request, of which nothing may be refused; the seconds that it took."""
    began = time.perf_counter()
    answers = sender.ask("POST", "/drop", body)
    taken = time.perf_counter() - began
    refused = [each for each in answers if "errors" in each]
    assert not refused, refused[0]
    return taken


def crowd(server: ServerProcess, token: str, bob: str) -> None:
    """Four senders of arrays at once, each as fast as it is answered."""
    body = evicting(None, Line())
    with Beside(server.url, bob) as beside:
        callers = [Caller(server.url, "nora", token) for _ in range(4)]
        began = time.perf_counter()
        senders = [
            threading.Thread(target=lambda who=who: [send(who, body) for _ in range(TIMES)])
            for who in callers
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        middle = (time.perf_counter() - began) / TIMES * 1e3
    print(f"  {'full Flow, 4 arrays of 10,000 at once':<40} {beside.told()} {middle:9.0f}")
    print(f"  {'  from sending to answer':<40} {beside.told(beside.taken)}", flush=True)


def measure(server: ServerProcess, nora: Caller, device: Caller, bob: str) -> None:
    """A line for each kind of large request."""
    print(f"  {'late, in ms':<40} {'p50':>9} {'p99':>9} {'most':>9} {'request':>9}")
    with Beside(server.url, bob) as beside:
        time.sleep(3)
    print(f"  {'nothing else at work':<40} {beside.told()}", flush=True)
    crowd(server, nora.headers["X-Auth-Token"], bob)
    only = os.environ.get("ONLY")
    for name in only.split(",") if only else LARGE:
        title, make = LARGE[name]
        line, taken = Line(), []
        sender = nora if make in (plain, numbered, evicting) else device
        with Beside(server.url, bob) as uploading:
            bodies = [make(device, line) for _ in range(TIMES)]
        if make in (digested, completed):
            print(f"  {'  its pieces':<40} {uploading.told()}", flush=True)
        with Beside(server.url, bob) as beside:
            for body in bodies:
                time.sleep(BREATH_S)
                taken.append(send(sender, body))
            time.sleep(BREATH_S)
        middle = sorted(taken)[len(taken) // 2] * 1e3
        print(f"  {title:<40} {beside.told()} {middle:9.0f}", flush=True)


def main() -> None:
    """Start a server with two accounts and a device, and measure."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DISK")) as folder:
        data = Path(folder) / "data"
        add = [sys.executable, "-m", "flowkit", "account", "add", "bob", "--data", str(data)]
        with ServerProcess(data) as server:
            nora_token = server.secret
            server.end()
        said = subprocess.run(add, check=True, capture_output=True, text=True).stdout
        bob_token = max(said.split(), key=len)
        with ServerProcess(data) as server:
            bob = Caller(server.url, "bob", bob_token)
            bob.ask("POST", "/flow", {"path": "/bob/probe", "capacity": 1_000})
            nora = Caller(server.url, "nora", nora_token)
            nora.ask("POST", "/flow", {"path": "/nora/field", "capacity": 100_000})
            nora.ask("POST", "/flow", {"path": "/nora/full", "capacity": 10_000})
            many = {"group": "g", "messageIdPattern": "{uuid}", "isDefaultGroup": True}
            nora.ask("POST", "/stream", {**many, "name": "air"})
            day = {"batching": True, "concatenation": "plain", "name": "day"}
            nora.ask("POST", "/stream", {**many, **day})
            made = nora.ask("POST", "/device", {"path": "/nora/field"})
            token = nora.ask("GET", f"/token/{made['tokenId']}")["tokenString"]
            measure(server, nora, Caller(server.url, "nora", token), bob_token)


if __name__ == "__main__":
    if sys.argv[1:2] == ["probe"]:
        probe(*sys.argv[2:])
    else:
        main()
