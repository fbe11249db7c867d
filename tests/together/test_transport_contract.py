"""The platform itself behind every transport: in process, over the lean path, over the full one."""

from __future__ import annotations

import pytest
import requests
from client.transport_contract import TransportContract

from flowkit.client.transport import HttpTransport
from flowkit.embedded import AppTransport
from flowkit.protocol.envelope import Request


class TestEveryTransport(TransportContract):
    """Each keeps the contract with the real platform at its far end."""

    @pytest.fixture(params=["in process", "lean", "full"])
    def transport(self, request, platform):
        """One of the three."""
        if request.param == "in process":
            made = AppTransport(platform.app)
        elif request.param == "lean":
            made = HttpTransport(platform.url)
        else:
            session = requests.Session()
            session.trust_env = False
            made = HttpTransport(platform.url, session=session)
        yield made
        made.close()

    @pytest.fixture
    def request_200(self, platform):
        """The flows of the account."""
        return Request(
            "GET",
            ("v4.0", platform.account, "flow"),
            headers={"x-auth-token": platform.token.token, "x-auth-account": platform.account},
        )


@pytest.mark.parametrize("method", ["MGET", "MPUT"])
def test_the_platforms_own_methods_pass_every_path(platform, method):
    """MGET and MPUT are no trouble to either HTTP path (urllib3 knows them not)."""
    flow = platform.api.flow.create({"path": f"/test/methods-{method.lower()}"})
    body = (
        f'["{flow["id"]}"]' if method == "MGET" else f'{{"{flow["id"]}": {{"description": "x"}}}}'
    )
    asked = Request(
        method,
        ("v4.0", platform.account, "flow"),
        headers={
            "x-auth-token": platform.token.token,
            "x-auth-account": platform.account,
            "content-type": "application/json",
        },
        body=body.encode(),
    )
    full = requests.Session()
    full.trust_env = False

    for transport in (HttpTransport(platform.url), HttpTransport(platform.url, session=full)):
        with transport:
            answer = transport.send(asked, timeout_s=10)
            assert (answer.status, flow["id"].encode() in answer.body) == (200, True)
