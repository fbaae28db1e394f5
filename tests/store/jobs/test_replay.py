"""Failed jobs that run again: what is counted stays, the rest begins anew."""

from dataclasses import replace

import pytest

from tallymesh_core.domain.errors import BacklogFull, JobNotReplayable, NotFound
from tallymesh_core.domain.jobs import MAX_CHUNKS, ChunkSpan, DeadLetterFilter
from tallymesh_core.domain.states import ChunkState, JobState
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tests.harness.stores import client_of
from tests.store.jobs.conftest import Scheduler, chunks_of


async def fail_one_of_six(scheduler: Scheduler) -> tuple[str, ChunkSpan]:
    """A job of six chunks, of which two are counted, one failed, one ran then, two never did."""
    ref = await scheduler.submit(chunk_count=6, max_attempts=1)
    (span,) = await scheduler.take("w1", 4)
    await scheduler.commit("w1", replace(span, count=2), 5)
    await scheduler.fail("w1", replace(span, first=2))
    assert (await scheduler.job(ref)).state is JobState.FAILED
    return ref, span


async def test_only_what_was_not_counted_runs_again(scheduler: Scheduler) -> None:
    ref, _ = await fail_one_of_six(scheduler)
    before = await scheduler.job(ref)
    assert await scheduler.replay(ref) == 1
    job = await scheduler.job(ref)
    assert (job.state, job.epoch, job.done, job.total) == (JobState.PENDING, 2, 2, 10)
    assert (job.failure, job.ended_ms, job.expires_ms, job.dead) == (None, 0, 0, 0)
    assert (job.created_ms, job.started_ms) == (before.created_ms, before.started_ms)

    spans = await scheduler.take("w2")
    assert chunks_of(spans) == [2, 3, 4, 5]
    assert {span.epoch for span in spans} == {2}
    for span in spans:
        await scheduler.commit("w2", span, 5)
    job = await scheduler.job(ref)
    assert (job.state, job.total, job.refused) == (JobState.SUCCEEDED, 30, 0)
    assert job.handled_by == {"name-w1": 2, "name-w2": 4}
    assert await scheduler.working_sets() == {}


async def test_chunk_that_waited_for_a_retry_is_leasable_at_once(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2, max_attempts=2)
    (span,) = await scheduler.take("w1")
    await scheduler.fail("w1", replace(span, count=1))
    await scheduler.fail("w1", replace(span, first=1), "WORK_REFUSED")
    await scheduler.replay(ref)
    assert chunks_of(await scheduler.take("w1")) == [0, 1]
    assert await scheduler.leases.promote() is None


async def test_late_results_of_the_old_epoch_are_refused(scheduler: Scheduler) -> None:
    ref, old = await fail_one_of_six(scheduler)
    await scheduler.replay(ref)
    late = replace(old, first=3, count=1)
    assert await scheduler.commit("w1", late) == (0, 1)
    assert await scheduler.fail("w1", late) == 0
    assert chunks_of(await scheduler.take("w2")) == [2, 3, 4, 5]
    assert await scheduler.commit("w1", late) == (0, 1)
    assert await scheduler.commit("w1", replace(old, count=2), 5) == (0, 2)
    job = await scheduler.job(ref)
    assert (job.done, job.failed) == (2, 1)


async def test_lease_of_the_old_epoch_is_not_taken_for_one_of_the_new(
    scheduler: Scheduler,
) -> None:
    ref, old = await fail_one_of_six(scheduler)
    await scheduler.replay(ref)
    await scheduler.take("w1")
    late = replace(old, first=3, count=1)
    new = ChunkSpan(ref, 2, 2, 4, 1)
    # The same worker holds the chunk again, but what it computes of it is stale.
    assert await scheduler.beat("w1", [late, new]) == [late]
    assert await scheduler.leases.give_back("w1", [late]) == 0
    assert (await scheduler.job(ref)).running == 4
    # Where the answer with the new lease was lost, the old one does not stand for it.
    await scheduler.beat("w1", [late])
    assert chunks_of(await scheduler.take("w2")) == [2, 3, 4, 5]


