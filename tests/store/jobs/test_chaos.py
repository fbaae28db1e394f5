"""Workers that crash, fail, stall, come back as zombies and commit twice; sums stay exact."""

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from tallymesh_core.domain.jobs import ChunkFailure, ChunkSpan, SpanResults
from tallymesh_core.domain.states import JobState
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tests.harness.polling import eventually
from tests.store.conftest import Layout
from tests.store.jobs.conftest import Scheduler

JOBS, CHUNKS, WORKERS = 40, 25, 6
QUEUES = ["q0", "q1", "q2"]
LANES = [f"{queue}/simulate" for queue in QUEUES]
ALIVE_SECONDS = 0.25
DEADLINE_SECONDS = 60


def value_of(ref: str, index: int) -> int:
    """What a chunk of a job counts: different for each, positive and negative."""
    return (hash(ref) % 1000 - 500) * (index + 1)


@dataclass
class Chaos:
    """Everything that goes wrong, drawn from one seed."""

    scheduler: Scheduler
    draw: random.Random
    zombies: list[tuple[str, ChunkSpan]] = field(default_factory=list)
    running: bool = True
    born: int = 0

    async def worker(self) -> None:
        """Lives several lives: each ends in a crash, unheard."""
        while self.running:
            self.born += 1
            uid = f"worker-{self.born}"
            for _ in range(self.draw.randrange(1, 30)):
                if not self.running:
                    return
                if not await self.step(uid):
                    break

    async def step(self, uid: str) -> bool:
        """One round of a worker; False if it dies holding what it holds."""
        leases = self.scheduler.leases
        call = f"{uid}-{self.draw.random()}"
        await self.scheduler.beat(uid)
        spans = await leases.lease(uid, call, self.draw.randrange(1, 12), LANES)
        if self.draw.random() < 0.1:
            # The answer was lost on its way: the call is repeated, or never heard of again.
            if self.draw.random() < 0.5:
                return True
            spans = await leases.lease(uid, call, 12, LANES)
        for span in spans:
            fate = self.draw.random()
            if fate < 0.06:
                self.zombies += ((uid, one) for one in spans)
                return False
            if fate < 0.12:
                one = ChunkSpan(span.ref, span.epoch, span.first, 1, span.attempt)
                await leases.fail(uid, uid, [ChunkFailure(one, "CHUNK_FAILED", "drawn")])
            elif fate < 0.2:
                await leases.give_back(uid, [span])
            elif fate < 0.25:
                await asyncio.sleep(ALIVE_SECONDS * 2)  # stalls past its beat
                await self.commit(uid, span)
            else:
                await self.commit(uid, span)
                if fate > 0.9:
                    await self.commit(uid, span)
        if not spans:
            await asyncio.sleep(0.01)
        return True

    async def commit(self, uid: str, span: ChunkSpan) -> None:
        sums = tuple(value_of(span.ref, span.first + i) for i in range(span.count))
        await self.scheduler.leases.commit(uid, uid, [SpanResults(span, sums=sums)])

    async def zombie(self) -> None:
        """Hands in, late, what dead workers held."""
        while self.running:
            await asyncio.sleep(self.draw.uniform(0, ALIVE_SECONDS))
            if self.zombies:
                await self.commit(*self.zombies.pop(self.draw.randrange(len(self.zombies))))

    async def keeper(self) -> None:
        while self.running:
            await self.scheduler.leases.reap()
            await self.scheduler.leases.promote()
            await asyncio.sleep(0.02)


async def test_sums_are_exact_whatever_workers_do(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh_core.store.leases.RETRY_SECONDS", 0.02)
    monkeypatch.setattr("tallymesh_core.store.leases.LOSS_BUDGET", 1000)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    store = await Store.open(layout.url, shards=layout.shards)
    leases = LeaseStore(store, alive_seconds=ALIVE_SECONDS, transit_seconds=0)
    chaos = Chaos(Scheduler(store, JobStore(store), leases), random.Random(seed))
    refs = [
        await chaos.scheduler.submit(queue=QUEUES[i % 3], chunk_count=CHUNKS, max_attempts=100)
        for i in range(JOBS)
    ]

    async def all_ended() -> bool:
        return all([(await chaos.scheduler.job(ref)).state.is_final for ref in refs])

    async with asyncio.TaskGroup() as tasks:
        for play in (*[chaos.worker] * WORKERS, chaos.zombie, chaos.keeper):
            tasks.create_task(play())
        await eventually(all_ended, timeout=DEADLINE_SECONDS)
        chaos.running = False

    for uid, span in chaos.zombies:
        await chaos.commit(uid, span)
    for ref in refs:
        job = await chaos.scheduler.job(ref)
        assert (job.state, job.done) == (JobState.SUCCEEDED, CHUNKS), ref
        assert job.total == sum(value_of(ref, index) for index in range(CHUNKS)), ref
        assert sum(job.handled_by.values()) == CHUNKS
    lost = sum([(await chaos.scheduler.job(ref)).lost for ref in refs])
    assert lost > 0, "nothing was lost, so nothing was proved"
    working = await chaos.scheduler.working_sets()
    assert {key for key in working if ":held:" not in key} == set()
    await store.close()
