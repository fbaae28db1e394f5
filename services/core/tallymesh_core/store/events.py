"""The events that transitions append, read once by each process that cares."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.store.connection import Store

#: A blocked read is renewed after so long, so that a dead connection is noticed.
_BLOCK_MS = 5000
_BATCH = 1000
_RETRY_SECONDS = 0.2
#: Events come in bursts: after the first, so much time goes by before the next are read together.
#: What happens through this process is known here without them.
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


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Events may have been missed: whoever follows a job has to look for itself."""


async def tail(store: Store, shard: int) -> AsyncIterator[list[JobChanged] | Interrupted]:
    """Yields what happens on a shard from now on, in batches; never ends.

    An event is a signal only: what it tells of is read from the store, so that a missed one costs
    a look and nothing else.
    """
    key = f"{store.prefix(shard)}events"
    last: bytes | None = None
    while True:
        try:
            if last is None:
                async with store.at(shard, blocking=True) as reader:
                    newest = await reader.xrevrange(key, count=1)
                last = newest[0][0] if newest else b"0-0"
                yield Interrupted()
            async with (
                store.at(shard, blocking=True) as reader,
                asyncio.timeout(2 * _BLOCK_MS / 1000),
            ):
                answer = await reader.xread({key: last}, count=_BATCH, block=_BLOCK_MS)
        except (StoreUnavailable, TimeoutError):
            if last is not None:
                logger.warning("lost the events of shard %d; looking again", shard)
            last = None
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        for _, entries in answer or ():
            last = entries[-1][0]
            yield [
                _changed(line)
                for _, fields in entries
                for line in fields[b"news"].decode().split("\n")
            ]
            if len(entries) == _BATCH:
                # So far behind, some may have been trimmed unread.
                yield Interrupted()
        if answer:
            await asyncio.sleep(_LULL_SECONDS)


def _changed(line: str) -> JobChanged:
    ref, version, kind, extra = line.split(" ", 3)
    return JobChanged(ref, int(version), kind, extra)
