"""Checks what workers say, so that no malformed call reaches the store."""

import re
from collections.abc import Iterable

from tallymesh.v1 import dispatch_service_pb2 as pb
from tallymesh.v1 import errors_pb2
from tallymesh_core.domain.errors import InvalidField
from tallymesh_core.rpc.channel import WORKER_ADDRESS_FORMS, is_worker_address
from tallymesh_gateway import names

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_UID = re.compile(r"[A-Za-z0-9-]{8,64}")
_CALL_ID = re.compile(r"[!-~]{1,64}")
_KERNEL = re.compile(r"[a-z][a-z0-9_.]{0,62}")
_JOB = re.compile(r"[a-z0-9-]{1,63}/[a-z0-9]{16}")
_MAX_SLOTS, _MAX_KERNELS, _MAX_QUEUES = 1024, 256, 64
_MAX_LIBRARIES, _MAX_LIBRARY_CHARS = 16, 255
_MAX_CAPACITY, _MAX_WAIT_MS = 65_536, 30_000
_MAX_CALLS, _MAX_KNOWN_JOBS, _MAX_CHUNKS_A_CALL = 1024, 1024, 1 << 17
_MAX_MESSAGE = 1024
_MAX_LOG_BYTES = 16 * 1024
_MAX_MICROS = 1 << 50
_ATTEMPT_FAILED = (
    errors_pb2.ERROR_REASON_CHUNK_FAILED,
    errors_pb2.ERROR_REASON_CHUNK_CRASHED,
    errors_pb2.ERROR_REASON_CHUNK_TIMED_OUT,
    errors_pb2.ERROR_REASON_WORK_REFUSED,
)


def check(request: pb.SynchronizeRequest) -> None:
    """Checks a worker's call.

    Raises:
        InvalidField: A field is missing, malformed or out of its bound.
    """
    _match(_CALL_ID, request.call_id, "call_id", "1 to 64 visible ASCII characters")
    _check_worker(request.worker)
    _within(request.capacity, "capacity", 0, _MAX_CAPACITY)
    _within(request.wait.ToMilliseconds(), "wait", 0, _MAX_WAIT_MS, "ms")
    _within(len(request.open_call_ids), "open_call_ids", 0, _MAX_CALLS, "ids")
    _within(len(request.known_jobs), "known_jobs", 0, _MAX_KNOWN_JOBS, "jobs")
    _check_ranges(request.held, "held")
    _check_ranges(request.returned, "returned")
    _check_ranges(request.stopping, "stopping")
    _check_ranges((one.chunks for one in request.results), "results")
    _check_ranges((one.chunk for one in request.failures), "failures")
    _check_ranges((one.chunk for one in request.progress), "progress")
    _check_ranges((one.chunk for one in request.logs), "logs")
    for i, log in enumerate(request.logs):
        _within(len(log.text.encode()), f"logs[{i}].text", 0, _MAX_LOG_BYTES, "bytes")
    for i, result in enumerate(request.results):
        _check_result(result, f"results[{i}]")
    for i, failure in enumerate(request.failures):
        if failure.reason not in _ATTEMPT_FAILED:
            raise InvalidField(
                f"failures[{i}].reason",
                failure.reason,
                "CHUNK_FAILED, CHUNK_CRASHED, CHUNK_TIMED_OUT or WORK_REFUSED",
            )
        _within(len(failure.message), f"failures[{i}].message", 0, _MAX_MESSAGE, "characters")
    for i, part in enumerate(request.progress):
        if not 0 <= part.fraction <= 1:
            raise InvalidField(f"progress[{i}].fraction", part.fraction, "a number from 0 to 1")


def _check_worker(worker: pb.Worker) -> None:
    _match(
        _NAME,
        worker.name,
        "worker.name",
        "1 to 63 characters of [a-z0-9.-], starting with a letter or digit",
    )
    _match(_UID, worker.uid, "worker.uid", "8 to 64 characters of [A-Za-z0-9-]")
    _within(worker.slots, "worker.slots", 1, _MAX_SLOTS)
    _within(len(worker.kernels), "worker.kernels", 1, _MAX_KERNELS, "names")
    for i, kernel in enumerate(worker.kernels):
        _match(_KERNEL, kernel, f"worker.kernels[{i}]", "a kernel's name")
    _within(len(worker.queues), "worker.queues", 0, _MAX_QUEUES, "names")
    for i, queue in enumerate(worker.queues):
        names.queue(queue, f"worker.queues[{i}]")
    names.labels(dict(worker.labels), "worker.labels")
    names.text(worker.version, "worker.version", 63)
    _within(len(worker.libraries), "worker.libraries", 0, _MAX_LIBRARIES, "lines")
    for i, line in enumerate(worker.libraries):
        if not (0 < len(line) <= _MAX_LIBRARY_CHARS and line.isprintable()):
            bound = f"1 to {_MAX_LIBRARY_CHARS} printable characters"
            raise InvalidField(f"worker.libraries[{i}]", line, bound)
    if worker.address and not is_worker_address(worker.address):
        raise InvalidField("worker.address", worker.address, WORKER_ADDRESS_FORMS)


def _check_ranges(ranges: Iterable[pb.ChunkRange], field: str) -> None:
    chunks = 0
    for i, one in enumerate(ranges):
        where = f"{field}[{i}]"
        _match(_JOB, one.job, f"{where}.job", "a job as the gateway named it")
        _within(one.first, f"{where}.first", 0, 1 << 22)
        _within(one.count, f"{where}.count", 1, _MAX_CHUNKS_A_CALL)
        _within(one.attempt, f"{where}.attempt", 0, 1 << 30)
        chunks += one.count
    _within(chunks, field, 0, _MAX_CHUNKS_A_CALL, "chunks in all")


def _check_result(result: pb.ChunkResults, field: str) -> None:
    count = result.chunks.count
    forms = (
        (len(result.sums), count),
        (len(result.partials), count),
        (int(result.HasField("result")), 1),
    )
    given = [(length, due) for length, due in forms if length]
    if len(given) != 1 or given[0][0] != given[0][1]:
        raise InvalidField(
            field,
            f"{len(result.sums)} sums, {len(result.partials)} partials, {forms[2][0]} result",
            f"{count} sums, or {count} partials, or 1 result",
        )
    if len(result.compute_micros) not in (0, count):
        raise InvalidField(
            f"{field}.compute_micros", len(result.compute_micros), f"{count} numbers, or none"
        )
    for i, partial in enumerate(result.partials):
        names.json(partial.custom.json, f"{field}.partials[{i}].custom.json")
    names.json(result.result.custom.json, f"{field}.result.custom.json")
    _within(result.age_micros, f"{field}.age_micros", 0, _MAX_MICROS)
    _within(result.elapsed_micros, f"{field}.elapsed_micros", 0, _MAX_MICROS)


def _match(pattern: re.Pattern[str], value: str, field: str, bound: str) -> None:
    if not pattern.fullmatch(value):
        raise InvalidField(field, value, bound)


def _within(value: int, field: str, least: int, most: int, unit: str = "") -> None:
    if not least <= value <= most:
        raise InvalidField(field, value, f"{least} to {most} {unit}".rstrip())
