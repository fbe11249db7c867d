"""Client and server agree on a limit: parallel calls wait their turn, and hardly any is refused.

That none is, where no request is held up on its way, shows ``client/test_retry.py``; here threads
and processes may be, by whatever else the machine does.
"""

import threading

import pytest

from flowkit import TooManyRequests
from flowkit.client.api import API
from flowkit.client.credentials import Token
from flowkit.server.serve import Server
from flowkit.server.settings import Settings


@pytest.fixture
def server(tmp_path):
    """A server that lets each credential ask 50 times a second, and 10 times at once."""
    settled = Settings(
        data=tmp_path,
        port=0,
        account="nora",
        synchronous="OFF",
        rate_limit_per_s=50,
        rate_limit_burst=10,
    )
    with Server(settled) as running:
        yield running


@pytest.fixture
def api(server):
    """An API on it that has not asked anything yet."""
    with API(Token("nora", server.first_token), host=server.url) as made:
        yield made


def refused(server):
    """How many requests the limit has refused."""
    return server.app.metrics.value("flowkit_rate_limited_total", "credential")


def test_threads_wait_their_turn(server, api):
    """Twelve threads, far more than the burst: all are answered; unpaced, most would be refused."""
    flow, read = api.flow.create({"path": "/nora/x"}), []

    def ask():
        read.extend(api.flow.read(flow["id"]) for _ in range(3))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert read == [flow] * 36
    assert refused(server) <= 3


def test_parallel_calls_wait_their_turn(server, api):
    """The same for greenlets of ``async_()``; writes too."""
    flow = api.flow.create({"path": "/nora/x"})
    calls = api.async_()
    for n in range(30):
        calls.drop(flow["id"]).create({"elems": {"n": n}})

    assert len({drop["id"] for drop in calls.results()}) == 30
    assert refused(server) <= 3


def test_two_clients_with_one_credential_see_each_other(server, api):
    """What the other one takes is in the next answer; a refusal says when to come back."""
    api.flow.find()

    def ask_hastily():
        for _ in range(100):  # each of them knows nothing of the others
            with API(api.creds, host=server.url, retries=0) as hasty:
                hasty.flow.find()

    with pytest.raises(TooManyRequests) as caught:
        ask_hastily()
    assert caught.value.retry_after_s == 1
    assert f"[request {caught.value.request_id}]" in str(caught.value)
    with API(api.creds, host=server.url) as patient:
        assert patient.flow.find() == []


def test_after_the_first_burst_repetitions_get_everything_through(server):
    """Before its first answer a client knows of no limit: what is refused then is done later."""
    with API(Token("nora", server.first_token), host=server.url) as eager:
        threads = [threading.Thread(target=eager.flow.find) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert eager.flow.find() == []
