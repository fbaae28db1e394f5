"""Why a job is as it is, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from tallymesh.cli import text
from tallymesh.cli.job_text import cancelled_text, failure_text
from tallymesh.cli.options import Settings
from tallymesh.v1.job_pb2 import Chunk, Job
from tallymesh.wording import counted, duration, grouped
from tallymesh.works import reason_name, state_name

if TYPE_CHECKING:
    from tallymesh.client import Client
    from tallymesh.jobs import JobHandle

# Enough to see a pattern; `jobs chunks` and `dlq show` list them all.
_EXAMPLES = 3
_CHUNKS_LOOKED_AT = 1000


def explain(client: Client, handle: JobHandle, settings: Settings) -> Iterator[str]:
    """Yields sentences on why a job does not run, runs slowly or has ended as it did.

    Args:
        client: Asked for workers and dead letters.
        handle: The job, just read.
        settings: Tell which mesh the commands named are for.
    """
    job = handle.job
    if job.HasField("end_time"):
        took = duration(text.between(job.create_time, job.end_time))
        yield f"{job.name} ended as {state_name(job.state)}, {took} after it was accepted."
    else:
        since = duration(text.since(job.create_time))
        yield f"{job.name} is {state_name(job.state)}, {since} after it was accepted."
    match job.state:
        case Job.STATE_PENDING | Job.STATE_RUNNING:
            yield from _unfinished(client, handle)
        case Job.STATE_FAILED:
            yield from _failed(client, job, settings)
        case Job.STATE_CANCELLED:
            yield f"{cancelled_text(job)}."
        case _:
            yield from _succeeded(job)


def _unfinished(client: Client, handle: JobHandle) -> Iterator[str]:
    job, progress = handle.job, handle.job.progress
    if job.state_reason:
        yield f"It does not run: {job.state_reason}."
    done = f"{progress.chunks_done:,} of {counted(progress.chunks_total, 'chunk')} are done"
    rate = f", {progress.chunks_per_second:,.1f} a second" if progress.chunks_per_second else ""
    yield f"{done}{rate}."
    looked_at = list(islice(handle.chunks(), _CHUNKS_LOOKED_AT))
    for chunk in [one for one in looked_at if one.state == Chunk.STATE_RUNNING][:_EXAMPLES]:
        held = duration(text.since(chunk.lease_time))
        yield f"Chunk {chunk.index} is with {chunk.worker} for {held}, attempt {chunk.attempt}."
    for chunk in [one for one in looked_at if one.state == Chunk.STATE_RETRYING][:_EXAMPLES]:
        said = [line for log in handle.logs(chunk=chunk.index) for line in log.text.splitlines()]
        cause = f": {text.shortened(said[-1], 120)}" if said else ""
        yield f"Chunk {chunk.index} waits to be tried again{cause}."
    yield from _able(client, job)


def _able(client: Client, job: Job) -> Iterator[str]:
    """Tells of the workers that could compute the job."""
    workers = client.health().workers
    able = [
        one
        for one in workers
        if job.kernel in one.worker.kernels
        and job.queue in (one.worker.queues or ("default",))
        and not one.draining
    ]
    if not able:
        alive = counted(len(workers), "worker")
        own = " --kernels MODULE" if job.work.HasField("custom") else ""
        yield (
            f"Of {alive} alive, none takes {job.kernel} in queue {job.queue}; start one that does:"
            f" tallymesh worker --queues {job.queue}{own}"
        )
        return
    slots = sum(one.worker.slots for one in able)
    held = sum(one.chunks_held for one in able)
    yield (
        f"{counted(len(able), 'worker')} could compute it, with {counted(slots, 'slot')};"
        f" they hold {counted(held, 'chunk')} of all jobs."
    )


def _failed(client: Client, job: Job, settings: Settings) -> Iterator[str]:
    yield f"{reason_name(job.error.reason)}: {failure_text(job.error)}."
    mishaps = (
        (job.failed_attempts, "failed attempt"),
        (job.lost_leases, "lost lease"),
    )
    happened = [counted(count, what) for count, what in mishaps if count]
    if happened:
        limit = counted(job.max_attempts, "attempt")
        yield f"On the way: {', '.join(happened)}; a chunk has {limit}."
    letters = list(islice(client.dead_letters.list(job=job.name), _EXAMPLES + 1))
    for letter in letters[:_EXAMPLES]:
        yield f"Dead letter {letter.name}: {text.shortened(letter.message, 120)}."
    if len(letters) > _EXAMPLES:
        yield f"More of them: {settings.command(f'dlq show --job {job.name}')}"
    yield f"Run what failed again: {settings.command(f'jobs replay {job.name}')}"


def _succeeded(job: Job) -> Iterator[str]:
    if failed := job.progress.chunks_failed:
        yield (
            f"It succeeded without {counted(failed, 'chunk')} that were given up;"
            f" {job.tolerate_failures:,} were tolerated."
        )
    posting = job.abacus_posting
    if posting.error:
        yield f"{job.abacus} did not take the total: {posting.error}."
    elif posting.HasField("post_time"):
        yield f"{grouped(posting.amount)} was entered in {job.abacus}."
