"""Dependent look-ups, by us and by hand: ``graph_clients.py WAY GRAPH URL TOKEN ITEMS``.

Each item is three reads, each of which needs the answer before. The graph ``thousand``: a flow by
its id, its newest drop, the flow that the drop names. The graph ``quakes``: the flow of a network
by its path, its strongest quake, what else shook within 50 km of that.
Prints seconds, and processor seconds of this process; each way has done one item before. One way a
process, for some patch it.
"""

import asyncio
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import quote

WAY, GRAPH, URL, TOKEN, ITEMS = sys.argv[1:6]
IN_FLIGHT = 64
HEADERS = {"X-Auth-Account": "bench", "X-Auth-Token": TOKEN}
BASE = f"{URL}/v4.0/bench"


def near(mem, place):
    """A filter: at most 50 km from a place."""
    return mem.location.WITHIN(50, "KM", coords=(place["lat"], place["lon"]))


def by_path(network):
    """A filter in words, as in a URL."""
    return quote(f"path == '/bench/quakes/{network}'")


def around(drops):
    """The URL of what lies around the first drop."""
    place = drops[0]["location"]
    condition = f"location WITHIN 50 KM OF [{place['lat']},{place['lon']}]"
    return f"/drop/{drops[0]['flowId']}?limit=100&filter={quote(condition)}"


def services(graph):
    """The three reads with our services: (services, answer before) to the answer."""
    from flowkit import mem

    if graph == "thousand":
        return (
            lambda api, one: api.flow.read(one),
            lambda api, flow: api.drop(flow["id"]).find(limit=1),
            lambda api, drops: api.flow.read(drops[0]["elems"]["next"]),
        )
    return (
        lambda api, network: api.flow.find(mem.path == f"/bench/quakes/{network}"),
        lambda api, flows: api.drop(flows[0]["id"]).find(sort="mag", limit=1),
        lambda api, drops: api.drop(drops[0]["flowId"]).find(
            near(mem, drops[0]["location"]), limit=100
        ),
    )


URLS = {
    "thousand": (
        lambda one: f"/flow/{one}",
        lambda flow: f"/drop/{flow['id']}?limit=1",
        lambda drops: f"/flow/{drops[0]['elems']['next']}",
    ),
    "quakes": (
        lambda network: f"/flow?filter={by_path(network)}",
        lambda flows: f"/drop/{flows[0]['id']}?sort=mag&limit=1",
        around,
    ),
}
"""The same by hand: answer before to URL."""


def starts(flows):
    """What to begin with, from all flows: ids, or the names of networks."""
    if GRAPH == "quakes":
        found = [flow["path"].split("/")[-1] for flow in flows if "/quakes/" in flow["path"]]
    else:
        found = [flow["id"] for flow in flows if "/f/" in flow["path"]]
    return sorted(found)[: int(ITEMS)]


def timed(work, items):
    """Seconds and processor seconds of *work*, which answers the ends of *items*."""
    work(items[:1])
    began, cpu = time.perf_counter(), time.process_time()
    ends = work(items)
    spent = time.perf_counter() - began, time.process_time() - cpu
    check(ends)
    return spent


def check(ends, count=None):
    """All items came to something."""
    if len(ends) != (count or int(ITEMS)) or not all(map(bool, ends)):
        raise AssertionError(f"{len(ends)} of {ITEMS} items")


def ours(work):
    """With an API on the server."""
    from flowkit import API, Token

    with API(Token("bench", TOKEN), host=URL) as api:
        return timed(partial(work, api), starts(api.flow.find(limit=100_000)))


def sequential(api, items):
    """One after the other."""
    first, second, third = services(GRAPH)
    return [third(api, second(api, first(api, item))) for item in items]


def level_by_level(api, items, **options):
    """``async_()``: one batch for each level."""
    calls = api.async_(**options)
    found = items
    for read in services(GRAPH):
        for one in found:
            read(calls, one)
        found = list(calls.results())
    return found


