"""Turns what the store keeps into what the API answers."""

from collections.abc import Iterator, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tallymesh.v1 import dead_letter_service_pb2, errors_pb2, job_pb2, job_service_pb2
from tallymesh.v1.work_pb2 import Result
from tallymesh_core.domain.jobs import (
    ChunkLog,
    ChunkRecord,
    DeadLetter,
    DeadLetterGroup,
    JobFailure,
    JobRecord,
)
from tallymesh_core.domain.states import JobState
from tallymesh_core.rpc.channel import MAX_MESSAGE_BYTES
from tallymesh_gateway.contents import Contents
from tallymesh_gateway.fleet import Fleet
from tallymesh_kernels import Registry

#: Clients of gRPC take messages of 4 MiB, unless told otherwise; little of them is not jobs.
MAX_ANSWER_BYTES = MAX_MESSAGE_BYTES - 4096
# What a field of a message takes besides what it holds.
_FRAME_BYTES = 6


class Answers:
    """Makes answers on behalf of one gateway."""

    def __init__(self, node: str, kernels: Registry, fleet: Fleet, contents: Contents) -> None:
        self._node = node
        self._kernels = kernels
        self._fleet = fleet
        self._contents = contents

    async def job(
        self,
        record: JobRecord,
        view: job_service_pb2.JobView.ValueType = job_service_pb2.JOB_VIEW_FULL,
    ) -> job_pb2.Job:
        """Returns the job, as this gateway saw it."""
        job = job_pb2.Job(
            name=f"jobs/{record.id}",
            chunk_count=record.spec.chunk_count,
            queue=record.spec.queue,
            priority=record.spec.priority,
            labels=record.spec.labels,
            abacus=f"abaci/{record.spec.abacus}" if record.spec.abacus else "",
            max_attempts=record.spec.max_attempts,
            state=job_pb2.Job.State.Value(f"STATE_{record.state}"),
            state_reason=await self._reason(record),
            progress=_progress(record),
            kernel=record.spec.kernel,
            initiated_by=record.spec.initiated_by,
            checked_by=self._node,
            handled_by=record.handled_by,
            create_time=_time(record.created_ms),
            start_time=_time(record.started_ms),
            end_time=_time(record.ended_ms),
            version=record.version,
            refused_duplicates=record.refused,
            failed_attempts=record.failed,
            lost_leases=record.lost,
            compute_time=_span(record.compute_us / 1e6),
            epoch=record.epoch,
            tolerate_failures=record.spec.tolerate_failures,
            chunk_timeout=_milliseconds(record.spec.chunk_timeout_ms),
            timeout=_milliseconds(record.spec.timeout_ms),
            ttl=_milliseconds(record.spec.ttl_ms),
            expire_time=_time(record.expires_ms),
            stages=_stages(record),
            replays=[
                job_pb2.Job.Replay(
                    replay_time=_time(replay.replayed_ms),
                    epoch=replay.epoch,
                    chunks=replay.chunks,
                    error=_error(replay.failure),
                )
                for replay in record.replays
            ],
        )
        if record.state is JobState.CANCELLED:
            job.cancellation.CopyFrom(
                job_pb2.Job.Cancellation(
                    request_time=_time(record.ended_ms),
                    acknowledge_time=_time(record.acknowledged_ms),
                    stop_time=_time(record.stopped_ms),
                )
            )
        if record.failure:
            job.error.CopyFrom(_error(record.failure))
        if record.posting:
            job.abacus_posting.CopyFrom(
                job_pb2.Job.AbacusPosting(
                    post_time=_time(record.posting.posted_ms),
                    amount=record.posting.amount,
                    sum=record.posting.sum,
                    error=record.posting.error,
                )
            )
        if view != job_service_pb2.JOB_VIEW_BASIC:
            job.work.CopyFrom(await self._contents.work(record))
            if record.state is JobState.SUCCEEDED:
                job.result.CopyFrom(await self._result(record))
        return job

    async def jobs(
        self, records: Sequence[JobRecord], view: job_service_pb2.JobView.ValueType
    ) -> list[job_pb2.Job]:
        """Returns the first of some jobs: as many as one answer can hold, and one at least.

        One that no answer can hold comes without its work.
        """
        made: list[job_pb2.Job] = []
        size = 0
        for some in _batches(records) if view != job_service_pb2.JOB_VIEW_BASIC else [records]:
            if view != job_service_pb2.JOB_VIEW_BASIC:
                await self._contents.load(some)
            for record in some:
                job = await self.job(record, view)
                if job.ByteSize() + _FRAME_BYTES > MAX_ANSWER_BYTES:
                    job.ClearField("work")
                size += job.ByteSize() + _FRAME_BYTES
                if made and size > MAX_ANSWER_BYTES:
                    return made
                made.append(job)
        return made

    async def delta(self, record: JobRecord) -> job_pb2.JobDelta:
        """Returns what of a job changes while it runs."""
        return job_pb2.JobDelta(
            state=job_pb2.Job.State.Value(f"STATE_{record.state}"),
            state_reason=await self._reason(record),
            progress=_progress(record),
            handled_by=record.handled_by,
            start_time=_time(record.started_ms),
            refused_duplicates=record.refused,
            failed_attempts=record.failed,
            lost_leases=record.lost,
            checked_by=self._node,
        )

    async def amount(self, record: JobRecord) -> str:
        """Returns what a job that has succeeded adds to its abacus, as a decimal.

        Raises:
            NotFound: The job is gone.
            ValueError: Its result is no number.
        """
        kernel, _ = self._kernels.of_any(await self._contents.work(record))
        return kernel.amount(await self._result(record))

    async def _result(self, record: JobRecord) -> Result:
        """Returns the result of a job that has succeeded."""
        if not record.spec.additive:
            return await self._contents.result(record)
        kernel, work = self._kernels.of_any(await self._contents.work(record))
        return kernel.finish(work, record.total)

    async def _reason(self, record: JobRecord) -> str:
        if record.state.is_final:
            return _reason_of_end(record)
        if record.running:
            return ""
        if not await self._fleet.serves(record.spec.queue, record.spec.kernel):
            return f"no live worker serves kernel {record.spec.kernel} on queue {record.spec.queue}"
        if record.retrying:
            wait = max(0, record.retry_ms - record.now_ms) / 1000
            chunks = "1 chunk is" if record.retrying == 1 else f"{record.retrying} chunks are"
            return f"{chunks} tried again, the first in {wait:.1f} s"
        return "waiting for a free slot"


