"""Jobs in the store: accept, read, list, cancel, replay, forget."""

import asyncio
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Self

import msgpack

from tallymesh_core.domain.errors import (
    BacklogFull,
    JobEnded,
    JobNotReplayable,
    NotFound,
    RequestIdReused,
)
from tallymesh_core.domain.ids import first_id_of, new_job_id, shard_of_job
from tallymesh_core.domain.jobs import (
    ChunkRecord,
    JobFailure,
    JobFilter,
    JobRecord,
    JobSpec,
    NewJob,
)
from tallymesh_core.domain.states import ChunkState, JobState
from tallymesh_core.store import snapshots, specs
from tallymesh_core.store.connection import Store
from tallymesh_core.store.scripts import Script

#: Seconds for which a request id is remembered.
REQUEST_ID_SECONDS = 24 * 3600

_SUBMIT, _SNAPSHOT, _LIST, _CANCEL, _REPLAY, _TIME_OUT, _EXPIRE, _POSTED = (
    Script.load(name)
    for name in (
        *("submit", "snapshot", "list", "cancel"),
        *("replay", "time_out", "expire", "posted"),
    )
)
#: Ids are in order of the gateways' clocks, which may be so far from the store's.
_SKEW_MS = 60_000
#: Jobs that the store looks at in one go for a page, so that nobody waits long meanwhile.
_LIST_SCAN = 500
#: A page that is not full by then is answered as it is, so that no rare filter makes a call slow.
_LIST_SECONDS = 1.0
#: Jobs looked at in one go by what runs from time to time.
_BATCH = 200
#: Dead letters forgotten in one go, of whatever jobs.
_LETTER_BATCH = 10_000


class _Submitted(IntEnum):
    ACCEPTED = 0
    REPEATED = 1
    REUSED = 2
    FULL = 3
    TAKEN = 4
    GONE = 5


class _Cancelled(IntEnum):
    DONE = 0
    ENDED = 1
    MISSING = 2


