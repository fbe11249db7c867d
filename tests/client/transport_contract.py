"""What every transport does, whatever carries the request.

A subclass gives two fixtures: ``transport``, and ``request_200``, a request that is answered with
200 and a JSON body.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import gevent
import pytest

from flowkit.errors import FlowKitError
from flowkit.green import spawn


class TransportContract:
    """Every transport keeps this."""

    def test_an_answer_is_a_value(self, transport, request_200):
        """Status, headers with names in lower case, and the plain bytes of the body."""
        response = transport.send(request_200, timeout_s=5)

        assert response.status == 200
        assert all(name == name.lower() for name in response.headers)
        assert isinstance(response.body, bytes)
        assert json.loads(response.body) is not None

    def test_an_unknown_place_is_an_answer_and_no_error(self, transport, request_200):
        """A status of 400 and more is for the caller to judge."""
        lost = replace(request_200, segments=("v4.0", "nobody", "nothing", "here"))

        assert transport.send(lost, timeout_s=5).status >= 400

    def test_greenlets_share_a_transport(self, transport, request_200):
        """Twenty at once get an answer each."""
        tasks = [spawn(lambda: transport.send(request_200, timeout_s=10)) for _ in range(20)]

        gevent.joinall(tasks, timeout=10)

        assert [task.get(timeout=1).status for task in tasks] == [200] * 20

    def test_threads_share_a_transport(self, transport, request_200):
        """Ten threads get an answer each."""
        seen = []
        threads = [
            threading.Thread(
                target=lambda: seen.append(transport.send(request_200, timeout_s=10).status)
            )
            for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # a join would keep this thread's event loop from running
                gevent.sleep(0.001)

        assert seen == [200] * 10

    def test_a_closed_transport_says_so(self, transport, request_200):
        """Closing twice does no harm; sending afterwards is the caller's mistake."""
        transport.close()
        transport.close()

        with pytest.raises(FlowKitError, match="closed"):
            transport.send(request_200, timeout_s=5)
