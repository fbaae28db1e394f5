"""Leases of chunks: who computes what, and what came of it."""

import asyncio
import random
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgpack

from tallymesh_core.domain.ids import shard_of_job
from tallymesh_core.domain.jobs import (
    LOSS_BUDGET,
    MAX_PARTIAL_BYTES,
    ChunkFailure,
    ChunkSpan,
    LiveWorker,
    SpanResults,
)
from tallymesh_core.store.connection import Store
from tallymesh_core.store.events import JobChanged
from tallymesh_core.store.scripts import Script

#: A worker that is not heard of for so long is taken for lost.
ALIVE_SECONDS = 5.0
#: When reaping has not run for so long, the store was out of reach, and silence means nothing.
OUTAGE_SECONDS = 2.0
#: A worker's list of what it holds is never older than this when it arrives.
TRANSIT_SECONDS = 2.0
#: A worker that has left is remembered for so long: no call of its can come later.
LEFT_SECONDS = 60
#: How much work of one job is leased at a time, so that jobs take turns.
QUANTUM_SECONDS = 0.05
#: Most ranges of chunks given to a worker in one answer: it lists what it holds in each call.
MAX_RANGES = 256
#: Time before a chunk is tried again: doubled with each attempt, spread by half either way.
RETRY_SECONDS, MAX_RETRY_SECONDS = 0.25, 30.0

