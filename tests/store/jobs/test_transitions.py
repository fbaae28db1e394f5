"""What each transition of a job promises, on a real store."""

import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tallymesh_core.domain.errors import BacklogFull, JobEnded, NotFound, RequestIdReused
from tallymesh_core.domain.ids import shard_of_job
from tallymesh_core.domain.jobs import ChunkSpan, JobFilter, SpanResults
from tallymesh_core.domain.states import ChunkState, JobState
from tallymesh_core.store.connection import Store
from tallymesh_core.store.events import JobChanged
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tests.harness.polling import eventually
from tests.harness.stores import all_clients, client_of
from tests.store.jobs.conftest import ADDITIVE, Scheduler, chunks_of


async def test_job_runs_from_submit_to_its_total(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=4)
    assert (await scheduler.job(ref)).state is JobState.PENDING
    (span,) = await scheduler.take("w1")
    assert chunks_of([span]) == [0, 1, 2, 3]
    running = await scheduler.job(ref)
    assert (running.state, running.running, running.holders) == (JobState.RUNNING, 4, 1)
    assert running.cells == bytes([128] * 4)
    assert await scheduler.commit("w1", span, 7) == (4, 0)
    done = await scheduler.job(ref)
    assert (done.state, done.total, done.done) == (JobState.SUCCEEDED, 28, 4)
    assert done.handled_by == {"name-w1": 4}
    assert done.compute_us == 4000
    assert done.cells == bytes([100] * 4)
    assert done.created_ms <= done.started_ms <= done.ended_ms
    assert await scheduler.working_sets() == {}


async def test_a_commit_answers_the_events_that_it_tells_everyone(scheduler: Scheduler) -> None:
    async def told_since(ref: str, last: bytes) -> tuple[bytes, list[JobChanged]]:
        shard = shard_of_job(ref.rpartition("/")[2]) or 0
        client = await client_of(scheduler.store, shard)
        key = f"{scheduler.store.prefix(shard)}events"
        entries = await client.xrange(key, min=b"(" + last)
        lines = [line for _, fields in entries for line in fields[b"news"].decode().split("\n")]
        return entries[-1][0], [JobChanged.parse(line) for line in lines]

    async def commit(span: ChunkSpan, **form: Any) -> list[JobChanged]:
        result = SpanResults(span, micros=(1,) * span.count, **form)
        return (await scheduler.leases.commit("w1", "name-w1", [result])).events

    kinds = []
    for more in ({"chunk_count": 1}, {"chunk_count": 3}, {"chunk_count": 3, "additive": False}):
        ref = await scheduler.submit(**more)
        form = {"sums": (1,)} if more.get("additive", True) else {"partials": (b"a",)}
        (span,) = await scheduler.take("w1")
        last, _ = await told_since(ref, b"0")
        for index in range(span.count):
            events = await commit(replace(span, first=index, count=1), **form)
            last, told = await told_since(ref, last)
            assert events == told
            assert {event.ref for event in events} == {ref}
            assert events[-1].version == (await scheduler.job(ref)).version
            kinds.append([event.kind for event in events])
        # What is counted already changes nothing.
        assert await commit(span, **{key: one * span.count for key, one in form.items()}) == []
    assert kinds == [
        ["ended"],
        *(["committed"], ["committed"], ["ended"]),
        *(["committed"], ["committed"], ["committed", "ready"]),
    ]


async def test_submitting_costs_the_same_for_a_million_chunks(scheduler: Scheduler) -> None:
    async def keys_of(chunk_count: int) -> int:
        before = await all_keys()
        await scheduler.submit(chunk_count=chunk_count)
        return await all_keys() - before

    async def all_keys() -> int:
        return sum([await client.dbsize() for client in await all_clients(scheduler.store)])

    await scheduler.submit()
    assert await keys_of(1_000_000) == await keys_of(1)


async def test_second_commit_is_refused_and_counted(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=3)
    (span,) = await scheduler.take("w1")
    one = ChunkSpan(ref, 1, 0, 1, 1)
    assert await scheduler.commit("w1", one, 5) == (1, 0)
    assert await scheduler.commit("w2", one, 6) == (0, 1)
    assert (await scheduler.job(ref)).refused == 1
    # The winner's own repeat is no duplicate, now or after the end.
    assert await scheduler.commit("w1", one, 5) == (1, 0)
    await scheduler.commit("w1", span, 5)
    assert await scheduler.commit("w1", span, 5) == (3, 0)
    job = await scheduler.job(ref)
    assert (job.total, job.refused, job.state) == (15, 1, JobState.SUCCEEDED)


