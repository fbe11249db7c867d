"""Dependent look-ups, by us and by hand: ``graph_clients.py WAY URL TOKEN ITEMS``.

Each item is three reads, each of which needs the answer before: a flow by its id, its newest drop,
the flow that the drop names. Prints seconds, and processor seconds of this process. One way a
process, for some patch it.
"""

import asyncio
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

WAY, URL, TOKEN, ITEMS = sys.argv[1:5]
IN_FLIGHT = 64
HEADERS = {"X-Auth-Account": "bench", "X-Auth-Token": TOKEN}
BASE = f"{URL}/v4.0/bench"


def ours(work):
    """With an API on the server; its first request has been made."""
    from flowkit import API, Token

    with API(Token("bench", TOKEN), host=URL) as api:
        api.flow.find(limit=1)
        ids = items(api.flow.find(limit=100_000, only="id"))
        return timed(lambda: work(api, ids))


def items(flows):
    """The ids to begin with."""
    return sorted(flow["id"] for flow in flows)[: int(ITEMS)]


def timed(work):
    """Seconds and processor seconds of *work*, which answers the last flows."""
    began, cpu = time.perf_counter(), time.process_time()
    ends = work()
    spent = time.perf_counter() - began, time.process_time() - cpu
    if len(ends) != int(ITEMS) or not all(end["path"] for end in ends):
        raise AssertionError(f"{len(ends)} of {ITEMS} items")
    return spent


def sequential(api, ids):
    """One after the other."""
    ends = []
    for one in ids:
        flow = api.flow.read(one)
        drop = api.drop(flow["id"]).find(limit=1)[0]
        ends.append(api.flow.read(drop["elems"]["next"]))
    return ends


def level_by_level(api, ids, **options):
    """``async_()``: one batch for each level."""
    calls = api.async_(**options)
    for one in ids:
        calls.flow.read(one)
    for flow in calls.results():
        calls.drop(flow["id"]).find(limit=1)
    for drops in calls.results():
        calls.flow.read(drops[0]["elems"]["next"])
    return list(calls.results())


def lazily(api, ids, **options):
    """Item by item in a block, as if it were sequential."""
    with api.lazy(**options) as graph:
        ends = []
        for one in ids:
            flow = graph.flow.read(one)
            drop = graph.drop(flow["id"]).find(limit=1)[0]
            ends.append(graph.flow.read(drop["elems"]["next"]))
    return [end.unwrap() for end in ends]


def chain(get, one):
    """The three reads of an item, with anything that gets and decodes."""
    flow = get(f"{BASE}/flow/{one}")
    drop = get(f"{BASE}/drop/{flow['id']}?limit=1")[0]
    return get(f"{BASE}/flow/{drop['elems']['next']}")


def by_requests(run):
    """A shared session of requests; *run* maps a function over the items."""
    import requests

    with requests.Session() as session:
        session.headers.update(HEADERS)
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=IN_FLIGHT))

        def get(url):
            return session.get(url).json()["body"]

        ids = items(get(f"{BASE}/flow?limit=100000&only=id"))
        return timed(lambda: run(lambda one: chain(get, one), ids))


def gevent_pool():
    """What people write: everything patched, a pool, a session."""
    from gevent import monkey

    monkey.patch_all()
    from gevent.pool import Pool

    return by_requests(lambda work, ids: Pool(IN_FLIGHT).map(work, ids))


def threads():
    """A thread pool and a session."""

    def run(work, ids):
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            return list(pool.map(work, ids))

    return by_requests(run)


def one_session():
    """A loop and a session."""
    return by_requests(lambda work, ids: list(map(work, ids)))


def by_grequests():
    """grequests, level by level."""
    import grequests
    import requests

    session = requests.Session()
    session.headers.update(HEADERS)
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=IN_FLIGHT))

    def get_all(urls):
        wanted = (grequests.get(url, session=session) for url in urls)
        return [answer.json()["body"] for answer in grequests.map(wanted, size=IN_FLIGHT)]

    def work():
        flows = get_all(f"{BASE}/flow/{one}" for one in ids)
        drops = get_all(f"{BASE}/drop/{flow['id']}?limit=1" for flow in flows)
        return get_all(f"{BASE}/flow/{found[0]['elems']['next']}" for found in drops)

    ids = items(session.get(f"{BASE}/flow?limit=100000&only=id").json()["body"])
    return timed(work)


def by_aiohttp():
    """A coroutine for each item."""
    import aiohttp

    async def main():
        connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
        async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:

            async def get(url):
                async with session.get(url) as answer:
                    return (await answer.json())["body"]

            async def follow(one):
                flow = await get(f"{BASE}/flow/{one}")
                drop = (await get(f"{BASE}/drop/{flow['id']}?limit=1"))[0]
                return await get(f"{BASE}/flow/{drop['elems']['next']}")

            ids = items(await get(f"{BASE}/flow?limit=100000&only=id"))
            began, cpu = time.perf_counter(), time.process_time()
            ends = await asyncio.gather(*map(follow, ids))
            spent = time.perf_counter() - began, time.process_time() - cpu
            timed(lambda: ends)
            return spent

    return asyncio.run(main())


WAYS = {
    "lazy()": lambda: ours(lazily),
    "async_(batch=True)": lambda: ours(lambda api, ids: level_by_level(api, ids, batch=True)),
    "lazy(batch=False)": lambda: ours(lambda api, ids: lazily(api, ids, batch=False)),
    "async_()": lambda: ours(level_by_level),
    "sequential": lambda: ours(sequential),
    "requests, sequential": one_session,
    "requests, threads": threads,
    "requests, gevent pool": gevent_pool,
    "grequests": by_grequests,
    "aiohttp": by_aiohttp,
}

if __name__ == "__main__":
    print(json.dumps(WAYS[WAY]()))
