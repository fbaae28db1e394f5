"""The connection to Valkey (or Redis): the only place that talks to it."""

import asyncio
import contextlib
import secrets
import time
import zlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from redis import exceptions

from tallymesh_core.config.store_address import BadAddress, Kind, parse_address
from tallymesh_core.config.store_conditions import Condition
from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.store.command_connection import CommandConnection
from tallymesh_core.store.conditions import (
    Durability,
    Problem,
    foreign_key,
    foreign_keys,
    problems_of,
    read_facts,
    unseen,
)
from tallymesh_core.store.failures import StoreMismatch, is_refused_login, translated
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
#: For so long it is told that a store has lost everything. It cannot be mended, only noticed.
_LOSS_TOLD_SECONDS: Final = 3600.0

_LAYOUT: Final = Script.load("layout")


@dataclass(frozen=True, slots=True)
class StoreState:
    """How the store is, as last seen.

    Attributes:
        trouble: What keeps it from serving, or None.
        problems: What the promises do not hold with, a sentence each, though it serves.
        unseen: What cannot be seen of it, a sentence each.
    """

    trouble: StoreUnavailable | None = None
    problems: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


class Store:
    """A connection to the store, and what must be known to find things in it."""

    def __init__(
        self,
        url: str,
        *,
        shards: int = 1,
        durability: Durability = "everysec",
        tolerated: Collection[Condition] = (),
    ) -> None:
        """Connects nothing yet: until connect() has found the store, all calls are refused.

        Args:
            url: As TALLYMESH_STORE_URL.
            shards: How many shards a new store gets; an existing one keeps its number.
            durability: `fsync` demands a store that writes to disk before it answers.
            tolerated: What need not hold of it.

        Raises:
            StoreMismatch: The URL holds what cannot be used.
        """
        try:
            address = parse_address(url)
        except BadAddress as error:
            raise StoreMismatch(f"TALLYMESH_STORE_URL: {error}") from None
        self._shards = shards
        self.state = StoreState(StoreUnavailable("the store has not answered yet"))
        self._durability: Durability = durability
        self._tolerated = frozenset(tolerated)
        self._is_single = address.kind is Kind.SERVER
        self._topology = Topology(address)
        self._doubted = asyncio.Event()
        #: The id of the layout that was found first.
        self._layout_id = b""
        self._lost_at = -_LOSS_TOLD_SECONDS

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        shards: int = 1,
        durability: Durability = "everysec",
        tolerated: Collection[Condition] = (),
    ) -> Self:
        """Connects to a store, and lays it out at its first use; arguments as of the class.

        Raises:
            StoreUnavailable: It cannot be reached.
            StoreMismatch: It cannot be used as it is, or as configured.
        """
        store = cls(url, shards=shards, durability=durability, tolerated=tolerated)
        try:
            await store.connect()
        except BaseException:
            await store.close()
            raise
        return store

    async def connect(self) -> None:
        """Finds the store, lays it out if it is new, and has calls served from now on.

        Raises:
            StoreUnavailable: It cannot be reached.
            StoreMismatch: It cannot be used as it is, or as configured.
        """
        try:
            await self._topology.look()
            problems, hidden = await self._examine()
            self._refuse(problems)
            _, self._shards, layout_id = await self._read_layout()
            await self._reach_shards()
            for prefix in map(self.prefix, range(self._shards)):
                async with self._reading(prefix) as client:
                    problems += [one async for one in foreign_keys(client, prefix)]
            self._refuse(problems)
        except StoreUnavailable as error:
            cause = error.__cause__
            if is_refused_login(cause) or isinstance(cause, exceptions.NoPermissionError):
                # Waiting mends no password.
                raise StoreMismatch(f"TALLYMESH_STORE_URL: {error}") from None
            raise
        self._layout_id = layout_id
        self.state = self._state_of(problems, hidden)

    async def look(self) -> StoreState:
        """Sees how the store is; lays it out anew if it has lost everything.

        Raises:
            StoreUnavailable: It cannot be reached, or does not serve.
            StoreMismatch: Its layout has become another one.
        """
        await self._topology.look()
        _, shards, layout_id = await self._read_layout()
        if layout_id != self._layout_id:
            if shards != self._shards:
                raise StoreMismatch(
                    f"the store was emptied and laid out anew, with {shards} shards in the place "
                    f"of {self._shards}: start this process again"
                )
            self._layout_id, self._lost_at = layout_id, time.monotonic()
        await self._reach_shards()
        problems, hidden = await self._examine()
        if time.monotonic() < self._lost_at + _LOSS_TOLD_SECONDS:
            problems.append(
                Problem(
                    "the store has lost everything that it held (it was emptied, or came back "
                    "without its data): jobs and sums of before are gone",
                    Condition.LOSS,
                )
            )
        return self._state_of(problems, hidden)

    async def watch(self) -> AsyncIterator[StoreState]:
        """Yields for ever how the store is, which it keeps as its state.

        It looks each second, and sooner when a call has failed.

        Raises:
            StoreMismatch: Its layout has become another one.
        """
        while True:
            self._doubted.clear()
            try:
                async with translated(), asyncio.timeout(_PATIENCE_SECONDS):
                    self.state = await self.look()
            except StoreUnavailable as error:
                self.state = StoreState(error)
            yield self.state
            await asyncio.sleep(_RETRY_SECONDS)
            if not self.state.trouble:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS - _RETRY_SECONDS):
                        await self._doubted.wait()

    async def close(self) -> None:
        """Closes all connections."""
        await self._topology.close()

    @property
    def shards(self) -> int:
        """How many shards the store has.

        Raises:
            StoreUnavailable: That is not known yet.
        """
        self._demand_layout()
        return self._shards

    def shard_of(self, *parts: str) -> int:
        """Returns the shard on which something lives, by the parts of its name.

        Raises:
            StoreUnavailable: It is not known yet how many there are.
        """
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
        self._demand_layout()
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
        self._demand_layout()
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
        self._demand_layout()
        async with self._doubting():
            yield [server.client for server in await self._topology.servers()]

    async def run(self, script: Script, shard: int, *arguments: str | bytes | int | float) -> Any:
        """Runs a script on a shard, exactly once or not at all as far as this call knows.

        A lost answer raises: whoever calls repeats the transition by its own identity. Scripts that
        are asked for in the same round of the event loop run in that order.

        Raises:
            StoreUnavailable: The store cannot be reached or gave no answer.
            StoreFull: The store has no room for what the script writes; it has done nothing.
        """
        self._demand_layout()
        return await self._run(script, self.prefix(shard), *arguments)

    async def _run(self, script: Script, key: str, *arguments: str | bytes | int | float) -> Any:
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

    def _demand_layout(self) -> None:
        """Refuses to touch a store of which it is not known how it is laid out."""
        if not self._layout_id:
            raise StoreUnavailable("the store has not answered yet")

    async def _read_layout(self) -> tuple[int, int, bytes]:
        """Returns version, shards and id of the layout, which a store without one is given."""
        try:
            schema, shards, layout_id = await self._run(
                _LAYOUT, _META, SCHEMA_VERSION, self._shards, secrets.token_hex(8)
            )
        except exceptions.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            raise StoreMismatch(foreign_key(_META, "hash").sentence) from None
        if not (schema.isdigit() and shards.isdigit()):
            raise StoreMismatch(foreign_key(_META, "layout").sentence)
        if int(schema) != SCHEMA_VERSION:
            raise StoreMismatch(
                f"the store's layout is version {int(schema)}, this program needs "
                f"{SCHEMA_VERSION}: give it an empty store in TALLYMESH_STORE_URL, or run the "
                "version of Tallymesh that laid this one out"
            )
        return int(schema), int(shards), layout_id

    async def _reach_shards(self) -> None:
        prefixes = map(self.prefix, range(self._shards))
        # One of each server's: a server whose cluster is not whole answers, but serves none.
        for key in {await self._topology.server_of(key): key for key in prefixes}.values():
            async with self._reading(key) as client:
                await client.exists(key)

    async def _examine(self) -> tuple[list[Problem], list[str]]:
        """Returns what is wrong with the servers, and what cannot be seen of them."""
        problems: dict[Problem, None] = {}
        hidden: dict[str, None] = {}
        async with self._doubting():
            for server in await self._topology.servers():
                facts = await read_facts(server.client)
                found = problems_of(facts, durability=self._durability, is_single=self._is_single)
                problems |= dict.fromkeys(found)
                hidden |= dict.fromkeys(unseen(facts, durability=self._durability))
        return list(problems), list(hidden)

    def _refuse(self, problems: list[Problem]) -> None:
        for problem in problems:
            if problem.is_fatal and problem.condition not in self._tolerated:
                raise StoreMismatch(problem.refusal)

    def _state_of(self, problems: list[Problem], hidden: list[str]) -> StoreState:
        told = (one.sentence for one in problems if one.condition not in self._tolerated)
        return StoreState(None, tuple(told), tuple(hidden))