async def test_refused_results_show_with_their_chunk(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2)
    (span,) = await scheduler.take("w1")
    one = replace(span, count=1)
    await scheduler.commit("w1", one)
    await scheduler.commit("w2", one)
    await scheduler.commit("w1", replace(one, attempt=2))
    await scheduler.commit("w1", replace(one, first=1))
    # Also what comes after the job's end.
    assert await scheduler.commit("w2", span) == (0, 2)
    assert await scheduler.commit("w1", span) == (2, 0)
    chunks, _ = await scheduler.jobs.chunks("default", ref.split("/")[1], 0, 2)
    assert [chunk.refused for chunk in chunks] == [3, 1]
    assert (await scheduler.job(ref)).refused == 4


async def test_refused_results_of_a_chunk_are_counted_up_to_255(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2)
    (span,) = await scheduler.take("w1")
    one = replace(span, count=1)
    await scheduler.commit("w1", one)
    for _ in range(260):
        await scheduler.commit("w2", one)
    chunks, _ = await scheduler.jobs.chunks("default", ref.split("/")[1], 0, 1)
    assert (chunks[0].refused, (await scheduler.job(ref)).refused) == (255, 260)


async def test_chunk_never_leased_is_not_counted(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=3)
    (span,) = await scheduler.take("w1", 1)
    for first in (span.first + 1, 3, 4, 100):
        assert await scheduler.commit("w1", ChunkSpan(ref, 1, first, 1, 1)) == (0, 1)
    assert await scheduler.commit("w1", ChunkSpan(ref, 2, 0, 1, 1)) == (0, 1)
    assert await scheduler.commit("w1", ChunkSpan("default/nope", 1, 0, 1, 1)) == (0, 0)
    assert (await scheduler.job(ref)).done == 0


async def test_late_result_of_a_lost_worker_wins_if_first(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2)
    (span,) = await scheduler.take("slow")
    await scheduler.lose("slow")
    assert (await scheduler.job(ref)).lost == 2
    assert await scheduler.commit("slow", span, 3) == (2, 0)
    assert await scheduler.take("w2") == []
    job = await scheduler.job(ref)
    assert (job.total, job.state) == (6, JobState.SUCCEEDED)
    assert await scheduler.working_sets() == {}


async def test_late_result_takes_the_chunk_from_its_new_owner(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1)
    (old,) = await scheduler.take("slow")
    await scheduler.lose("slow")
    (new,) = await scheduler.take("w2")
    assert (old.attempt, new.attempt) == (1, 2)
    assert await scheduler.commit("slow", old, 3) == (1, 0)
    assert await scheduler.beat("w2", [new]) == [new]
    assert await scheduler.commit("w2", new, 4) == (0, 1)
    assert (await scheduler.job(ref)).total == 3
    assert await scheduler.working_sets() == {}


async def test_lost_answer_returns_the_chunks_without_an_attempt(scheduler: Scheduler) -> None:
    await scheduler.submit(chunk_count=2)
    await scheduler.beat("w1")
    await scheduler.lease("w1", call="lost")
    # While the call is open its chunks are left alone; afterwards they are free again.
    await scheduler.beat("w1", open_calls=("lost",))
    assert await scheduler.take("w2") == []
    await scheduler.beat("w1")
    spans = [*await scheduler.take("w2"), *await scheduler.lease("w2")]
    assert [(span.first, span.count, span.attempt) for span in spans] == [(0, 1, 1), (1, 1, 1)]


async def test_job_of_which_nothing_is_known_goes_to_everyone_in_equal_parts(
    scheduler: Scheduler,
) -> None:
    ref = await scheduler.submit(chunk_count=7)
    other = await scheduler.submit(chunk_count=2)
    for uid in ("w1", "w2"):
        await scheduler.beat(uid)
    first = await scheduler.lease("w1")
    # Which of them comes first is told by their ids, if both came within a millisecond.
    assert {(span.ref, span.first, span.count) for span in first} == {(ref, 0, 4), (other, 0, 1)}
    second = await scheduler.lease("w2")
    assert {(span.ref, span.first, span.count) for span in second} == {(ref, 4, 3), (other, 1, 1)}
    # Where the others do not come, one call after the other takes it all.
    alone = await scheduler.submit(chunk_count=7)
    spans = [span for _ in range(2) for span in await scheduler.lease("w1")]
    assert [(span.ref, span.first, span.count) for span in spans] == [(alone, 0, 4), (alone, 4, 3)]