async def test_merging_job_keeps_its_partial_results(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=3, max_attempts=1, additive=False)
    (span,) = await scheduler.take("w1")
    one = replace(span, count=1)
    await scheduler.commit("w1", one, sums=None, partials=(b"a",))
    await scheduler.fail("w1", replace(span, first=1))
    await scheduler.replay(ref)
    spans = await scheduler.take("w1")
    assert chunks_of(spans) == [1, 2]
    for again in spans:
        parts = tuple(b"bc"[i - 1 : i] for i in chunks_of([again]))
        await scheduler.commit("w1", again, sums=None, partials=parts)
    assert await scheduler.jobs.partials_of(ref) == [b"a", b"b", b"c"]
    (step,) = await scheduler.take("w1")
    assert (step.first, step.epoch) == (3, 2)
    assert await scheduler.commit("w1", step, sums=None, result=b"abc") == (1, 0)
    assert (await scheduler.job(ref)).state is JobState.SUCCEEDED
    assert await scheduler.working_sets() == {}


async def test_failed_last_step_runs_again_alone(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2, max_attempts=2, additive=False)
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span, sums=None, partials=(b"a", b"b"))
    (old,) = await scheduler.take("w1")
    await scheduler.fail("w1", old, "WORK_REFUSED")
    assert await scheduler.replay(ref) == 1
    (step,) = await scheduler.take("w1")
    assert (step.first, step.count, step.epoch, step.attempt) == (2, 1, 2, 2)
    assert await scheduler.commit("w1", old, sums=None, result=b"stale") == (0, 1)
    assert await scheduler.commit("w1", step, sums=None, result=b"ab") == (1, 0)
    assert (await scheduler.job(ref)).result == b"ab"
    assert await scheduler.working_sets() == {}


async def test_given_up_chunks_of_a_merged_job_run_again_before_its_last_step(
    scheduler: Scheduler,
) -> None:
    ref = await scheduler.submit(chunk_count=2, tolerate_failures=1, max_attempts=1, additive=False)
    (span,) = await scheduler.take("w1")
    await scheduler.fail("w1", replace(span, count=1))
    one = replace(span, first=1, count=1)
    await scheduler.commit("w1", one, sums=None, partials=(b"b",))
    (step,) = await scheduler.take("w1")
    await scheduler.fail("w1", step)
    assert await scheduler.replay(ref) == 2
    (again,) = await scheduler.take("w1")
    assert (again.first, again.count) == (0, 1)
    await scheduler.commit("w1", again, sums=None, partials=(b"a",))
    assert await scheduler.jobs.partials_of(ref) == [b"a", b"b"]
    (step,) = await scheduler.take("w1")
    await scheduler.commit("w1", step, sums=None, result=b"ab")
    assert (await scheduler.job(ref)).state is JobState.SUCCEEDED
    assert await scheduler.working_sets() == {}


async def test_attempts_and_timeout_begin_anew(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1, max_attempts=1, timeout_ms=60_000)
    for epoch in (1, 2):
        (span,) = await scheduler.take("w1")
        assert (span.epoch, span.attempt) == (epoch, epoch)
        await scheduler.pass_time(50)
        await scheduler.jobs.time_out()
        assert (await scheduler.job(ref)).state is JobState.RUNNING
        await scheduler.take("w1")
        await scheduler.fail("w1", span)
        assert (await scheduler.job(ref)).state is JobState.FAILED
        await scheduler.replay(ref)
    await scheduler.pass_time(61)
    await scheduler.jobs.time_out()
    job = await scheduler.job(ref)
    assert job.failure is not None
    assert job.failure.reason == "JOB_TIMED_OUT"
    # Nothing had been given out in this epoch, and nothing of it is lost.
    await scheduler.replay(ref)
    assert chunks_of(await scheduler.take("w1")) == [0]


async def test_each_replay_stays_known(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1, max_attempts=1)
    job_id = ref.split("/")[1]
    for replays in range(3):
        (span,) = await scheduler.take("w1")
        await scheduler.fail("w1", span, message=f"broken in round {replays}")
        letters, _ = await scheduler.letters.page(
            "default", DeadLetterFilter(job_id=job_id), before="", limit=10
        )
        assert [(one.chunk, one.replays, one.epoch) for one in letters] == [
            (0, replays, replays + 1)
        ]
        chunks, _ = await scheduler.jobs.chunks("default", job_id, 0, 1)
        assert (chunks[0].state, chunks[0].attempt) == (ChunkState.FAILED, replays + 1)
        await scheduler.replay(ref)
    told = (await scheduler.job(ref)).replays
    assert [(one.epoch, one.chunks, one.failure.message) for one in told] == [
        (2, 1, "broken in round 0"),
        (3, 1, "broken in round 1"),
        (4, 1, "broken in round 2"),
    ]
    assert {(one.failure.chunk, one.failure.worker) for one in told} == {(0, "name-w1")}


