"""One server of the store, and how it is spoken to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio import UnixDomainSocketConnection as SocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tallymesh_core.config.store_address import Login, Place, StoreAddress
from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.store.command_connection import (
    Arguments,
    CommandConnection,
    Run,
    ScriptConnection,
    Settled,
)
from tallymesh_core.store.failures import translated
from tallymesh_core.store.scripts import Script

# Scripts need one connection and each followed shard one; other reads come and go.
_MAX_CONNECTIONS = 4096
_TIMEOUT_SECONDS = 5.0


def connection_options(
    login: Login, *, timeout: float | None, connect_timeout: float = _TIMEOUT_SECONDS
) -> dict[str, Any]:
    """Returns the driver's options for every connection."""
    return {
        "username": login.username or None,
        "password": login.password or None,
        "socket_timeout": timeout,
        "socket_connect_timeout": connect_timeout,
        # A repeat by the driver after a lost answer would run a transition twice, unseen.
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
    }


class Server:
    """The clients of one server; they connect when they are first used."""

    def __init__(self, address: StoreAddress, place: Place) -> None:
        """Connects nothing yet.

        Args:
            address: How the store is entered.
            place: Where the server is.
        """
        # Any: redis-py's types allow for every way of decoding; here answers are always bytes.
        self.client: Any = _client(address, place, _TIMEOUT_SECONDS)
        self._new_connection = partial(_connection, address, place)
        # One connection: the server runs one script at a time anyway.
        self._scripts: ScriptConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        #: Runs that wait for the connection.
        self._due: list[Run] = []
        self._followed: set[CommandConnection] = set()

    def run(self, script: Script, arguments: Arguments) -> asyncio.Future[Any]:
        """Has a script run; those asked for in one round of the event loop run in that order.

        Args:
            script: The script.
            arguments: Its key, and what else it is given.

        Returns:
            Its answer; StoreUnavailable in its place if it may or may not have run, the driver's
            MovedError if it has not, as another server serves the key.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        run = Run(script, arguments, Settled(answer))
        if self._scripts and self._scripts.is_open:
            self._scripts.run(run)
        else:
            self._due.append(run)
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
        return answer

    @asynccontextmanager
    async def following(self, patience: float) -> AsyncIterator[CommandConnection]:
        """Gives a connection of its own, for commands that wait at the server.

        Args:
            patience: Seconds after which a command without an answer is given up.

        Raises:
            redis.RedisError, OSError: As the driver does.
        """
        connection = await CommandConnection.open(self._new_connection(), patience)
        self._followed.add(connection)
        try:
            yield connection
        finally:
            self._followed.discard(connection)
            await connection.close()

    async def disconnect(self) -> None:
        """Cuts all connections; whoever waits on one for an answer gets StoreUnavailable."""
        for connection in (self._scripts, *self._followed):
            if connection:
                connection.abort()
        await self.client.connection_pool.disconnect()

    async def close(self) -> None:
        """Closes all clients."""
        if self._connecting:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._scripts:
            await self._scripts.close()
        await self.client.aclose()

    async def _connect(self) -> None:
        error: Exception = StoreUnavailable()
        try:
            if self._scripts:
                await self._scripts.close()
            async with translated():
                self._scripts = await ScriptConnection.open(
                    self._new_connection(), _TIMEOUT_SECONDS
                )
        except Exception as failure:
            error = failure
        finally:
            self._connecting = None
            due, self._due = self._due, []
            for run in due:
                if self._scripts and self._scripts.is_open:
                    self._scripts.run(run)
                else:
                    run.settle(error)


def _client(address: StoreAddress, place: Place, timeout: float | None) -> Redis:
    kind, options = _kind_of(address, place, timeout)
    pool = ConnectionPool(connection_class=kind, max_connections=_MAX_CONNECTIONS, **options)
    return Redis.from_pool(pool)


def _connection(address: StoreAddress, place: Place) -> Connection:
    kind, options = _kind_of(address, place, _TIMEOUT_SECONDS)
    # The older protocol, in which nothing arrives unasked.
    connection: Connection = kind(**options | {"protocol": 2})
    return connection


def _kind_of(
    address: StoreAddress, place: Place, timeout: float | None
) -> tuple[type[Any], dict[str, Any]]:
    """Returns the driver's class of connections to a server, and its options."""
    options = connection_options(address.login, timeout=timeout) | {"db": address.db}
    if not place.port:
        return SocketConnection, options | {"path": place.host}
    options |= {"host": place.host, "port": place.port, **(address.tls or {})}
    return (Connection if address.tls is None else SSLConnection), options