def _batches(records: Sequence[JobRecord]) -> Iterator[Sequence[JobRecord]]:
    """Yields jobs in turn, some at a time, whose works and results can be had at once."""
    first, size = 0, 0
    for at, record in enumerate(records):
        size += record.work_bytes + record.result_bytes
        if size > MAX_ANSWER_BYTES and at > first:
            yield records[first:at]
            first, size = at, record.work_bytes + record.result_bytes
    yield records[first:]


def _reason_of_end(record: JobRecord) -> str:
    if record.state is JobState.CANCELLED:
        return "cancelled on request"
    if failure := record.failure:
        at_chunk = f"chunk {failure.chunk}: " if failure.chunk >= 0 else ""
        return f"{at_chunk}{failure.message}"
    if record.dead:
        return f"without {record.dead} of {record.spec.chunk_count} chunks, which were given up"
    return ""


def chunk(job: str, record: ChunkRecord) -> job_pb2.Chunk:
    """Returns a chunk of the job `jobs/{job}`."""
    return job_pb2.Chunk(
        name=f"{job}/chunks/{record.index}",
        index=record.index,
        state=job_pb2.Chunk.State.Value(f"STATE_{record.state}"),
        worker=record.worker,
        attempt=record.attempt,
        lease_time=_time(record.leased_ms),
        start_time=_time(record.started_ms),
        commit_time=_time(record.committed_ms),
        refused_duplicates=record.refused,
        error=_error(record.failure) if record.failure else None,
    )


