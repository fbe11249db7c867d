"""Many callers on one flow of one platform: what each of them may see at any moment.

Writers, readers, somebody who changes the capacity and somebody who deletes the flow are plain
threads on ``App.handle``; the store is the real one. Every thread ends by itself.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from flowkit.server.store.sqlite import FILE_NAME
from flowkit.server.store.verify import verify
from tests.server.visitor import visiting

WRITES = 150


@pytest.fixture
def nora(tmp_path):
    """An account on a platform whose file is sound when everything is over."""
    with visiting(tmp_path / "data") as (nora, _):
        yield nora
    assert verify(tmp_path / "data" / FILE_NAME) == []


def side_by_side(*works: Callable[[], Any]) -> list[Any]:
    """Run every work in a thread of its own; what they gave back, or the first error."""
    given: list[Any] = [None] * len(works)
    faults: list[BaseException] = []

    def run(at: int, work: Callable[[], Any]) -> None:
        try:
            given[at] = work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            faults.append(error)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return given


def while_written(nora, flow, bodies: Sequence[Any], look: Callable[[], Any]) -> list[list[Any]]:
    """Write *bodies* from four threads, and *look* from two others until all is written."""
    written = threading.Semaphore(0)

    def write() -> list[Any]:
        try:
            return [nora.ask("POST", f"/drop/{flow['id']}", body) for body in bodies]
        finally:
            written.release()

    over = threading.Event()

    def look_on() -> None:
        while not over.is_set():
            look()

    def wait() -> None:
        for _ in range(4):
            written.acquire()
        over.set()

    return side_by_side(*[write] * 4, look_on, look_on, wait)[:4]


def test_no_reader_ever_sees_more_than_the_capacity(nora):
    """Single drops, arrays and replaced drops: a find never holds a fourth drop."""
    flow = nora.flow("/nora/small", capacity=3)
    bodies: list[Any] = [{"elems": {"n": n}, "fhash": str(n % 5)} for n in range(WRITES)]
    bodies[::4] = [[{"elems": {"n": at}} for at in range(7)]] * len(bodies[::4])

    def look() -> None:
        found = nora.ask("GET", f"/drop/{flow['id']}?limit=100")
        assert found.status == 200
        assert len(found.body) <= 3
        assert len({drop["id"] for drop in found.body}) == len(found.body)

    answers = while_written(nora, flow, bodies, look)

    assert {answer.status for each in answers for answer in each} <= {200, 201}
    assert len(nora.ask("GET", f"/drop/{flow['id']}").body) == 3


def test_a_capacity_that_changes_under_load_holds_from_its_answer_on(nora):
    """Whoever lowered the capacity, down to nothing, sees no more than that from then on."""
    flow = nora.flow("/nora/breathing", capacity=10)
    chance = random.Random(1)
    changing = threading.Lock()

    def look() -> None:
        with changing:
            most = chance.choice([0, 1, 5, 10])
            assert nora.ask("PUT", f"/flow/{flow['id']}", {"capacity": most}).status == 200
            for _ in range(3):
                assert len(nora.ask("GET", f"/drop/{flow['id']}?limit=100").body) <= most

    answers = while_written(nora, flow, [{"elems": {}}] * WRITES, look)

    assert {answer.status for each in answers for answer in each} == {201}


def test_a_flow_deleted_under_load_ends_with_404_for_everybody(nora):
    """Every write is answered 201 before and 404 after; nothing of the flow is left."""
    flow = nora.flow("/nora/short", capacity=50)
    enough = threading.Semaphore(0)

    def put(number: int) -> int:
        body = {"elems": {"n": number}, "fhash": str(number % 70)}
        return int(nora.ask("POST", f"/drop/{flow['id']}", body).status)

    def write() -> list[int]:
        statuses = [put(0)]
        while statuses[-1] != 404:
            statuses.append(put(len(statuses)))
            enough.release()
        return [*statuses, put(0), put(1)]

    def delete() -> int:
        for _ in range(WRITES):
            enough.acquire()
        return int(nora.ask("DELETE", f"/flow/{flow['id']}").status)

    *written, deleted = side_by_side(write, write, write, delete)

    assert deleted == 200
    for statuses in written:
        assert set(statuses[:-3]) <= {200, 201}
        assert statuses[-3:] == [404, 404, 404]
    assert nora.ask("GET", f"/drop/{flow['id']}").status == 404
    assert nora.ask("GET", "/flow").body == []


def test_one_request_id_sent_at_once_is_done_once(nora):
    """Sixteen threads send the same write with the same id: one drop, one answer for all."""
    flow = nora.flow("/nora/once")
    together = threading.Barrier(16)

    def write() -> Any:
        together.wait()
        headers = {"x-request-id": "same"}
        made = nora.ask("POST", f"/drop/{flow['id']}", {"elems": {"n": 1}}, headers=headers)
        return made.status, made.body["id"]

    answers = set(side_by_side(*[write] * 16))

    stored = nora.ask("GET", f"/drop/{flow['id']}").body
    assert answers == {(201, drop["id"]) for drop in stored}
    assert len(stored) == 1


@pytest.mark.slow
def test_a_query_that_runs_into_its_deadline_holds_up_no_writer(tmp_path):
    """400 in words after the time that it may take; writes asked for meanwhile are long done."""
    far = " || ".join(f"location WITHIN {m} M OF [{m % 90}, {m % 180}]" for m in range(1, 300))
    with visiting(tmp_path / "data", query_timeout_s=0.5) as (nora, _):
        flow = nora.flow("/nora/wide", capacity=10_000)
        place = {"lat": 45.5, "lon": 45.5}
        made = nora.ask("POST", f"/drop/{flow['id']}", [{"elems": {}, "location": place}] * 10_000)
        assert made.status == 201
        over = threading.Event()

        def ask() -> Any:
            try:
                override = {"x-http-method-override": "GET"}
                query = {"filter": f"NOT ({far})", "sort": "n", "limit": 10_000}
                return nora.ask("POST", f"/drop/{flow['id']}", query, headers=override)
            finally:
                over.set()

        def write() -> bool:
            for number in range(3):
                nora.drop(flow, n=number)
            return not over.is_set()

        refused, was_first = side_by_side(ask, write)

    assert refused.status == 400
    assert refused.errors[0].startswith("The query took longer than 0.5 s and was ended")
    assert was_first
