"""Workers that are lost, given up, or asked to leave."""

from dataclasses import replace

from tallymesh_core.domain.jobs import LOSS_BUDGET, DeadLetterFilter
from tallymesh_core.domain.states import JobState
from tests.store.jobs.conftest import Scheduler, chunks_of


async def test_rolling_deploy_fails_nothing(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=3, max_attempts=1)
    for i in range(LOSS_BUDGET):
        (span,) = await scheduler.take(f"w{i}")
        assert (span.count, span.attempt) == (3, i + 1)
        await scheduler.leases.give_up([f"w{i}"])
    (span,) = await scheduler.take("last")
    await scheduler.commit("last", span, 5)
    job = await scheduler.job(ref)
    assert (job.state, job.total, job.lost, job.failed) == (JobState.SUCCEEDED, 15, 30, 0)
    assert await scheduler.working_sets() == {}


async def test_losses_and_failures_have_budgets_of_their_own(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1, max_attempts=2)
    for i in range(LOSS_BUDGET):
        await scheduler.take(f"w{i}")
        await scheduler.leases.give_up([f"w{i}"])
    (span,) = await scheduler.take("w")
    await scheduler.fail("w", span)
    assert (await scheduler.job(ref)).state is JobState.RUNNING
    await scheduler.pass_time(1)
    await scheduler.leases.promote()
    (span,) = await scheduler.take("w")
    assert span.attempt == LOSS_BUDGET + 2
    await scheduler.commit("w", span)
    assert (await scheduler.job(ref)).state is JobState.SUCCEEDED


async def test_chunk_that_kills_every_worker_becomes_a_dead_letter(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2, tolerate_failures=1)
    (span,) = await scheduler.take("w0")
    await scheduler.commit("w0", replace(span, first=1, count=1))
    for i in range(LOSS_BUDGET + 1):
        assert (await scheduler.job(ref)).dead == 0
        await scheduler.leases.give_up([f"w{i}"])
        await scheduler.take(f"w{i + 1}")
    job = await scheduler.job(ref)
    assert (job.state, job.dead, job.lost) == (JobState.SUCCEEDED, 1, LOSS_BUDGET + 1)
    (letter,), _ = await scheduler.letters.page("default", DeadLetterFilter(), before="", limit=9)
    assert (letter.chunk, letter.lost, letter.failed) == (0, LOSS_BUDGET + 1, 0)
    assert (letter.failure.reason, letter.failure.worker) == ("WORKERS_LOST", "")
    assert "more than 10 times" in letter.failure.message


async def test_worker_given_up_comes_back_with_its_next_call(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2)
    (span,) = await scheduler.take("w1")
    await scheduler.leases.give_up(["w1", "nobody"])
    await scheduler.leases.give_up(["w1"])
    assert (await scheduler.job(ref)).lost == 2
    assert await scheduler.leases.workers() == []
    # What it computes is not its own any more, until it is given it again.
    assert await scheduler.beat("w1", [span]) == [span]
    assert [worker.uid for worker in await scheduler.leases.workers()] == ["w1"]
    (again,) = await scheduler.lease("w1")
    assert (again.first, again.count, again.attempt) == (0, 2, 2)


async def test_giving_up_a_worker_leaves_all_others_alone(scheduler: Scheduler) -> None:
    await scheduler.submit(chunk_count=4)
    await scheduler.beat("w2")
    (mine,) = await scheduler.take("w1", 2)
    (theirs,) = await scheduler.take("w2", 2)
    await scheduler.leases.give_up(["w1"])
    assert await scheduler.beat("w2", [theirs]) == []
    assert chunks_of(await scheduler.lease("w2")) == chunks_of([mine])


async def test_silent_worker_is_reaped_when_its_time_is_over(scheduler: Scheduler) -> None:
    await scheduler.submit(chunk_count=1)
    await scheduler.take("w1")
    await scheduler.leases.reap()
    for _ in range(3):
        # Less than the time after which the store itself counts as having been away.
        await scheduler.pass_time(1.6)
        assert await scheduler.leases.reap() == []
        await scheduler.beat("w2")
    await scheduler.pass_time(0.4)
    assert await scheduler.leases.reap() == ["w1"]
    assert chunks_of(await scheduler.lease("w2")) == [0]


async def test_worker_is_asked_to_leave_with_each_beat(scheduler: Scheduler) -> None:
    async def is_to_drain(uid: str) -> bool:
        heard = await scheduler.leases.beat(
            uid, name=uid, info=b"", slots=1, draining=False, held=[], open_calls=()
        )
        return heard.drain

    assert not await is_to_drain("w1")
    assert not await is_to_drain("w2")
    await scheduler.leases.drain(["w1", "nobody"])
    assert [await is_to_drain(uid) for uid in ("w1", "w2", "w1", "nobody")] == [
        True,
        False,
        True,
        False,
    ]
    assert await scheduler.leases.leave("w1")
    assert sorted(worker.uid for worker in await scheduler.leases.workers()) == ["nobody", "w2"]
