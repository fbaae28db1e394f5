"""Consecutive chunks of a job under one lease: the unit in which a worker holds work."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

from tallymesh.v1 import dispatch_service_pb2


@dataclass(frozen=True, slots=True)
class Span:
    """Chunks `first` to `first + count - 1` of a job.

    Attributes:
        job: The job, as the gateway names it.
        epoch: The job's epoch.
        attempt: Which attempt at these chunks this is.
        first: The first chunk.
        count: How many chunks, at least 1.
        partials: For a job's last step: what it merges.
    """

    job: str
    epoch: int
    attempt: int
    first: int
    count: int
    partials: tuple[bytes, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, chunks: dispatch_service_pb2.ChunkRange, partials: tuple[bytes, ...] = ()) -> Self:
        """Reads a range as the API tells it."""
        return cls(chunks.job, chunks.epoch, chunks.attempt, chunks.first, chunks.count, partials)

    @property
    def end(self) -> int:
        """The chunk after the last."""
        return self.first + self.count

    def to_range(self) -> dispatch_service_pb2.ChunkRange:
        """Returns the range as the API tells it."""
        return dispatch_service_pb2.ChunkRange(
            job=self.job,
            epoch=self.epoch,
            first=self.first,
            count=self.count,
            attempt=self.attempt,
        )

    def part(self, first: int, end: int) -> Self:
        """Returns the chunks from `first` up to `end`, both within the span."""
        count = end - first
        return type(self)(self.job, self.epoch, self.attempt, first, count, self.partials)

    def split(self, count: int) -> tuple[Self, Self | None]:
        """Returns the first `count` chunks, and the others if there are any."""
        if count >= self.count:
            return self, None
        middle = self.first + count
        return self.part(self.first, middle), self.part(middle, self.end)

    def same_lease(self, other: "Span") -> bool:
        """Tells whether both are of one job, epoch and attempt."""
        return (self.job, self.epoch, self.attempt) == (other.job, other.epoch, other.attempt)

    def is_hit(self, stopped: "Span") -> bool:
        """Tells whether a stop is for a chunk of this span; one of attempt 0 is for any attempt."""
        return (
            (self.job, self.epoch) == (stopped.job, stopped.epoch)
            and stopped.attempt in (self.attempt, 0)
            and self.first < stopped.end
            and stopped.first < self.end
        )

    def without(self, other: "Span") -> Iterator[Self]:
        """Yields what remains of this span without the chunks of the other."""
        if not self.is_hit(other):
            yield self
            return
        if self.first < other.first:
            yield self.part(self.first, other.first)
        if other.end < self.end:
            yield self.part(other.end, self.end)


def joined(spans: Iterable[Span]) -> list[Span]:
    """Returns the same chunks in as few spans as can be, by lease and index."""
    result: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.job, span.epoch, span.attempt, span.first)):
        last = result[-1] if result else None
        if last and last.same_lease(span) and span.first <= last.end:
            result[-1] = last.part(last.first, max(last.end, span.end))
        else:
            result.append(span)
    return result