async def test_repeated_call_gets_the_same_chunks(scheduler: Scheduler) -> None:
    await scheduler.submit(chunk_count=5)
    await scheduler.beat("w1")
    first = await scheduler.lease("w1", 3, call="a")
    assert await scheduler.lease("w1", 3, call="a") == first
    assert chunks_of(await scheduler.lease("w1", 3, call="b")) == [3, 4]


async def test_worker_that_never_beat_gets_nothing(scheduler: Scheduler) -> None:
    await scheduler.submit()
    assert await scheduler.lease("ghost") == []


async def test_returned_chunks_are_leased_again_first(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=10)
    (span,) = await scheduler.take("w1", 4)
    assert await scheduler.leases.give_back("w1", [ChunkSpan(ref, 1, 1, 2, 1)]) == 2
    assert await scheduler.leases.give_back("w1", [ChunkSpan(ref, 1, 1, 2, 1)]) == 0
    again = await scheduler.take("w2", 3)
    assert chunks_of(again) == [1, 2, 4]
    assert {span.attempt for span in again} == {1}
    del span


async def test_failed_chunk_is_tried_again_then_fails_the_job(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2, max_attempts=2)
    (span,) = await scheduler.take("w1", 1)
    assert await scheduler.fail("w1", span) == 1
    assert await scheduler.fail("w1", span) == 0
    job = await scheduler.job(ref)
    assert (job.retrying, job.failed, job.state) == (1, 1, JobState.RUNNING)

    async def due() -> bool:
        return await scheduler.leases.promote() is None

    await eventually(due)
    spans = await scheduler.take("w1", 1)
    assert [(s.first, s.attempt) for s in spans] == [(0, 2)]
    assert await scheduler.fail("w1", spans[0]) == 1
    job = await scheduler.job(ref)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert (job.failure.reason, job.failure.worker) == ("CHUNK_FAILED", "name-w1")
    assert await scheduler.working_sets() == {}


async def test_only_the_current_lease_may_fail_a_chunk(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1)
    (old,) = await scheduler.take("slow")
    await scheduler.lose("slow")
    await scheduler.take("w2")
    assert await scheduler.fail("slow", old) == 0
    assert (await scheduler.job(ref)).failed == 0


async def test_refused_work_fails_at_once(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(max_attempts=100)
    (span,) = await scheduler.take("w1")
    await scheduler.fail("w1", span, "WORK_REFUSED")
    job = await scheduler.job(ref)
    assert job.state is JobState.FAILED
    assert await scheduler.beat("w1", [span]) == [span]


async def test_cancel_is_final_and_frees_everything(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=100)
    (span,) = await scheduler.take("w1", 3)
    tenant, job_id = ref.split("/")
    await scheduler.jobs.cancel(tenant, job_id)
    await scheduler.jobs.cancel(tenant, job_id)
    assert (await scheduler.job(ref)).state is JobState.CANCELLED
    assert await scheduler.beat("w1", [span]) == [span]
    assert await scheduler.commit("w1", span) == (0, 3)
    assert (await scheduler.job(ref)).done == 0
    assert await scheduler.take("w2") == []
    assert await scheduler.working_sets() == {}


async def test_cancel_of_an_ended_or_unknown_job(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1)
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span)
    with pytest.raises(JobEnded, match="succeeded"):
        await scheduler.jobs.cancel(*ref.split("/"))
    with pytest.raises(NotFound):
        await scheduler.jobs.cancel("other", ref.split("/")[1])
    with pytest.raises(NotFound):
        await scheduler.jobs.get("default", "nonsense")


