"""A subscriber and a writer that measure how late a push is, and a load beside them.

``write``: prints two lists in JSON: seconds from the answer to each write until the callback, below
0 where the push was faster, and seconds from the beginning of the write. ``load``: writes to other
flows until it is ended. The second argument says where, in JSON.
"""

import json
import sys
import threading
import time

WRITES = 500
PAUSE_S = 0.004
LOAD_FLOWS = 10
LOAD_PER_S = 300


def connect(place: dict):
    """An API on the server."""
    from flowkit import API, Token

    return API(Token("bench", place["token"]), host=place["url"])


def write(place: dict) -> None:
    """Write one after the other; a callback in a thread of its own notes when each came."""
    came: dict[int, float] = {}
    done: dict[int, tuple[float, float]] = {}
    confirmed, all_came = threading.Event(), threading.Event()

    def on_drop(drop) -> None:
        came[drop["elems"]["n"]] = time.perf_counter()
        if len(came) == WRITES:
            all_came.set()

    with connect(place) as api, api.websocket.connect() as ws:
        ws.subscribe(place["flow"], lambda *_: confirmed.set(), filter="temp >= 0", on_drop=on_drop)
        if not confirmed.wait(10):
            raise AssertionError("not subscribed")
        flow = api.drop(place["flow"])
        for n in range(WRITES):
            start = time.perf_counter()
            flow.create({"elems": {"n": n, "temp": n % 100}})
            done[n] = (start, time.perf_counter())
            time.sleep(PAUSE_S)
        if not all_came.wait(10):
            raise AssertionError(f"{len(came)} of {WRITES} came")
    after_answer = [came[n] - answered for n, (_, answered) in done.items()]
    print(json.dumps([after_answer, [came[n] - start for n, (start, _) in done.items()]]))


def load(place: dict) -> None:
    """Single drops into other flows, evenly."""
    with connect(place) as api:
        flows = [
            api.drop(api.flow.create({"path": f"/bench/load{n}"})["id"]) for n in range(LOAD_FLOWS)
        ]
        due, step = time.perf_counter(), 0
        while True:
            flows[step % LOAD_FLOWS].create({"elems": {"n": step, "temp": step % 100}})
            step += 1
            due = max(due + 1 / LOAD_PER_S, time.perf_counter() - 0.1)
            time.sleep(max(0.0, due - time.perf_counter()))


if __name__ == "__main__":
    what, where = sys.argv[1:]
    (write if what == "write" else load)(json.loads(where))
