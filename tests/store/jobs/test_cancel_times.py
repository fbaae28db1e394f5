"""When a cancel was asked for, when the workers had heard, and when they had stopped."""

from tallymesh_core.domain.jobs import ChunkSpan, JobRecord
from tests.store.jobs.conftest import Scheduler


async def owing(scheduler: Scheduler) -> set[str]:
    return {key for key in await scheduler.keys() if key.startswith(("owing", "halting"))}


def times(job: JobRecord) -> tuple[int, int]:
    """Acknowledged and stopped, in seconds after the cancel; -1 for not yet."""
    return (
        (job.acknowledged_ms - job.ended_ms) // 1000 if job.acknowledged_ms else -1,
        (job.stopped_ms - job.ended_ms) // 1000 if job.stopped_ms else -1,
    )


async def start(scheduler: Scheduler, *uids: str) -> tuple[str, dict[str, ChunkSpan]]:
    """A job of which each worker computes one chunk."""
    ref = await scheduler.submit(chunk_count=10)
    spans = {}
    for uid in uids:
        await scheduler.beat(uid)
        (spans[uid],) = await scheduler.lease(uid, 1, f"call-of-{uid}")
    return ref, spans


async def test_job_that_nobody_computes_has_stopped_at_once(scheduler: Scheduler) -> None:
    ref = await scheduler.submit()
    await scheduler.cancel(ref)
    assert times(await scheduler.job(ref)) == (0, 0)
    returned, spans = await start(scheduler, "w1")
    await scheduler.leases.give_back("w1", [spans["w1"]])
    await scheduler.cancel(returned)
    assert times(await scheduler.job(returned)) == (0, 0)
    assert await owing(scheduler) == set()


async def test_worker_hears_then_stops(scheduler: Scheduler) -> None:
    ref, spans = await start(scheduler, "w1")
    await scheduler.cancel(ref)
    assert times(await scheduler.job(ref)) == (-1, -1)
    # Its next call may have been on its way: it computes still, and now it is told.
    await scheduler.pass_time(1)
    assert await scheduler.beat("w1", [spans["w1"]]) == [spans["w1"]]
    assert times(await scheduler.job(ref)) == (-1, -1)
    for _ in range(2):
        await scheduler.pass_time(1)
        await scheduler.beat("w1", [spans["w1"]], stopping=[ref])
        assert times(await scheduler.job(ref)) == (2, -1)
    version = (await scheduler.job(ref)).version
    for _ in range(2):
        await scheduler.beat("w1")
        assert times(await scheduler.job(ref)) == (2, 3)
        assert (await scheduler.job(ref)).version == version + 1
    assert await owing(scheduler) == set()


async def test_worker_that_says_only_what_it_holds_has_heard_when_it_has_stopped(
    scheduler: Scheduler,
) -> None:
    ref, spans = await start(scheduler, "w1")
    await scheduler.cancel(ref)
    await scheduler.pass_time(1)
    await scheduler.beat("w1", [spans["w1"]])
    await scheduler.pass_time(1)
    await scheduler.beat("w1")
    assert times(await scheduler.job(ref)) == (2, 2)


async def test_job_has_stopped_when_the_last_worker_has(scheduler: Scheduler) -> None:
    ref, spans = await start(scheduler, "w1", "w2")
    await scheduler.cancel(ref)
    await scheduler.pass_time(1)
    await scheduler.beat("w1", stopping=[ref])
    assert times(await scheduler.job(ref)) == (-1, -1)
    await scheduler.pass_time(1)
    await scheduler.beat("w1")
    await scheduler.beat("w2", [spans["w2"]])
    assert times(await scheduler.job(ref)) == (-1, -1)
    await scheduler.pass_time(1)
    await scheduler.beat("w2", stopping=[ref])
    assert times(await scheduler.job(ref)) == (3, -1)
    await scheduler.pass_time(1)
    await scheduler.beat("w2")
    assert times(await scheduler.job(ref)) == (3, 4)
    assert await owing(scheduler) == set()


async def test_answer_that_may_still_arrive_is_waited_for(scheduler: Scheduler) -> None:
    ref, _ = await start(scheduler, "w1")
    await scheduler.cancel(ref)
    # It lists nothing, but the answer that gave it the chunk is not lost for sure.
    await scheduler.pass_time(1)
    await scheduler.beat("w1", open_calls=("call-of-w1", "another"))
    assert times(await scheduler.job(ref)) == (-1, -1)
    await scheduler.pass_time(1)
    await scheduler.beat("w1", open_calls=("another",))
    assert times(await scheduler.job(ref)) == (2, 2)


async def test_lost_worker_has_stopped(scheduler: Scheduler) -> None:
    ref, _ = await start(scheduler, "w1", "w2")
    await scheduler.cancel(ref)
    await scheduler.pass_time(1)
    await scheduler.leases.give_up(["w1"])
    assert times(await scheduler.job(ref)) == (-1, -1)
    await scheduler.pass_time(1)
    await scheduler.lose("w2")
    assert times(await scheduler.job(ref)) == (2, 2)
    assert await owing(scheduler) == set()
    # One of them lives after all: what was noted stays.
    await scheduler.pass_time(1)
    await scheduler.beat("w1", stopping=[ref])
    await scheduler.beat("w1")
    assert times(await scheduler.job(ref)) == (2, 2)
    assert await owing(scheduler) == set()


async def test_leaving_worker_has_stopped(scheduler: Scheduler) -> None:
    ref, _ = await start(scheduler, "w1")
    await scheduler.cancel(ref)
    await scheduler.pass_time(1)
    assert await scheduler.leases.leave("w1")
    assert times(await scheduler.job(ref)) == (1, 1)
    assert await owing(scheduler) == set()


async def test_repeated_cancel_changes_no_time(scheduler: Scheduler) -> None:
    ref, _ = await start(scheduler, "w1")
    await scheduler.cancel(ref)
    before = await scheduler.job(ref)
    await scheduler.pass_time(1)
    await scheduler.cancel(ref)
    after = await scheduler.job(ref)
    assert (after.ended_ms, after.version) == (before.ended_ms, before.version)
    await scheduler.beat("w1")
    await scheduler.pass_time(1)
    await scheduler.cancel(ref)
    assert times(await scheduler.job(ref)) == (1, 1)


async def test_each_cancelled_job_has_its_own_times(scheduler: Scheduler) -> None:
    refs = [await scheduler.submit(chunk_count=1) for _ in range(2)]
    await scheduler.beat("w1")
    spans = [span for _ in refs for span in await scheduler.lease("w1", 1)]
    for ref in refs:
        await scheduler.cancel(ref)
    await scheduler.pass_time(1)
    await scheduler.beat("w1", spans[1:])
    assert times(await scheduler.job(spans[0].ref)) == (1, 1)
    assert times(await scheduler.job(spans[1].ref)) == (-1, -1)
    await scheduler.pass_time(1)
    await scheduler.beat("w1")
    assert times(await scheduler.job(spans[1].ref)) == (2, 2)
