"""What a worker has to tell the mesh and has not told yet."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tallymesh.v1 import dispatch_service_pb2, errors_pb2, work_pb2
from tallymesh_worker.frames import LOG_BYTES
from tallymesh_worker.spans import Span
from tallymesh_worker.times import Times

# A gateway takes calls of at most 4 MiB. What a process reports at a time, at most 2 MiB, may go
# beyond this bound, and what else there is in a call is small.
PARCEL_BYTES: Final = 1024 * 1024
# A chunk's number or partial takes so much beside its content, at most.
SMALL_BYTES: Final = 16
# As the API bounds a failure's message.
MAX_REASON_CHARS: Final = 1024
_REFUSED: Final = "the mesh refuses what the worker reports of this chunk"


@dataclass(slots=True)
class Parcel:
    """What one call hands in or back.

    Attributes:
        results: Chunks that are done.
        begun: When the first chunk of each of the results was begun, on the monotonic clock in ns.
        failures: Chunks that failed.
        returned: Chunks handed back untouched.
        logs: What chunks have logged.
        size: Bytes of the results, failures and logs, roughly.
        is_closed: Nothing is added to it any more.
    """

    results: list[dispatch_service_pb2.ChunkResults] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    failures: list[dispatch_service_pb2.ChunkFailure] = field(default_factory=list)
    returned: list[Span] = field(default_factory=list)
    logs: list[dispatch_service_pb2.LoggedChunk] = field(default_factory=list)
    size: int = 0
    is_closed: bool = False

    def __bool__(self) -> bool:
        return bool(self.results or self.failures or self.returned or self.logs)

    def halves(self) -> "tuple[Parcel, Parcel] | None":
        """Returns two parcels that hold a part each; None where there is but a single chunk."""
        items = [
            *(("logs", log) for log in self.logs),
            *(("results", result) for result in zip(self.results, self.begun, strict=True)),
            *(("failures", failure) for failure in self.failures),
            *(("returned", span) for span in self.returned),
        ]
        if len(items) == 1 and self.results and self.results[0].chunks.count > 1:
            items = [("results", (half, self.begun[0])) for half in _halves(self.results[0])]
        if len(items) < 2:
            return None
        middle = len(items) // 2
        return _parcel(items[:middle]), _parcel(items[middle:])

    def tell_ages(self, request: dispatch_service_pb2.SynchronizeRequest) -> None:
        """Says in a call that hands in the results how long ago they were begun."""
        now = time.monotonic_ns()
        for result, begun in zip(request.results, self.begun, strict=True):
            result.age_micros = (now - begun) // 1000

    def spans(self) -> Iterator[Span]:
        """Yields all chunks in it."""
        for result in self.results:
            yield Span.of(result.chunks)
        for failure in self.failures:
            yield Span.of(failure.chunk)
        yield from self.returned


class Outbox:
    """Collects what there is to tell into parcels of bearable size.

    Attributes:
        due: When it is to be told, on the monotonic clock; infinite while there is nothing.
    """

    def __init__(self) -> None:
        self.due = math.inf
        self._parcels: list[Parcel] = []

    def __bool__(self) -> bool:
        return bool(self._parcels)

    def draw(self) -> Parcel:
        """Takes out what one call can tell; empty if there is nothing."""
        parcel = self._parcels.pop(0) if self._parcels else Parcel()
        if not self._parcels:
            self.due = math.inf
        return parcel

    def put_back(self, parcel: Parcel) -> None:
        """Takes back what was drawn and not told."""
        if parcel:
            self._parcels.insert(0, parcel)
            self.due = 0.0

    def take_apart(self, parcel: Parcel, reason: str) -> None:
        """Takes back what the mesh refused, in halves, so that only what it refuses is lost.

        What is refused by itself fails its chunk: that spends an attempt, and has a reason.

        Args:
            parcel: What was refused.
            reason: What the mesh said.
        """
        if halves := parcel.halves():
            self._parcels[:0] = halves
            self.due = 0.0
            return
        message = f"{_REFUSED}: {reason}"[:MAX_REASON_CHARS]
        for result in parcel.results:
            failed = errors_pb2.ERROR_REASON_CHUNK_FAILED
            self.add_failure(Span.of(result.chunks), failed, message)
        for failure in parcel.failures:
            if not failure.message.startswith(_REFUSED):
                self.add_failure(Span.of(failure.chunk), failure.reason, message)

    def spans(self) -> Iterator[Span]:
        """Yields all chunks in it."""
        for parcel in self._parcels:
            yield from parcel.spans()

    def add_values(
        self,
        chunks: Span,
        values: tuple[int, ...] | tuple[bytes, ...],
        times: Times,
        *,
        due: float,
    ) -> None:
        """Adds chunks that are done.

        Args:
            chunks: Which.
            values: The number of each, or its partial.
            times: When they were computed.
            due: Until when this may wait to be told.
        """
        result = dispatch_service_pb2.ChunkResults(chunks=chunks.to_range())
        size = 0
        if isinstance(values[0], int):
            result.sums.extend(values)
        else:
            for value in values:
                result.partials.add().MergeFromString(value)
                size += len(value)
        self._add(result, times, size + SMALL_BYTES * len(values), due)

    def add_result(self, chunk: Span, result: bytes, times: Times) -> None:
        """Adds a chunk that is done and gave its job's result."""
        told = dispatch_service_pb2.ChunkResults(
            chunks=chunk.to_range(), result=work_pb2.Result.FromString(result)
        )
        self._add(told, times, len(result), due=0.0)

    def add_failure(
        self, chunk: Span, reason: errors_pb2.ErrorReason.ValueType, message: str
    ) -> None:
        """Adds a chunk that failed."""
        failure = dispatch_service_pb2.ChunkFailure(
            chunk=chunk.to_range(), reason=reason, message=message
        )
        parcel = self._open(due=0.0)
        parcel.failures.append(failure)
        parcel.size += failure.ByteSize()

    def add_log(self, chunk: Span, text: bytes, *, failed: bool) -> None:
        """Adds what a chunk has logged; it goes along with what is told next."""
        log = dispatch_service_pb2.LoggedChunk(
            chunk=chunk.to_range(), text=_fitting(text), failed=failed
        )
        parcel = self._open(due=math.inf)
        parcel.logs.append(log)
        parcel.size += log.ByteSize()

    def add_returned(self, chunks: list[Span]) -> None:
        """Adds chunks that are handed back untouched."""
        if chunks:
            self._open(due=0.0).returned.extend(chunks)

    def _add(
        self, result: dispatch_service_pb2.ChunkResults, times: Times, size: int, due: float
    ) -> None:
        result.compute_micros.extend(times.compute_micros)
        result.elapsed_micros = times.elapsed // 1000
        parcel = self._open(due)
        parcel.results.append(result)
        parcel.begun.append(times.started)
        parcel.size += size

    def _open(self, due: float) -> Parcel:
        self.due = min(self.due, due)
        if not self._parcels or _is_full(self._parcels[-1]):
            self._parcels.append(Parcel())
        return self._parcels[-1]


