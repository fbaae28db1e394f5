from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest

from tallymesh_core.domain.jobs import ChunkFailure, ChunkSpan, JobRecord, NewJob, SpanResults
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tallymesh_core.store.letters import LetterStore
from tests.harness.stores import all_clients, client_of
from tests.store.conftest import Layout

ADDITIVE = NewJob(
    tenant="default",
    queue="default",
    kernel="simulate",
    work=b"work",
    chunk_count=4,
    additive=True,
    priority=0,
    max_attempts=2,
    abacus="",
    labels={},
    initiated_by="test",
)


def chunks_of(spans: list[ChunkSpan]) -> list[int]:
    return [i for span in spans for i in range(span.first, span.first + span.count)]


@dataclass
class Scheduler:
    """The stores of jobs and leases, spoken to as gateways speak to them."""

    store: Store
    jobs: JobStore
    leases: LeaseStore
    calls: "count[int]" = field(default_factory=count)

    def __post_init__(self) -> None:
        self.letters = LetterStore(self.store, self.jobs)

    async def submit(self, **changes: Any) -> str:
        return "default/" + (await self.jobs.submit(replace(ADDITIVE, **changes))).id

    async def beat(
        self,
        uid: str,
        held: list[ChunkSpan] | None = None,
        open_calls: tuple[str, ...] = (),
        **more: Any,
    ) -> list[ChunkSpan]:
        heard = await self.leases.beat(
            uid,
            name=f"name-{uid}",
            info=uid.encode(),
            slots=1,
            held=held or [],
            open_calls=open_calls,
            **({"draining": False} | more),
        )
        return heard.stop

    async def lease(
        self, uid: str, capacity: int = 100, call: str | None = None, lane: str = "default/simulate"
    ) -> list[ChunkSpan]:
        return await self.leases.lease(uid, call or f"call-{next(self.calls)}", capacity, [lane])

    async def take(self, uid: str, capacity: int = 100) -> list[ChunkSpan]:
        """Beats and leases, as a worker does that holds nothing."""
        await self.beat(uid)
        return await self.lease(uid, capacity)

    async def commit(
        self, uid: str, span: ChunkSpan, value: int = 1, **form: Any
    ) -> tuple[int, int]:
        result = SpanResults(
            span,
            **({"sums": (value,) * span.count, "micros": (1000,) * span.count} | form),
        )
        committed = await self.leases.commit(uid, f"name-{uid}", [result])
        return committed.accepted, committed.refused

    async def fail(
        self, uid: str, span: ChunkSpan, reason: str = "CHUNK_FAILED", message: str = "broken"
    ) -> int:
        one = ChunkFailure(replace(span, count=1), reason, message)
        return await self.leases.fail(uid, f"name-{uid}", [one])

    async def lose(self, uid: str) -> None:
        """Makes a worker fall silent, and the reaper notice."""
        await self.leases.reap()
        for shard in range(self.store.shards):
            client = await client_of(self.store, shard)
            await client.zadd(f"{self.store.prefix(shard)}owners", {uid: 1})
        assert await self.leases.reap() == [uid]

    async def replay(self, ref: str, epoch: int = 0) -> int:
        return await self.jobs.replay(*ref.split("/"), epoch=epoch)

    async def cancel(self, ref: str) -> None:
        await self.jobs.cancel(*ref.split("/"))

    async def pass_time(self, seconds: float) -> None:
        """Lets time go by in the store; it then stands still until the server has caught up."""
        for shard in range(self.store.shards):
            client, key = await client_of(self.store, shard), f"{self.store.prefix(shard)}clock"
            whole, micros = await client.time()
            ms = max(whole * 1000 + micros // 1000, int(await client.get(key) or 0))
            await client.set(key, ms + round(seconds * 1000))

    async def job(self, ref: str) -> JobRecord:
        tenant, _, job_id = ref.partition("/")
        return await self.jobs.get(tenant, job_id)

    async def keys(self) -> set[str]:
        """Every key of the store, without its shard."""
        return {
            key.decode().rpartition("}:")[2]
            for client in await all_clients(self.store)
            async for key in client.scan_iter()
        }

    async def working_sets(self) -> dict[str, int]:
        """Sizes of everything that has to be empty when nothing is under way."""
        sizes = {}
        for pattern in ("leases", "again", "later", "tries", "fractions", "parts", "lane", "held"):
            for client in await all_clients(self.store):
                async for key in client.scan_iter(f"{{tm*}}:{pattern}:*"):
                    sizes[key.decode()] = 1
        for name in ("delayed", "outbox"):
            for shard in range(self.store.shards):
                key = f"{self.store.prefix(shard)}{name}"
                if await (await client_of(self.store, shard)).exists(key):
                    sizes[key] = 1
        return sizes


@pytest.fixture
async def scheduler(layout: Layout) -> AsyncIterator[Scheduler]:
    """A scheduler on each kind of store in turn."""
    store = await Store.open(layout.url, shards=layout.shards)
    try:
        yield Scheduler(store, JobStore(store), LeaseStore(store, transit_seconds=0))
    finally:
        await store.close()
