"""Jobs in the store: accept, read, list, cancel, replay, forget."""

import asyncio
import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Self

import msgpack

from tallymesh_core.domain.errors import (
    BacklogFull,
    JobEnded,
    JobNotReplayable,
    NotFound,
    RequestIdReused,
)
from tallymesh_core.domain.ids import new_job_id, shard_of_job
from tallymesh_core.domain.jobs import (
    ChunkRecord,
    JobFailure,
    JobRecord,
    NewJob,
    Posting,
    Replay,
)
from tallymesh_core.domain.states import ChunkState, JobState
from tallymesh_core.store.connection import Store
from tallymesh_core.store.scripts import Script

#: Seconds for which a request id is remembered.
REQUEST_ID_SECONDS = 24 * 3600

_SUBMIT, _SNAPSHOT, _CANCEL, _REPLAY, _TIME_OUT, _EXPIRE, _POSTED = (
    Script.load(name)
    for name in ("submit", "snapshot", "cancel", "replay", "time_out", "expire", "posted")
)
# A chunk's record; commit.lua writes it.
_RECORD = struct.Struct("<HBBIII")
_UNKNOWN = 0xFFFFFFFF
_MAX_CELLS = 256
#: Ids read from each set of states at a time while listing.
_LIST_BATCH = 200
#: Ids are in order of the gateways' clocks, which may be so far from the store's.
_SKEW_MS = 60_000
#: Most ids looked at for one page, so that a rare filter cannot make a call slow.
_LIST_SCAN = 5000
#: Jobs looked at in one go by what runs from time to time.
_BATCH = 200
#: Dead letters forgotten in one go, of whatever jobs.
_LETTER_BATCH = 10_000
#: A job that has to stay beyond its time is looked at again after so long.
_POSTPONE_MS = 60_000
_WORK_FIELDS = ("work", "n", "chunk_timeout", "additive")
_NEW_FIELDS = tuple(field.name for field in fields(NewJob))


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
                    (job_id, one.request_id, one.request_hash or "-", _kept(one.job))
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
                records.append(_accepted(one.job, job_id.decode(), now_ms))
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
        most = _MAX_CELLS if chunk_map else 0
        (raw,) = await self._store.run(
            _SNAPSHOT, self._shard(job_id), most, 0, f"{tenant}/{job_id}"
        )
        if not raw:
            raise NotFound(f"jobs/{job_id}")
        return _snapshot(tenant, job_id, raw)

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
        found = await self._find_all(tenant, job_ids, only_ended=only_ended)
        for job_id in job_ids:
            if job_id not in found:
                raise NotFound(f"jobs/{job_id}")
        return [record for job_id in job_ids if (record := found[job_id])]

    async def _find_all(
        self, tenant: str, job_ids: Sequence[str], *, only_ended: bool = False
    ) -> dict[str, JobRecord | None]:
        """Reads those jobs that exist; None for one that is left out."""
        by_shard: dict[int, dict[str, None]] = {}
        for job_id in job_ids:
            by_shard.setdefault(self._shard(job_id), {})[job_id] = None
        found: dict[str, JobRecord | None] = {}
        for shard, ids in by_shard.items():
            refs = (f"{tenant}/{job_id}" for job_id in ids)
            answer = await self._store.run(_SNAPSHOT, shard, 0, int(only_ended), *refs)
            for job_id, raw in zip(ids, answer, strict=True):
                if raw:
                    found[job_id] = _snapshot(tenant, job_id, raw) if raw[0] else None
        return found

    async def works_of(self, refs: Iterable[str]) -> dict[str, tuple[bytes, int, int, bool]]:
        """Returns what jobs compute: work, how many chunks, their timeout in ms, if additive.

        A job that does not exist is left out.
        """
        by_shard: dict[int, list[str]] = {}
        for ref in refs:
            by_shard.setdefault(self._shard(ref.rpartition("/")[2]), []).append(ref)
        works = {}
        for shard, some in by_shard.items():
            async with self._store.at(shard) as client:
                pipe = client.pipeline(transaction=False)
                for ref in some:
                    pipe.hmget(f"{self._store.prefix(shard)}job:{ref}", _WORK_FIELDS)
                answers = await pipe.execute()
            for ref, (work, count, timeout, additive) in zip(some, answers, strict=True):
                if work is not None:
                    works[ref] = (work, int(count), int(timeout), additive == b"1")
        return works

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
                self._store.run(_EXPIRE, shard, _BATCH, _POSTPONE_MS, _LETTER_BATCH)
                for shard in range(self._store.shards)
            )
        )
        return any(rest)

    async def list_page(
        self,
        tenant: str,
        *,
        states: Sequence[JobState],
        before: str,
        limit: int,
        accept: Callable[[JobRecord], bool],
        from_ms: int,
    ) -> tuple[list[JobRecord], str]:
        """Lists jobs newest first, without chunk maps.

        Args:
            tenant: Whose jobs.
            states: In which states; none means all.
            before: Only jobs whose id sorts before this one; "" for the newest.
            limit: Most jobs to return.
            accept: The other filters.
            from_ms: Only jobs created at or after this time.

        Returns:
            The jobs, and the id to go on from, or "" when there are no more.
        """
        found: list[JobRecord] = []
        scanned = 0
        while scanned < _LIST_SCAN:
            ids = await self._ids_before(tenant, states or tuple(JobState), before)
            if not ids:
                return found, ""
            # As many at a time as may still be needed.
            some = ids[: max(limit - len(found), 10)]
            jobs = await self._find_all(tenant, some)
            for job_id in some:
                before = job_id
                scanned += 1
                job = jobs.get(job_id)
                if job is None:
                    continue
                if job.created_ms < from_ms - _SKEW_MS:
                    return found, ""
                if job.created_ms < from_ms:
                    continue
                if (not states or job.state in states) and accept(job):
                    found.append(job)
                    if len(found) == limit:
                        return found, before
        return found, before

    async def chunks(
        self, tenant: str, job_id: str, first: int, limit: int
    ) -> tuple[list[ChunkRecord], int]:
        """Returns a job's chunks from an index on, and the job's number of chunks.

        Raises:
            NotFound: There is no such job.
        """
        shard = self._shard(job_id)
        size = _RECORD.size
        keys = {
            kind: self._key(tenant, job_id, kind)
            for kind in ("job", "records", "leases", "later", "index", "bits", "dead")
        }
        async with self._store.at(shard) as client:
            pipe = client.pipeline(transaction=True)
            pipe.hmget(keys["job"], ["n", "created"])
            pipe.getrange(keys["records"], first * size, (first + limit) * size - 1)
            pipe.getrange(keys["bits"], first // 8, (first + limit) // 8)
            pipe.hgetall(keys["leases"])
            pipe.zrange(keys["later"], 0, -1)
            pipe.hgetall(keys["index"])
            pipe.hgetall(keys["dead"])
            (count, created), records, bits, leases, later, index, dead = await pipe.execute()
        if count is None:
            raise NotFound(f"jobs/{job_id}")
        names = {int(number): name.decode() for name, number in index.items()}
        workers = await self._worker_names(shard, leases.values())
        retrying = {int(chunk) for chunk in later}
        chunks = []
        for chunk in range(first, min(first + limit, int(count))):
            at = chunk - first // 8 * 8
            lease = leases.get(str(chunk).encode())
            if at // 8 < len(bits) and bits[at // 8] >> (7 - at % 8) & 1:
                packed = records[(chunk - first) * size : (chunk - first + 1) * size]
                chunks.append(_done_chunk(chunk, packed, int(created), names))
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
            elif facts := dead.get(str(chunk).encode()):
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
                state = ChunkState.RETRYING if chunk in retrying else ChunkState.PENDING
                chunks.append(ChunkRecord(chunk, state))
        return chunks, int(count)

    async def counts(self) -> dict[JobState, int]:
        """Returns how many jobs are in each state, over all tenants."""
        totals = dict.fromkeys(JobState, 0)
        for shard in range(self._store.shards):
            prefix = self._store.prefix(shard)
            async with self._store.at(shard) as client:
                for tenant in sorted(await client.smembers(f"{prefix}tenants")):
                    for state in JobState:
                        key = f"{prefix}state:{tenant.decode()}:{state}"
                        totals[state] += await client.zcard(key)
        return totals

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

    async def _ids_before(self, tenant: str, states: Iterable[JobState], before: str) -> list[str]:
        highest = f"({before}" if before else "+"
        ids: list[str] = []
        for shard in range(self._store.shards):
            async with self._store.at(shard) as client:
                # All at one moment, lest a job that changes its state is seen twice, or not at all.
                pipe = client.pipeline(transaction=True)
                for state in states:
                    key = f"{self._store.prefix(shard)}state:{tenant}:{state}"
                    pipe.zrevrangebylex(key, highest, "-", start=0, num=_LIST_BATCH)
                for batch in await pipe.execute():
                    ids += [job_id.decode() for job_id in batch]
        return sorted(ids, reverse=True)[:_LIST_BATCH]

    async def _worker_names(self, shard: int, leases: Iterable[bytes]) -> Mapping[str, str]:
        uids = sorted({lease.decode().split(" ")[0] for lease in leases})
        async with self._store.at(shard) as client:
            names = [
                await client.hget(f"{self._store.prefix(shard)}owner:{uid}", "name") for uid in uids
            ]
        return {uid: name.decode() for uid, name in zip(uids, names, strict=True) if name}


def _accepted(job: NewJob, job_id: str, now_ms: int) -> JobRecord:
    per_cell, cells = _empty_map(job.chunk_count)
    return JobRecord(
        id=job_id,
        **{name: getattr(job, name) for name in _NEW_FIELDS},
        state=JobState.PENDING,
        version=1,
        epoch=1,
        done=0,
        total=0,
        result=b"",
        created_ms=now_ms,
        started_ms=0,
        ended_ms=0,
        expires_ms=0,
        refused=0,
        failed=0,
        lost=0,
        compute_us=0,
        failure=None,
        posting=None,
        per_cell=per_cell,
        cells=cells,
        now_ms=now_ms,
    )


def _empty_map(chunk_count: int) -> tuple[int, bytes]:
    per_cell = -(-chunk_count // _MAX_CELLS)
    return per_cell, bytes(-(-chunk_count // per_cell))


def _snapshot(tenant: str, job_id: str, raw: Sequence[Any]) -> JobRecord:
    handled = raw[6]
    return _record(
        tenant,
        job_id,
        dict(zip(raw[0][::2], raw[0][1::2], strict=True)),
        running=raw[1],
        holders=raw[2],
        retrying=raw[3],
        retry_ms=int(float(raw[4] or 0)),
        shares=float(raw[5]),
        handled_by={handled[i].decode(): int(handled[i + 1]) for i in range(0, len(handled), 2)},
        per_cell=raw[7],
        cells=raw[8],
        now_ms=raw[9],
        dead=raw[10],
        replays=tuple(map(_replay, raw[11])),
    )


def _labels(text: bytes) -> dict[str, str]:
    # Most jobs have none, and reading that takes time too.
    return {} if text == b"{}" else dict(json.loads(text))


def _record(tenant: str, job_id: str, kept: dict[bytes, bytes], **live: object) -> JobRecord:
    def number(name: bytes) -> int:
        return int(kept.get(name, 0))

    def text(name: bytes) -> str:
        return kept.get(name, b"").decode()

    state = JobState(text(b"state"))
    failure = None
    if state is JobState.FAILED:
        failure = JobFailure(
            reason=text(b"error_reason"),
            message=text(b"error_message"),
            chunk=number(b"error_chunk"),
            worker=text(b"error_worker"),
        )
    posting = None
    if state is JobState.SUCCEEDED and text(b"abacus"):
        posting = Posting(
            posted_ms=number(b"posted"),
            amount=text(b"post_amount"),
            sum=text(b"post_sum"),
            error=text(b"post_error"),
        )
    return JobRecord(
        id=job_id,
        tenant=tenant,
        queue=text(b"queue"),
        kernel=text(b"kernel"),
        work=kept[b"work"],
        chunk_count=number(b"n"),
        additive=bool(number(b"additive")),
        priority=number(b"priority"),
        max_attempts=number(b"max_attempts"),
        abacus=text(b"abacus"),
        labels=_labels(kept[b"labels"]),
        initiated_by=text(b"initiated_by"),
        tolerate_failures=number(b"tolerate"),
        chunk_timeout_ms=number(b"chunk_timeout"),
        timeout_ms=number(b"timeout"),
        ttl_ms=number(b"ttl"),
        state=state,
        version=number(b"version"),
        epoch=number(b"epoch"),
        done=number(b"done"),
        total=number(b"total"),
        result=kept.get(b"result", b""),
        created_ms=number(b"created"),
        started_ms=number(b"started"),
        counted_ms=number(b"counted"),
        ended_ms=number(b"ended"),
        acknowledged_ms=number(b"acknowledged"),
        stopped_ms=number(b"stopped"),
        expires_ms=number(b"expires"),
        refused=number(b"refused"),
        failed=number(b"failed"),
        lost=number(b"lost"),
        compute_us=number(b"cpu"),
        failure=failure,
        posting=posting,
        **live,  # type: ignore[arg-type]
    )


def _kept(job: NewJob) -> tuple[str | bytes | int, ...]:
    """Returns a job's fields as the store keeps them, each followed by its value."""
    return (
        *("queue", job.queue),
        *("kernel", job.kernel),
        *("work", job.work),
        *("n", job.chunk_count),
        *("additive", int(job.additive)),
        *("priority", job.priority),
        *("max_attempts", job.max_attempts),
        *("abacus", job.abacus),
        *("labels", json.dumps(job.labels)),
        *("initiated_by", job.initiated_by),
        *("tolerate", job.tolerate_failures),
        *("chunk_timeout", job.chunk_timeout_ms),
        *("timeout", job.timeout_ms),
        *("ttl", job.ttl_ms),
    )


def _replay(raw: bytes) -> Replay:
    ms, epoch, chunks, reason, chunk, worker, message = raw.decode().split(" ", 6)
    failure = JobFailure(reason, message, int(chunk), "" if worker == "-" else worker)
    return Replay(int(ms), int(epoch), int(chunks), failure)


def _done_chunk(index: int, packed: bytes, created: int, names: Mapping[int, str]) -> ChunkRecord:
    worker, attempt, refused, leased, started, committed = _RECORD.unpack(packed)
    return ChunkRecord(
        index,
        ChunkState.DONE,
        worker=names.get(worker, ""),
        attempt=attempt,
        leased_ms=None if leased == _UNKNOWN else created + leased,
        started_ms=created + started,
        committed_ms=created + committed,
        refused=refused,
    )
