"""A device in a process of its own, made to be killed: ``device_worker.py`` and one JSON argument.

It says on standard output, a line each, what has returned: ``A n`` a message was accepted, ``R n``
a reported property, ``H id`` a message from the platform was handed out, ``I id`` and acknowledged,
``X …`` a refusal, ``D n`` (at the end) a dead letter. A line is written after the call returned, so
what is said has happened, and what was killed in between may have.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
from time import monotonic, sleep

from flowkit.device import DeviceClient
from flowkit.errors import FlowKitError, LimitError, OutboxError


def say(*words: object) -> None:
    """One line, at once."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def hear(client: DeviceClient) -> None:
    """Acknowledge what comes."""
    for message in client.messages():
        say("H", message.payload["n"])
        try:
            message.ack()
        except FlowKitError as error:
            say("X", "ack", type(error).__name__)
            continue
        say("I", message.payload["n"])


def enqueue(client: DeviceClient, senders: dict, number: int) -> None:
    """One message: every tenth a large one, every 25th one that is refused for good."""
    name = "ab"[number % 2]
    try:
        if number % 25 == 0:
            senders["strict"].enqueue_message({"n": number})
        elif number % 10 == 0:
            senders[name].enqueue_message(bytes(200_000), message_id=str(number))
        else:
            senders[name].enqueue_message({"n": number})
    except (OutboxError, LimitError) as error:
        say("X", number, type(error).__name__)
        sleep(0.02)
    else:
        say("A", number)


def report(client: DeviceClient, number: int) -> None:
    """One state of the reported properties."""
    try:
        client.update_reported_properties({"n": number, "cycle": number // 1000})
    except (OutboxError, LimitError) as error:
        say("X", number, type(error).__name__)
    else:
        say("R", number)


def settle(client: DeviceClient, seconds: float) -> None:
    """Send everything, then say what is dead and what was dropped."""
    client.wait_enqueued_messages_sent(seconds)
    end = monotonic() + 3.0
    while monotonic() < end and client.state.error:
        sleep(0.05)
    for letter in client.outbox.dead():
        say("D", json.loads(letter.entry)["message"].get("elems", {}).get("n"))
    dropped = [each.facts for each in client.outbox.reports() if each.kind == "dropped"]
    say(
        "S", client.pending.count, sum(int(facts["count"]) for facts in dropped), client.state.error
    )


def main() -> None:
    """Be a device until killed, or until everything is settled."""
    told = json.loads(sys.argv[1])
    if told.get("file_bytes"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (told["file_bytes"], resource.RLIM_INFINITY))
    client = DeviceClient.start(
        told["name"],
        told["token"],
        told["db"],
        told["url"],
        lambda _: None,
        timeout=60,
        wait=False,
        rows_max=told["rows_max"],
        when_full="drop oldest",
    )
    senders = {name: client.create_stream_sender("g", name) for name in ("a", "b", "strict")}
    threading.Thread(target=hear, args=(client,), daemon=True).start()
    say("B")
    if told.get("settle"):
        settle(client, told["settle"])
        client.close(1)
        return
    number = told["first"]
    while True:
        for _ in range(10):
            number += 1
            enqueue(client, senders, number)
        report(client, number)
        sleep(0.005)


if __name__ == "__main__":
    main()
