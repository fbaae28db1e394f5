"""Workers that crash, fail, stall, come back as zombies and commit twice; sums stay exact.

All of it follows from a seed, which each run prints: TALLYMESH_CHAOS_SEED repeats it call by call.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import pytest

from tallymesh_core.domain.jobs import ChunkFailure, ChunkSpan, SpanResults
from tallymesh_core.domain.states import JobState
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tallymesh_core.store.scripts import Script
from tests.harness.stores import all_clients
from tests.store.conftest import Layout
from tests.store.jobs.conftest import Scheduler

CHUNKS, WORKERS = 25, 6
QUEUES = ["q0", "q1", "q2"]
LANES = [f"{queue}/simulate" for queue in QUEUES]
ALIVE_SECONDS = 0.25
# The most by which time goes on between two turns.
MAX_TICK_SECONDS = 0.01
# Many times as many as it takes, and how many there are between two looks at whether all is done.
MAX_TURNS, TURNS_A_LOOK = 500_000, 200
DAY_SECONDS = 24 * 3600


def value_of(ref: str, index: int) -> int:
    """What a chunk of a job counts: different for each, positive and negative."""
    return (random.Random(ref).randrange(1000) - 500) * (index + 1)


class Turns:
    """Lets one of several tasks go on at a time, up to its next wait: which one, a seed draws.

    Attributes:
        now: Seconds that have gone by, for all of them.
    """

    def __init__(self, draw: random.Random) -> None:
        self.now = 0.0
        self._draw = draw
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []
        self._paused = asyncio.Event()

    async def wait(self, seconds: float = 0.0) -> None:
        """Waits for a turn, which comes after so long at the soonest."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((self.now + seconds, turn))
        self._paused.set()
        await turn

    async def pausing(self, go_on: Callable[[], object]) -> None:
        """Lets a task go on, and waits until it waits for a turn or ends."""
        self._paused.clear()
        go_on()
        await self._paused.wait()

    async def give(self) -> None:
        """Gives a task its turn."""
        chosen = self._draw.choice([one for one in self._waiting if one[0] <= self.now])
        self._waiting.remove(chosen)
        await self.pausing(lambda: chosen[1].set_result(None))

    def ended(self, task: asyncio.Task[None]) -> None:
        """Takes note that a task waits for no more turns."""
        self._paused.set()


class InTurns:
    """A store whose transitions wait for their turn, one at a time, and are written down."""

    def __init__(self, store: Store, turns: Turns) -> None:
        self.history: list[tuple[object, ...]] = []
        self._store = store
        self._turns = turns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def run(self, script: Script, shard: int, *arguments: Any) -> Any:
        await self._turns.wait()
        answer = await self._store.run(script, shard, *arguments)
        self.history.append((script.name, shard, arguments, answer))
        return answer


@dataclass
class Chaos:
    """Everything that goes wrong, drawn from one seed."""

    scheduler: Scheduler
    draw: random.Random
    turns: Turns
    zombies: list[tuple[str, ChunkSpan]] = field(default_factory=list)
    born: int = 0

    async def worker(self) -> None:
        """Lives several lives: each ends in a crash, unheard."""
        while True:
            self.born += 1
            uid = f"worker-{self.born}"
            for _ in range(self.draw.randrange(1, 30)):
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
                await self.turns.wait(ALIVE_SECONDS * 2)  # stalls past its beat
                await self.commit(uid, span)
            else:
                await self.commit(uid, span)
                if fate > 0.9:
                    await self.commit(uid, span)
        if not spans:
            await self.turns.wait(0.01)
        return True

    async def commit(self, uid: str, span: ChunkSpan) -> None:
        sums = tuple(value_of(span.ref, span.first + i) for i in range(span.count))
        await self.scheduler.leases.commit(uid, uid, [SpanResults(span, sums=sums)])

    async def zombie(self) -> None:
        """Hands in, late, what dead workers held."""
        while True:
            await self.turns.wait(self.draw.uniform(0, ALIVE_SECONDS))
            if self.zombies:
                await self.commit(*self.zombies.pop(self.draw.randrange(len(self.zombies))))

    async def keeper(self) -> None:
        while True:
            await self.scheduler.leases.reap()
            await self.scheduler.leases.promote()
            await self.turns.wait(0.02)

    async def clock(self) -> None:
        """Has time go by, for the store too."""
        while True:
            await self.turns.wait()
            seconds = self.draw.uniform(0, MAX_TICK_SECONDS)
            await self.scheduler.pass_time(seconds)
            self.turns.now += seconds

    async def play(self, refs: list[str]) -> None:
        """Goes on until the jobs have ended."""
        tasks: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:

            def begin(part: Callable[[], Awaitable[None]]) -> None:
                tasks.append(group.create_task(cast(Any, part())))
                tasks[-1].add_done_callback(self.turns.ended)

            for part in (*[self.worker] * WORKERS, self.zombie, self.keeper, self.clock):
                await self.turns.pausing(lambda part=part: begin(part))  # type: ignore[misc]
            for turn in count():
                await self.turns.give()
                if turn % TURNS_A_LOOK == 0 and await self.all_ended(refs):
                    break
                assert turn < MAX_TURNS, "the jobs do not end"
            for task in tasks:
                task.cancel()

    async def all_ended(self, refs: list[str]) -> bool:
        return all([(await self.scheduler.job(ref)).state.is_final for ref in refs])


