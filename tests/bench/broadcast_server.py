"""A peer of ``bench_subscribe.py``: the broadcast server of the library ``websockets``.

As its documentation builds one, without compression. Whoever connects to ``/publish`` has each of
its messages sent to everybody else. Prints its port.
"""

import asyncio
import sys
from contextlib import suppress

from receivers import open_files_max
from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed

LISTENERS = set()


async def handle(connection) -> None:
    """A publisher, or one more listener."""
    if connection.request.path == "/publish":
        with suppress(ConnectionClosed):  # it leaves without a word
            async for text in connection:
                broadcast(LISTENERS, text)
        return
    LISTENERS.add(connection)
    try:
        await connection.wait_closed()
    finally:
        LISTENERS.discard(connection)


async def main() -> None:
    """Serve until the process is ended."""
    async with serve(handle, "127.0.0.1", 0, compression=None, backlog=1024) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.wait_closed()


if __name__ == "__main__":
    open_files_max()
    if "uvloop" in sys.argv:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