def lazily(api, items, **options):
    """Item by item in a block, as if it were sequential."""
    with api.lazy(**options) as graph:
        ends = sequential(graph, items)
    return [end.unwrap() for end in ends]


def nothing_to_combine():
    """Milliseconds with and without waves, in turn: creates, and reads each of which waits."""
    from flowkit import API, Token

    spans = {}
    with API(Token("bench", TOKEN), host=URL) as api:
        flows = [flow["id"] for flow in api.flow.find(limit=100_000) if "/w/" in flow["path"]]
        for number in range(int(ITEMS)):
            for batch in (True, False) if number % 2 else (False, True):
                lazy = api.lazy(batch=batch)
                began = time.perf_counter()
                made = [lazy.drop(one).create({"elems": {"bench": 1}}) for one in flows[:10]]
                check([drop["id"] for drop in made], 10)
                then = time.perf_counter()
                check([lazy.flow.read(one)["id"] for one in flows[:10]], 10)
                ended = time.perf_counter()
                spans.setdefault(("10 creates", batch), []).append(then - began)
                spans.setdefault(("10 reads, each waited for", batch), []).append(ended - then)
    return [[*case, statistics.median(taken) * 1e3] for case, taken in spans.items()]


def by_requests(run):
    """A shared session of requests; *run* maps a function over the items."""
    import requests

    with requests.Session() as session:
        session.headers.update(HEADERS)
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=IN_FLIGHT))

        def chain(found):
            for url in URLS[GRAPH]:
                found = session.get(BASE + url(found)).json()["body"]
            return found

        items = starts(session.get(f"{BASE}/flow?limit=100000").json()["body"])
        return timed(partial(run, chain), items)


def gevent_pool():
    """What people write: everything patched, a pool, a session."""
    from gevent import monkey

    monkey.patch_all()
    from gevent.pool import Pool

    return by_requests(lambda work, items: Pool(IN_FLIGHT).map(work, items))


def threads():
    """A thread pool and a session."""

    def run(work, items):
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            return list(pool.map(work, items))

    return by_requests(run)


def one_session():
    """A loop and a session."""
    return by_requests(lambda work, items: list(map(work, items)))


def by_grequests():
    """grequests, level by level."""
    import grequests
    import requests

    session = requests.Session()
    session.headers.update(HEADERS)
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=IN_FLIGHT))

    def work(found):
        for url in URLS[GRAPH]:
            wanted = [grequests.get(BASE + url(one), session=session) for one in found]
            found = [answer.json()["body"] for answer in grequests.map(wanted, size=IN_FLIGHT)]
        return found

    items = starts(session.get(f"{BASE}/flow?limit=100000").json()["body"])
    return timed(work, items)


def by_aiohttp():
    """A coroutine for each item."""
    import aiohttp

    async def main():
        connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
        async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:

            async def get(url):
                async with session.get(BASE + url) as answer:
                    return (await answer.json())["body"]

            async def chain(found):
                for url in URLS[GRAPH]:
                    found = await get(url(found))
                return found

            items = starts(await get("/flow?limit=100000"))
            await chain(items[0])
            began, cpu = time.perf_counter(), time.process_time()
            ends = await asyncio.gather(*map(chain, items))
            spent = time.perf_counter() - began, time.process_time() - cpu
            check(ends)
            return spent

    return asyncio.run(main())


WAYS = {
    "lazy()": lambda: ours(lazily),
    "async_(batch=True)": lambda: ours(lambda api, items: level_by_level(api, items, batch=True)),
    "lazy(batch=False)": lambda: ours(lambda api, items: lazily(api, items, batch=False)),
    "async_()": lambda: ours(level_by_level),
    "sequential": lambda: ours(sequential),
    "requests, sequential": one_session,
    "requests, threads": threads,
    "requests, gevent pool": gevent_pool,
    "grequests": by_grequests,
    "aiohttp": by_aiohttp,
    "nothing to combine": nothing_to_combine,
}

if __name__ == "__main__":
    print(json.dumps(WAYS[WAY]()))
