"""Dead letters: grouped, found, run again, forgotten."""

from dataclasses import replace
from typing import Any

import pytest

from tallymesh_core.domain.errors import NotFound
from tallymesh_core.domain.jobs import ChunkSpan, DeadLetter, DeadLetterFilter, DeadLetterGroup
from tallymesh_core.domain.states import ChunkState, JobState
from tests.store.jobs.conftest import Scheduler, chunks_of

LANES = [f"{queue}/{kernel}" for queue in ("default", "q1", "q2") for kernel in ("simulate", "add")]


async def bury(
    scheduler: Scheduler, message: str = "broken", reason: str = "CHUNK_FAILED", **changes: Any
) -> str:
    """Fails a job by its first chunk; returns its id."""
    ref = await scheduler.submit(**({"chunk_count": 2, "max_attempts": 1} | changes))
    await scheduler.beat("w1")
    spans = await scheduler.leases.lease("w1", f"call-{next(scheduler.calls)}", 100, LANES)
    (span,) = [span for span in spans if span.ref == ref]
    await scheduler.fail("w1", span, reason, message)
    return ref.split("/")[1]


async def found(scheduler: Scheduler, limit: int = 100, **wanted: Any) -> list[DeadLetter]:
    """All letters that a filter finds, page by page."""
    letters: list[DeadLetter] = []
    before = ""
    while True:
        page, before = await scheduler.letters.page(
            "default", DeadLetterFilter(**wanted), before=before, limit=limit
        )
        letters += page
        if not before:
            return letters
        assert len(page) == limit


async def groups_of(scheduler: Scheduler, limit: int = 100) -> list[DeadLetterGroup]:
    groups: list[DeadLetterGroup] = []
    before = ""
    while True:
        page, before = await scheduler.letters.groups("default", before=before, limit=limit)
        groups += page
        if not before:
            return groups
        assert len(page) == limit


async def test_letter_tells_what_its_chunk_died_of(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2, max_attempts=2)
    (span,) = await scheduler.take("w1")
    await scheduler.lose("w1")
    (span,) = await scheduler.take("w2", 1)
    await scheduler.fail("w2", span, message="the first time")
    await scheduler.pass_time(1)
    await scheduler.leases.promote()
    (again, *_) = await scheduler.take("w2", 1)
    assert (again.first, again.attempt) == (0, 3)
    await scheduler.fail("w2", again, "CHUNK_TIMED_OUT", "took longer than 5 s")

    (letter,) = await found(scheduler)
    job = await scheduler.job(ref)
    assert letter.failure == job.failure
    assert (letter.job_id, letter.chunk, letter.queue) == (ref.split("/")[1], 0, "default")
    assert (letter.failure.reason, letter.failure.message, letter.failure.worker) == (
        "CHUNK_TIMED_OUT",
        "took longer than 5 s",
        "name-w2",
    )
    assert (letter.failed, letter.lost, letter.replays, letter.epoch) == (2, 1, 0, 1)
    assert letter.failed_ms == job.ended_ms


async def test_letters_are_grouped_by_their_error_numbers_left_aside(
    scheduler: Scheduler,
) -> None:
    await bury(scheduler, "row 17 of 20 is bad")
    await scheduler.pass_time(1)
    await bury(scheduler, "row 4 of 1000 is bad", queue="q1")
    await scheduler.pass_time(1)
    await bury(scheduler, "row 4 is bad")
    await bury(scheduler, "row 5 is bad", "CHUNK_CRASHED")
    await bury(scheduler, "row 6 is bad", kernel="add")
    await scheduler.pass_time(1)
    await bury(scheduler, "row 1 of 1 is bad", queue="q2")

    groups = await groups_of(scheduler)
    assert sorted((one.kernel, one.reason, one.message, one.count) for one in groups) == [
        ("add", "CHUNK_FAILED", "row 6 is bad", 1),
        ("simulate", "CHUNK_CRASHED", "row 5 is bad", 1),
        ("simulate", "CHUNK_FAILED", "row 1 of 1 is bad", 3),
        ("simulate", "CHUNK_FAILED", "row 4 is bad", 1),
    ]
    assert [one.last_ms for one in groups] == sorted((one.last_ms for one in groups), reverse=True)
    newest = groups[0]
    times = [letter.failed_ms for letter in await found(scheduler, group=newest.id)]
    assert len(times) == newest.count == 3
    assert (newest.first_ms, newest.last_ms) == (min(times), max(times))
    assert await groups_of(scheduler, limit=1) == groups


