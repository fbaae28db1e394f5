"""A job as it stood at one moment, from how the store keeps it."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from tallymesh_core.domain.jobs import (
    ChunkRecord,
    JobFailure,
    JobRecord,
    JobSpec,
    NewJob,
    Posting,
    Replay,
)
from tallymesh_core.domain.states import ChunkState, JobState
from tallymesh_core.store import specs

#: Most cells of the map of a job's chunks.
MAX_CELLS = 256
#: What is read of a job's hash; the first five are those that snapshot.lua looks at.
FIELDS = (
    *("state", "epoch", "n", "done", "end"),
    *("version", "created", "started", "ended", "counted", "lay", "acknowledged", "stopped"),
    *("total", "result", "result_bytes", "worker", "refused", "failed", "lost", "cpu"),
    *("error_reason", "error_chunk", "error_worker", "error_message"),
    *("posted", "post_amount", "post_sum", "post_error"),
)
# A chunk's record, as commit.lua writes it.
_RECORD = struct.Struct("<HBBIII")
RECORD_SIZE = _RECORD.size
# What it keeps of a chunk that ended its job alone; the worker's name may follow.
_END, _END_SIZE = struct.Struct("<BBIII"), 19
_UNKNOWN = 0xFFFFFFFF
_SPEC_FIELDS = tuple(one.name for one in fields(JobSpec))


def accepted(job: NewJob, job_id: str, now_ms: int) -> JobRecord:
    """Returns a job as it was accepted."""
    per_cell = -(-job.chunk_count // MAX_CELLS)
    return JobRecord(
        id=job_id,
        tenant=job.tenant,
        spec=JobSpec(**{name: getattr(job, name) for name in _SPEC_FIELDS}),
        work_bytes=len(job.work),
        work=job.work,
        state=JobState.PENDING,
        version=1,
        epoch=1,
        created_ms=now_ms,
        per_cell=per_cell,
        cells=bytes(-(-job.chunk_count // per_cell)),
        now_ms=now_ms,
    )


def read(tenant: str, job_id: str, raw: Sequence[Any], *, chunk_map: bool) -> JobRecord:
    """Returns a job from what snapshot.lua answers for it."""
    (
        values,
        spec,
        now_ms,
        running,
        holders,
        retrying,
        retry_ms,
        shares,
        by,
        dead,
        replays,
        *cells,
    ) = raw
    kept = dict(zip(FIELDS, values, strict=True))
    spec, work_bytes = specs.unpack(spec)
    state = JobState(kept["state"].decode())
    number = _numbers(kept)
    created, started, ended = number("created"), number("started"), number("ended")
    handled_by = {by[i].decode(): int(by[i + 1]) for i in range(0, len(by), 2)}
    done, compute_us = number("done"), number("cpu")
    if end := kept["end"]:
        # It ended with its one chunk: what is told of that is not kept a second time.
        chunk = only_chunk(end, kept["worker"], created)
        done, handled_by = 1, {chunk.worker: 1}
        compute_us = int.from_bytes(end[_END.size : _END_SIZE], "little")
        started = started or chunk.leased_ms or 0
        ended = ended or chunk.committed_ms or 0
    result = kept["result"] or b""
    succeeded = state is JobState.SUCCEEDED
    # Without a last step, the last chunk that is counted ends the job.
    counted = ended if succeeded and (spec.additive or end) else number("counted")
    return JobRecord(
        id=job_id,
        tenant=tenant,
        spec=spec,
        work_bytes=work_bytes,
        state=state,
        version=number("version"),
        epoch=number("epoch"),
        done=done,
        total=number("total"),
        result=result,
        result_bytes=len(result) or number("result_bytes"),
        created_ms=created,
        started_ms=started,
        counted_ms=counted,
        ended_ms=ended,
        lay_ms=number("lay"),
        acknowledged_ms=number("acknowledged"),
        stopped_ms=number("stopped"),
        expires_ms=ended + spec.ttl_ms if ended else 0,
        refused=number("refused"),
        failed=number("failed"),
        lost=number("lost"),
        compute_us=compute_us,
        failure=_failure(kept) if state is JobState.FAILED else None,
        posting=_posting(kept) if succeeded and spec.abacus else None,
        running=running,
        holders=holders,
        retrying=retrying,
        retry_ms=int(float(retry_ms or 0)),
        shares=float(shares),
        handled_by=handled_by,
        dead=dead,
        replays=tuple(map(_replay, replays)),
        now_ms=now_ms,
        **_map(spec.chunk_count, done, *cells) if chunk_map else {},
    )


def done_chunk(
    index: int, packed: bytes, created_ms: int, workers: Mapping[int, str]
) -> ChunkRecord:
    """Returns a counted chunk from its record."""
    worker, attempt, refused, leased, started, committed = _RECORD.unpack(packed)
    return ChunkRecord(
        index,
        ChunkState.DONE,
        worker=workers.get(worker, ""),
        attempt=attempt,
        leased_ms=None if leased == _UNKNOWN else created_ms + leased,
        started_ms=created_ms + started,
        committed_ms=created_ms + committed,
        refused=refused,
    )


def only_chunk(end: bytes, worker: bytes | None, created_ms: int) -> ChunkRecord:
    """Returns the one chunk with which a job ended."""
    attempt, refused, leased, started, committed = _END.unpack_from(end)
    return ChunkRecord(
        0,
        ChunkState.DONE,
        worker=(worker or end[_END_SIZE:]).decode(),
        attempt=attempt,
        leased_ms=None if leased == _UNKNOWN else created_ms + leased,
        started_ms=created_ms + started,
        committed_ms=created_ms + committed,
        refused=refused,
    )


def _numbers(kept: Mapping[str, bytes | None]) -> Callable[[str], int]:
    return lambda name: int(kept[name] or 0)


def _text(kept: Mapping[str, bytes | None], name: str) -> str:
    return (kept[name] or b"").decode()


def _failure(kept: Mapping[str, bytes | None]) -> JobFailure:
    return JobFailure(
        reason=_text(kept, "error_reason"),
        message=_text(kept, "error_message"),
        chunk=int(kept["error_chunk"] or 0),
        worker=_text(kept, "error_worker"),
    )


def _posting(kept: Mapping[str, bytes | None]) -> Posting:
    return Posting(
        posted_ms=int(kept["posted"] or 0),
        amount=_text(kept, "post_amount"),
        sum=_text(kept, "post_sum"),
        error=_text(kept, "post_error"),
    )


def _replay(raw: bytes) -> Replay:
    ms, epoch, chunks, reason, chunk, worker, message = raw.decode().split(" ", 6)
    failure = JobFailure(reason, message, int(chunk), "" if worker == "-" else worker)
    return Replay(int(ms), int(epoch), int(chunks), failure)


def _map(count: int, done: int, bits: bytes, running: Sequence[int]) -> dict[str, Any]:
    """Draws the map of a job's chunks: how many a cell stands for, and the cells."""
    per_cell = -(-count // MAX_CELLS)
    starts = range(0, count, per_cell)
    if done in (0, count):
        cells = bytearray([100 if done else 0]) * len(starts)
    else:
        cells = bytearray(
            _count(bits, first, min(first + per_cell, count))
            * 100
            // (min(first + per_cell, count) - first)
            for first in starts
        )
    for cell in running:
        # The last step stands in none.
        if cell < len(cells):
            cells[cell] |= 128
    return {"per_cell": per_cell, "cells": bytes(cells)}


def _count(bits: bytes, first: int, last: int) -> int:
    """Counts the bits that are set from one on and before another; the first is the highest."""
    some = int.from_bytes(bits[first // 8 : -(-last // 8)].ljust(-(-last // 8) - first // 8, b"\0"))
    return (some >> -last % 8 & (1 << last - first) - 1).bit_count()
