"""One server of the store, and how it is spoken to."""

import asyncio
from dataclasses import dataclass
from typing import Any

from redis import exceptions
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio import UnixDomainSocketConnection as SocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tallymesh_core.config.store_address import Login, Place, StoreAddress
from tallymesh_core.store.failures import translated, unavailable
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
        #: For blocking reads: without a socket timeout, which would cut them.
        self.reader: Any = _client(address, place, None)
        # One connection: the server runs one script at a time anyway, and what is asked for while
        # others are under way goes together in the next send.
        self._scripts: Any = _client(address, place, _TIMEOUT_SECONDS)
        #: What it was taught, unless it has forgotten that.
        self._taught: set[Script] = set()
        self._due: list[_Run] = []
        self._sender: asyncio.Task[None] | None = None

    def run(
        self, script: Script, arguments: tuple[str | bytes | int | float, ...]
    ) -> asyncio.Future[Any]:
        """Has a script run; those asked for in one round of the event loop run in that order.

        Args:
            script: The script.
            arguments: Its key, and what else it is given.

        Returns:
            Its answer; StoreUnavailable in its place if it may or may not have run, the driver's
            MovedError if it has not, as another server serves the key.
        """
        run = _Run(script, arguments, asyncio.get_running_loop().create_future())
        self._due.append(run)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_due())
        return run.answer

    async def disconnect(self) -> None:
        """Cuts all connections, also those on which someone waits for an answer."""
        for client in (self.client, self.reader, self._scripts):
            await client.connection_pool.disconnect()

    async def close(self) -> None:
        """Closes all clients."""
        for client in (self.client, self.reader, self._scripts):
            await client.aclose()

    async def _send_due(self) -> None:
        try:
            while self._due:
                due, self._due = self._due, []
                await self._send(due)
        finally:
            self._sender = None

    async def _send(self, runs: list["_Run"]) -> None:
        try:
            async with translated():
                pipe = self._scripts.pipeline(transaction=False)
                # Before all others: one that is refused, and run once it is known, runs after them.
                new = {run.script for run in runs} - self._taught
                for script in new:
                    pipe.script_load(script.source)
                for run in runs:
                    pipe.evalsha(run.script.sha, 1, *run.arguments)
                answers = await pipe.execute(raise_on_error=False)
                self._taught |= new
                for run, answer in zip(runs, answers[len(new) :], strict=True):
                    unknown = isinstance(answer, exceptions.NoScriptError)
                    run.settle(await self._teach(run) if unknown else answer)
        except Exception as error:
            for run in runs:
                run.settle(error)

    async def _teach(self, run: "_Run") -> Any:
        """Runs a script that the server has forgotten; what goes wrong is its own answer."""
        self._taught.clear()
        try:
            return await self._scripts.eval(run.script.source, 1, *run.arguments)
        except Exception as error:
            return error


@dataclass(slots=True)
class _Run:
    """A script to be run, and who waits for its answer."""

    script: Script
    arguments: tuple[str | bytes | int | float, ...]
    answer: asyncio.Future[Any]

    def settle(self, answer: Any) -> None:
        """Gives the answer to who waits, if they still do."""
        if self.answer.done():
            return
        if not isinstance(answer, Exception):
            self.answer.set_result(answer)
        elif isinstance(answer, exceptions.MovedError):
            self.answer.set_exception(answer)
        else:
            self.answer.set_exception(unavailable(answer) or answer)


def _client(address: StoreAddress, place: Place, timeout: float | None) -> Redis:
    options = connection_options(address.login, timeout=timeout) | {"db": address.db}
    kind: type[Connection | SocketConnection]
    if not place.port:
        kind, options["path"] = SocketConnection, place.host
    else:
        kind = Connection if address.tls is None else SSLConnection
        options |= {"host": place.host, "port": place.port, **(address.tls or {})}
    pool = ConnectionPool(connection_class=kind, max_connections=_MAX_CONNECTIONS, **options)
    return Redis.from_pool(pool)
