"""The public test kit: a platform for your tests, a clock, a bad network, and a look at switches.

::

    from flowkit.testing import Platform

    with Platform() as platform:
        platform.api.flow.create({"path": "/test/a"})     # in process, no socket
        over_http = platform.connect()                    # the same data over real HTTP

    with FaultProxy("127.0.0.1:8080") as proxy:           # any TCP server
        proxy.set("down", latency_s=0.2)                  # what it sends comes late
        proxy.reset()                                     # and then not at all

Nothing here monkey-patches, and all of it works from plain threads and from greenlets.
"""

from flowkit.testing.clock import FakeClock
from flowkit.testing.faults import FaultProxy
from flowkit.testing.platform import Platform
from flowkit.testing.switching import no_switch, switches

__all__ = ["FakeClock", "FaultProxy", "Platform", "no_switch", "switches"]
