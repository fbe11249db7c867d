"""Aggregation and a filtered find over 100,000 drops: SQL, the Python fallback, PostgreSQL.

All answer the same question from their own tables: ``$count $avg $max`` of an element, grouped by
another one and by the day. The platform is asked through ``App.handle``, so its figures hold
everything but the socket; PostgreSQL is asked over TCP by psycopg, from a JSONB column with no
further index, fsync on. Rows are compared before anything is timed.
"""

import json
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from peers import Absent, postgresql
from timing import show

from flowkit.protocol.envelope import Request
from flowkit.server.app import App
from flowkit.server.auth import ensure_account
from flowkit.server.store.sqlite import open_store

DROPS = 100_000
BATCH = 10_000
TURNS = 5
BENCHES = 20
START_MS = 1_500_000_000_000
GROUPED = {"groupBy": ["bench", "$day"], "output": ["$count", "$avg:temp", "$max:temp"]}
FIND = "filter=temp > 39.5 %26%26 bench == '7'&limit=1000"
SQL = """
    SELECT elems->>'bench', extract(day FROM to_timestamp(created / 1000.0) AT TIME ZONE 'UTC'),
        count(*), avg((elems->>'temp')::float8), max((elems->>'temp')::float8)
    FROM drops GROUP BY 1, 2 ORDER BY 1, 2"""
SQL_FIND = """
    SELECT id, created, elems FROM drops WHERE (elems->>'temp')::float8 > 39.5
    AND elems->>'bench' = '7' ORDER BY created DESC, id DESC LIMIT 1000"""


class Platform:
    """A flow on an app of its own, with a clock that the bench sets."""

    def __init__(self, folder: str) -> None:
        self.now_ms = START_MS
        store = open_store(Path(folder) / "data", clock_ms=lambda: self.now_ms)
        _, self.token = ensure_account(store, "nora")
        self.app = App(store, clock_ms=lambda: self.now_ms)
        self.flow = self.ask("POST", "/flow", {"path": "/nora/bench", "capacity": DROPS})["id"]

    def ask(self, method: str, target: str, body: object = None) -> object:
        """The body of an answer."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"x-auth-token": self.token}
        request = Request.from_target(method, f"/v4.0/nora{target}", headers, data)
        answer = self.app.handle(request)
        assert answer.status in (200, 201), answer.body[:300]
        return json.loads(answer.body)["body"]


def fill(platform: Platform) -> list[tuple[str, int, str]]:
    """Write the drops; id, date and elements of each."""
    draw, rows = random.Random(1), []
    for batch in range(DROPS // BATCH):
        platform.now_ms = START_MS + batch * 24 * 3_600_000
        drops = [
            {
                "elems": {
                    "bench": str(draw.randrange(BENCHES)),
                    "temp": round(draw.uniform(0, 40), 2),
                    "ok": draw.random() < 0.9,
                    "note": "x" * 40,
                }
            }
            for _ in range(BATCH)
        ]
        written = platform.ask("POST", f"/drop/{platform.flow}", drops)
        rows += [(d["id"], d["creationDate"], json.dumps(d["elems"])) for d in written]
    return rows


def table(url: str, rows: list[tuple[str, int, str]]):
    """A connection to a PostgreSQL that holds the same drops."""
    try:
        import psycopg
    except ImportError:
        raise Absent("psycopg is not installed (pip install 'psycopg[binary]')") from None
    connection = psycopg.connect(url, autocommit=True)
    connection.execute("CREATE TABLE drops (id text PRIMARY KEY, created bigint, elems jsonb)")
    with connection.cursor() as cursor, cursor.copy("COPY drops FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    connection.execute("VACUUM ANALYZE drops")
    return connection


def taken(act) -> float:
    """Seconds of the fastest of some turns."""
    times = []
    for _ in range(TURNS):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Print both tables."""
    with ExitStack() as stack:
        platform = Platform(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.callback(platform.app.close)
        rows = fill(platform)
        place = f"/drop/{platform.flow}"
        by_python = {**GROUPED, "output": [*GROUPED["output"], "$second"]}
        wanted = platform.ask("POST", f"{place}/aggregate", GROUPED)
        groups = {
            "SQL": taken(lambda: platform.ask("POST", f"{place}/aggregate", GROUPED)),
            "Python fallback": taken(lambda: platform.ask("POST", f"{place}/aggregate", by_python)),
        }
        found = platform.ask("GET", f"{place}?{FIND}")
        finds = {"flowkit": taken(lambda: platform.ask("GET", f"{place}?{FIND}"))}
        try:
            url = stack.enter_context(postgresql())
            connection = stack.enter_context(table(url, rows))
        except Absent as reason:
            print(f"without PostgreSQL: {reason}", file=sys.stderr)
        else:
            theirs = connection.execute(SQL).fetchall()
            assert {(r["bench"], r["$day"], r["$count"], r["$max:temp"]) for r in wanted} == {
                (bench, int(day), count, most) for bench, day, count, _, most in theirs
            }
            groups["PostgreSQL"] = taken(lambda: connection.execute(SQL).fetchall())
            assert len(connection.execute(SQL_FIND).fetchall()) == len(found)
            finds["PostgreSQL"] = taken(lambda: connection.execute(SQL_FIND).fetchall())
    print(f"{DROPS:,} drops, grouped into {len(wanted)} rows, best of {TURNS}")
    show(groups, "ms", 1000)
    print(f"filtered find, {len(found)} found")
    show(finds, "ms", 1000)


if __name__ == "__main__":
    main()
