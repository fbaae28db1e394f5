"""Chunks given up: what their job makes of it."""

from dataclasses import replace

import pytest

from tallymesh_core.domain.jobs import ChunkSpan, DeadLetterFilter
from tallymesh_core.domain.states import ChunkState, JobState
from tests.store.jobs.conftest import Scheduler, chunks_of


async def merge(scheduler: Scheduler, span: ChunkSpan, *partials: bytes) -> tuple[int, int]:
    return await scheduler.commit("w1", span, sums=None, partials=partials)


async def letters_of(scheduler: Scheduler, ref: str) -> list[int]:
    wanted = DeadLetterFilter(job_id=ref.split("/")[1])
    letters, _ = await scheduler.letters.page("default", wanted, before="", limit=100)
    return sorted(letter.chunk for letter in letters)


async def test_job_succeeds_without_a_tolerated_chunk(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=4, tolerate_failures=1, max_attempts=1)
    (span,) = await scheduler.take("w1")
    assert await scheduler.fail("w1", replace(span, first=1)) == 1
    assert await scheduler.fail("w1", replace(span, first=1)) == 0
    job = await scheduler.job(ref)
    assert (job.state, job.dead, job.counted_ms) == (JobState.RUNNING, 1, 0)
    chunks, _ = await scheduler.jobs.chunks("default", ref.split("/")[1], 0, 4)
    assert chunks[1].state is ChunkState.FAILED
    assert chunks[1].failure is not None
    assert (chunks[1].failure.reason, chunks[1].failure.chunk) == ("CHUNK_FAILED", 1)

    assert await scheduler.commit("w1", replace(span, count=1), 5) == (1, 0)
    assert await scheduler.commit("w1", replace(span, first=2, count=2), 5) == (2, 0)
    job = await scheduler.job(ref)
    assert (job.state, job.total, job.done, job.dead) == (JobState.SUCCEEDED, 15, 3, 1)
    assert job.counted_ms == job.ended_ms
    assert await letters_of(scheduler, ref) == [1]
    assert await scheduler.working_sets() == {}


async def test_chunk_given_up_last_ends_its_job(scheduler: Scheduler) -> None:
    failed = await scheduler.submit(chunk_count=2, tolerate_failures=1, max_attempts=1)
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", replace(span, count=1), 5)
    await scheduler.fail("w1", replace(span, first=1))
    lost = await scheduler.submit(chunk_count=2, tolerate_failures=1)
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", replace(span, count=1), 5)
    for _ in range(11):
        assert (await scheduler.job(lost)).state is JobState.RUNNING
        await scheduler.lose("w1")
        await scheduler.take("w1")
    for ref in (failed, lost):
        job = await scheduler.job(ref)
        assert (job.state, job.total, job.dead) == (JobState.SUCCEEDED, 5, 1)
    assert await scheduler.working_sets() == {}


async def test_one_more_than_tolerated_fails_the_job(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=4, tolerate_failures=1, max_attempts=1)
    (span,) = await scheduler.take("w1")
    await scheduler.fail("w1", replace(span, first=3), message="the first")
    await scheduler.fail("w1", replace(span, first=2), message="the second")
    job = await scheduler.job(ref)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert (job.failure.chunk, job.failure.message) == (2, "the second")
    assert await letters_of(scheduler, ref) == [2, 3]
    assert await scheduler.commit("w1", replace(span, count=2)) == (0, 2)
    assert await scheduler.working_sets() == {}


@pytest.mark.parametrize("additive", [True, False])
async def test_job_of_which_nothing_is_left_fails(scheduler: Scheduler, additive: bool) -> None:
    ref = await scheduler.submit(
        chunk_count=3, tolerate_failures=3, max_attempts=1, additive=additive
    )
    (span,) = await scheduler.take("w1")
    for first in range(3):
        assert (await scheduler.job(ref)).state is JobState.RUNNING
        await scheduler.fail("w1", replace(span, first=first))
    assert (await scheduler.job(ref)).state is JobState.FAILED
    assert await scheduler.working_sets() == {}


