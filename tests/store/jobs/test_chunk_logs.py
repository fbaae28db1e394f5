"""Logs of chunks: the last attempt's, so many bytes of a job, gone with it."""

from dataclasses import replace

import pytest

from tallymesh_core.domain.errors import NotFound
from tallymesh_core.domain.jobs import ChunkLog, ChunkSpan, LoggedChunk
from tallymesh_core.store.chunk_logs import MAX_BYTES, MAX_BYTES_PASSED, ChunkLogStore
from tests.store.jobs.conftest import Scheduler


async def keep(
    scheduler: Scheduler,
    ref: str,
    chunk: int,
    text: str,
    *,
    attempt: int = 1,
    epoch: int = 1,
    failed: bool = False,
) -> None:
    log = LoggedChunk(ChunkSpan(ref, epoch, chunk, 1, attempt), text, failed)
    await ChunkLogStore(scheduler.store).keep("w1", [log])


async def kept(scheduler: Scheduler, ref: str) -> dict[int, str]:
    logs, following, _ = await _page(scheduler, ref)
    assert following is None
    return {log.index: log.text for log in logs}


async def _page(
    scheduler: Scheduler, ref: str, *, first: int = 0, limit: int = 1000
) -> tuple[list[ChunkLog], int | None, int]:
    tenant, _, job_id = ref.partition("/")
    return await ChunkLogStore(scheduler.store).page(tenant, job_id, first=first, limit=limit)


async def test_a_later_attempt_takes_the_place_of_an_earlier_one(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(max_attempts=1)
    await keep(scheduler, ref, 2, "second try", attempt=2)
    await keep(scheduler, ref, 2, "first try", attempt=1)
    await keep(scheduler, ref, 0, "a text with spaces\nand lines")
    for _ in range(2):
        assert await kept(scheduler, ref) == {0: "a text with spaces\nand lines", 2: "second try"}
        await keep(scheduler, ref, 2, "second try", attempt=2)  # a repeat
    (span,) = await scheduler.take("w1")
    await scheduler.fail("w1", span)
    await scheduler.replay(ref)
    await keep(scheduler, ref, 2, "replayed", epoch=2)
    await keep(scheduler, ref, 2, "late", epoch=1, attempt=9)
    assert (await kept(scheduler, ref))[2] == "replayed"
    ((log,), _, _) = await _page(scheduler, ref, first=2)
    assert (log.attempt, log.worker) == (1, "w1")
    assert abs(log.logged_ms - (await scheduler.job(ref)).now_ms) < 60_000


async def test_pages_go_on_where_they_stopped(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=30)
    for chunk in (3, 20, 11):
        await keep(scheduler, ref, chunk, str(chunk))
    logs, following, _ = await _page(scheduler, ref, limit=2)
    assert ([log.index for log in logs], following) == ([3, 11], 20)
    logs, following, _ = await _page(scheduler, ref, first=20, limit=2)
    assert ([log.index for log in logs], following) == ([20], None)


async def test_a_job_keeps_so_much_and_counts_the_rest(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=200)
    text = "x" * 16_000
    for chunk in range(50):
        await keep(scheduler, ref, chunk, text)
    passed = await kept(scheduler, ref)
    assert MAX_BYTES_PASSED - 20_000 < sum(map(len, passed.values())) <= MAX_BYTES_PASSED
    for chunk in range(100, 150):
        await keep(scheduler, ref, chunk, text, failed=True)
    everything = await kept(scheduler, ref)
    assert everything.keys() > passed.keys()
    assert MAX_BYTES - 20_000 < sum(map(len, everything.values())) <= MAX_BYTES
    _, _, dropped = await _page(scheduler, ref)
    assert dropped == 100 - len(everything)
    # A call that is repeated drops nothing more.
    for chunk in (*range(50), *range(100, 150)):
        await keep(scheduler, ref, chunk, text, failed=chunk >= 100)
    assert (await _page(scheduler, ref))[2] == dropped
    missing = next(chunk for chunk in range(100, 150) if chunk not in everything)
    await keep(scheduler, ref, missing, "a shorter one", attempt=2, failed=True)
    assert (await _page(scheduler, ref))[2] == dropped - 1
    await keep(scheduler, ref, 100, "short", attempt=2, failed=True)
    await keep(scheduler, ref, 190, "finds room", failed=True)
    assert (await kept(scheduler, ref))[190] == "finds room"


async def test_logs_of_no_job_and_no_chunk_are_not_kept(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=4)
    gone = f"default/{'0' * 14}{ref[-2:]}"
    await keep(scheduler, gone, 0, "of no job")
    await keep(scheduler, "default/nonsense", 0, "of no job")
    await keep(scheduler, ref, 4, "of the last step")
    await keep(scheduler, ref, 5, "of no chunk")
    await keep(scheduler, ref, 0, "of an epoch to come", epoch=2)
    assert await kept(scheduler, ref) == {4: "of the last step"}
    with pytest.raises(NotFound):
        await _page(scheduler, gone)


async def test_logs_go_with_their_job(scheduler: Scheduler) -> None:
    ref = await scheduler.submit(chunk_count=1, ttl_ms=1000)
    (span,) = await scheduler.take("w1")
    await keep(scheduler, ref, 0, "a line")
    await keep(scheduler, ref, 0, "x" * MAX_BYTES, attempt=2)
    assert f"unlogged:{ref}" in await scheduler.keys()
    await scheduler.commit("w1", replace(span, count=1))
    assert f"logs:{ref}" in await scheduler.keys()
    await scheduler.pass_time(1)
    await scheduler.jobs.expire()
    assert not {key for key in await scheduler.keys() if ref in key}
