"""Jobs accepted together."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tallymesh_core.domain.errors import BacklogFull, NotFound, RequestIdReused
from tallymesh_core.domain.states import JobState
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import JobStore, Submission
from tallymesh_core.store.leases import LeaseStore
from tests.store.jobs.conftest import ADDITIVE, Scheduler


def asked(request_id: str = "", content: str = "h", **changes: Any) -> Submission:
    return Submission(replace(ADDITIVE, **changes), request_id, content, f"field of {request_id}")


async def accepted(scheduler: Scheduler) -> int:
    return sum((await scheduler.jobs.counts()).values())


async def test_jobs_come_back_in_the_order_in_which_they_were_given(
    scheduler: Scheduler,
) -> None:
    batch = [asked(queue=f"q{i % 4}", chunk_count=i + 1) for i in range(40)]
    records = await scheduler.jobs.submit_all(batch)
    assert [(one.spec.queue, one.spec.chunk_count) for one in records] == [
        (one.job.queue, one.job.chunk_count) for one in batch
    ]
    assert len({one.id for one in records}) == await accepted(scheduler) == 40
    for record in records:
        stored = await scheduler.job(f"default/{record.id}")
        assert replace(stored, now_ms=0) == replace(record, now_ms=0, work=b"")
    # All of them can be leased.
    lanes = [f"q{i}/simulate" for i in range(4)]
    await scheduler.beat("w1")
    spans = await scheduler.leases.lease("w1", "call", 1000, lanes)
    assert sum(span.count for span in spans) == sum(one.spec.chunk_count for one in records)


async def test_repeat_of_a_batch_is_answered_with_the_first(scheduler: Scheduler) -> None:
    batch = [asked(f"r{i}", queue=f"q{i % 3}") for i in range(6)]
    first = await scheduler.jobs.submit_all(batch)
    # A part of it, beside a new one, in another order.
    again = await scheduler.jobs.submit_all([*batch[4:], asked("new"), *batch[:4]])
    assert [one.id for one in [*again[3:], *again[:2]]] == [one.id for one in first]
    assert again[2].id not in {one.id for one in first}
    assert await accepted(scheduler) == 7
    await scheduler.cancel(f"default/{first[0].id}")
    assert (await scheduler.jobs.submit_all(batch))[0].state is JobState.CANCELLED


async def test_request_id_twice_in_a_batch_is_one_job(scheduler: Scheduler) -> None:
    records = await scheduler.jobs.submit_all([asked("r"), asked(), asked("r"), asked()])
    assert records[0].id == records[2].id
    assert len({one.id for one in records}) == await accepted(scheduler) == 3
    repeat_of_it = await scheduler.jobs.submit_all([asked("r")])
    assert repeat_of_it[0].id == records[0].id


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_reused_request_id_refuses_the_whole_batch(scheduler: Scheduler, place: int) -> None:
    await scheduler.jobs.submit_all([asked("r")])
    batch = [asked("x"), asked("y")]
    batch.insert(place, asked("r", "other"))
    with pytest.raises(RequestIdReused) as caught:
        await scheduler.jobs.submit_all(batch)
    assert caught.value.field == "field of r"
    assert await accepted(scheduler) == 1
    with pytest.raises(RequestIdReused):
        await scheduler.jobs.submit_all([asked("x"), asked("x", "other")])
    assert await accepted(scheduler) == 1
    # Nothing of what was refused is remembered.
    await scheduler.jobs.submit_all([asked("x", "yet another"), asked("y", "yet another")])


async def test_batch_beyond_the_backlog_is_refused_whole(store_url: str) -> None:
    store = await Store.open(store_url)
    scheduler = Scheduler(store, JobStore(store, backlog_limit=3), LeaseStore(store))

    async def submit(batch: Sequence[Submission]) -> list[str]:
        return [one.id for one in await scheduler.jobs.submit_all(batch)]

    first = await submit([asked("a"), asked("b")])
    with pytest.raises(BacklogFull):
        await submit([asked(), asked()])
    assert await accepted(scheduler) == 2
    # What is a repeat takes no room.
    *repeated, _ = await submit([asked("a"), asked("b"), asked("c")])
    assert repeated == first
    assert await submit([asked("a"), asked("b")]) == first
    with pytest.raises(BacklogFull):
        await submit([asked("a"), asked("d")])
    await scheduler.cancel(f"default/{first[0]}")
    await submit([asked("d")])
    await store.close()


async def test_repeat_of_an_expired_job_refuses_the_whole_batch(scheduler: Scheduler) -> None:
    (first,) = await scheduler.jobs.submit_all([asked("r", ttl_ms=1000)])
    await scheduler.cancel(f"default/{first.id}")
    await scheduler.pass_time(1)
    await scheduler.jobs.expire()
    with pytest.raises(NotFound, match=first.id):
        await scheduler.jobs.submit_all([asked("new"), asked("r", ttl_ms=1000)])
    assert await accepted(scheduler) == 0
    await scheduler.jobs.submit_all([asked("new", "another request")])


async def test_timeouts_begin_with_the_batch(scheduler: Scheduler) -> None:
    short, _, long = await scheduler.jobs.submit_all(
        [asked(timeout_ms=1000), asked(), asked(timeout_ms=5000)]
    )
    await scheduler.pass_time(2)
    await scheduler.jobs.time_out()
    assert (await scheduler.job(f"default/{short.id}")).state is JobState.FAILED
    assert (await scheduler.job(f"default/{long.id}")).state is JobState.PENDING
