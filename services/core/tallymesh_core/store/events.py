"""The events that transitions append, read once by each process that cares."""

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Self

from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.store.connection import Store

#: A blocked read is renewed after so long, so that a dead connection is noticed.
_BLOCK_MS = 5000
_BATCH = 1000
_RETRY_SECONDS = 0.2
#: Time between two reads of a shard's events.
_LULL_SECONDS = 0.008

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobChanged:
    """A transition changed a job.

    Attributes:
        ref: The job, as `<tenant>/<id>`.
        version: Its version after.
        kind: What happened: ready, leased, progressed, committed, retrying, failed (a chunk was
            given up), ended, stopping (the workers of a cancelled job heard, or stopped), posted.
        extra: For `ready`, the lane that has chunks now and how many; for `ended`, the job's
            epoch, 1 if its total is to be posted to an abacus, else 0, and the uids of the workers
            that have to stop; separated by blanks.
    """

    ref: str
    version: int
    kind: str
    extra: str

    @classmethod
    def parse(cls, line: str) -> Self:
        """Returns the event that a script has written as a line."""
        ref, version, kind, extra = line.split(" ", 3)
        return cls(ref, int(version), kind, extra)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Events may have been missed: whoever follows a job has to look for itself."""


async def tail(store: Store, shard: int) -> AsyncGenerator[list[JobChanged] | Interrupted, None]:
    """Yields what happens to the jobs of a shard from now on, in batches; never ends.

    An event is a signal only: what it is about is read from the store, so that a missed one costs
    a look and nothing else.
    """
    async with aclosing(_entries(store, shard, "events")) as batches:
        async for batch in batches:
            if isinstance(batch, Interrupted):
                yield batch
                continue
            lines = (fields[b"news"].decode().split("\n") for fields in batch)
            yield [JobChanged.parse(line) for line in itertools.chain.from_iterable(lines)]
            # Events come in bursts: after the first, more are awaited to be read together. What
            # happens through this process is known here without them.
            await asyncio.sleep(_LULL_SECONDS)


async def abacus_changes(store: Store, shard: int) -> AsyncGenerator[set[str] | Interrupted, None]:
    """Yields the paths of a shard's abaci that change from now on, in batches; never ends."""
    async with aclosing(_entries(store, shard, "abacus-events")) as batches:
        async for batch in batches:
            if isinstance(batch, Interrupted):
                yield batch
            else:
                yield {fields[b"abacus"].decode() for fields in batch}


async def _entries(
    store: Store, shard: int, stream: str
) -> AsyncGenerator[list[dict[bytes, bytes]] | Interrupted, None]:
    """Yields the entries that are appended to a stream, and where some may have been missed."""
    key = f"{store.prefix(shard)}{stream}"
    while True:
        try:
            async with store.following(shard, 2 * _BLOCK_MS / 1000) as connection:
                newest = await connection.call("XREVRANGE", key, "+", "-", "COUNT", 1)
                last = newest[0][0] if newest else b"0-0"
                yield Interrupted()
                while True:
                    answer = await connection.call(
                        *("XREAD", "COUNT", _BATCH, "BLOCK", _BLOCK_MS, "STREAMS", key, last)
                    )
                    if not answer:
                        continue
                    [(_, entries)] = answer
                    last = entries[-1][0]
                    yield [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in entries]
                    if len(entries) == _BATCH:
                        # So far behind, some may have been trimmed unread.
                        yield Interrupted()
        except StoreUnavailable:
            logger.warning("lost the %s of shard %d; looking again", stream, shard)
            await asyncio.sleep(_RETRY_SECONDS)