async def test_kernel_that_is_not_additive_merges_as_chunk_n(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=3, additive=False)
    (span,) = await scheduler.take("w1")
    assert await scheduler.commit("w1", span, sums=None, partials=(b"a", b"b", b"c")) == (3, 0)
    assert await scheduler.jobs.partials_of(ref) == [b"a", b"b", b"c"]
    assert (await scheduler.job(ref)).state is JobState.RUNNING
    (last,) = await scheduler.take("w1")
    assert (last.first, last.count) == (3, 1)
    # The merge obeys the rules of any chunk: lost with its worker, it is leased again.
    await scheduler.lose("w1")
    (last,) = await scheduler.take("w2")
    assert (last.first, last.attempt) == (3, 2)
    assert await scheduler.commit("w2", last, sums=None, result=b"abc") == (1, 0)
    assert await scheduler.commit("w2", last, sums=None, result=b"abc") == (1, 0)
    assert await scheduler.commit("w1", last, sums=None, result=b"ABC") == (0, 1)
    job = await scheduler.job(ref)
    assert (job.state, job.result) == (JobState.SUCCEEDED, b"abc")
    assert await scheduler.working_sets() == {}


async def test_one_chunk_gives_the_result_at_once(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1, additive=False)
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span, sums=None, result=b"all")
    job = await scheduler.job(ref)
    assert (job.state, job.result, job.done) == (JobState.SUCCEEDED, b"all", 1)


async def test_results_of_the_wrong_form_are_refused(scheduler: Scheduler) -> None:
    additive = await scheduler.submit(chunk_count=2)
    await scheduler.take("w1")
    span = ChunkSpan(additive, 1, 0, 1, 1)
    assert await scheduler.commit("w1", span, sums=None, partials=(b"x",)) == (0, 1)
    assert await scheduler.commit("w1", span, sums=None, result=b"x") == (0, 1)
    merged = await scheduler.submit(chunk_count=2, additive=False)
    await scheduler.take("w1")
    span = ChunkSpan(merged, 1, 0, 1, 1)
    assert await scheduler.commit("w1", span, 5) == (0, 1)
    assert await scheduler.commit("w1", span, sums=None, result=b"x") == (0, 1)


async def test_totals_are_exact_to_64_bits_and_never_beyond(scheduler: Scheduler) -> None:
    big = 2**62 - 1
    ref = await scheduler.submit(chunk_count=2)
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span, big)
    assert (await scheduler.job(ref)).total == 2 * big
    ref = await scheduler.submit(chunk_count=3)
    spans = await scheduler.take("w1")
    for span in spans:
        await scheduler.commit("w1", span, big)
    job = await scheduler.job(ref)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert "64 bits" in job.failure.message


async def test_totals_beyond_a_double_are_exact(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1000)
    value = 2**52 - 1
    while spans := await scheduler.take("w1", 1000):
        for span in spans:
            await scheduler.commit("w1", span, value)
    assert (await scheduler.job(ref)).total == 1000 * value


async def test_request_id_is_answered_once(scheduler: Scheduler) -> None:
    accepted = await scheduler.jobs.submit(ADDITIVE, request_id="r", request_hash="h")
    assert (accepted.state, accepted.cells) == (JobState.PENDING, bytes(4))
    repeat = await scheduler.jobs.submit(ADDITIVE, request_id="r", request_hash="h")
    assert replace(repeat, now_ms=accepted.now_ms, work=b"work") == accepted
    with pytest.raises(RequestIdReused):
        await scheduler.jobs.submit(ADDITIVE, request_id="r", request_hash="other")
    assert sum((await scheduler.jobs.counts()).values()) == 1


async def test_backlog_is_bounded(store_url: str) -> None:
    store = await Store.open(store_url)
    jobs = JobStore(store, backlog_limit=2)
    for _ in range(2):
        await jobs.submit(ADDITIVE)
    with pytest.raises(BacklogFull) as caught:
        await jobs.submit(ADDITIVE)
    assert caught.value.retry_after
    await store.close()


async def test_jobs_take_turns_by_weight(scheduler: Scheduler) -> None:
    plain = await scheduler.submit(chunk_count=10_000)
    favoured = await scheduler.submit(chunk_count=10_000, priority=2)
    given = {plain: 0, favoured: 0}
    for _ in range(400):
        for span in await scheduler.take("w1", 1):
            given[span.ref] += span.count
            await scheduler.commit("w1", span)
    assert 3.5 < given[favoured] / given[plain] < 4.5


async def test_small_job_is_not_starved_by_a_huge_one(scheduler: Scheduler) -> None:
    huge = await scheduler.submit(chunk_count=1_000_000)
    for span in await scheduler.take("w1", 50):
        await scheduler.commit("w1", span)
    small = await scheduler.submit(chunk_count=4)
    await scheduler.beat("w1")
    leased = [span.ref for _ in range(12) for span in await scheduler.lease("w1", 1)]
    assert leased.count(small) == 4
    assert huge in leased


