"""What counting costs the writer: drops per second with statistics and without, side by side.

Each drop counts three times in its own commit, as over HTTP: for its flow, its creator, its caller.
What that costs is said in rates and in processor time, which other programs on the machine change
less; beside it stands the processor time of a whole create, from request to answer. Three stores
take turns, short ones, so that a drift of the disk's or the machine's speed meets all of them: one
that does not count, one that does, and one that makes an upsert for each count at once (what adding
up by commit replaces).
"""

import statistics
import tempfile
import time
from pathlib import Path

from bench_server import in_greenlets

from flowkit import embedded
from flowkit.server.store.base import Writer
from flowkit.server.store.sqlite import open_store

TURNS = 30
SECONDS_PER_TURN = 0.3
UPSERT = (
    "INSERT INTO statistic (id, kind, hour, count) VALUES (?, ?, 1, 1)"
    " ON CONFLICT DO UPDATE SET count = count + 1"
)
KINDS = ("flowDropAdded", "dropCreatedBy", "apiCallByIdentity")


class Contender:
    """A store that counts in one of three ways.

    Args:
        folder: its data folder.
        how: ``not``, ``by commit`` or ``at once``.
    """

    def __init__(self, folder: Path, how: str) -> None:
        self.store = open_store(folder)
        self.how = how

        def prepare(tx: Writer):
            account = tx.create_account("bench", b"0" * 32)
            members = {"path": "/bench/f", "capacity": 100_000}
            return account.identity_id, tx.create_flow(members, creator=account.identity_id)

        self.creator, self.flow = self.store.write(prepare)

    def write(self) -> None:
        """One drop, durable when it returns."""
        self.store.write(self.job)

    def job(self, tx: Writer) -> None:
        """What the writer does."""
        tx.create_drop(tx.flow(self.flow.id), {"elems": {"temp": 21}}, {}, creator=self.creator)
        if self.how == "by commit":
            tx.count(KINDS[0], self.flow.id)
            tx.count(KINDS[1], self.creator)
            tx.count(KINDS[2], self.creator)
        elif self.how == "at once":
            for kind in KINDS:
                tx._connection.execute(UPSERT, (self.creator, kind))

    def turn(self, writers: int) -> tuple[float, float]:
        """Drops per second of one short turn, and microseconds of processor time per drop."""
        until = time.perf_counter() + SECONDS_PER_TURN
        written = 0

        def work() -> None:
            nonlocal written
            while time.perf_counter() < until:
                self.write()
                written += 1

        start, busy = time.perf_counter(), time.process_time()
        in_greenlets(work, writers)
        spent_us = (time.process_time() - busy) * 1e6
        return written / (time.perf_counter() - start), spent_us / written


def create_us(creates: int = 3_000) -> float:
    """Microseconds of processor time of a whole create, without the network."""
    with tempfile.TemporaryDirectory() as folder, embedded(folder, account="bench") as api:
        drops = api.drop(api.flow.create({"path": "/bench/f", "capacity": 100_000})["id"])
        for _ in range(creates // 10):
            drops.create({"elems": {"temp": 21}})
        busy = time.process_time()
        for _ in range(creates):
            drops.create({"elems": {"temp": 21}})
        return (time.process_time() - busy) * 1e6 / creates


def main() -> None:
    """Print the figures."""
    print(f"a create through the application: {create_us():.0f} us of processor time")
    for writers in (1, 32):
        with tempfile.TemporaryDirectory() as folder:
            contenders = [
                Contender(Path(folder) / how.replace(" ", "-"), how)
                for how in ("not", "by commit", "at once")
            ]
            turns: dict[str, list[tuple[float, float]]] = {each.how: [] for each in contenders}
            for turn in range(TURNS + 1):
                order = contenders if turn % 2 else contenders[::-1]
                for each in order:
                    figures = each.turn(writers)
                    if turn:  # the first one warms up
                        turns[each.how].append(figures)
            print(f"{writers} writer(s), the store alone, median of {TURNS} turns:")
            for how, found in turns.items():
                rate, spent = (statistics.median(each) for each in zip(*found, strict=True))
                print(f"  counted {how:<10} {rate:10,.0f} drops/s   {spent:6.1f} us per drop")
            for each in contenders:
                each.store.close()


if __name__ == "__main__":
    main()