async def test_group_forgets_what_its_last_letter_knew(scheduler: Scheduler) -> None:
    first = await bury(scheduler, "broken 1")
    await scheduler.pass_time(1)
    second = await bury(scheduler, "broken 2")
    (whole,) = await groups_of(scheduler)
    await scheduler.replay(f"default/{second}")
    (rest,) = await groups_of(scheduler)
    assert (rest.count, rest.first_ms) == (1, whole.first_ms)
    assert rest.last_ms == whole.first_ms < whole.last_ms
    await scheduler.replay(f"default/{first}")
    assert await groups_of(scheduler) == []
    assert not {key for key in await scheduler.keys() if key.startswith(("group", "letters"))}


@pytest.mark.parametrize("limit", [1, 3, 7])
async def test_pages_hold_every_letter_once(scheduler: Scheduler, limit: int) -> None:
    reasons = {"default": "CHUNK_FAILED", "q1": "CHUNK_CRASHED", "q2": "CHUNK_TIMED_OUT"}
    for queue, reason in reasons.items():
        ref = await scheduler.submit(
            queue=queue, chunk_count=12, tolerate_failures=20, max_attempts=1
        )
        await scheduler.beat("w1")
        await scheduler.leases.lease("w1", f"call-{queue}", 100, LANES)
        # Those of a batch all die at the same millisecond.
        for batch in (range(11), [11]):
            for index in batch:
                await scheduler.fail("w1", ChunkSpan(ref, 1, index, 1, 1), reason)
            await scheduler.pass_time(1)
    letters = await found(scheduler, limit)
    assert len(letters) == 36
    places = [(one.failed_ms, one.job_id, one.chunk) for one in letters]
    assert places == sorted(set(places), reverse=True)
    (group, *_) = await groups_of(scheduler)
    assert len(await found(scheduler, limit, group=group.id)) == 12
    job_id = letters[-1].job_id
    assert len(await found(scheduler, limit, job_id=job_id)) == 12


async def test_filters_find_what_fulfils_all_of_them(scheduler: Scheduler) -> None:
    one = await bury(scheduler, "one")
    await scheduler.pass_time(10)
    two = await bury(scheduler, "two", kernel="add", queue="q1")
    await scheduler.pass_time(10)
    three = await bury(scheduler, "three", "CHUNK_CRASHED", queue="q2")
    times = {letter.job_id: letter.failed_ms for letter in await found(scheduler)}

    async def ids(**wanted: Any) -> list[str]:
        return [letter.job_id for letter in await found(scheduler, **wanted)]

    assert await ids() == [three, two, one]
    assert await ids(kernel="add") == [two]
    assert await ids(reason="CHUNK_CRASHED") == [three]
    assert await ids(job_id=one) == [one]
    assert await ids(job_id=one, kernel="add") == []
    assert await ids(from_ms=times[two]) == [three, two]
    assert await ids(until_ms=times[two]) == [one]
    assert await ids(from_ms=times[two], until_ms=times[two] + 1) == [two]
    assert await ids(job_id=two, until_ms=times[two]) == []
    assert await ids(chunks=((one, 0), (three, 0), (three, 1), ("nonsense", 0))) == [three, one]
    assert await ids(chunks=((one, 0), (three, 0)), job_id=one) == [one]
    assert await ids(chunks=((three, 0),), job_id=one) == []
    for group in await groups_of(scheduler):
        assert len(await ids(group=group.id)) == 1
    assert await ids(group="0" * 12) == []
    page, _ = await scheduler.letters.page("other", DeadLetterFilter(), before="", limit=10)
    assert page == []


