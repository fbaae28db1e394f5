"""What chunks have logged, kept beside their jobs."""

from collections.abc import Sequence

import msgpack

from tallymesh_core.domain.errors import NotFound
from tallymesh_core.domain.ids import shard_of_job
from tallymesh_core.domain.jobs import ChunkLog, LoggedChunk
from tallymesh_core.store.connection import Store
from tallymesh_core.store.scripts import Script

#: Most bytes of a job's logs, and of those so many that attempts that went well may fill.
MAX_BYTES, MAX_BYTES_PASSED = 1024 * 1024, 512 * 1024

_LOG = Script.load("log")


class ChunkLogStore:
    """The logs of all chunks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, worker: str, logs: Sequence[LoggedChunk]) -> None:
        """Keeps logs; what is repeated or late changes nothing, what is too much is counted."""
        by_shard: dict[int, list[tuple[str, int, int, int, str, int]]] = {}
        for log in logs:
            span = log.span
            shard = shard_of_job(span.ref.rpartition("/")[2])
            if shard is not None and shard < self._store.shards:
                entry = (span.ref, span.epoch, span.first, span.attempt, log.text, int(log.failed))
                by_shard.setdefault(shard, []).append(entry)
        for shard, entries in by_shard.items():
            packed = bytes(msgpack.packb(entries))
            await self._store.run(_LOG, shard, worker, MAX_BYTES, MAX_BYTES_PASSED, packed)

    async def page(
        self, tenant: str, job_id: str, *, first: int, limit: int
    ) -> tuple[list[ChunkLog], int | None, int]:
        """Returns a job's logs from a chunk on.

        Returns:
            The logs by index, the chunk to go on from or None, and how many logs were dropped.

        Raises:
            NotFound: There is no such job.
        """
        shard = shard_of_job(job_id)
        if shard is None or shard >= self._store.shards:
            raise NotFound(f"jobs/{job_id}")
        prefix, ref = self._store.prefix(shard), f"{tenant}/{job_id}"
        async with self._store.at(shard) as client:
            pipe = client.pipeline(transaction=True)
            pipe.hmget(f"{prefix}job:{ref}", ["n", "unlogged"])
            pipe.hkeys(f"{prefix}logs:{ref}")
            (count, dropped), keys = await pipe.execute()
            if count is None:
                raise NotFound(f"jobs/{job_id}")
            indices = sorted(index for index in map(int, keys) if index >= first)
            some = indices[:limit]
            kept = await client.hmget(f"{prefix}logs:{ref}", map(str, some)) if some else []
        found = [_log(index, raw) for index, raw in zip(some, kept, strict=True) if raw]
        following = indices[limit] if len(indices) > limit else None
        return found, following, int(dropped or 0)


def _log(index: int, raw: bytes) -> ChunkLog:
    _, attempt, logged_ms, worker, text = raw.decode(errors="replace").split(" ", 4)
    return ChunkLog(index, int(attempt), worker, int(logged_ms), text)
