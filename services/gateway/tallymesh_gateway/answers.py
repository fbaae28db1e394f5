"""Turns what the store keeps into what the API answers."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tallymesh.v1 import errors_pb2, job_pb2, job_service_pb2
from tallymesh.v1.work_pb2 import Result, Work
from tallymesh_core.domain.jobs import ChunkRecord, JobRecord
from tallymesh_core.domain.states import JobState
from tallymesh_gateway.fleet import Fleet
from tallymesh_kernels import Registry


class Answers:
    """Makes answers on behalf of one gateway."""

    def __init__(self, node: str, kernels: Registry, fleet: Fleet) -> None:
        self._node = node
        self._kernels = kernels
        self._fleet = fleet

    async def job(
        self,
        record: JobRecord,
        view: job_service_pb2.JobView.ValueType = job_service_pb2.JOB_VIEW_FULL,
    ) -> job_pb2.Job:
        """Returns the job, as this gateway saw it."""
        job = job_pb2.Job(
            name=f"jobs/{record.id}",
            chunk_count=record.chunk_count,
            queue=record.queue,
            priority=record.priority,
            labels=record.labels,
            abacus=f"abaci/{record.abacus}" if record.abacus else "",
            max_attempts=record.max_attempts,
            state=job_pb2.Job.State.Value(f"STATE_{record.state}"),
            state_reason=await self._reason(record),
            progress=_progress(record),
            kernel=record.kernel,
            initiated_by=record.initiated_by,
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
        )
        if record.failure:
            job.error.CopyFrom(
                job_pb2.Job.Error(
                    reason=errors_pb2.ErrorReason.Value(f"ERROR_REASON_{record.failure.reason}"),
                    message=record.failure.message,
                    chunk=record.failure.chunk,
                    worker=record.failure.worker,
                )
            )
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
            job.work.ParseFromString(record.work)
            if record.state is JobState.SUCCEEDED:
                job.result.CopyFrom(self.result(record))
        return job

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

    def result(self, record: JobRecord) -> Result:
        """Returns the result of a job that has succeeded."""
        if not record.additive:
            return Result.FromString(record.result)
        kernel, work = self._kernels.of(Work.FromString(record.work))
        return kernel.finish(work, record.total)

    def amount(self, record: JobRecord) -> str:
        """Returns what a job that has succeeded adds to its abacus, as a decimal."""
        return self._kernels.get(record.kernel).amount(self.result(record))

    async def _reason(self, record: JobRecord) -> str:
        if record.state is JobState.CANCELLED:
            return "cancelled on request"
        if record.failure:
            return f"chunk {record.failure.chunk}: {record.failure.message}"
        if record.state.is_final or record.running:
            return ""
        if not await self._fleet.serves(record.queue, record.kernel):
            return f"no live worker serves kernel {record.kernel} on queue {record.queue}"
        if record.retrying:
            wait = max(0, record.retry_ms - record.now_ms) / 1000
            chunks = "1 chunk is" if record.retrying == 1 else f"{record.retrying} chunks are"
            return f"{chunks} tried again, the first in {wait:.1f} s"
        return "waiting for a free slot"


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
    )


def _progress(record: JobRecord) -> job_pb2.Progress:
    done, total = record.done, record.chunk_count
    until = record.ended_ms or record.now_ms
    seconds = (until - record.started_ms) / 1000 if record.started_ms else 0.0
    rate = done / seconds if seconds > 0 else 0.0
    worked = min(done + record.shares, total)
    eta = None
    if record.state is JobState.RUNNING and worked > 0 and seconds > 0:
        eta = _span((total - worked) * seconds / worked)
    # Until the last chunk is counted a bar must not look full.
    fraction = 1.0 if done == total else min(worked / total, 0.9999)
    return job_pb2.Progress(
        chunks_total=total,
        chunks_done=done,
        chunks_running=record.running,
        chunks_retrying=record.retrying,
        fraction=fraction,
        chunks_per_second=rate,
        eta=eta,
        running_total=str(record.total) if record.additive else "",
        workers=record.holders,
        chunk_map=job_pb2.ChunkMap(chunks_per_cell=record.per_cell, cells=record.cells)
        if record.per_cell
        else None,
    )


def _time(ms: int | None) -> Timestamp | None:
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000) if ms else None


def _span(seconds: float) -> Duration:
    span = Duration()
    span.FromNanoseconds(round(seconds * 1e9))
    return span
