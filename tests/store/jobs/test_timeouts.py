"""Jobs whose time is over."""

from typing import Any

import pytest

from tallymesh_core.domain.errors import JobEnded
from tallymesh_core.domain.states import JobState
from tests.store.jobs.conftest import Scheduler


async def test_waiting_job_times_out(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(timeout_ms=1500)
    patient = await scheduler.submit()
    wait = await scheduler.jobs.time_out()
    assert wait is not None
    assert 0 < wait <= 1.5
    await scheduler.pass_time(1)
    assert 0 < (await scheduler.jobs.time_out() or 0) <= 0.5
    assert (await scheduler.job(ref)).state is JobState.PENDING
    await scheduler.pass_time(0.6)
    assert await scheduler.jobs.time_out() is None
    job = await scheduler.job(ref)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert (job.failure.reason, job.failure.chunk, job.failure.worker) == ("JOB_TIMED_OUT", -1, "")
    assert job.failure.message == "the job did not end within its timeout, 1.5 s"
    assert (await scheduler.job(patient)).state is JobState.PENDING
    assert {span.ref for span in await scheduler.take("w1")} == {patient}


@pytest.mark.parametrize("additive", [True, False])
async def test_running_job_times_out(scheduler: Scheduler, additive: bool) -> None:
    ref = await scheduler.submit(
        chunk_count=6, timeout_ms=1000, tolerate_failures=1, additive=additive
    )
    (span,) = await scheduler.take("w1", 4)
    await scheduler.leases.give_back("w1", [span])
    (span,) = await scheduler.take("w1", 2)
    await scheduler.fail("w1", span)
    await scheduler.pass_time(1)
    assert await scheduler.jobs.time_out() is None
    assert (await scheduler.job(ref)).state is JobState.FAILED
    # Who computes it still is told to stop, and what comes of it is refused.
    assert await scheduler.beat("w1", [span]) == [span]
    form: dict[str, Any] = {} if additive else {"sums": None, "partials": (b"a", b"b")}
    assert await scheduler.commit("w1", span, **form) == (0, 2)
    assert await scheduler.fail("w1", span) == 0
    assert await scheduler.leases.give_back("w1", [span]) == 0
    assert await scheduler.leases.promote() is None
    assert await scheduler.take("w2") == []
    with pytest.raises(JobEnded, match="failed"):
        await scheduler.cancel(ref)
    assert await scheduler.working_sets() == {}


async def test_last_step_is_within_the_timeout_too(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1, timeout_ms=1000, additive=False)
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span, sums=None, partials=(b"a",))
    (step,) = await scheduler.take("w1")
    await scheduler.pass_time(1)
    await scheduler.jobs.time_out()
    assert (await scheduler.job(ref)).state is JobState.FAILED
    assert await scheduler.commit("w1", step, sums=None, result=b"a") == (0, 1)
    # Its partial results are there when it is replayed.
    await scheduler.replay(ref)
    assert await scheduler.jobs.partials_of(ref) == [b"a"]


async def test_job_that_has_ended_does_not_time_out(scheduler: Scheduler) -> None:
    done = await scheduler.submit(chunk_count=1, timeout_ms=1000)
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span)
    cancelled = await scheduler.submit(timeout_ms=1000)
    await scheduler.cancel(cancelled)
    assert await scheduler.jobs.time_out() is None
    await scheduler.pass_time(2)
    assert await scheduler.jobs.time_out() is None
    assert (await scheduler.job(done)).state is JobState.SUCCEEDED
    assert (await scheduler.job(cancelled)).state is JobState.CANCELLED


async def test_jobs_that_time_out_together_are_taken_a_few_at_a_time(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh_core.store.jobs._BATCH", 2)
    refs = [await scheduler.submit(timeout_ms=1000) for _ in range(5)]
    await scheduler.pass_time(1)
    assert await scheduler.jobs.time_out() == 0
    assert await scheduler.jobs.time_out() == 0
    assert await scheduler.jobs.time_out() is None
    assert {(await scheduler.job(ref)).state for ref in refs} == {JobState.FAILED}
