"""A long line on one machine: a proxy that delays, and lets so much be in flight on each connection.

The kernel here has no netem. A byte arrives ``ONE_WAY_SECONDS`` after it was sent, and its
acknowledgement as long after that; a connection has at most ``WINDOW_BYTES`` without one.
A new connection takes the handshake's round trip first.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

ONE_WAY_SECONDS = 0.020
WINDOW_BYTES = 512 * 1024
PIECE_BYTES = 16 * 1024


class _Window:
    def __init__(self) -> None:
        self._free = WINDOW_BYTES
        self._changed = asyncio.Condition()

    async def take(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._free >= count)
            self._free -= count

    async def give(self, count: int) -> None:
        async with self._changed:
            self._free += count
            self._changed.notify_all()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    window, queue = _Window(), asyncio.Queue[tuple[float, bytes]]()
    loop = asyncio.get_running_loop()
    acknowledged: set[asyncio.Future[None]] = set()

    def acknowledge(count: int) -> None:
        task = asyncio.ensure_future(window.give(count))
        acknowledged.add(task)  # the loop itself keeps weak references only
        task.add_done_callback(acknowledged.discard)

    async def deliver() -> None:
        while True:
            due, piece = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not piece:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            writer.write(piece)
            await writer.drain()
            loop.call_later(ONE_WAY_SECONDS, acknowledge, len(piece))

    async def accept() -> None:
        while True:
            piece = await reader.read(PIECE_BYTES)
            await window.take(len(piece))
            queue.put_nowait((loop.time() + ONE_WAY_SECONDS, piece))
            if not piece:
                return

    with contextlib.suppress(OSError):
        await asyncio.gather(accept(), deliver())


async def serve(port: int, upstream_port: int) -> None:
    """Listen on a port of loopback and forward to another one."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * ONE_WAY_SECONDS)
        there, back = await asyncio.open_connection("127.0.0.1", upstream_port)
        await asyncio.gather(_pump(reader, back), _pump(there, writer))
        for end in (back, writer):
            end.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
