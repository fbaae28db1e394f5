"""Jobs that were kept long enough, and every key that goes with them."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tallymesh_core.domain.errors import NotFound
from tallymesh_core.domain.jobs import ChunkFailure, ChunkSpan, DeadLetterFilter
from tallymesh_core.domain.states import JobState
from tests.store.jobs.conftest import Scheduler

#: What a store that has no job, no worker and no abacus keeps.
PERMANENT = {"tm:meta", "clock", "tick", "tenants", "vtime", "events"}


async def succeed(scheduler: Scheduler) -> str:
    ref = await scheduler.submit(chunk_count=3, tolerate_failures=1, max_attempts=1, ttl_ms=1000)
    (span,) = await scheduler.take("w1")
    await scheduler.fail("w1", replace(span, count=1))
    await scheduler.beat("w1", [span], progress=[(replace(span, first=1, count=1), 0.5)])
    await scheduler.commit("w1", replace(span, first=1, count=2))
    return ref


async def merge(scheduler: Scheduler) -> str:
    # What is not short has a key of its own.
    ref = await scheduler.submit(
        chunk_count=2, additive=False, ttl_ms=1000, work=b"w" * 100, labels={"l": "x" * 100}
    )
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span, sums=None, partials=(b"a", b"b"))
    (step,) = await scheduler.take("w1")
    await scheduler.commit("w1", step, sums=None, result=b"ab" * 100)
    kinds = {key.partition(":")[0] for key in await scheduler.keys()}
    assert {"spec", "work", "result", "label"} <= kinds
    return ref


async def fail_replayed(scheduler: Scheduler) -> str:
    ref = await scheduler.submit(
        chunk_count=3, max_attempts=2, additive=False, ttl_ms=1000, timeout_ms=60_000
    )
    for epoch in (1, 2):
        await scheduler.take("w1")
        one = ChunkSpan(ref, epoch, 1, 1, 1)
        await scheduler.commit("w1", one, sums=None, partials=(b"b",))
        await scheduler.fail("w1", replace(one, first=2))
        await scheduler.fail("w1", replace(one, first=0, attempt=epoch), "WORK_REFUSED")
        assert (await scheduler.job(ref)).state is JobState.FAILED
        await scheduler.replay(ref)
    await scheduler.pass_time(60)
    await scheduler.jobs.time_out()
    return ref


async def time_out(scheduler: Scheduler) -> str:
    ref = await scheduler.submit(timeout_ms=1000, ttl_ms=1000)
    await scheduler.pass_time(1)
    await scheduler.jobs.time_out()
    return ref


async def cancel_running(scheduler: Scheduler) -> str:
    ref = await scheduler.submit(chunk_count=4, ttl_ms=1000)
    await scheduler.take("w1")
    await scheduler.cancel(ref)
    return ref


async def post(scheduler: Scheduler) -> str:
    ref = await scheduler.submit(chunk_count=1, abacus="x", ttl_ms=1000)
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span)
    await scheduler.jobs.note_posted(*ref.split("/"), amount="1", total="1")
    return ref


async def succeed_alone(scheduler: Scheduler) -> str:
    ref = await scheduler.submit(chunk_count=1, ttl_ms=1000, labels={"l": "x"})
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span)
    assert {key for key in await scheduler.keys() if ref in key} == {f"job:{ref}"}
    return ref


@pytest.mark.parametrize(
    "live",
    [succeed, succeed_alone, merge, fail_replayed, time_out, cancel_running, post],
    ids=lambda f: f.__name__,
)
async def test_no_key_outlives_its_owner(
    scheduler: Scheduler, live: Callable[[Scheduler], Awaitable[str]]
) -> None:
    ref = await live(scheduler)
    job_id = ref.split("/")[1]
    assert (await scheduler.job(ref)).state.is_final
    assert not await scheduler.jobs.expire()
    assert (await scheduler.job(ref)).id
    await scheduler.pass_time(1)
    await scheduler.jobs.expire()
    with pytest.raises(NotFound):
        await scheduler.job(ref)
    # Whatever comes of it now finds nothing and leaves nothing.
    span = ChunkSpan(ref, 1, 0, 1, 1)
    assert await scheduler.commit("w1", span) == (0, 1)
    assert await scheduler.commit("w1", replace(span, first=3), sums=None, result=b"x") == (0, 1)
    assert await scheduler.fail("w1", span) == 0
    assert await scheduler.leases.give_back("w1", [span]) == 0
    assert await scheduler.beat("w1", [span], progress=[(span, 0.5)]) == [span]
    await scheduler.jobs.note_posted("default", job_id, amount="1", total="1")
    for call in (scheduler.cancel, scheduler.replay):
        with pytest.raises(NotFound):
            await call(ref)
    with pytest.raises(NotFound):
        await scheduler.jobs.chunks("default", job_id, 0, 1)
    wanted = DeadLetterFilter(job_id=job_id)
    assert await scheduler.letters.replay("default", wanted) == (0, 0, ())
    await scheduler.leases.give_up(["w1"])
    assert await scheduler.keys() - PERMANENT == set()
    assert set((await scheduler.jobs.counts()).values()) == {0}


async def test_job_is_kept_from_its_end_for_its_ttl(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1, ttl_ms=10_000)
    await scheduler.pass_time(60)
    await scheduler.jobs.expire()
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span)
    job = await scheduler.job(ref)
    assert job.expires_ms == job.ended_ms + 10_000
    await scheduler.pass_time(9)
    await scheduler.jobs.expire()
    assert (await scheduler.job(ref)).total == 1
    await scheduler.pass_time(1)
    await scheduler.jobs.expire()
    with pytest.raises(NotFound):
        await scheduler.job(ref)


async def test_replayed_job_does_not_expire_while_it_runs(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1, max_attempts=1, ttl_ms=1000)
    (span,) = await scheduler.take("w1")
    await scheduler.fail("w1", span)
    await scheduler.replay(ref)
    await scheduler.pass_time(60)
    await scheduler.jobs.expire()
    (span,) = await scheduler.take("w1")
    assert await scheduler.commit("w1", span) == (1, 0)
    assert (await scheduler.job(ref)).state is JobState.SUCCEEDED


async def test_job_waits_for_its_total_to_be_posted(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1, abacus="x", ttl_ms=1000)
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span)
    for _ in range(3):
        await scheduler.pass_time(100)
        await scheduler.jobs.expire()
        assert await scheduler.jobs.outbox(10) == [ref]
        assert (await scheduler.job(ref)).total == 1
    await scheduler.jobs.note_posted(*ref.split("/"), amount="1", total="1")
    await scheduler.pass_time(60)
    await scheduler.jobs.expire()
    with pytest.raises(NotFound):
        await scheduler.job(ref)
    assert await scheduler.jobs.outbox(10) == []


async def test_stop_of_an_expired_job_is_owed_to_nobody(scheduler: Scheduler) -> None:
    ref = await cancel_running(scheduler)
    span = ChunkSpan(ref, 1, 0, 4, 1)
    await scheduler.pass_time(1)
    await scheduler.jobs.expire()
    assert await scheduler.beat("w1", [span], stopping=[ref]) == [span]
    assert await scheduler.beat("w1") == []
    assert not {key for key in await scheduler.keys() if key.startswith(("owing", "halting"))}


async def test_job_of_many_dead_letters_goes_step_by_step(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh_core.store.jobs._LETTER_BATCH", 1000)
    chunks = 3000
    await scheduler.submit(
        chunk_count=chunks, tolerate_failures=chunks, max_attempts=1, ttl_ms=1000
    )
    (span,) = await scheduler.take("w1", chunks)
    await scheduler.leases.fail(
        "w1",
        "w1",
        [
            ChunkFailure(replace(span, first=index, count=1), "CHUNK_FAILED", f"broken {index % 9}")
            for index in range(chunks)
        ],
    )
    await scheduler.leases.give_up(["w1"])
    await scheduler.pass_time(1)
    steps = 1
    while await scheduler.jobs.expire():
        steps += 1
    assert steps >= 3
    assert await scheduler.keys() - PERMANENT == set()


async def test_many_expire_a_few_at_a_time(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh_core.store.jobs._BATCH", 2)
    refs = [await scheduler.submit(ttl_ms=1000) for _ in range(5)]
    for ref in refs:
        await scheduler.cancel(ref)
    await scheduler.pass_time(1)
    assert [await scheduler.jobs.expire() for _ in range(3)] == [True, True, False]
    assert await scheduler.keys() - PERMANENT == set()
