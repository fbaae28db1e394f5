"""The connection to Valkey (or Redis): the only place that talks to it."""

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, Self

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.store.scripts import Script

#: Version of the layout of keys and values. A store of another one is refused.
SCHEMA_VERSION = 1

_META = "tm:meta"
_CONNECTIONS = 64
_TIMEOUT_SECONDS = 5.0
#: Answers of a server that cannot serve at present, and may soon.
_PASSING = ("LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MISCONF")


class StoreMismatch(Exception):
    """The store cannot be used as configured; the message is one line for a person."""


class Store:
    """A connection to the store, and what must be known to find things in it."""

    def __init__(self, client: Redis, reader: Redis, shards: int) -> None:
        # Any: redis-py's types allow for every way of decoding; here answers are always bytes.
        self.client: Any = client
        #: For blocking reads: without a socket timeout, which would cut them.
        self.reader: Any = reader
        self.shards = shards

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
            StoreMismatch: Its layout is of another version, or its durability is not the one asked.
        """
        store = cls(_client(url, _TIMEOUT_SECONDS), _client(url, None), shards)
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

    def shard_of(self, *parts: str) -> int:
        """Returns the shard on which something lives, by the parts of its name."""
        return zlib.crc32("/".join(parts).encode()) % self.shards

    @staticmethod
    def prefix(shard: int) -> str:
        """Returns the beginning of all keys of a shard; its hash tag keeps them together."""
        return f"{{tm{shard}}}:"

    async def run(self, script: Script, shard: int, *arguments: str | bytes | int | float) -> Any:
        """Runs a script on a shard, exactly once or not at all as far as this call knows.

        A lost answer raises: whoever calls repeats the transition by its own identity.

        Raises:
            StoreUnavailable: The store cannot be reached or gave no answer.
        """
        prefix = self.prefix(shard)
        async with translated():
            try:
                return await self.client.evalsha(script.sha, 1, prefix, *arguments)
            except exceptions.NoScriptError:
                return await self.client.eval(script.source, 1, prefix, *arguments)


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns the driver's errors about the connection into StoreUnavailable."""
    try:
        yield
    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
        raise StoreUnavailable from error
    except exceptions.ResponseError as error:
        if str(error).startswith(_PASSING):
            raise StoreUnavailable from error
        raise


def _client(url: str, timeout: float | None) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_TIMEOUT_SECONDS,
        socket_timeout=timeout,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        # A repeat by the driver after a lost answer would run a transition twice, unseen.
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    return Redis.from_pool(pool)
