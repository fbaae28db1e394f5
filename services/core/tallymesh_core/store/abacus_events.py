"""Which abaci have changed: signals only, for those who watch to read the sums themselves."""

import asyncio

from tallymesh_core.store.connection import Store

_EVENTS_AT_ONCE = 1000
_BLOCK_SECONDS = 2.0
#: A connection that says nothing for so much longer than it was asked to wait is dead.
_PATIENCE_SECONDS = 2.0


class AbacusEvents:
    """The changes of the abaci of a store, shard by shard."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def last_change(self, shard: int) -> str:
        """Returns the place of the last change on a shard, for `changes` to go on from.

        Raises:
            StoreUnavailable: The store gave no answer.
        """
        async with self._store.at(shard) as client:
            last = await client.xrevrange(self._key(shard), count=1)
        return last[0][0].decode() if last else "0-0"

    async def changes(self, shard: int, after: str) -> tuple[str, set[str] | None]:
        """Waits for changes on a shard, for about two seconds.

        Args:
            shard: Where to look.
            after: Place after which to look.

        Returns:
            The place to go on from, and the paths of the abaci that changed; None in their stead
            when there were so many changes that some may have been missed.

        Raises:
            StoreUnavailable: The store gave no answer.
        """
        async with (
            self._store.at(shard, blocking=True) as reader,
            asyncio.timeout(_BLOCK_SECONDS + _PATIENCE_SECONDS),
        ):
            streams = await reader.xread(
                {self._key(shard): after},
                count=_EVENTS_AT_ONCE,
                block=round(_BLOCK_SECONDS * 1000),
            )
        if not streams:
            return after, set()
        [(_, events)] = streams
        last = events[-1][0].decode()
        if len(events) == _EVENTS_AT_ONCE:
            return last, None
        return last, {event[b"abacus"].decode() for _, event in events}

    def _key(self, shard: int) -> str:
        return f"{self._store.prefix(shard)}abacus-events"
