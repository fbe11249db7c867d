"""The public test kit: a platform for your tests, a clock that you move, and a look at switches.

::

    from flowkit.testing import Platform

    with Platform() as platform:
        platform.api.flow.create({"path": "/test/a"})     # in process, no socket
        over_http = platform.connect()                    # the same data over real HTTP

Nothing here monkey-patches, and all of it works from plain threads and from greenlets.
"""

from flowkit.testing.clock import FakeClock
from flowkit.testing.platform import Platform
from flowkit.testing.switching import no_switch, switches

__all__ = ["FakeClock", "Platform", "no_switch", "switches"]
