"""A link with a round trip in a process of its own: ``slow_link.py URL MILLISECONDS``.

Prints the URL to use in place of the other one.
"""

import sys
import time

from flowkit.testing import FaultProxy

with FaultProxy(sys.argv[1]) as proxy:
    if way_s := float(sys.argv[2]) / 2_000:
        proxy.set("both", latency_s=way_s)
    print(proxy.url, flush=True)
    while True:
        time.sleep(60)
