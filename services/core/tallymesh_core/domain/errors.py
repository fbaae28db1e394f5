"""The errors that a user may be told of.

Use cases and stores raise these; `tallymesh_core.rpc.status` turns them into gRPC statuses, and
nowhere else are statuses made. Any other exception is a fault of ours and reaches nobody.
"""

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar


class Code(Enum):
    """The gRPC status codes that domain errors map to; the values are gRPC's own."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    INTERNAL = 13
    UNAVAILABLE = 14


class DomainError(Exception):
    """Something went wrong in a way that the caller should know.

    Attributes:
        reason: Name of the tallymesh.v1.ErrorReason, without its prefix.
        code: Status code of the answer.
        message: One sentence for a person.
        field: The request's field at fault, as a path such as `job.work.add.numbers[2]`, or "".
        metadata: Further facts, by name.
        retry_after: Seconds after which the call may be repeated, or None if it should not be.
    """

    reason: ClassVar[str] = "INTERNAL"
    code: ClassVar[Code] = Code.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after


class InvalidField(DomainError):
    """A field is missing, malformed or out of its bound."""

    reason = "INVALID_FIELD"
    code = Code.INVALID_ARGUMENT

    def __init__(self, field: str, value: object, bound: str) -> None:
        shown = str(value)
        if len(shown) > 80:
            shown = f"{shown[:77]}..."
        super().__init__(
            f"{field}: {shown!r} is not {bound}" if shown else f"{field}: must be {bound}",
            field=field,
            metadata={"field": field, "value": shown, "bound": bound},
        )


class UnknownKernel(DomainError):
    """The work names no kernel, or one that is not known here."""

    reason = "UNKNOWN_KERNEL"
    code = Code.INVALID_ARGUMENT

    def __init__(self, field: str, value: str, known: str) -> None:
        said = f"{value!r} is not a kernel of this mesh" if value else "no kernel is set"
        super().__init__(
            f"{field}: {said}; it has: {known}",
            field=field,
            metadata={"field": field, "value": value, "bound": f"one of: {known}"},
        )


class MalformedRequest(DomainError):
    """What was sent cannot be read as the call's request, or is too long to be read."""

    reason = "MALFORMED_REQUEST"
    code = Code.INVALID_ARGUMENT


class NotFound(DomainError):
    """The resource does not exist."""

    reason = "NOT_FOUND"
    code = Code.NOT_FOUND

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} does not exist", metadata={"name": name})


class RequestIdReused(DomainError):
    """The request_id was used before with a different request."""

    reason = "REQUEST_ID_REUSED"
    code = Code.ALREADY_EXISTS

    def __init__(
        self, request_id: str, field: str = "request_id", other: str = "a different request"
    ) -> None:
        super().__init__(
            f"{field}: {request_id!r} was used before with {other}",
            field=field,
            metadata={"field": field, "value": request_id},
        )


class RequestIdForgotten(DomainError):
    """Whether the id has been used cannot be known any more: it says that it is too old."""

    reason = "REQUEST_ID_FORGOTTEN"
    code = Code.FAILED_PRECONDITION

    def __init__(self, request_id: str, field: str = "request_id") -> None:
        super().__init__(
            f"{field}: {request_id!r} was made longer ago than ids are remembered for,"
            " so a repeat of it could not be told",
            field=field,
            metadata={"field": field, "value": request_id},
        )


class BatchesMissing(DomainError):
    """Batches of a stream have not been added that come before this one."""

    reason = "BATCHES_MISSING"
    code = Code.FAILED_PRECONDITION

    def __init__(self, stream_id: str, sequence: int, last: int) -> None:
        super().__init__(
            f"sequence: {sequence} does not follow {last}, the last batch that was added of"
            f" {stream_id!r}",
            field="sequence",
            metadata={"field": "sequence", "value": str(sequence), "last": str(last)},
        )


class JobEnded(DomainError):
    """The job has come to a final state, so the call cannot change it."""

    reason = "JOB_ENDED"
    code = Code.FAILED_PRECONDITION

    def __init__(self, name: str, state: str) -> None:
        super().__init__(
            f"{name} has already {state.lower()}", metadata={"name": name, "state": state}
        )


class JobNotReplayable(DomainError):
    """The job has not failed, or no further attempt can mend it."""

    reason = "JOB_NOT_REPLAYABLE"
    code = Code.FAILED_PRECONDITION

    def __init__(self, name: str, state: str, why: str) -> None:
        super().__init__(
            f"{name} cannot be replayed: {why}", metadata={"name": name, "state": state}
        )


class BacklogFull(DomainError):
    """As many jobs are unfinished as may be."""

    reason = "BACKLOG_FULL"
    code = Code.RESOURCE_EXHAUSTED


class NoFreeSlot(DomainError):
    """The worker computes as much as it can already."""

    reason = "NO_FREE_SLOT"
    code = Code.RESOURCE_EXHAUSTED


class NoWorker(DomainError):
    """No live worker could compute this."""

    reason = "NO_WORKER"
    code = Code.RESOURCE_EXHAUSTED

    def __init__(self, kernel: str, queue: str) -> None:
        super().__init__(
            f"no live worker serves kernel {kernel} on queue {queue}",
            metadata={"kernel": kernel, "queue": queue},
            retry_after=1.0,
        )


class DeadlinePassed(DomainError):
    """The caller's deadline has passed."""

    reason = "DEADLINE_EXCEEDED"
    code = Code.DEADLINE_EXCEEDED


class StoreUnavailable(DomainError):
    """The store cannot be reached, or does not serve."""

    reason = "STORE_UNAVAILABLE"
    code = Code.UNAVAILABLE

    def __init__(self, message: str = "the store cannot be reached") -> None:
        super().__init__(message, retry_after=1.0)


class StoreFull(DomainError):
    """The store takes nothing new: its memory is full. Nothing was done."""

    reason = "STORE_FULL"
    code = Code.RESOURCE_EXHAUSTED

    def __init__(self, answer: str) -> None:
        # Without an invitation to come again: there is room only once somebody has made some.
        super().__init__(f"the store is full and takes nothing new: {answer}")


class ServiceUnavailable(DomainError):
    """Another service of the mesh cannot be reached."""

    reason = "SERVICE_UNAVAILABLE"
    code = Code.UNAVAILABLE

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=1.0)


class ShuttingDown(DomainError):
    """The service is stopping."""

    reason = "SHUTTING_DOWN"
    code = Code.UNAVAILABLE

    def __init__(self, node: str) -> None:
        super().__init__(f"{node} is shutting down", retry_after=0.1)


class EtagMismatch(DomainError):
    """What the caller has read is not current any more."""

    reason = "ETAG_MISMATCH"
    code = Code.ABORTED

    def __init__(self, name: str, given: str, current: str) -> None:
        super().__init__(
            f"expected_etag: {name} has changed since {given!r}, to {current!r}",
            metadata={"field": "expected_etag", "value": given, "current": current},
        )


class ChunkFailed(DomainError):
    """The kernel raised an error."""

    reason = "CHUNK_FAILED"
    code = Code.ABORTED


class ChunkCrashed(DomainError):
    """The process that computed died."""

    reason = "CHUNK_CRASHED"
    code = Code.ABORTED
