"""Jobs share slots by the time for which they hold them, whatever they do in it."""

import heapq
from dataclasses import dataclass, field, replace

import pytest

from tallymesh_core.domain.jobs import ChunkSpan
from tests.store.jobs.conftest import Scheduler


@dataclass
class Slots:
    """Workers of one slot each, in a time of their own: what each job's chunks take is given.

    As a real worker does, each asks for several chunks while it does not know how long they are,
    which is so at first and after a job's last chunk, and hands back those behind a long one.
    """

    scheduler: Scheduler
    seconds: dict[str, float]
    count: int
    #: Processor time of a chunk, as a share of the time that it takes.
    busy: float = 0.0
    now: float = 0.0
    ended: dict[str, list[float]] = field(default_factory=dict)
    _running: list[tuple[float, str, ChunkSpan]] = field(default_factory=list)
    _experienced: set[str] = field(default_factory=set)

    async def run(self, until: float) -> None:
        """Lets time go by."""
        while True:
            idle = {f"w{i}" for i in range(self.count)} - {uid for _, uid, _ in self._running}
            for uid in sorted(idle):
                await self._begin(uid)
            if not self._running or self._running[0][0] > until:
                await self._sleep(until)
                return
            await self._sleep(self._running[0][0])
            _, uid, span = heapq.heappop(self._running)
            micros = round(self.seconds[span.ref] * 1e6)
            await self.scheduler.commit(
                uid, span, micros=(round(micros * self.busy),), elapsed_micros=micros
            )
            self.ended.setdefault(span.ref, []).append(self.now)
            if (await self.scheduler.job(span.ref)).state.is_final:
                self._experienced.discard(uid)

    async def _begin(self, uid: str) -> None:
        await self.scheduler.beat(uid)
        capacity = 1 if uid in self._experienced else 15
        spans = await self.scheduler.lease(uid, capacity)
        if not spans:
            return
        self._experienced.add(uid)
        first = replace(spans[0], count=1)
        heapq.heappush(self._running, (self.now + self.seconds[first.ref], uid, first))
        rest = replace(spans[0], first=spans[0].first + 1, count=spans[0].count - 1)
        behind = [span for span in (rest, *spans[1:]) if span.count]
        await self.scheduler.leases.give_back(uid, behind)

    async def _sleep(self, until: float) -> None:
        if until > self.now:
            await self.scheduler.pass_time(until - self.now)
            self.now = until


@pytest.mark.parametrize("busy", [0.0, 0.1, 1.0])
async def test_chunks_that_wait_pay_for_their_slots(scheduler: Scheduler, busy: float) -> None:
    slots = Slots(scheduler, {}, 2, busy)
    for _ in range(14):
        slots.seconds[await scheduler.submit(chunk_count=8)] = 1.0
    await slots.run(2.0)
    short = [await scheduler.submit(chunk_count=1) for _ in range(10)]
    slots.seconds |= dict.fromkeys(short, 0.2)
    await slots.run(70.0)
    ends = [slots.ended[ref][0] for ref in short]
    assert min(ends) < 8
    # A turn each of the 14 that were there before, and of themselves.
    assert max(ends) < 9
    assert sum(map(len, slots.ended.values())) == 14 * 8 + 10


async def test_a_long_chunk_that_still_runs_counts_already(scheduler: Scheduler) -> None:
    slots = Slots(scheduler, {}, 2)
    long = await scheduler.submit(chunk_count=100)
    slots.seconds[long] = 60.0
    quick = [await scheduler.submit(chunk_count=50)]
    slots.seconds[quick[0]] = 0.5
    await slots.run(30.0)
    # One slot is held by the long chunk; the other is not given to the next of these.
    assert len(slots.ended[quick[0]]) >= 45


async def test_who_waits_for_nobody_still_gets_all_slots(scheduler: Scheduler) -> None:
    slots = Slots(scheduler, {}, 4)
    slots.seconds[alone := await scheduler.submit(chunk_count=40)] = 1.0
    await slots.run(10.0)
    assert len(slots.ended[alone]) == 40
