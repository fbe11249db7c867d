"""Statistics are exact under concurrency, over real HTTP."""

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from flowkit.demo.server import demo_server

THREADS = 32
TURNS = 12


@pytest.mark.slow
def test_no_call_and_no_drop_is_lost_or_counted_twice(tmp_path):
    """32 threads write good and refused drops and read; every number is the exact one."""
    with demo_server(tmp_path, "nora") as demo:
        token = {"X-Auth-Token": demo.credentials.token}

        def ask(method, target, body=None):
            url = f"{demo.url.rstrip('/')}/v4.0/nora{target}"
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(url, data, token, method=method)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status, json.load(answer)["body"]
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, None

        me = ask("GET", "/identity")[1][0]["id"]
        flow = ask("POST", "/flow", {"path": "/nora/many", "filter": "EXISTS a"})[1]["id"]
        calls_before = ask("GET", f"/statistics/apiCallByIdentity/{me}")[1][-1]
        drops_before = ask("GET", f"/statistics/dropCreatedBy/{me}")[1][-1]

        def work(number):
            place = f"/drop/{flow}"
            for turn in range(TURNS):
                assert ask("POST", place, {"elems": {"a": number}})[0] == 201
                assert ask("POST", place, {"elems": {"b": turn}})[0] == 400
                assert ask("POST", place, [{"elems": {"a": 1}}, {"elems": 1}])[0] == 207
                assert ask("GET", "/flow/nothing")[0] == 404

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, range(THREADS)))

        added = ask("GET", f"/statistics/flowDropAdded/{flow}")[1]
        created = ask("GET", f"/statistics/dropCreatedBy/{me}")[1][-1]
        calls = ask("GET", f"/statistics/apiCallByIdentity/{me}")[1][-1]

    turns = THREADS * TURNS
    assert sum(added) == 2 * turns
    assert created - drops_before == 2 * turns
    assert calls - calls_before == 4 * turns + 4
