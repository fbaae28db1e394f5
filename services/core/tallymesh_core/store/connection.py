"""The connection to Valkey (or Redis): the only place that talks to it."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.store.scripts import Script

#: Version of the layout of keys and values. A store of another one is refused.
SCHEMA_VERSION = 1

_META = "tm:meta"
# Scripts need one connection and each followed shard one; other reads come and go.
_MAX_CONNECTIONS = 4096
_TIMEOUT_SECONDS = 5.0
#: Answers of a server that cannot serve at present, and may soon.
_PASSING = (
    "LOADING",
    "MASTERDOWN",
    "READONLY",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY",
    "MISCONF",
    "OOM",
)


class StoreMismatch(Exception):
    """The store cannot be used as configured; the message is one line for a person."""


class Store:
    """A connection to the store, and what must be known to find things in it."""

    def __init__(self, client: Redis, reader: Redis, scripts: Redis, shards: int) -> None:
        # Any: redis-py's types allow for every way of decoding; here answers are always bytes.
        self.client: Any = client
        #: For blocking reads: without a socket timeout, which would cut them.
        self.reader: Any = reader
        # One connection: the store runs one script at a time anyway, and what is asked for while
        # others are under way goes together in the next send.
        self._scripts: Any = scripts
        self.shards = shards
        self._due: list[_Run] = []
        self._sender: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, url: str, *, shards: int = 1, durability: Literal["everysec", "fsync"] = "everysec"
    ) -> Self:
        """Connects to a store, and lays it out at its first use.

        Args:
            url: `redis://…`, `rediss://…` or `unix:///path`.
            shards: How many shards a new store gets; an existing one keeps its number.
            durability: `fsync` demands a store that writes to disk before it answers.

        Raises:
            StoreUnavailable: It cannot be reached.
            StoreMismatch: Its layout is of another version, its durability is not the one asked, or
                the URL holds what cannot be used.
        """
        store = cls(
            _client(url, _TIMEOUT_SECONDS),
            _client(url, None),
            _client(url, _TIMEOUT_SECONDS),
            shards,
        )
        try:
            await store.prepare(shards)
            if durability == "fsync":
                await store.demand_fsync()
        except BaseException:
            await store.close()
            raise
        return store

    async def prepare(self, shards: int) -> None:
        """Lays the store out if it is new, and checks its layout if it is not."""
        async with translated():
            await self.client.hsetnx(_META, "schema", str(SCHEMA_VERSION))
            await self.client.hsetnx(_META, "shards", str(shards))
            schema, kept = await self.client.hmget(_META, ["schema", "shards"])
        if int(schema or 0) != SCHEMA_VERSION:
            raise StoreMismatch(
                f"the store's layout is version {int(schema or 0)}, "
                f"this program needs {SCHEMA_VERSION}"
            )
        self.shards = int(kept or shards)

    async def demand_fsync(self) -> None:
        """Checks that the store writes to disk before it answers."""
        async with translated():
            kept = await self.client.config_get("append*")
        if kept.get("appendonly") != "yes" or kept.get("appendfsync") != "always":
            raise StoreMismatch(
                "TALLYMESH_DURABILITY=fsync needs a store with `appendonly yes` and "
                f"`appendfsync always`; it has appendonly {kept.get('appendonly')}, "
                f"appendfsync {kept.get('appendfsync')}"
            )

    async def close(self) -> None:
        """Closes all connections."""
        await self.client.aclose()
        await self.reader.aclose()
        await self._scripts.aclose()

    @asynccontextmanager
    async def at(self, shard: int, *, blocking: bool = False) -> AsyncIterator[Any]:
        """Gives what a shard is read through.

        Args:
            shard: The shard; nothing of another one may be read through it.
            blocking: For a read that waits: its connection has no timeout, which would cut it.

        Raises:
            StoreUnavailable: In the body, in the place of the driver's errors about the connection.
        """
        async with translated():
            yield self.reader if blocking else self.client

    def shard_of(self, *parts: str) -> int:
        """Returns the shard on which something lives, by the parts of its name."""
        return zlib.crc32("/".join(parts).encode()) % self.shards

    @staticmethod
    def prefix(shard: int) -> str:
        """Returns the beginning of all keys of a shard; its hash tag keeps them together."""
        return f"{{tm{shard}}}:"

    async def run(self, script: Script, shard: int, *arguments: str | bytes | int | float) -> Any:
        """Runs a script on a shard, exactly once or not at all as far as this call knows.

        A lost answer raises: whoever calls repeats the transition by its own identity. Scripts that
        are asked for in the same round of the event loop run in that order.

        Raises:
            StoreUnavailable: The store cannot be reached or gave no answer.
        """
        run = _Run(
            script,
            (self.prefix(shard), *arguments),
            asyncio.get_running_loop().create_future(),
        )
        self._due.append(run)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_due())
        return await run.answer

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
                for run in runs:
                    pipe.evalsha(run.script.sha, 1, *run.arguments)
                answers = await pipe.execute(raise_on_error=False)
                for run, answer in zip(runs, answers, strict=True):
                    unknown = isinstance(answer, exceptions.NoScriptError)
                    run.settle(await self._teach(run) if unknown else answer)
        except Exception as error:
            for run in runs:
                run.settle(error)

    async def _teach(self, run: "_Run") -> Any:
        """Runs a script that the server does not know yet; what goes wrong is its own answer."""
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
        if isinstance(answer, Exception):
            self.answer.set_exception(_unavailable(answer) or answer)
        else:
            self.answer.set_result(answer)


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns the driver's errors about the connection into StoreUnavailable."""
    try:
        yield
    except (exceptions.RedisError, OSError) as error:
        unavailable = _unavailable(error)
        if unavailable:
            raise unavailable from error
        raise


def _unavailable(error: Exception) -> StoreUnavailable | None:
    """Returns what to tell if an error means that the store cannot serve now, else None."""
    lost = isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError)
    if lost or str(error).startswith(_PASSING):
        unavailable = StoreUnavailable()
        unavailable.__cause__ = error
        return unavailable
    return None


def _client(url: str, timeout: float | None) -> Redis:
    try:
        pool = ConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            socket_timeout=timeout,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            # A repeat by the driver after a lost answer would run a transition twice, unseen.
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        # Connects nothing, and refuses options that it does not know.
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError):
        # What the driver says may quote a part of the password.
        raise StoreMismatch(
            "TALLYMESH_STORE_URL: has a port or an option that cannot be used"
        ) from None
    return Redis.from_pool(pool)