_BEAT, _LEASE, _COMMIT, _RETURN, _FAIL, _PROMOTE, _REAP, _DRAIN, _LEAVE = (
    Script.load(name)
    for name in ("beat", "lease", "commit", "return", "fail", "promote", "reap", "drain", "leave")
)
#: Whole numbers up to here are exact in Lua.
_EXACT = 1 << 53
_PROMOTE_BATCH = 1000

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Heard:
    """What a worker is to know when it has been heard.

    Attributes:
        stop: What it says it holds and does not.
        drain: It is to leave.
    """

    stop: list[ChunkSpan]
    drain: bool


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of results.

    Attributes:
        accepted: How many counted, or had counted before from the same lease.
        refused: How many did not count.
        events: What that changed, as it is also told to everyone.
    """

    accepted: int
    refused: int
    events: list[JobChanged]


class LeaseStore:
    """The leases of a mesh. Every method is one transition a shard, and safe to repeat."""

    def __init__(
        self,
        store: Store,
        *,
        alive_seconds: float = ALIVE_SECONDS,
        transit_seconds: float = TRANSIT_SECONDS,
    ) -> None:
        self._store = store
        self._transit_ms = round(transit_seconds * 1000)
        self._alive_ms = round(alive_seconds * 1000)

    @property
    def shards(self) -> int:
        """On how many shards the leases are."""
        return self._store.shards

    async def beat(
        self,
        uid: str,
        *,
        name: str,
        info: bytes,
        slots: int,
        draining: bool,
        held: Sequence[ChunkSpan],
        open_calls: Sequence[str],
        progress: Sequence[tuple[ChunkSpan, float]] = (),
        stopping: Collection[str] = (),
    ) -> Heard:
        """Notes that a worker lives, and puts right what it holds.

        Args:
            uid: The worker process.
            name: Its name.
            info: Its description, kept as it is.
            slots: How many chunks it computes at a time.
            draining: It is leaving.
            held: What it says it holds.
            open_calls: Its calls that have no answer yet; what those were given is left alone.
            progress: Parts done of running chunks.
            stopping: Refs of jobs of which it was told to stop chunks, and computes some still.
        """
        by_shard = self._by_shard(held, lambda span: span)
        moved = self._by_shard(progress, lambda pair: pair[0])
        calls, stops = _packb(list(open_calls)), _packb(list(stopping))
        stop: list[ChunkSpan] = []
        is_to_drain = False
        for shard in range(self._store.shards):
            spans = [_pack(span) for span in by_shard.get(shard, ())]
            fractions = [(span.ref, span.first, part) for span, part in moved.get(shard, ())]
            drain, lost = await self._store.run(
                _BEAT,
                shard,
                uid,
                info,
                slots,
                self._alive_ms,
                int(draining),
                _packb(spans),
                calls,
                _packb(fractions),
                name,
                self._transit_ms,
                stops,
            )
            stop += (_span(raw) for raw in lost)
            is_to_drain |= bool(drain)
        return Heard(stop, is_to_drain)

    async def lease(
        self, uid: str, call_id: str, capacity: int, lanes: Sequence[str]
    ) -> list[ChunkSpan]:
        """Gives a worker that has beaten chunks to compute.

        Args:
            uid: The worker process.
            call_id: Makes the call safe to repeat: a repeat gets what the first got.
            capacity: How many chunks it can take.
            lanes: What it serves, each `queue/kernel`. Its queues take turns.
        """
        given: list[ChunkSpan] = []
        # A call that takes little serves the first queue in the line only.
        line = _turned(lanes, random.getrandbits(16))
        # A repeat asks first where the first call was given something.
        for shard in _turned(range(self._store.shards), zlib.crc32(call_id.encode())):
            left = capacity - sum(span.count for span in given)
            if left <= 0 or len(given) >= MAX_RANGES:
                break
            answer = await self._store.run(
                _LEASE,
                shard,
                uid,
                call_id,
                left,
                round(QUANTUM_SECONDS * 1_000_000),
                MAX_RANGES - len(given),
                *line,
            )
            given += (_span(raw) for raw in answer)
        return given

    async def commit(self, uid: str, name: str, results: Sequence[SpanResults]) -> Committed:
        """Counts results."""
        accepted = refused = 0
        events: list[JobChanged] = []
        for shard, batch in self._by_shard(results, lambda result: result.span).items():
            packed = _packb(
                [
                    (
                        *_pack(one.span),
                        one.sums is not None and [_exact(number) for number in one.sums],
                        one.partials is not None and one.partials,
                        one.result is not None and one.result,
                        one.micros or False,
                        one.age_micros,
                        one.elapsed_micros,
                    )
                    for one in batch
                ]
            )
            yes, no, news = await self._store.run(
                _COMMIT, shard, uid, name, MAX_PARTIAL_BYTES, packed
            )
            accepted += yes
            refused += no
            events += (JobChanged.parse(line.decode()) for line in news)
        return Committed(accepted, refused, events)

    async def give_back(self, uid: str, spans: Sequence[ChunkSpan]) -> int:
        """Takes back chunks that a worker has not touched; returns how many."""
        taken = 0
        for shard, batch in self._by_shard(spans, lambda span: span).items():
            packed = _packb([_pack(span) for span in batch])
            taken += await self._store.run(_RETURN, shard, uid, packed)
        return taken

    async def fail(self, uid: str, name: str, failures: Sequence[ChunkFailure]) -> int:
        """Notes failed attempts; returns how many were the worker's to fail."""
        noted = 0
        for shard, batch in self._by_shard(failures, lambda failure: failure.span).items():
            packed = _packb(
                [(*_pack(one.span)[:3], one.span.attempt, one.reason, one.message) for one in batch]
            )
            count, _ = await self._store.run(
                _FAIL,
                shard,
                uid,
                name,
                round(RETRY_SECONDS * 1000),
                round(MAX_RETRY_SECONDS * 1000),
                random.uniform(0.5, 1.5),  # noqa: S311
                packed,
            )
            noted += count
        return noted

    async def promote(self) -> float | None:
        """Makes chunks leasable whose time to be tried again has come.

        Returns:
            Seconds until the next such time, or None.
        """
        waits = [
            await self._store.run(_PROMOTE, shard, _PROMOTE_BATCH)
            for shard in range(self._store.shards)
        ]
        known = [wait for wait in waits if wait >= 0]
        return min(known) / 1000 if known else None

    async def reap(self) -> list[str]:
        """Gives the chunks of workers that have fallen silent to others; returns their uids."""
        gone: list[str] = []
        for shard in range(self._store.shards):
            uids = await self._store.run(
                _REAP, shard, self._alive_ms, round(OUTAGE_SECONDS * 1000), LOSS_BUDGET
            )
            gone += (uid.decode() for uid in uids)
        return sorted(set(gone))

    async def give_up(self, uids: Sequence[str]) -> None:
        """Gives the chunks of workers to others at once, silent or not."""
        for shard in range(self._store.shards):
            await self._store.run(
                _REAP, shard, self._alive_ms, round(OUTAGE_SECONDS * 1000), LOSS_BUDGET, *uids
            )

    async def drain(self, uids: Sequence[str]) -> None:
        """Asks workers to leave: their next beat tells them so."""
        for shard in range(self._store.shards):
            await self._store.run(_DRAIN, shard, *uids)

    async def leave(self, uid: str) -> bool:
        """Forgets a worker that is leaving, once it holds nothing; tells whether it did."""
        left = [
            await self._store.run(_LEAVE, shard, uid, LEFT_SECONDS)
            for shard in range(self._store.shards)
        ]
        return all(left)

    async def workers(self) -> list[LiveWorker]:
        """Returns the live workers."""
        prefix = self._store.prefix(0)
        async with self._store.at(0) as client:
            uids = [uid.decode() for uid in await client.zrange(f"{prefix}owners", 0, -1)]
            if not uids:
                return []
            pipe = client.pipeline(transaction=False)
            for uid in uids:
                pipe.hmget(f"{prefix}owner:{uid}", ["info", "seen", "draining", "name"])
            kept = await pipe.execute()
        held = await asyncio.gather(
            *(self._held(shard, uids) for shard in range(self._store.shards))
        )
        return [
            LiveWorker(uid, name.decode(), info, sum(counts), int(seen or 0), draining == b"1")
            for uid, (info, seen, draining, name), *counts in zip(uids, kept, *held, strict=True)
            if info is not None
        ]

    async def _held(self, shard: int, uids: Sequence[str]) -> list[int]:
        """Returns how many chunks of a shard each of some workers holds."""
        async with self._store.at(shard) as client:
            pipe = client.pipeline(transaction=False)
            for uid in uids:
                pipe.scard(f"{self._store.prefix(shard)}held:{uid}")
            counts: list[int] = await pipe.execute()
        return counts

    def _by_shard(
        self, items: Iterable[_Item], span_of: Callable[[_Item], ChunkSpan]
    ) -> dict[int, list[_Item]]:
        groups: dict[int, list[_Item]] = {}
        for item in items:
            shard = shard_of_job(span_of(item).ref.rpartition("/")[2])
            if shard is not None and shard < self._store.shards:
                groups.setdefault(shard, []).append(item)
        return groups


def _turned(items: Sequence[_Item], places: int) -> list[_Item]:
    """Returns the items in turn, beginning at another place."""
    first = places % len(items)
    return [*items[first:], *items[:first]]


def _packb(value: object) -> bytes:
    # Redis's msgpack knows no separate type for bytes.
    return bytes(msgpack.packb(value, use_bin_type=False))


def _pack(span: ChunkSpan) -> tuple[str, int, int, int, int]:
    return (span.ref, span.epoch, span.first, span.count, span.attempt)


def _span(raw: Sequence[Any]) -> ChunkSpan:
    return ChunkSpan(raw[0].decode(), raw[1], raw[2], raw[3], raw[4])


def _exact(number: int) -> int | str:
    return number if -_EXACT < number < _EXACT else str(number)