async def test_chunks_tell_who_did_what(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=20)
    await scheduler.take("w1", 8)
    await scheduler.commit("w1", ChunkSpan(ref, 1, 3, 3, 1))
    chunks, total = await scheduler.jobs.chunks("default", ref.split("/")[1], 2, 10)
    assert total == 20
    assert [chunk.index for chunk in chunks] == list(range(2, 12))
    assert [chunk.state for chunk in chunks] == (
        [ChunkState.RUNNING]
        + [ChunkState.DONE] * 3
        + [ChunkState.RUNNING] * 2
        + [ChunkState.PENDING] * 4
    )
    assert {chunk.worker for chunk in chunks[:6]} == {"name-w1"}
    done = chunks[1]
    assert done.committed_ms is not None
    assert (done.leased_ms or 0) <= done.committed_ms
    assert (done.started_ms or 0) <= done.committed_ms


def is_past(millisecond: int) -> bool:
    """Ids sort by the millisecond in which they were made."""
    return time.time_ns() // 1_000_000 > millisecond


async def test_list_is_newest_first_and_pages(scheduler: Scheduler) -> None:
    made = []
    for i in range(7):
        made.append((await scheduler.submit(queue=f"q{i}")).split("/")[1])
        await eventually(partial(is_past, time.time_ns() // 1_000_000), interval=0.001)
    seen, before = [], ""
    while True:
        page, before = await scheduler.jobs.list_page(
            "default", JobFilter(), before=before, limit=3
        )
        seen += [job.id for job in page]
        if not before:
            break
    assert seen == made[::-1]
    running = JobFilter(states=(JobState.RUNNING,))
    page, _ = await scheduler.jobs.list_page("default", running, before="", limit=3)
    assert page == []


async def test_progress_of_running_chunks_shows(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=2)
    (span,) = await scheduler.take("w1")
    await scheduler.beat("w1", [span], progress=[(ChunkSpan(ref, 1, 0, 1, 1), 0.5)])
    assert (await scheduler.job(ref)).shares == 0.5
    await scheduler.commit("w1", ChunkSpan(ref, 1, 0, 1, 1))
    assert (await scheduler.job(ref)).shares == 0


async def test_chunk_that_loses_every_worker_fails_its_job(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1)
    for i in range(11):
        assert (await scheduler.job(ref)).state is not JobState.FAILED
        await scheduler.take(f"w{i}")
        await scheduler.lose(f"w{i}")
    job = await scheduler.job(ref)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.reason == "WORKERS_LOST"


async def test_outage_of_the_store_reaps_nobody(store_url: str) -> None:
    store = await Store.open(store_url)
    scheduler = Scheduler(
        store, JobStore(store), LeaseStore(store, alive_seconds=0.05, transit_seconds=0)
    )
    await scheduler.submit(chunk_count=1)
    (span,) = await scheduler.take("w1")
    await scheduler.leases.reap()
    # As after an outage: the last run is long past, and so is every deadline.
    client = await client_of(store)
    await client.decrby(f"{store.prefix(0)}tick", 10_000)
    await client.zadd(f"{store.prefix(0)}owners", {"w1": 1})
    assert await scheduler.leases.reap() == []
    assert await scheduler.beat("w1", [span]) == []
    await store.close()


async def test_leaving_worker_is_forgotten_once_it_holds_nothing(scheduler: Scheduler) -> None:
    await scheduler.submit(chunk_count=1)
    (span,) = await scheduler.take("w1")
    assert not await scheduler.leases.leave("w1")
    await scheduler.leases.give_back("w1", [span])
    assert await scheduler.leases.leave("w1")
    assert await scheduler.leases.workers() == []


async def test_total_for_an_abacus_goes_to_the_outbox_once(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1, abacus="x")
    (span,) = await scheduler.take("w1")
    await scheduler.commit("w1", span)
    assert await scheduler.jobs.outbox(10) == [ref]
    await scheduler.jobs.note_posted(*ref.split("/"), amount="1", total="5")
    await scheduler.jobs.note_posted(*ref.split("/"), amount="1", total="6")
    posting = (await scheduler.job(ref)).posting
    assert posting is not None
    assert (posting.sum, posting.error) == ("5", "")
    assert posting.posted_ms
    assert await scheduler.jobs.outbox(10) == []
