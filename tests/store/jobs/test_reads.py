"""What reads of jobs cost the store, counted in its commands and bytes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tallymesh_core.domain.jobs import JobFilter, SpanResults
from tallymesh_core.domain.states import JobState
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import JobStore, Submission
from tallymesh_core.store.leases import LeaseStore
from tests.harness.stores import client_of
from tests.store.jobs.conftest import ADDITIVE, Scheduler

RARE = {"team": "rare"}


@pytest.fixture
async def alone(store_url: str) -> AsyncIterator[Scheduler]:
    """A scheduler on one server that nobody else uses."""
    store = await Store.open(store_url)
    yield Scheduler(store, JobStore(store), LeaseStore(store))
    await store.close()


async def commands(scheduler: Scheduler, call: Callable[[], Awaitable[Any]]) -> dict[str, int]:
    """How often the store ran each command for a call; those of its scripts count."""
    client = await client_of(scheduler.store)
    await call()  # so that scripts are known
    await client.config_resetstat()
    await call()
    stats = await client.info("commandstats")
    # The clock is set once a millisecond, however many calls there are.
    return {
        name.removeprefix("cmdstat_"): one["calls"]
        for name, one in stats.items()
        if name != "cmdstat_set"
    }


async def bytes_told(scheduler: Scheduler, call: Callable[[], Awaitable[Any]]) -> int:
    """How many bytes the store sends for a call."""
    client = await client_of(scheduler.store)
    await call()
    before = (await client.info("stats"))["total_net_output_bytes"]
    for _ in range(10):
        await call()
    return int((await client.info("stats"))["total_net_output_bytes"] - before)


async def test_neither_work_nor_result_is_touched_unless_it_is_asked_for(alone: Scheduler) -> None:
    lengths = (40, 4 * 1024 * 1024)
    running, ended = {}, {}
    await alone.beat("w1")
    for length in lengths:
        job = replace(ADDITIVE, additive=False, work=b"w" * length, chunk_count=100_000)
        running[length] = (await alone.jobs.submit(replace(job, queue=f"q{length}"))).id
        ended[length] = (await alone.jobs.submit(replace(job, chunk_count=1))).id
        (span,) = await alone.lease("w1")
        await alone.commit("w1", span, sums=None, result=b"r" * (length // 4))

    async def lease(length: int) -> None:
        call = f"call-{next(alone.calls)}"
        assert await alone.leases.lease("w1", call, 1, [f"q{length}/simulate"])

    async def watch(length: int) -> None:
        await alone.jobs.get("default", running[length])
        await alone.jobs.get("default", ended[length])

    async def collect(length: int) -> None:
        await alone.jobs.get_all("default", [ended[length]], only_ended=True)

    async def page(length: int) -> None:
        wanted = JobFilter(queue=f"q{length}")
        found, _ = await alone.jobs.list_page("default", wanted, before="", limit=10)
        assert len(found) == 1

    for call in (lease, watch, collect, page):
        short, long = [await bytes_told(alone, partial(call, length)) for length in lengths]
        assert long < 1.1 * short, call
        few, more = [await commands(alone, partial(call, length)) for length in lengths]
        assert few == more, call


async def test_map_is_drawn_from_one_read_of_the_bits(alone: Scheduler) -> None:
    ref = await alone.submit(chunk_count=1000)
    await alone.beat("w1")
    for _ in range(3):
        for span in await alone.lease("w1", 7):
            await alone.commit("w1", span)
    (span, *_) = await alone.lease("w1", 3)
    job = await alone.job(ref)
    # Four chunks a cell: five cells are full, the next has one of four, and a chunk runs there.
    assert (job.per_cell, len(job.cells)) == (4, 250)
    assert job.cells[:7] == bytes([100] * 5 + [25 + 128, 0])
    ran = await commands(alone, lambda: alone.job(ref))
    assert (ran.get("bitcount", 0), ran["getrange"]) == (0, 1)
    assert sum(ran.values()) < 16
    # Nor is it read where nobody asks for it.
    ran = await commands(
        alone, lambda: alone.jobs.list_page("default", JobFilter(), before="", limit=10)
    )
    assert "getrange" not in ran


@pytest.mark.parametrize("count", [1, 7, 255, 256, 257, 1000, 4099])
async def test_map_counts_each_chunk_in_its_cell(alone: Scheduler, count: int) -> None:
    ref = await alone.submit(chunk_count=count, max_attempts=1)
    (span,) = await alone.take("w1", count)
    done = {index for index in range(count) if index % 3 == 0 or index > count - 20}
    for index in sorted(done):
        await alone.commit("w1", replace(span, first=index, count=1))
    job = await alone.job(ref)
    cells = [
        range(first, min(first + job.per_cell, count)) for first in range(0, count, job.per_cell)
    ]
    assert [cell & 127 for cell in job.cells] == [
        100 * len(done.intersection(cell)) // len(cell) for cell in cells
    ]
    assert [cell >= 128 for cell in job.cells] == [bool(set(cell) - done) for cell in cells]


async def test_lanes_are_looked_at_once_a_call(alone: Scheduler) -> None:
    lanes = [f"q{queue}/k{kernel}" for queue in range(3) for kernel in range(9)]
    for lane in lanes[:9]:
        queue, _, kernel = lane.partition("/")
        for _ in range(20):
            await alone.submit(queue=queue, kernel=kernel, chunk_count=1)
    await alone.beat("w1")

    async def lease() -> None:
        spans = await alone.leases.lease("w1", f"call-{next(alone.calls)}", 10, lanes)
        assert len(spans) == 10

    ran = await commands(alone, lease)
    assert ran["zrange"] <= len(lanes) + 10


@pytest.fixture
async def many(alone: Scheduler) -> dict[str, str]:
    """What few of many ended jobs have, and the job that has it."""
    rare = {}
    for first in range(0, 2000, 500):
        batch = [replace(ADDITIVE, chunk_count=1) for _ in range(500)]
        if not first:
            batch[7] = replace(batch[7], labels=RARE | {"i": "7"})
            batch[8] = replace(batch[8], kernel="rare.kind")
            batch[9] = replace(batch[9], queue="rare")
        records = await alone.jobs.submit_all([Submission(job) for job in batch])
        if not first:
            rare = {"label": records[7].id, "kernel": records[8].id, "queue": records[9].id}
        lanes = ["default/simulate", "default/rare.kind", "rare/simulate"]
        await alone.beat("w1")
        for _ in range(4):
            spans = await alone.leases.lease("w1", f"call-{next(alone.calls)}", 500, lanes)
            await alone.leases.commit("w1", "w1", [SpanResults(one, sums=(1,)) for one in spans])
    assert (await alone.jobs.counts())[JobState.SUCCEEDED] == 2000
    return rare


async def test_page_is_filled_however_few_match(alone: Scheduler, many: dict[str, str]) -> None:
    for what, wanted in {
        "label": JobFilter(states=(JobState.SUCCEEDED,), labels=RARE),
        "kernel": JobFilter(kernel="rare"),
        "queue": JobFilter(queue="rare"),
    }.items():
        page, following = await alone.jobs.list_page("default", wanted, before="", limit=50)
        assert ([job.id for job in page], following) == ([many[what]], ""), what


async def test_labelled_jobs_are_found_without_looking_at_others(
    alone: Scheduler, many: dict[str, str]
) -> None:
    for labels in (RARE, RARE | {"i": "7"}):
        wanted = JobFilter(states=(JobState.SUCCEEDED,), labels=labels)

        async def page(wanted: JobFilter = wanted) -> None:
            found, _ = await alone.jobs.list_page("default", wanted, before="", limit=50)
            assert [job.id for job in found] == [many["label"]]

        assert sum((await commands(alone, page)).values()) < 20


async def test_page_that_takes_too_long_ends_early_and_leads_on(
    alone: Scheduler, many: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh_core.store.jobs._LIST_SECONDS", 0)
    wanted = JobFilter(kernel="rare")
    found, before, pages = [], "", 0
    while True:
        page, before = await alone.jobs.list_page("default", wanted, before=before, limit=50)
        found += [job.id for job in page]
        pages += 1
        if not before:
            break
    assert found == [many["kernel"]]
    assert 4 <= pages <= 6


async def test_only_the_shard_of_a_queue_is_searched(store_url: str) -> None:
    store = await Store.open(store_url, shards=8)
    scheduler = Scheduler(store, JobStore(store), LeaseStore(store))
    for i in range(16):
        await scheduler.submit(queue=f"q{i}")

    async def page(wanted: JobFilter) -> None:
        await scheduler.jobs.list_page("default", wanted, before="", limit=50)

    async def scripts(wanted: JobFilter) -> int:
        return (await commands(scheduler, lambda: page(wanted)))["evalsha"]

    assert await scripts(JobFilter(queue="q3")) == 2
    assert await scripts(JobFilter()) > 8
    await store.close()
