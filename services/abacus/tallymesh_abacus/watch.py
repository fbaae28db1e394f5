"""Watches sums for everyone who asks: one reader a shard and one read a change, for all of them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from tallymesh_core.domain.errors import ShuttingDown, StoreUnavailable
from tallymesh_core.store.abaci import Abaci
from tallymesh_core.store.connection import Store
from tallymesh_core.store.events import Interrupted, abacus_changes
from tallymesh_core.store.sums import Abacus, Sum

#: Watchers are told the sum this often, though it be unchanged, as proxies cut silent streams.
_KEEPALIVE_SECONDS = 5.0
#: What is promised. A watch that a store's outage leaves without news for so long ends.
_SILENCE_SECONDS = 10.0
#: Changes that follow each other faster are told together.
_COALESCE_SECONDS = 0.05
#: A store that is away is asked again after this long.
_RETRY_SECONDS = 0.2


class _Topic:
    """A watched abacus: its sum as last read, shared by all who watch it."""

    def __init__(self, abaci: Abaci, abacus: Abacus) -> None:
        self._abaci = abaci
        self._abacus = abacus
        self._sum: Sum | None = None
        self._failure: Exception | None = None
        self._reading = asyncio.Lock()
        self._stirred = asyncio.Event()
        self._turn = asyncio.Event()
        self._told_at = 0.0
        self._follower = asyncio.create_task(self._follow())
        self.watchers = 0

    async def watch(self) -> AsyncGenerator[Sum, None]:
        """Yields the sum as it is, then whenever watchers are told; a slow reader misses some."""
        await self._read()
        while self._sum and not self._failure:
            turn = self._turn
            yield self._sum
            await turn.wait()
        if self._failure:
            raise self._failure

    def stir(self) -> None:
        """Says that the sum may have changed."""
        self._stirred.set()

    def fail(self, failure: Exception) -> None:
        """Ends all watches by an error."""
        self._failure = failure
        self._tell()

    def close(self) -> None:
        """Stops reading, when nobody watches any more."""
        self._follower.cancel()

    async def _follow(self) -> None:
        clock = asyncio.get_running_loop().time
        self._told_at = clock()
        while not self._failure:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._told_at + _KEEPALIVE_SECONDS):
                    await self._stirred.wait()
            self._stirred.clear()
            try:
                await self._read()
            except StoreUnavailable as error:
                if clock() >= self._told_at + _SILENCE_SECONDS:
                    self.fail(error)
                self.stir()
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception as error:
                # Not for this task to judge: it reaches the watchers' calls, and their log.
                self.fail(error)
            else:
                if clock() >= self._told_at + _KEEPALIVE_SECONDS:
                    self._tell()
                await asyncio.sleep(_COALESCE_SECONDS)

    async def _read(self) -> None:
        # One read after the other, so that no older sum comes after a newer one.
        async with self._reading:
            before, self._sum = self._sum, await self._abaci.get(self._abacus)
        if self._sum != before:
            self._tell()

    def _tell(self) -> None:
        self._told_at = asyncio.get_running_loop().time()
        self._turn.set()
        self._turn = asyncio.Event()


class _Shard:
    """The watched abaci of a shard, and the one reader of its changes."""

    def __init__(self, store: Store, shard: int) -> None:
        self._reader = asyncio.create_task(self._follow(store, shard))
        self.topics: dict[str, _Topic] = {}

    def close(self) -> None:
        """Stops reading, when nothing is watched any more."""
        self._reader.cancel()

    async def _follow(self, store: Store, shard: int) -> None:
        try:
            async for paths in abacus_changes(store, shard):
                changed = self.topics.keys() if isinstance(paths, Interrupted) else paths
                for path in self.topics.keys() & changed:
                    self.topics[path].stir()
        except Exception as error:
            for topic in self.topics.values():
                topic.fail(error)


class Watches:
    """The watches of one process."""

    def __init__(self, abaci: Abaci, store: Store, node: str) -> None:
        self._abaci = abaci
        self._store = store
        self._node = node
        self._shards: dict[int, _Shard] = {}
        self._closed = False

    async def watch(self, abacus: Abacus) -> AsyncGenerator[Sum, None]:
        """Yields the sum as it is, then as it changes, and now and then unchanged; has no end.

        The first change comes at once, others at most 20 times a second.

        Raises:
            StoreUnavailable: The store was away at the start, or for several seconds later.
            ShuttingDown: The process ends; watch at another.
        """
        if self._closed:
            raise ShuttingDown(self._node)
        number = self._abaci.shard_of(abacus)
        shard = self._shards.get(number) or _Shard(self._store, number)
        topic = shard.topics.get(abacus.path) or _Topic(self._abaci, abacus)
        self._shards[number], shard.topics[abacus.path] = shard, topic
        topic.watchers += 1
        try:
            async with contextlib.aclosing(topic.watch()) as sums:
                async for one in sums:
                    yield one
        finally:
            topic.watchers -= 1
            if not topic.watchers:
                topic.close()
                del shard.topics[abacus.path]
            if not shard.topics:
                shard.close()
                del self._shards[number]

    def close(self) -> None:
        """Ends all watches by ShuttingDown."""
        self._closed = True
        for shard in self._shards.values():
            for topic in shard.topics.values():
                topic.fail(ShuttingDown(self._node))
