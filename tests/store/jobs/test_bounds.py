"""Transitions at their bounds: very many chunks, absurd numbers, late calls, ids taken twice."""

from collections import Counter
from itertools import chain, repeat

import pytest

from tallymesh_core.domain.ids import new_job_id
from tallymesh_core.domain.jobs import JobFilter
from tallymesh_core.domain.states import JobState
from tallymesh_core.store import jobs
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import JobStore, Submission
from tallymesh_core.store.leases import LeaseStore
from tests.harness.polling import eventually
from tests.harness.stores import client_of
from tests.store.jobs.conftest import ADDITIVE, Scheduler


async def test_range_of_any_length_counts_at_once(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=20_000)
    (span,) = await scheduler.take("w1", 20_000)
    assert await scheduler.commit("w1", span) == (20_000, 0)
    job = await scheduler.job(ref)
    assert (job.state, job.total) == (JobState.SUCCEEDED, 20_000)
    assert await scheduler.working_sets() == {}


@pytest.mark.parametrize("micros", [2**63 - 1, 2**64 - 1])
async def test_absurd_processor_time_spoils_nothing(scheduler: Scheduler, micros: int) -> None:
    ref = await scheduler.submit(chunk_count=4)
    (span,) = await scheduler.take("w1")
    assert await scheduler.commit("w1", span, micros=(micros,) * 4) == (4, 0)
    job = await scheduler.job(ref)
    assert (job.state, job.total) == (JobState.SUCCEEDED, 4)
    assert 0 <= job.compute_us < 2**63


async def test_id_that_is_taken_is_not_given_again(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = scheduler.store.shard_of("default", "default")
    one, other = new_job_id(shard), new_job_id(shard)
    drawn = chain([one, one], repeat(other))
    monkeypatch.setattr(jobs, "new_job_id", lambda shard: next(drawn))
    assert await scheduler.submit(chunk_count=2) == f"default/{one}"
    assert await scheduler.submit(chunk_count=3) == f"default/{other}"
    assert (await scheduler.job(f"default/{one}")).spec.chunk_count == 2
    assert (await scheduler.jobs.counts())[JobState.PENDING] == 2


async def test_two_of_a_batch_never_get_one_id(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = scheduler.store.shard_of("default", "default")
    one, other, third = (new_job_id(shard) for _ in range(3))
    drawn = iter([one, one, other, third])
    monkeypatch.setattr(jobs, "new_job_id", lambda shard: next(drawn))
    accepted = await scheduler.jobs.submit_all([Submission(ADDITIVE), Submission(ADDITIVE)])
    assert [job.id for job in accepted] == [other, third]
    assert (await scheduler.jobs.counts())[JobState.PENDING] == 2


async def test_call_that_finds_a_job_without_chunks_still_gets_the_next(
    scheduler: Scheduler,
) -> None:
    # A late result takes the one chunk that was to be leased again.
    ref = await scheduler.submit(chunk_count=2)
    late, running = await scheduler.take("w1", 1), await scheduler.take("w2", 1)
    await scheduler.leases.give_back("w1", late)
    await scheduler.commit("w1", late[0])
    await scheduler.beat("w3")
    version = (await scheduler.job(ref)).version
    assert await scheduler.lease("w3", call="waiting") == []
    assert (await scheduler.job(ref)).version == version
    await scheduler.leases.give_back("w2", running)
    assert [span.first for span in await scheduler.lease("w3", call="waiting")] == [1]


async def test_leaving_worker_gives_up_what_it_never_heard_of(store_url: str) -> None:
    store = await Store.open(store_url)
    scheduler = Scheduler(store, JobStore(store), LeaseStore(store))
    await scheduler.submit(chunk_count=1)
    await scheduler.beat("w1")
    await scheduler.lease("w1", call="given-up")
    # A moment later it would be too early to tell, were the worker not leaving.
    await scheduler.beat("w1")
    assert not await scheduler.leases.leave("w1")
    await scheduler.beat("w1", draining=True)
    assert await scheduler.leases.leave("w1")
    assert [span.attempt for span in await scheduler.take("w2")] == [1]
    await store.close()


async def test_late_call_does_not_bring_back_a_worker_that_left(scheduler: Scheduler) -> None:
    await scheduler.submit(chunk_count=2)
    (span,) = await scheduler.take("w1", 1)
    await scheduler.leases.give_back("w1", [span])
    assert await scheduler.leases.leave("w1")
    assert await scheduler.beat("w1", [span]) == [span]
    assert await scheduler.lease("w1") == []
    assert await scheduler.leases.workers() == []


async def test_queues_take_turns(scheduler: Scheduler) -> None:
    lanes = ["old/simulate", "new/simulate"]
    given: Counter[str] = Counter()

    async def step() -> None:
        await scheduler.beat("w1")
        for span in await scheduler.leases.lease("w1", f"c{next(scheduler.calls)}", 1, lanes):
            given[span.ref] += span.count
            await scheduler.commit("w1", span)

    old = await scheduler.submit(queue="old", chunk_count=1000)
    for _ in range(100):
        await step()
    new = await scheduler.submit(queue="new", chunk_count=1000)
    given.clear()
    for _ in range(200):
        await step()
    assert min(given[old], given[new]) > 50


async def test_list_from_a_time_misses_no_job_of_a_clock_that_is_behind(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = scheduler.store.shard_of("default", "default")
    late, early = sorted(new_job_id(shard) for _ in range(2))
    drawn = iter([early, late])
    monkeypatch.setattr(jobs, "new_job_id", lambda shard: next(drawn))
    created = (await scheduler.job(await scheduler.submit())).created_ms

    async def a_millisecond_later() -> bool:
        seconds, micros = await (await client_of(scheduler.store, shard)).time()
        return bool(seconds * 1000 + micros // 1000 > created)

    await eventually(a_millisecond_later, interval=0.001)
    await scheduler.submit()
    wanted = JobFilter(from_ms=created + 1)
    page, _ = await scheduler.jobs.list_page("default", wanted, before="", limit=10)
    assert [job.id for job in page] == [late]


async def test_repeated_call_is_given_nothing_on_another_shard(store_url: str) -> None:
    store = await Store.open(store_url, shards=4)
    scheduler = Scheduler(store, JobStore(store), LeaseStore(store))
    queues = [f"q{i}" for i in range(32)]
    for queue in queues:
        await scheduler.submit(queue=queue, chunk_count=8)
    lanes = [f"{queue}/simulate" for queue in queues]
    await scheduler.beat("w1")
    given = await scheduler.leases.lease("w1", "call", 1, lanes)
    for _ in range(8):
        assert await scheduler.leases.lease("w1", "call", 1, lanes) == given
    await store.close()
