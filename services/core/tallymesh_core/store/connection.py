"""The connection to Valkey (or Redis): the only place that talks to it."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, Self

from redis import exceptions

from tallymesh_core.config.store_address import BadAddress, parse_address
from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.store.command_connection import CommandConnection
from tallymesh_core.store.failures import StoreMismatch, translated
from tallymesh_core.store.scripts import Script
from tallymesh_core.store.topology import Topology

#: Version of the layout of keys and values. A store of another one is refused.
SCHEMA_VERSION = 4

_META = "tm:meta"
#: A script is sent after the slot that it is for so often; slots that move more often move wildly.
_MAX_REDIRECTS = 5
#: Seconds between looks at the store: while it serves, and when it does not or a call has failed.
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 0.2
#: A store that does not answer a look by then does not serve.
_PATIENCE_SECONDS = 2.0


class Store:
    """A connection to the store, and what must be known to find things in it."""

    def __init__(
        self,
        topology: Topology,
        *,
        shards: int = 1,
        durability: Literal["everysec", "fsync"] = "everysec",
    ) -> None:
        self.shards = shards
        self._new_shards = shards
        self._durability = durability
        self._topology = topology
        self._doubted = asyncio.Event()

    @classmethod
    async def open(
        cls, url: str, *, shards: int = 1, durability: Literal["everysec", "fsync"] = "everysec"
    ) -> Self:
        """Connects to a store, and lays it out at its first use.

        Args:
            url: As TALLYMESH_STORE_URL.
            shards: How many shards a new store gets; an existing one keeps its number.
            durability: `fsync` demands a store that writes to disk before it answers.

        Raises:
            StoreUnavailable: It cannot be reached.
            StoreMismatch: Its layout is of another version, its durability is not the one asked, or
                the URL holds what cannot be used.
        """
        try:
            address = parse_address(url)
        except BadAddress as error:
            raise StoreMismatch(f"TALLYMESH_STORE_URL: {error}") from None
        store = cls(Topology(address), shards=shards, durability=durability)
        try:
            await store.look()
        except BaseException:
            await store.close()
            raise
        return store

    async def look(self) -> None:
        """Sees whether the store serves and is as configured; lays it out if it is new or empty.

        Raises:
            StoreUnavailable: It cannot be reached.
            StoreMismatch: Its layout is of another version, or its durability not the one asked.
        """
        await self._topology.look()
        async with self._reading(_META) as client:
            await client.hsetnx(_META, "schema", str(SCHEMA_VERSION))
            await client.hsetnx(_META, "shards", str(self._new_shards))
            schema, kept = await client.hmget(_META, ["schema", "shards"])
        if int(schema or 0) != SCHEMA_VERSION:
            raise StoreMismatch(
                f"the store's layout is version {int(schema or 0)}, this program needs "
                f"{SCHEMA_VERSION}: give it an empty store in TALLYMESH_STORE_URL, or run the "
                "version of Tallymesh that laid this one out"
            )
        self.shards = int(kept or self._new_shards)
        prefixes = [self.prefix(shard) for shard in range(self.shards)]
        # One of each server's: a server whose cluster is not whole answers, but serves none.
        for key in {await self._topology.server_of(key): key for key in prefixes}.values():
            async with self._reading(key) as client:
                await client.exists(key)
        if self._durability == "fsync":
            await self._demand_fsync()

    async def health(self) -> AsyncIterator[StoreUnavailable | None]:
        """Yields for ever what keeps the store from serving, or None.

        It looks each second, and sooner when a call has failed.

        Raises:
            StoreMismatch: The store is not any more as configured.
        """
        while True:
            self._doubted.clear()
            trouble = None
            try:
                async with translated(), asyncio.timeout(_PATIENCE_SECONDS):
                    await self.look()
            except StoreUnavailable as error:
                trouble = error
            yield trouble
            await asyncio.sleep(_RETRY_SECONDS)
            if not trouble:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS - _RETRY_SECONDS):
                        await self._doubted.wait()

    async def close(self) -> None:
        """Closes all connections."""
        await self._topology.close()

    def shard_of(self, *parts: str) -> int:
        """Returns the shard on which something lives, by the parts of its name."""
        return zlib.crc32("/".join(parts).encode()) % self.shards

    @staticmethod
    def prefix(shard: int) -> str:
        """Returns the beginning of all keys of a shard; its hash tag keeps them together."""
        return f"{{tm{shard}}}:"

    @asynccontextmanager
    async def at(self, shard: int) -> AsyncIterator[Any]:
        """Gives what a shard is read through; nothing of another shard may be read through it.

        Raises:
            StoreUnavailable: In the body, in the place of the driver's errors about the connection.
        """
        async with self._reading(self.prefix(shard)) as client:
            yield client

    @asynccontextmanager
    async def following(self, shard: int, patience: float) -> AsyncIterator[CommandConnection]:
        """Gives a connection for commands that wait at a shard for something to happen.

        Args:
            shard: The shard.
            patience: Seconds after which a command without an answer is given up.

        Raises:
            StoreUnavailable: In the body, too, in the place of the driver's errors.
        """
        async with self._doubting():
            server = await self._topology.server_of(self.prefix(shard))
            try:
                async with server.following(patience) as connection:
                    yield connection
            except exceptions.MovedError as moved:
                self._topology.follow(moved)
                raise StoreUnavailable from moved

    @asynccontextmanager
    async def everywhere(self) -> AsyncIterator[list[Any]]:
        """Gives what the whole store is read through: a client for each server that serves some.

        Raises:
            StoreUnavailable: In the body, in the place of the driver's errors about the connection.
        """
        async with self._doubting():
            yield [server.client for server in await self._topology.servers()]

    async def run(self, script: Script, shard: int, *arguments: str | bytes | int | float) -> Any:
        """Runs a script on a shard, exactly once or not at all as far as this call knows.

        A lost answer raises: whoever calls repeats the transition by its own identity. Scripts that
        are asked for in the same round of the event loop run in that order.

        Raises:
            StoreUnavailable: The store cannot be reached or gave no answer.
        """
        key = self.prefix(shard)
        try:
            for _ in range(_MAX_REDIRECTS):
                server = await self._topology.server_of(key)
                try:
                    return await server.run(script, (key, *arguments))
                except exceptions.MovedError as moved:
                    # It has not run there.
                    self._topology.follow(moved)
            raise StoreUnavailable
        except StoreUnavailable:
            self._doubt()
            raise

    @asynccontextmanager
    async def _reading(self, key: str) -> AsyncIterator[Any]:
        async with self._doubting():
            server = await self._topology.server_of(key)
            try:
                yield server.client
            except exceptions.MovedError as moved:
                self._topology.follow(moved)
                raise

    @asynccontextmanager
    async def _doubting(self) -> AsyncIterator[None]:
        try:
            async with translated():
                yield
        except StoreUnavailable:
            self._doubt()
            raise

    def _doubt(self) -> None:
        """Has everyone look again: something has just failed."""
        self._topology.doubt()
        self._doubted.set()

    async def _demand_fsync(self) -> None:
        async with self.everywhere() as clients:
            settings = [await client.config_get("append*") for client in clients]
        for kept in settings:
            if kept.get("appendonly") != "yes" or kept.get("appendfsync") != "always":
                raise StoreMismatch(
                    "TALLYMESH_DURABILITY=fsync needs a store with `appendonly yes` and "
                    f"`appendfsync always`; it has appendonly {kept.get('appendonly')}, "
                    f"appendfsync {kept.get('appendfsync')}"
                )