@pytest.mark.parametrize("last", ["counted", "given up"])
async def test_results_are_merged_without_a_tolerated_chunk(
    scheduler: Scheduler, last: str
) -> None:
    ref = await scheduler.submit(chunk_count=3, tolerate_failures=1, max_attempts=1, additive=False)
    (span,) = await scheduler.take("w1")

    async def count() -> None:
        await merge(scheduler, replace(span, first=1, count=2), b"b", b"c")

    async def give_up() -> None:
        await scheduler.fail("w1", replace(span, count=1))

    for step in (give_up, count) if last == "counted" else (count, give_up):
        # The last step has to wait for all others.
        assert await scheduler.take("w2") == []
        assert (await scheduler.job(ref)).counted_ms == 0
        await step()
    job = await scheduler.job(ref)
    assert (job.state, job.done, job.dead) == (JobState.RUNNING, 2, 1)
    assert job.counted_ms
    assert await scheduler.jobs.partials_of(ref) == [b"b", b"c"]
    (final,) = await scheduler.take("w2")
    assert (final.first, final.count) == (3, 1)
    assert await scheduler.commit("w2", final, sums=None, result=b"bc") == (1, 0)
    job = await scheduler.job(ref)
    assert (job.state, job.result) == (JobState.SUCCEEDED, b"bc")
    assert await scheduler.working_sets() == {}


@pytest.mark.parametrize("additive", [True, False])
async def test_late_result_of_a_chunk_given_up_counts_while_others_are_left(
    scheduler: Scheduler, additive: bool
) -> None:
    ref = await scheduler.submit(
        chunk_count=2, tolerate_failures=1, max_attempts=1, additive=additive
    )
    (old,) = await scheduler.take("slow", 1)
    await scheduler.fail("slow", old)
    form = {} if additive else {"sums": None, "partials": (b"a",)}
    assert await scheduler.commit("slow", old, 5, **form) == (1, 0)
    assert await letters_of(scheduler, ref) == []
    (span,) = await scheduler.take("w1")
    form = {} if additive else {"sums": None, "partials": (b"b",)}
    await scheduler.commit("w1", span, 5, **form)
    job = await scheduler.job(ref)
    assert (job.done, job.dead) == (2, 0)
    if additive:
        assert (job.state, job.total) == (JobState.SUCCEEDED, 10)
    else:
        assert await scheduler.jobs.partials_of(ref) == [b"a", b"b"]


async def test_late_result_of_a_chunk_given_up_is_refused_once_the_last_step_has_begun(
    scheduler: Scheduler,
) -> None:
    ref = await scheduler.submit(chunk_count=2, tolerate_failures=1, max_attempts=1, additive=False)
    (span,) = await scheduler.take("w1")
    await scheduler.fail("w1", replace(span, count=1))
    await merge(scheduler, replace(span, first=1, count=1), b"b")
    assert await merge(scheduler, replace(span, count=1), b"a") == (0, 1)
    job = await scheduler.job(ref)
    assert (job.done, job.dead, job.refused) == (1, 1, 1)
    assert await scheduler.jobs.partials_of(ref) == [b"b"]
    assert await letters_of(scheduler, ref) == [0]
    assert chunks_of(await scheduler.take("w1")) == [2]


async def test_refused_work_is_not_tolerated(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=4, tolerate_failures=4, max_attempts=100)
    (span,) = await scheduler.take("w1")
    await scheduler.fail("w1", span, "WORK_REFUSED")
    job = await scheduler.job(ref)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.reason == "WORK_REFUSED"


async def test_last_step_is_not_tolerated(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2, tolerate_failures=2, max_attempts=1, additive=False)
    (span,) = await scheduler.take("w1")
    await merge(scheduler, span, b"a", b"b")
    (step,) = await scheduler.take("w1")
    await scheduler.fail("w1", step)
    job = await scheduler.job(ref)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.chunk == 2
    assert await letters_of(scheduler, ref) == [2]