def _is_full(parcel: Parcel) -> bool:
    return parcel.is_closed or parcel.size > PARCEL_BYTES


def _parcel(items: Iterable[tuple[str, Any]]) -> Parcel:
    parcel = Parcel(is_closed=True)
    for kind, item in items:
        if kind == "results":
            result, begun = item
            parcel.results.append(result)
            parcel.begun.append(begun)
        else:
            getattr(parcel, kind).append(item)
    return parcel


def _halves(
    result: dispatch_service_pb2.ChunkResults,
) -> Iterator[dispatch_service_pb2.ChunkResults]:
    middle = result.chunks.count // 2
    for part in (slice(middle), slice(middle, None)):
        half = dispatch_service_pb2.ChunkResults()
        half.CopyFrom(result)
        for name in ("sums", "partials", "compute_micros"):
            values = list(getattr(result, name))[part]
            half.ClearField(name)
            getattr(half, name).extend(values)
        half.chunks.first += part.start or 0
        half.chunks.count = len(range(result.chunks.count)[part])
        half.elapsed_micros = result.elapsed_micros * half.chunks.count // result.chunks.count
        yield half


def _fitting(text: bytes) -> str:
    # What replaces a byte that is no UTF-8 takes three.
    told = text.decode(errors="replace").encode()[-LOG_BYTES:]
    return told.decode(errors="ignore")