async def test_repeat_of_a_replay_does_nothing(scheduler: Scheduler) -> None:
    ref, _ = await fail_one_of_six(scheduler)
    assert await scheduler.replay(ref, epoch=1) == 1
    version = (await scheduler.job(ref)).version
    assert await scheduler.replay(ref, epoch=1) == 0
    assert (await scheduler.job(ref)).version == version
    # Also when it has failed again since: the repeat means the failure before.
    (span, *_) = await scheduler.take("w1")
    await scheduler.fail("w1", span)
    assert await scheduler.replay(ref, epoch=1) == 0
    job = await scheduler.job(ref)
    assert (job.state, job.epoch) == (JobState.FAILED, 2)
    assert await scheduler.replay(ref, epoch=2) == 1
    with pytest.raises(JobNotReplayable):
        await scheduler.replay(ref, epoch=1)


async def test_what_has_not_failed_is_not_replayed(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2)
    with pytest.raises(JobNotReplayable, match="it is pending"):
        await scheduler.replay(ref)
    (span,) = await scheduler.take("w1")
    with pytest.raises(JobNotReplayable, match="it is running"):
        await scheduler.replay(ref)
    await scheduler.commit("w1", span)
    with pytest.raises(JobNotReplayable, match="it is succeeded"):
        await scheduler.replay(ref)
    ref = await scheduler.submit()
    await scheduler.cancel(ref)
    with pytest.raises(JobNotReplayable, match="it is cancelled"):
        await scheduler.replay(ref)
    for unknown in ("other/" + ref.split("/")[1], "default/nonsense"):
        with pytest.raises(NotFound):
            await scheduler.replay(unknown)


async def test_total_beyond_its_bounds_is_not_replayed(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=3)
    for span in await scheduler.take("w1"):
        await scheduler.commit("w1", span, 2**62)
    with pytest.raises(JobNotReplayable, match="bounds"):
        await scheduler.replay(ref)
    assert (await scheduler.job(ref)).state is JobState.FAILED


async def test_partial_results_beyond_their_bounds_are_not_replayed(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh_core.store.leases.MAX_PARTIAL_BYTES", 3)
    ref = await scheduler.submit(chunk_count=2, additive=False)
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span, sums=None, partials=(b"ab", b"cd"))
    job = await scheduler.job(ref)
    assert job.failure is not None
    assert "more than 3 bytes" in job.failure.message
    with pytest.raises(JobNotReplayable, match="bounds"):
        await scheduler.replay(ref)


async def test_full_backlog_takes_no_replay(store_url: str) -> None:
    store = await Store.open(store_url)
    jobs = JobStore(store, backlog_limit=1)
    scheduler = Scheduler(store, jobs, LeaseStore(store, transit_seconds=0))
    ref = await scheduler.submit(max_attempts=1)
    (span,) = await scheduler.take("w1")
    await scheduler.fail("w1", span)
    other = await scheduler.submit()
    with pytest.raises(BacklogFull):
        await scheduler.replay(ref)
    await scheduler.cancel(other)
    await scheduler.replay(ref)
    await store.close()


async def test_huge_job_with_little_left_is_replayed_by_little_work(
    scheduler: Scheduler,
) -> None:
    ref = await scheduler.submit(chunk_count=MAX_CHUNKS, max_attempts=1)
    (span,) = await scheduler.take("w1", 1)
    # As after a long run: all but three chunks are counted.
    shard = scheduler.store.shard_of("default", "default")
    client, prefix = await client_of(scheduler.store, shard), scheduler.store.prefix(shard)
    await client.set(f"{prefix}bits:{ref}", b"\xff" * (MAX_CHUNKS // 8))
    for left in (0, 1_000_000, MAX_CHUNKS - 1):
        await client.setbit(f"{prefix}bits:{ref}", left, 0)
    await client.hset(f"{prefix}job:{ref}", mapping={"next": MAX_CHUNKS, "done": MAX_CHUNKS - 3})
    await scheduler.fail("w1", span)
    await client.config_resetstat()
    assert await scheduler.replay(ref) == 1
    calls = sum([one["calls"] for one in (await client.info("commandstats")).values()])
    assert calls < 60
    assert chunks_of(await scheduler.take("w1")) == [0, 1_000_000, MAX_CHUNKS - 1]
