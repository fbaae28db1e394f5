"""Jobs and chunks as text for people."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Literal

from tallymesh.cli import text
from tallymesh.cli.options import Settings
from tallymesh.display import trouble
from tallymesh.json_values import from_struct
from tallymesh.v1.job_pb2 import Chunk, ChunkLog, Job
from tallymesh.v1.work_pb2 import CountPrimes, CountPrimesResult, CustomWork, Result, Work
from tallymesh.wording import counted, duration, grouped, seconds_of
from tallymesh.works import result_value, state_name


def result_text(result: Result) -> str:
    """Returns a result, bare."""
    value = result_value(result)
    match result.custom.WhichOneof("output"):
        case "data":
            return base64.b64encode(value).decode()
        case "json":
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def summary(job: Job, settings: Settings) -> str:
    """Returns what a person wants to know of a job that has succeeded: what, how long, by whom."""
    whole = duration(text.between(job.create_time, job.end_time))
    by = ", ".join(f"{name} {count:,}" for name, count in _handlers(job))
    rate = (
        f", {job.progress.chunks_per_second:,.1f} a second"
        if job.progress.chunks_per_second
        else ""
    )
    lines = [
        f"{_headline(job)} in {whole}",
        f"  {job.name}: {counted(job.chunk_count, 'chunk')}{rate}, by {by or 'nobody'}",
        f"  waited {duration(_waited(job))}, ran {duration(_ran(job))},"
        f" {duration(seconds_of(job.compute_time))} of processor time;"
        f" accepted by {job.initiated_by}, answered by {job.checked_by}",
    ]
    if method := method_text(job.work.count_primes):
        lines.append(f"  method {method}")
    if failed := job.progress.chunks_failed:
        lines.append(
            f"  without {counted(failed, 'chunk')} given up on the way ({_mishaps(job)}); see:"
            f" {settings.command(f'dlq show --job {job.name}')}"
        )
    elif mishaps := _mishaps(job):
        lines.append(f"  on the way: {mishaps}; every chunk is counted once all the same")
    return "\n".join(lines)


def job_table(jobs: Sequence[Job]) -> str:
    """Returns the jobs as a table."""
    rows = [
        (
            job.name,
            text.state(state_name(job.state)),
            job.kernel,
            job.queue,
            f"{text.number(job.progress.chunks_done)}/{text.number(job.chunk_count)}",
            f"{job.progress.fraction:.0%}",
            text.clock(job.create_time),
            duration(_ran(job)) if job.HasField("start_time") else "-",
        )
        for job in jobs
    ]
    headers = ("NAME", "STATE", "KERNEL", "QUEUE", "CHUNKS", "DONE", "CREATED", "RAN")
    return text.table(headers, rows, right="CHUNKS DONE RAN")


def job_page(job: Job) -> str:
    """Returns everything about one job."""
    posting = job.abacus_posting
    entered = ""
    if posting.error:
        entered = f", not entered: {posting.error}"
    elif posting.HasField("post_time"):
        entered = f", {grouped(posting.amount)} entered, sum {grouped(posting.sum)}"
    done = f"{text.number(job.progress.chunks_done)} of {text.number(job.chunk_count)} chunks"
    has_started = job.HasField("start_time")
    return text.pairs(
        [
            ("job", job.name),
            ("state", text.state(state_name(job.state))),
            ("why", job.state_reason),
            ("error", failure_text(job.error) if job.HasField("error") else ""),
            ("cancelled", _cancellation(job.cancellation) if job.HasField("cancellation") else ""),
            ("work", work_text(job.work) or job.kernel),
            ("method", method_text(job.work.count_primes)),
            ("result", result_text(job.result) if job.state == Job.STATE_SUCCEEDED else ""),
            ("progress", ", ".join([done, f"{job.progress.fraction:.1%}", *trouble(job.progress)])),
            (
                "rate",
                f"{job.progress.chunks_per_second:,.1f} chunks/s"
                if job.progress.chunks_per_second
                else "",
            ),
            (
                "ETA",
                duration(seconds_of(job.progress.eta)) if job.progress.HasField("eta") else "",
            ),
            ("queue", f"{job.queue}, priority {job.priority}"),
            ("labels", ", ".join(f"{key}={value}" for key, value in sorted(job.labels.items()))),
            ("limits", _limits(job)),
            ("abacus", f"{job.abacus}{entered}" if job.abacus else ""),
            ("created", f"{text.clock(job.create_time)} by {job.initiated_by}"),
            ("epoch", str(job.epoch) if job.epoch > 1 else ""),
            *(("replayed", _replay(replay)) for replay in job.replays),
            ("waited", duration(_waited(job)) if job.create_time.seconds else ""),
            ("ran", duration(_ran(job)) if has_started else ""),
            ("stages", _stages(job.stages)),
            (
                "computed",
                f"{duration(seconds_of(job.compute_time))} of processor time"
                if seconds_of(job.compute_time)
                else "",
            ),
            ("by", ", ".join(f"{name} {text.number(count)}" for name, count in _handlers(job))),
            ("mishaps", _mishaps(job)),
            ("expires", text.clock(job.expire_time) if job.HasField("expire_time") else ""),
            ("answered", f"by {job.checked_by}" if job.checked_by else ""),
        ]
    )


def chunk_table(chunks: Sequence[Chunk]) -> str:
    """Returns the chunks as a table; START and COMMIT are times since the lease."""
    rows = [
        (
            text.number(chunk.index),
            text.state(Chunk.State.Name(chunk.state).removeprefix("STATE_")),
            chunk.worker or "-",
            str(chunk.attempt or "-"),
            text.clock(chunk.lease_time),
            _since_lease(chunk, "start_time"),
            _since_lease(chunk, "commit_time"),
            _took(chunk),
            str(chunk.refused_duplicates or "-"),
            failure_text(chunk.error) if chunk.HasField("error") else "",
        )
        for chunk in chunks
    ]
    columns = "CHUNK STATE WORKER ATTEMPT LEASED START COMMIT TOOK REFUSED ERROR"
    return text.table(columns.split(), rows, right="CHUNK ATTEMPT START COMMIT TOOK REFUSED")


def log_text(log: ChunkLog) -> str:
    """Returns what a chunk has logged, under a line that says which."""
    head = f"chunk {log.chunk}, attempt {log.attempt} on {log.worker}, {text.clock(log.log_time)}:"
    return "\n  ".join((head, *log.text.splitlines()))


def failure_text(error: Job.Error) -> str:
    """Returns why a job or a chunk failed, and where."""
    where = [f"chunk {error.chunk}"] if error.chunk >= 0 else []
    if error.worker:
        where.append(f"on {error.worker}")
    return f"{error.message} ({', '.join(where)})" if where else error.message


def cancelled_text(job: Job) -> str:
    """Returns one line on a job that was cancelled, and how soon it had stopped."""
    cancellation = job.cancellation
    if not cancellation.HasField("stop_time"):
        return f"{job.name} is cancelled"
    stopped = text.between(cancellation.request_time, cancellation.stop_time)
    return f"{job.name} is cancelled, and stopped after {duration(stopped)}"


def work_text(work: Work) -> str:
    """Returns what the work is, in a few words."""
    match work.WhichOneof("kernel"):
        case "count_primes":
            primes = work.count_primes
            return (
                f"count {_kind(primes.kind)} from {text.number(primes.start)} to"
                f" {text.number(primes.stop)}"
            )
        case "nth_prime":
            return f"find prime number {text.number(work.nth_prime.n)}"
        case "add":
            return f"add {counted(len(work.add.numbers), 'number')}"
        case "simulate":
            lasting = duration(seconds_of(work.simulate.duration))
            return (
                f"simulate {lasting} a chunk, failure rate {work.simulate.failure_rate:g},"
                f" crash rate {work.simulate.crash_rate:g}"
            )
        case "custom":
            return _custom_text(work.custom)
        case _:
            return ""


def _custom_text(custom: CustomWork) -> str:
    if custom.HasField("data"):
        return f"{custom.kernel} of {counted(len(custom.data), 'byte')}"
    given = json.dumps(from_struct(custom.json), ensure_ascii=False)
    return f"{custom.kernel} of {given if len(given) < 200 else given[:197] + '...'}"


def method_text(counted: CountPrimes | CountPrimesResult) -> str:
    """Returns how primes are counted, and why so; empty where that is not known."""
    if not counted.method:
        return ""
    method = CountPrimes.Method.Name(counted.method).removeprefix("METHOD_").lower()
    return f"{method} ({counted.method_reason or 'asked for'})"


def _headline(job: Job) -> str:
    match job.result.WhichOneof("kernel"):
        case "count_primes":
            primes = job.work.count_primes
            return (
                f"{job.result.count_primes.count:,} {_kind(primes.kind)} from {primes.start:,} to"
                f" {primes.stop:,}"
            )
        case "nth_prime":
            return f"{job.result.nth_prime.prime:,} is prime number {job.work.nth_prime.n:,}"
        case "add":
            return f"{grouped(job.result.add.sum)} is the sum"
        case _:
            done = f"{job.progress.chunks_done:,} of " if job.progress.chunks_failed else ""
            return f"{done}{counted(job.chunk_count, 'chunk')} done"


def _kind(kind: CountPrimes.Kind.ValueType) -> str:
    return CountPrimes.Kind.Name(kind or CountPrimes.KIND_PRIMES).removeprefix("KIND_").lower()


def _handlers(job: Job) -> list[tuple[str, int]]:
    return sorted(job.handled_by.items())


def _limits(job: Job) -> str:
    parts = [f"{counted(job.max_attempts, 'attempt')} a chunk"] if job.max_attempts else []
    if job.tolerate_failures:
        parts.append(f"{counted(job.tolerate_failures, 'chunk')} may fail")
    for span, what in (
        (job.chunk_timeout, "{} an attempt"),
        (job.timeout, "{} in all"),
        (job.ttl, "kept {} after its end"),
    ):
        if seconds := seconds_of(span):
            parts.append(what.format(duration(seconds)))
    return ", ".join(parts)


def _cancellation(cancellation: Job.Cancellation) -> str:
    asked = cancellation.request_time
    parts = [text.clock(asked)]
    for at, what in (
        (cancellation.acknowledge_time, "acknowledged"),
        (cancellation.stop_time, "stopped"),
    ):
        if at.seconds:
            parts.append(f"{what} after {duration(text.between(asked, at))}")
    if not cancellation.HasField("stop_time"):
        parts.append("being stopped")
    return ", ".join(parts)


def _replay(replay: Job.Replay) -> str:
    return (
        f"{text.clock(replay.replay_time)}, epoch {replay.epoch},"
        f" {counted(replay.chunks, 'chunk')}; had failed: {failure_text(replay.error)}"
    )


def _stages(stages: Job.Stages) -> str:
    return ", ".join(
        f"{field.name} {duration(seconds_of(took))}" for field, took in stages.ListFields()
    )


def _mishaps(job: Job) -> str:
    told = (
        (job.failed_attempts, "failed attempt"),
        (job.lost_leases, "lost lease"),
        (job.refused_duplicates, "refused duplicate"),
    )
    return ", ".join(counted(count, thing) for count, thing in told if count)


def _waited(job: Job) -> float:
    if job.HasField("start_time"):
        return text.between(job.create_time, job.start_time)
    if job.HasField("end_time"):
        return text.between(job.create_time, job.end_time)
    return text.since(job.create_time)


def _ran(job: Job) -> float:
    if not job.HasField("start_time"):
        return 0.0
    if job.HasField("end_time"):
        return text.between(job.start_time, job.end_time)
    return text.since(job.start_time)


def _since_lease(chunk: Chunk, field: Literal["start_time", "commit_time"]) -> str:
    if not chunk.HasField(field):
        return "-"
    return f"+{duration(text.between(chunk.lease_time, getattr(chunk, field)))}"


def _took(chunk: Chunk) -> str:
    if not chunk.HasField("commit_time"):
        return "-"
    begun = chunk.start_time if chunk.HasField("start_time") else chunk.lease_time
    return duration(text.between(begun, chunk.commit_time))
