"""Where a server listens, and how many may be connected to it.

Source: ``docs/howto/run_a_server.rst``.
"""

from __future__ import annotations

import resource
import socket

__all__ = ["bound_socket", "connections_max"]

_FILES_KEPT = 64
"""Open files that connections leave for the store, its readers and the log."""


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket whose connections send without Nagle's delay; port 0 takes a free one.

    Raises:
        OSError: the address cannot be had.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family = found[0][0]
    bound = socket.create_server((host, port), family=family, backlog=1024)
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bound.setblocking(False)
    return bound


def connections_max(wanted: int) -> int:
    """As many connections as *wanted*, but fewer than files may be open: the store needs some."""
    files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files_max == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, files_max - _FILES_KEPT))
