"""What jobs cost that are kept: their memory, finding some among many, and long works.

On a store of its own, spoken to as gateways speak to it: what is measured is the store.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count

from redis import Redis

from bench.figures import Bound, Figure, of_seconds, ratio
from bench.mesh import BenchMesh
from bench.sampling import Sampler, interleaved, of_awaits
from tallymesh_core.domain.jobs import ChunkSpan, JobFilter, NewJob, SpanResults
from tallymesh_core.domain.states import JobState
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import JobStore, Submission
from tallymesh_core.store.leases import LeaseStore
from tests.harness.valkey import ValkeyServer

_SMALL = NewJob(
    tenant="default",
    queue="default",
    kernel="simulate",
    work=b"w" * 40,
    chunk_count=1,
    additive=False,
    priority=0,
    max_attempts=4,
    abacus="",
    labels={},
    initiated_by="gateway-1",
)
_WORKER = "worker-1"
_BATCH = 500
#: One job in so many is one of those that are looked for.
_RARE = 250
_LONG = 4 * 1024 * 1024


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    del mesh  # its store holds what others have left
    with _own_store() as (runner, kept):
        figures = _memory(runner, kept)
        figures += _lists(runner, kept, 50_000, 30 if quick else 200)
        if not quick:
            figures += _lists(runner, kept, 200_000, 200)
    with _own_store() as (runner, kept):
        figures += _lengths(runner, kept, 100 if quick else 500)
    return figures


class _Kept:
    """Jobs that are kept in a store."""

    def __init__(self, server: ValkeyServer, store: Store) -> None:
        self.jobs = JobStore(store)
        self.leases = LeaseStore(store)
        self.size = 0
        self.calls = count()
        self._redis = Redis(unix_socket_path=str(server.socket))

    async def fill(self, size: int, make: Callable[[int], Submission]) -> None:
        """Has jobs computed until so many have ended."""
        while self.size < size:
            await self.jobs.submit_all([make(self.size + i) for i in range(_BATCH)])
            left = _BATCH
            while left:
                spans = await self.take(_BATCH)
                left -= len(spans)
                await self.leases.commit(_WORKER, _WORKER, [_result(span) for span in spans])
            self.size += _BATCH

    async def take(self, capacity: int) -> list[ChunkSpan]:
        await self.leases.beat(
            _WORKER, name=_WORKER, info=b"", slots=1, draining=False, held=[], open_calls=[]
        )
        lanes = ["default/simulate", "default/add"]
        return await self.leases.lease(_WORKER, f"call-{next(self.calls)}", capacity, lanes)

    def bytes_and_keys(self) -> tuple[int, int]:
        # Events are of a bounded number, however many jobs there are.
        self._redis.xtrim("{tm0}:events", maxlen=0)
        return self._redis.info("memory")["used_memory"], self._redis.dbsize()


@contextmanager
def _own_store() -> Iterator[tuple[asyncio.Runner, _Kept]]:
    server = ValkeyServer()
    try:
        server.start()
        with asyncio.Runner() as runner:
            store = runner.run(Store.open(server.url))
            try:
                yield runner, _Kept(server, store)
            finally:
                runner.run(store.close())
    finally:
        server.close()


def _result(span: ChunkSpan) -> SpanResults:
    return SpanResults(span, result=b"r" * 40, micros=(1500,), age_micros=1700, elapsed_micros=1600)


def _memory(runner: asyncio.Runner, kept: _Kept) -> list[Figure]:
    many = 20_000
    # What a store needs in any case it has then.
    runner.run(kept.fill(many, lambda _: Submission(_SMALL)))
    figures = []
    for what, make, limit in (
        ("", lambda _: Submission(_SMALL), 500),
        (
            ", with a request id in its first 24 h",
            lambda i: Submission(_SMALL, f"6a37dfe9-6a37-4dfe-a6a3-{i:012}", "0" * 32),
            700,
        ),
    ):
        before = kept.bytes_and_keys()
        runner.run(kept.fill(kept.size + many, make))
        after = kept.bytes_and_keys()
        used, keys = ((new - old) / many for new, old in zip(after, before, strict=True))
        name = f"of an ended job of one chunk{what}"
        figures += [
            Figure(
                name=f"memory {name}", value=used, unit="bytes", samples=many, bound=Bound(limit)
            ),
            Figure(name=f"keys {name}", value=keys, unit="", samples=many, bound=Bound(2)),
        ]
    return figures


def _lists(runner: asyncio.Runner, kept: _Kept, size: int, rounds: int) -> list[Figure]:
    def make(i: int) -> Submission:
        if i % _RARE:
            return Submission(_SMALL)
        return Submission(replace(_SMALL, labels={"team": "a"}, kernel="add"))

    runner.run(kept.fill(size, make))
    succeeded = (JobState.SUCCEEDED,)
    asked = {
        "all": JobFilter(),
        "by state and label": JobFilter(states=succeeded, labels={"team": "a"}),
        "by a label that none has": JobFilter(states=succeeded, labels={"team": "b"}),
        f"by a kernel that 1 in {_RARE} has": JobFilter(states=succeeded, kernel="add"),
    }

    def page(wanted: JobFilter) -> Sampler:
        return of_awaits(
            runner, partial(kept.jobs.list_page, "default", wanted, before="", limit=100)
        )

    taken = interleaved({what: page(wanted) for what, wanted in asked.items()}, rounds=rounds)
    return [
        of_seconds(
            f"page of 100 of {size:,} jobs, {what}",
            seconds,
            bound=Bound(50, of="p99") if "label" in what else None,
        )
        for what, seconds in taken.items()
    ]


def _lengths(runner: asyncio.Runner, kept: _Kept, rounds: int) -> list[Figure]:
    lengths = {"short": 40, "long": _LONG}

    async def submit(length: int) -> str:
        job = replace(_SMALL, work=b"w" * length, chunk_count=1 << 22, queue=f"q{length}")
        return (await kept.jobs.submit(job)).id

    ids = {name: runner.run(submit(length)) for name, length in lengths.items()}

    async def lease(name: str) -> None:
        lane = f"q{lengths[name]}/simulate"
        spans = await kept.leases.lease(_WORKER, f"call-{next(kept.calls)}", 1, [lane])
        assert len(spans) == 1
        await kept.leases.commit(
            _WORKER, _WORKER, [SpanResults(spans[0], partials=(b"",), micros=(1,))]
        )

    def watch(name: str) -> Awaitable[object]:
        return kept.jobs.get("default", ids[name])

    def page(name: str) -> Awaitable[object]:
        wanted = JobFilter(queue=f"q{lengths[name]}")
        return kept.jobs.list_page("default", wanted, before="", limit=10)

    runner.run(kept.take(1))
    figures = []
    for what, call in {"watch": watch, "list": page, "lease": lease}.items():
        taken = interleaved(
            {name: of_awaits(runner, partial(call, name)) for name in lengths},
            rounds=rounds,
            batch=5,
        )
        name = f"{what} a job: 4 MiB of work / 40 bytes"
        figures.append(ratio(name, taken["long"], taken["short"], bound=Bound(1.1)))
    return figures