class _Replayed(IntEnum):
    DONE = 0
    REPEATED = 1
    MISSING = 2
    NOT_FAILED = 3
    SPOILT = 4
    FULL = 5


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to be accepted, and what makes that safe to repeat.

    Attributes:
        job: The job.
        request_id: Makes the submission safe to repeat, if given.
        request_hash: Tells requests apart that carry the same id.
        field: The field that the id was given in, for the error.
    """

    job: NewJob
    request_id: str = ""
    request_hash: str = ""
    field: str = "request_id"


@dataclass(frozen=True, slots=True)
class Died:
    """What a chunk died of, as letter.lua writes it.

    Attributes:
        group: Id of its kind of error.
        failed_ms: When it was given up.
        failed: How many attempts failed.
        lost: How often its worker was lost.
        before: How many attempts there were before its last replay.
        epoch: The job's epoch then.
        failure: What it died of.
    """

    group: str
    failed_ms: int
    failed: int
    lost: int
    before: int
    epoch: int
    failure: JobFailure

    @classmethod
    def read(cls, facts: bytes, chunk: int) -> Self:
        """Reads what is kept of a chunk."""
        group, ms, failed, lost, before, epoch, reason, worker, message = facts.decode().split(
            " ", 8
        )
        return cls(
            group,
            int(ms),
            int(failed),
            int(lost),
            int(before),
            int(epoch),
            JobFailure(reason, message, chunk, "" if worker == "-" else worker),
        )


@dataclass(slots=True)
class _Search:
    """How far a shard was searched for the jobs of a page.

    Attributes:
        shard: The shard.
        last: The last id that was looked at; it goes on before this.
        ids: What was found.
        is_over: There is nothing more to be found.
    """

    shard: int
    last: str
    ids: list[str] = field(default_factory=list)
    is_over: bool = False


class JobStore:
    """The jobs of a mesh."""

    def __init__(self, store: Store, *, backlog_limit: int = 1_000_000) -> None:
        self._store = store
        self._backlog_limit = backlog_limit

    async def submit(
        self, job: NewJob, *, request_id: str = "", request_hash: str = ""
    ) -> JobRecord:
        """Accepts a job; its cost does not depend on the number of chunks.

        Args:
            job: The job.
            request_id: As of a Submission.
            request_hash: As of a Submission.

        Returns:
            The job as accepted; the first job as it stands now, if the request is a repeat.

        Raises:
            RequestIdReused: The id was used with another request.
            NotFound: The request is a repeat, and the first job has expired.
            BacklogFull: The tenant has too many unfinished jobs on the queue's shard.
        """
        return (await self.submit_all([Submission(job, request_id, request_hash)]))[0]

    async def submit_all(self, submissions: Sequence[Submission]) -> list[JobRecord]:
        """Accepts jobs of one tenant: those of one shard together, or none of them.

        Returns:
            The jobs in order, each as `submit` does.

        Raises:
            RequestIdReused: An id was used with another request.
            NotFound: A request is a repeat, and the first job has expired.
            BacklogFull: The tenant has too many unfinished jobs on a queue's shard.
        """
        records: list[JobRecord | None] = [None] * len(submissions)
        by_shard: dict[int, list[int]] = {}
        for at, one in enumerate(submissions):
            shard = self._store.shard_of(one.job.tenant, one.job.queue)
            by_shard.setdefault(shard, []).append(at)
        for shard, places in by_shard.items():
            some = [submissions[at] for at in places]
            for at, record in zip(places, await self._submit_to(shard, some), strict=True):
                records[at] = record
        return [record for record in records if record]

    async def _submit_to(self, shard: int, submissions: Sequence[Submission]) -> list[JobRecord]:
        tenant = submissions[0].job.tenant
        ids = [new_job_id(shard) for _ in submissions]
        now_ms, *answer = await self._store.run(
            _SUBMIT,
            shard,
            tenant,
            REQUEST_ID_SECONDS,
            self._backlog_limit,
            msgpack.packb(
                [
                    (
                        *(job_id, one.request_id, one.request_hash or "-"),
                        *(specs.pack(one.job), one.job.work),
                    )
                    for job_id, one in zip(ids, submissions, strict=True)
                ],
                use_bin_type=False,
            ),
        )
        codes, given = answer[::2], answer[1::2]
        if _Submitted.TAKEN in codes:
            return await self._submit_to(shard, submissions)
        if _Submitted.REUSED in codes:
            at = codes.index(_Submitted.REUSED)
            raise RequestIdReused(submissions[at].request_id, submissions[at].field)
        if _Submitted.GONE in codes:
            raise NotFound(f"jobs/{given[codes.index(_Submitted.GONE)].decode()}")
        if _Submitted.FULL in codes:
            raise self._backlog_full(tenant)
        records = []
        for code, job_id, one in zip(codes, given, submissions, strict=True):
            if code == _Submitted.REPEATED and job_id.decode() not in ids:
                records.append(await self.get(tenant, job_id.decode()))
            else:
                records.append(snapshots.accepted(one.job, job_id.decode(), now_ms))
        return records

    def _backlog_full(self, tenant: str) -> BacklogFull:
        return BacklogFull(
            f"tenant {tenant} has {self._backlog_limit:,} unfinished jobs, as many as it may",
            metadata={"bound": str(self._backlog_limit)},
            retry_after=5.0,
        )

    async def get(self, tenant: str, job_id: str, *, chunk_map: bool = True) -> JobRecord:
        """Reads a job as it stands now.

        Raises:
            NotFound: There is no such job.
        """
        found = await self._read(tenant, [job_id], chunk_map=chunk_map)
        if record := found.get(job_id):
            return record
        raise NotFound(f"jobs/{job_id}")

    async def get_all(
        self, tenant: str, job_ids: Sequence[str], *, only_ended: bool = False
    ) -> list[JobRecord]:
        """Reads jobs as they stand now, without chunk maps.

        Args:
            tenant: Whose jobs.
            job_ids: Which jobs.
            only_ended: Leave out those that have not ended.

        Raises:
            NotFound: One of them does not exist.
        """
        found = await self._read(tenant, job_ids, only_ended=only_ended)
        for job_id in job_ids:
            if job_id not in found:
                raise NotFound(f"jobs/{job_id}")
        return [record for job_id in job_ids if (record := found[job_id])]

    async def _read(
        self,
        tenant: str,
        job_ids: Iterable[str],
        *,
        chunk_map: bool = False,
        only_ended: bool = False,
    ) -> dict[str, JobRecord | None]:
        """Reads those jobs that exist; None for one that is left out."""
        found: dict[str, JobRecord | None] = {}
        for shard, refs in self._by_shard(f"{tenant}/{job_id}" for job_id in job_ids).items():
            answer = await self._store.run(
                _SNAPSHOT,
                shard,
                snapshots.MAX_CELLS if chunk_map else 0,
                int(only_ended),
                len(snapshots.FIELDS),
                *snapshots.FIELDS,
                *refs,
            )
            for ref, raw in zip(refs, answer, strict=True):
                if raw:
                    job_id = ref.rpartition("/")[2]
                    found[job_id] = (
                        snapshots.read(tenant, job_id, raw, chunk_map=chunk_map) if raw[0] else None
                    )
        return found

    async def works_of(self, refs: Iterable[str]) -> dict[str, tuple[JobSpec, bytes]]:
        """Returns specs and works of jobs. A job that does not exist is left out."""
        works = {}
        for shard, some in self._by_shard(refs).items():
            prefix = self._store.prefix(shard)
            async with self._store.at(shard) as client:
                pipe = client.pipeline(transaction=False)
                for ref in some:
                    pipe.hmget(f"{prefix}job:{ref}", ["spec", "work"])
                    # Where they are not short, they have keys of their own.
                    pipe.mget(f"{prefix}spec:{ref}", f"{prefix}work:{ref}")
                answers = await pipe.execute()
            for ref, short, own in zip(some, answers[::2], answers[1::2], strict=True):
                spec, work = (one or other for one, other in zip(short, own, strict=True))
                if spec is not None:
                    works[ref] = (specs.unpack(spec)[0], work or b"")
        return works

    async def results_of(self, refs: Iterable[str]) -> dict[str, bytes]:
        """Returns serialized results that are not short. One that there is not is left out."""
        results: dict[str, bytes] = {}
        for shard, some in self._by_shard(refs).items():
            async with self._store.at(shard) as client:
                kept = await client.mget(f"{self._store.prefix(shard)}result:{ref}" for ref in some)
            results |= {ref: raw for ref, raw in zip(some, kept, strict=True) if raw is not None}
        return results

    async def partials_of(self, ref: str) -> list[bytes]:
        """Returns the partial results of a job's chunks in order of index."""
        tenant, _, job_id = ref.partition("/")
        async with self._store.at(self._shard(job_id)) as client:
            parts = await client.hgetall(self._key(tenant, job_id, "parts"))
        return [part for _, part in sorted((int(index), part) for index, part in parts.items())]

    async def cancel(self, tenant: str, job_id: str) -> None:
        """Cancels a job; cancelling a cancelled one does nothing.

        Raises:
            NotFound: There is no such job.
            JobEnded: It has succeeded or failed.
        """
        code, state = await self._store.run(_CANCEL, self._shard(job_id), f"{tenant}/{job_id}")
        match _Cancelled(code):
            case _Cancelled.MISSING:
                raise NotFound(f"jobs/{job_id}")
            case _Cancelled.ENDED:
                raise JobEnded(f"jobs/{job_id}", state.decode())

    async def replay(self, tenant: str, job_id: str, *, epoch: int = 0) -> int:
        """Lets a failed job run again, in a new epoch; returns how many chunks it revived.

        Args:
            tenant: Whose job.
            job_id: Which job.
            epoch: The epoch that has failed, so that a repeat does nothing; 0 for whichever it is.

        Raises:
            NotFound: There is no such job.
            JobNotReplayable: It has not failed, or no further attempt can mend it.
            BacklogFull: The tenant has too many unfinished jobs on the queue's shard.
        """
        code, raw_state, revived = await self._store.run(
            _REPLAY, self._shard(job_id), f"{tenant}/{job_id}", epoch, self._backlog_limit
        )
        name, state = f"jobs/{job_id}", raw_state.decode()
        match _Replayed(code):
            case _Replayed.MISSING:
                raise NotFound(name)
            case _Replayed.NOT_FAILED:
                raise JobNotReplayable(name, state, f"it is {state.lower()}, not failed")
            case _Replayed.SPOILT:
                raise JobNotReplayable(name, state, "its results left their bounds")
            case _Replayed.FULL:
                raise self._backlog_full(tenant)
        return int(revived)

    async def time_out(self) -> float | None:
        """Fails the jobs whose time is over.

        Returns:
            Seconds until the next such time, or None.
        """
        waits = await asyncio.gather(
            *(self._store.run(_TIME_OUT, shard, _BATCH) for shard in range(self._store.shards))
        )
        known = [wait for wait in waits if wait >= 0]
        return min(known) / 1000 if known else None

    async def expire(self) -> bool:
        """Forgets jobs that were kept long enough; tells whether there may be more."""
        rest = await asyncio.gather(
            *(
                self._store.run(_EXPIRE, shard, _BATCH, _LETTER_BATCH)
                for shard in range(self._store.shards)
            )
        )
        return any(rest)

    async def list_page(
        self, tenant: str, wanted: JobFilter, *, before: str, limit: int
    ) -> tuple[list[JobRecord], str]:
        """Lists jobs newest first, without chunk maps.

        Args:
            tenant: Whose jobs.
            wanted: Which of them.
            before: Only jobs whose id sorts before this one; "" for the newest.
            limit: Most jobs to return. Fewer may be returned though more follow: jobs that have
                just left the states wanted, or what was found within a second.

        Returns:
            The jobs, and the id to go on from, or "" when there are no more.
        """
        shards = range(self._store.shards)
        if wanted.queue:
            shard = self._store.shard_of(tenant, wanted.queue)
            shards = range(shard, shard + 1)
        searches = [_Search(shard, before) for shard in shards]
        deadline = time.monotonic() + _LIST_SECONDS
        while True:
            await asyncio.gather(
                *(
                    self._look_on(tenant, wanted, search, limit)
                    for search in searches
                    if not search.is_over and len(search.ids) < limit
                )
            )
            # What comes after may still be found on another shard.
            seen = max((search.last for search in searches if not search.is_over), default="")
            ids = sorted(
                (one for search in searches for one in search.ids if one >= seen), reverse=True
            )
            if len(ids) >= limit or not seen or time.monotonic() > deadline:
                break
        page = ids[:limit]
        following = seen
        if len(ids) > limit or (len(ids) == limit and seen):
            following = page[-1]
        found = await self._read(tenant, page)
        jobs = (found.get(job_id) for job_id in page)
        # One may be gone, or have left its state, since it was found.
        kept = [job for job in jobs if job and (not wanted.states or job.state in wanted.states)]
        return kept, following

    async def _look_on(self, tenant: str, wanted: JobFilter, search: "_Search", limit: int) -> None:
        until = first_id_of(wanted.until_ms + _SKEW_MS) if wanted.until_ms is not None else ""
        highest = min(filter(None, (search.last, until)), default="")
        ids, last = await self._store.run(
            _LIST,
            search.shard,
            tenant,
            limit - len(search.ids),
            _LIST_SCAN,
            f"({highest}" if highest else "+",
            f"[{first_id_of(wanted.from_ms - _SKEW_MS)}" if wanted.from_ms else "-",
            msgpack.packb(
                (
                    wanted.states or tuple(JobState),
                    wanted.queue,
                    wanted.kernel,
                    wanted.labels,
                    wanted.from_ms,
                    wanted.until_ms or 0,
                )
            ),
        )
        search.ids += (raw.decode() for raw in ids)
        search.last, search.is_over = last.decode(), not last

    async def chunks(
        self, tenant: str, job_id: str, first: int, limit: int
    ) -> tuple[list[ChunkRecord], int]:
        """Returns a job's chunks from an index on, and the job's number of chunks.

        Raises:
            NotFound: There is no such job.
        """
        shard = self._shard(job_id)
        size = snapshots.RECORD_SIZE
        keys = {
            kind: self._key(tenant, job_id, kind)
            for kind in ("job", "records", "leases", "later", "index", "bits", "dead")
        }
        async with self._store.at(shard) as client:
            pipe = client.pipeline(transaction=True)
            pipe.hmget(keys["job"], ["n", "created", "end", "worker"])
            pipe.getrange(keys["records"], first * size, (first + limit) * size - 1)
            pipe.getrange(keys["bits"], first // 8, (first + limit) // 8)
            asked = [str(chunk) for chunk in range(first, first + limit)]
            pipe.hmget(keys["leases"], asked)
            pipe.zmscore(keys["later"], asked)
            pipe.hgetall(keys["index"])
            pipe.hmget(keys["dead"], asked)
            job, records, bits, leases, later, index, dead = await pipe.execute()
        count, created, end, worker = job
        if count is None:
            raise NotFound(f"jobs/{job_id}")
        if end:
            # It ended with its one chunk, of which nothing is kept elsewhere.
            return [snapshots.only_chunk(end, worker, int(created))][first:], 1
        names = {int(number): name.decode() for name, number in index.items()}
        workers = await self._worker_names(shard, [lease for lease in leases if lease])
        chunks = []
        for chunk in range(first, min(first + limit, int(count))):
            at = chunk - first // 8 * 8
            lease = leases[chunk - first]
            if at // 8 < len(bits) and bits[at // 8] >> (7 - at % 8) & 1:
                packed = records[(chunk - first) * size : (chunk - first + 1) * size]
                chunks.append(snapshots.done_chunk(chunk, packed, int(created), names))
            elif lease:
                uid, _, attempt, leased = lease.decode().split(" ")
                chunks.append(
                    ChunkRecord(
                        chunk,
                        ChunkState.RUNNING,
                        worker=workers.get(uid, ""),
                        attempt=int(attempt),
                        leased_ms=int(leased),
                    )
                )
            elif facts := dead[chunk - first]:
                died = Died.read(facts, chunk)
                chunks.append(
                    ChunkRecord(
                        chunk,
                        ChunkState.FAILED,
                        worker=died.failure.worker,
                        attempt=died.before + died.failed + died.lost,
                        failure=died.failure,
                    )
                )
            else:
                waits = later[chunk - first] is not None
                state = ChunkState.RETRYING if waits else ChunkState.PENDING
                chunks.append(ChunkRecord(chunk, state))
        return chunks, int(count)

    async def counts(self) -> dict[JobState, int]:
        """Returns how many jobs are in each state, over all tenants."""
        found = await asyncio.gather(*map(self._counts_of, range(self._store.shards)))
        return {state: sum(counts[state] for counts in found) for state in JobState}

    async def _counts_of(self, shard: int) -> dict[JobState, int]:
        prefix = self._store.prefix(shard)
        async with self._store.at(shard) as client:
            tenants = [tenant.decode() for tenant in await client.smembers(f"{prefix}tenants")]
            pipe = client.pipeline(transaction=False)
            for state in JobState:
                for tenant in tenants:
                    pipe.zcard(f"{prefix}state:{tenant}:{state}")
            sizes = iter(await pipe.execute())
        return {state: sum(itertools.islice(sizes, len(tenants))) for state in JobState}

    async def outbox(self, limit: int) -> list[str]:
        """Returns refs of jobs whose total is still to be entered into their abacus."""
        refs: list[str] = []
        for shard in range(self._store.shards):
            key = f"{self._store.prefix(shard)}outbox"
            async with self._store.at(shard) as client:
                refs += [ref.decode() for ref in await client.srandmember(key, limit) or ()]
        return refs

    async def note_posted(
        self, tenant: str, job_id: str, *, amount: str, total: str, error: str = ""
    ) -> None:
        """Notes that a job's total was entered into its abacus, or why it cannot be."""
        await self._store.run(
            _POSTED, self._shard(job_id), f"{tenant}/{job_id}", amount, total, error
        )

    def _shard(self, job_id: str) -> int:
        shard = shard_of_job(job_id)
        if shard is None or shard >= self._store.shards:
            raise NotFound(f"jobs/{job_id}")
        return shard

    def _key(self, tenant: str, job_id: str, kind: str) -> str:
        return f"{self._store.prefix(self._shard(job_id))}{kind}:{tenant}/{job_id}"

    def _by_shard(self, refs: Iterable[str]) -> dict[int, list[str]]:
        by_shard: dict[int, dict[str, None]] = {}
        for ref in refs:
            by_shard.setdefault(self._shard(ref.rpartition("/")[2]), {})[ref] = None
        return {shard: list(some) for shard, some in by_shard.items()}

    async def _worker_names(self, shard: int, leases: Iterable[bytes]) -> Mapping[str, str]:
        uids = sorted({lease.decode().split(" ")[0] for lease in leases})
        if not uids:
            return {}
        async with self._store.at(shard) as client:
            pipe = client.pipeline(transaction=False)
            for uid in uids:
                pipe.hget(f"{self._store.prefix(shard)}owner:{uid}", "name")
            names = await pipe.execute()
        return {uid: name.decode() for uid, name in zip(uids, names, strict=True) if name}
