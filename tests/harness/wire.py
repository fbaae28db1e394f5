"""A wire between two parties on unix sockets, that can be cut."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Self


class Wire:
    """Carries connections from one socket to another until they are cut."""

    def __init__(self, near: Path, far: Path) -> None:
        """Prepares.

        Args:
            near: Where it listens.
            far: Where it leads; nothing need listen there yet.
        """
        self.near, self.far = near, far
        self.cuts = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self.near)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self, draw: random.Random | None = None) -> None:
        """Cuts all connections, or each with even chances; what was under way is lost."""
        for connection in list(self._connections):
            if draw is None or draw.random() < 0.5:
                self.cuts += 1
                connection.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                there = await asyncio.open_unix_connection(str(self.far))
                try:
                    async with asyncio.TaskGroup() as both:
                        both.create_task(_carry(reader, there[1]))
                        both.create_task(_carry(there[0], writer))
                finally:
                    there[1].transport.abort()
        finally:
            writer.transport.abort()
            self._connections.discard(task)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