def chunk_log(job: str, log: ChunkLog) -> job_pb2.ChunkLog:
    """Returns the log of a chunk of the job `jobs/{job}`."""
    return job_pb2.ChunkLog(
        name=f"{job}/chunkLogs/{log.index}",
        chunk=log.index,
        attempt=log.attempt,
        worker=log.worker,
        log_time=_time(log.logged_ms),
        text=log.text,
    )


def dead_letter(letter: DeadLetter) -> dead_letter_service_pb2.DeadLetter:
    """Returns a dead letter."""
    return dead_letter_service_pb2.DeadLetter(
        name=f"jobs/{letter.job_id}/chunks/{letter.chunk}",
        job=f"jobs/{letter.job_id}",
        chunk=letter.chunk,
        group=f"deadLetterGroups/{letter.group}",
        kernel=letter.kernel,
        queue=letter.queue,
        reason=_reason_value(letter.failure.reason),
        message=letter.failure.message,
        worker=letter.failure.worker,
        failed_attempts=letter.failed,
        lost_leases=letter.lost,
        fail_time=_time(letter.failed_ms),
        replays=letter.replays,
        epoch=letter.epoch,
    )


def dead_letter_group(group: DeadLetterGroup) -> dead_letter_service_pb2.DeadLetterGroup:
    """Returns a kind of error that dead letters died of."""
    return dead_letter_service_pb2.DeadLetterGroup(
        name=f"deadLetterGroups/{group.id}",
        kernel=group.kernel,
        reason=_reason_value(group.reason),
        message=group.message,
        count=group.count,
        first_fail_time=_time(group.first_ms),
        last_fail_time=_time(group.last_ms),
    )


def _reason_value(reason: str) -> errors_pb2.ErrorReason.ValueType:
    return errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")


def _error(failure: JobFailure) -> job_pb2.Job.Error:
    return job_pb2.Job.Error(
        reason=_reason_value(failure.reason),
        message=failure.message,
        chunk=failure.chunk,
        worker=failure.worker,
    )


def _stages(record: JobRecord) -> job_pb2.Job.Stages:
    posted_ms = record.posting.posted_ms if record.posting else 0
    # A job that ended without having started waits anew from its replay on.
    replays = [one.replayed_ms for one in record.replays if one.replayed_ms <= record.started_ms]
    return job_pb2.Job.Stages(
        waiting=_between(max([record.created_ms, *replays]), record.started_ms),
        computing=_between(record.started_ms + record.lay_ms, record.counted_ms),
        merging=_between(record.counted_ms, record.ended_ms),
        posting=_between(record.ended_ms, posted_ms),
    )


def _between(from_ms: int, until_ms: int) -> Duration | None:
    return _span(max(0, until_ms - from_ms) / 1000) if from_ms and until_ms else None


def _progress(record: JobRecord) -> job_pb2.Progress:
    done, total = record.done, record.spec.chunk_count
    until = record.ended_ms or record.now_ms
    busy_ms = until - record.started_ms - record.lay_ms if record.started_ms else 0
    seconds = max(0, busy_ms) / 1000
    rate = done / seconds if seconds > 0 else 0.0
    worked = min(done + record.shares, total - record.dead)
    eta = None
    if record.state is JobState.RUNNING and worked > 0 and seconds > 0:
        eta = _span((total - record.dead - worked) * seconds / worked)
    # Until the last chunk is counted a bar must not look full.
    fraction = 1.0 if done == total else min(worked / total, 0.9999)
    return job_pb2.Progress(
        chunks_total=total,
        chunks_done=done,
        chunks_running=record.running,
        chunks_retrying=record.retrying,
        chunks_failed=record.dead,
        fraction=fraction,
        chunks_per_second=rate,
        eta=eta,
        running_total=str(record.total) if record.spec.additive else "",
        workers=record.holders,
        chunk_map=job_pb2.ChunkMap(chunks_per_cell=record.per_cell, cells=record.cells)
        if record.per_cell
        else None,
    )


def _time(ms: int | None) -> Timestamp | None:
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000) if ms else None


def _span(seconds: float) -> Duration:
    whole, nanos = divmod(round(seconds * 1e9), 1_000_000_000)
    return Duration(seconds=whole, nanos=nanos)


def _milliseconds(ms: int) -> Duration | None:
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000) if ms else None