@pytest.fixture
def seed() -> int:
    """TALLYMESH_CHAOS_SEED, else another one for each run."""
    chosen = int(os.environ.get("TALLYMESH_CHAOS_SEED") or random.randrange(1 << 32))
    print(f"TALLYMESH_CHAOS_SEED={chosen}")
    return chosen


async def play(layout: Layout, seed: int, jobs: int) -> tuple[list[tuple[object, ...]], int]:
    """Plays on an empty store, which it leaves empty.

    Returns:
        All transitions in order, and how many leases were lost.
    """
    draw, numbers = random.Random(seed), count()
    turns = Turns(draw)
    store = await Store.open(layout.url, shards=layout.shards)
    in_turns = InTurns(store, turns)
    leases = LeaseStore(cast(Store, in_turns), alive_seconds=ALIVE_SECONDS, transit_seconds=0)
    chaos = Chaos(Scheduler(store, JobStore(store), leases), draw, turns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tallymesh_core.store.leases.RETRY_SECONDS", 0.02)
        patch.setattr("tallymesh_core.store.leases.LOSS_BUDGET", 1000)
        # Whatever else is drawn is drawn from the seed too.
        patch.setattr("tallymesh_core.store.leases.random", draw)
        patch.setattr(
            "tallymesh_core.store.jobs.new_job_id", lambda shard: f"{next(numbers):014}0{shard}"
        )
        # From here on the store's time stands still unless it is told to go on.
        await chaos.scheduler.pass_time(DAY_SECONDS)
        refs = [
            await chaos.scheduler.submit(queue=QUEUES[i % 3], chunk_count=CHUNKS, max_attempts=100)
            for i in range(jobs)
        ]
        await chaos.play(refs)

    # Nobody else is left to take turns with.
    chaos.scheduler.leases = LeaseStore(store)
    for uid, span in chaos.zombies:
        await chaos.commit(uid, span)
    records = [await chaos.scheduler.job(ref) for ref in refs]
    for ref, job in zip(refs, records, strict=True):
        assert (job.state, job.done) == (JobState.SUCCEEDED, CHUNKS), ref
        assert job.total == sum(value_of(ref, index) for index in range(CHUNKS)), ref
        assert sum(job.handled_by.values()) == CHUNKS
    working = await chaos.scheduler.working_sets()
    assert {key for key in working if ":held:" not in key} == set()
    for client in await all_clients(store):
        await client.flushall()
    await store.close()
    return in_turns.history, sum(job.lost for job in records)


async def test_sums_are_exact_whatever_workers_do(layout: Layout, seed: int) -> None:
    _, lost = await play(layout, seed, jobs=40)
    assert lost > 0, "nothing was lost, so nothing was proved"


async def test_a_seed_repeats_every_call_and_its_answer(layout: Layout, seed: int) -> None:
    first = await play(layout, seed, jobs=8)
    assert await play(layout, seed, jobs=8) == first
    assert await play(layout, seed + 1, jobs=8) != first