async def test_deleted_letter_leaves_its_chunk_as_it_is(scheduler: Scheduler) -> None:
    job_id = await bury(scheduler, "row 1")
    await bury(scheduler, "row 2", queue="q1")
    wanted = DeadLetterFilter(job_id=job_id)
    assert await scheduler.letters.delete("default", wanted, only_count=True) == 1
    assert len(await found(scheduler)) == 2
    assert await scheduler.letters.delete("default", wanted) == 1
    assert await scheduler.letters.delete("default", wanted) == 0
    assert [letter.failure.message for letter in await found(scheduler)] == ["row 2"]
    assert [group.count for group in await groups_of(scheduler)] == [1]
    chunks, _ = await scheduler.jobs.chunks("default", job_id, 0, 1)
    assert chunks[0].failure is not None
    assert (chunks[0].state, chunks[0].failure.message) == (ChunkState.FAILED, "row 1")
    assert (await scheduler.job(f"default/{job_id}")).dead == 1
    # It is gone from the list only: the job is replayed with it, or expires with it.
    assert await scheduler.replay(f"default/{job_id}") == 1
    assert chunks_of([*await scheduler.take("w2"), *await scheduler.lease("w2")]) == [0, 1]


async def test_letters_of_any_number_are_deleted(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh_core.store.letters._BATCH", 3)
    for queue in ("default", "q1", "q2"):
        for i in range(4):
            await bury(scheduler, "x" * i, queue=queue)
    assert len(await found(scheduler, 5)) == 12
    wanted = DeadLetterFilter(reason="CHUNK_FAILED")
    assert await scheduler.letters.delete("default", wanted, only_count=True) == 12
    assert await scheduler.letters.delete("default", wanted) == 12
    assert await found(scheduler) == []
    assert await groups_of(scheduler) == []


async def test_letters_of_failed_jobs_replay_these_whole(scheduler: Scheduler) -> None:
    first = await bury(scheduler, "row 1")
    second = await bury(scheduler, "row 2", queue="q1")
    other = await bury(scheduler, "odd")
    (group,) = {one.group for one in await found(scheduler, job_id=first)}
    wanted = DeadLetterFilter(group=group)
    counted = await scheduler.letters.replay("default", wanted, only_count=True)
    assert counted == (2, 0, tuple(sorted((first, second))))
    assert (await scheduler.job(f"default/{first}")).state is JobState.FAILED
    assert await scheduler.letters.replay("default", wanted) == counted
    assert await scheduler.letters.replay("default", wanted) == (0, 0, ())
    for job_id in (first, second):
        job = await scheduler.job(f"default/{job_id}")
        assert (job.state, job.epoch) == (JobState.PENDING, 2)
    assert [letter.job_id for letter in await found(scheduler)] == [other]


async def test_what_a_replay_would_run_is_what_it_runs(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh_core.store.letters._BATCH", 2)
    ref = await scheduler.submit(chunk_count=9, tolerate_failures=6, max_attempts=1)
    (span,) = await scheduler.take("w1")
    for first in range(7):
        reason = "CHUNK_FAILED" if first % 2 else "CHUNK_CRASHED"
        await scheduler.fail("w1", replace(span, first=first), reason)
    assert (await scheduler.job(ref)).state is JobState.FAILED
    # A failed job is replayed whole, also for some of its letters.
    wanted = DeadLetterFilter(reason="CHUNK_CRASHED")
    counted = await scheduler.letters.replay("default", wanted, only_count=True)
    assert counted == (7, 0, (ref.split("/")[1],))
    assert await scheduler.letters.replay("default", wanted) == counted


@pytest.mark.parametrize("additive", [True, False])
async def test_letter_of_a_running_job_is_revived(scheduler: Scheduler, additive: bool) -> None:
    ref = await scheduler.submit(
        chunk_count=2, tolerate_failures=1, max_attempts=1, additive=additive
    )
    (span,) = await scheduler.take("w1")
    await scheduler.fail("w1", replace(span, count=1))
    job_id = ref.split("/")[1]
    wanted = DeadLetterFilter(chunks=((job_id, 0),))
    assert await scheduler.letters.replay("default", wanted) == (1, 0, (job_id,))
    assert await scheduler.letters.replay("default", wanted) == (0, 0, ())
    job = await scheduler.job(ref)
    assert (job.state, job.epoch, job.dead) == (JobState.RUNNING, 1, 0)
    (again,) = await scheduler.take("w2")
    assert (again.first, again.count, again.attempt) == (0, 1, 2)
    # Its attempts are anew: it is given up after as many as before.
    await scheduler.fail("w2", again)
    (letter,) = await found(scheduler)
    assert (letter.replays, letter.failed) == (1, 1)
    await scheduler.letters.replay("default", wanted)
    (again,) = await scheduler.take("w2")
    for uid, one, part in (("w2", again, b"a"), ("w1", replace(span, first=1, count=1), b"b")):
        form = {} if additive else {"sums": None, "partials": (part,)}
        assert await scheduler.commit(uid, one, 5, **form) == (1, 0)
    if additive:
        assert (await scheduler.job(ref)).total == 10
    else:
        assert await scheduler.jobs.partials_of(ref) == [b"a", b"b"]


async def test_late_result_counts_before_a_revived_chunk_runs(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2, tolerate_failures=1, max_attempts=1)
    (span,) = await scheduler.take("w1")
    one = replace(span, count=1)
    await scheduler.fail("w1", one)
    await scheduler.letters.replay("default", DeadLetterFilter(job_id=ref.split("/")[1]))
    assert await scheduler.commit("w1", one, 5) == (1, 0)
    assert await scheduler.take("w2") == []
    assert await scheduler.commit("w1", replace(span, first=1, count=1), 5) == (1, 0)
    assert (await scheduler.job(ref)).total == 10
    assert await scheduler.working_sets() == {}


async def test_letters_of_what_cannot_run_again_are_skipped(scheduler: Scheduler) -> None:
    async def tolerated(additive: bool = True) -> tuple[str, ChunkSpan]:
        ref = await scheduler.submit(
            chunk_count=2, tolerate_failures=1, max_attempts=1, additive=additive
        )
        (span,) = await scheduler.take("w1")
        await scheduler.fail("w1", replace(span, count=1))
        return ref, replace(span, first=1, count=1)

    succeeded, left = await tolerated()
    await scheduler.commit("w1", left)
    cancelled, _ = await tolerated()
    await scheduler.cancel(cancelled)
    merging, left = await tolerated(additive=False)
    await scheduler.commit("w1", left, sums=None, partials=(b"b",))
    spoilt = await scheduler.submit(chunk_count=3, tolerate_failures=1, max_attempts=1)
    await scheduler.take("w1")
    await scheduler.fail("w1", ChunkSpan(spoilt, 1, 0, 1, 1))
    await scheduler.commit("w1", ChunkSpan(spoilt, 1, 1, 2, 1), 2**62)

    refs = (succeeded, cancelled, merging, spoilt)
    before = [await scheduler.job(ref) for ref in refs]
    assert [job.state for job in before] == ["SUCCEEDED", "CANCELLED", "RUNNING", "FAILED"]
    wanted = DeadLetterFilter(kernel="simulate")
    for only_count in (True, False):
        outcome = await scheduler.letters.replay("default", wanted, only_count=only_count)
        assert outcome == (0, 4, ())
    after = [await scheduler.job(ref) for ref in refs]
    assert [replace(job, now_ms=0) for job in after] == [replace(job, now_ms=0) for job in before]
    assert len(await found(scheduler)) == 4


async def test_letters_and_groups_go_with_their_jobs(scheduler: Scheduler) -> None:
    short = await bury(scheduler, "row 1", ttl_ms=1000)
    long = await bury(scheduler, "row 2", ttl_ms=10_000, queue="q1")
    forgotten = await bury(scheduler, "row 3", ttl_ms=1000)
    await scheduler.letters.delete("default", DeadLetterFilter(job_id=forgotten))
    await scheduler.pass_time(2)
    await scheduler.jobs.expire()
    for job_id in (short, forgotten):
        with pytest.raises(NotFound):
            await scheduler.job(f"default/{job_id}")
    assert [letter.job_id for letter in await found(scheduler)] == [long]
    assert [group.count for group in await groups_of(scheduler)] == [1]
    await scheduler.pass_time(10)
    await scheduler.jobs.expire()
    assert await found(scheduler) == []
    assert await groups_of(scheduler) == []
    assert not {key for key in await scheduler.keys() if key.startswith(("group", "letters"))}
