"""What can go wrong for a client: one root, and a child for each thing to do about it."""

from __future__ import annotations

import copyreg
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tallymesh.v1.job_pb2 import Job


class TallymeshError(Exception):
    """Root of everything that this library raises on purpose.

    Attributes:
        message: One sentence for a person.
        reason: Name of the tallymesh.v1.ErrorReason without its prefix, such as "INVALID_FIELD";
            empty where the mesh gave none, as when it was not reached.
        code: Name of the gRPC status code, such as "INVALID_ARGUMENT"; empty where no call failed.
        request_id: Id under which the call stands in the mesh's logs, or "".
        retry_after: Seconds after which the mesh invites the call again, or None.
        metadata: Further facts that the mesh told, by name.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: str = "",
        request_id: str = "",
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})

    # Python would pickle and copy it by calling its class with `args`, the sentence, which a child
    # that is made of something else does not take.
    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self),), {**self.__dict__, "args": self.args}  # type: ignore[attr-defined]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return (self.args, self.__dict__) == (other.args, other.__dict__)

    def __hash__(self) -> int:
        return hash((type(self), self.args))


class InvalidField(TallymeshError, ValueError):
    """A field is missing, malformed or out of its bound; do not retry."""

    @classmethod
    def of(cls, field: str, value: object, bound: str) -> InvalidField:
        """Returns the error for a value that is refused before it is sent.

        Args:
            field: Path of the field.
            value: What was given.
            bound: What the field takes, to be read after "is not".
        """
        try:
            shown = str(value)
        except ValueError:  # an int that Python refuses to write out
            shown = "an int of more than 4300 digits"
        if len(shown) > 80:
            shown = f"{shown[:77]}..."
        return cls(
            f"{field}: {shown!r} is not {bound}",
            reason="INVALID_FIELD",
            metadata={"field": field, "value": shown, "bound": bound},
        )

    @property
    def field(self) -> str:
        """Path of the field, such as `job.work.count_primes.stop`."""
        return self.metadata.get("field", "")

    @property
    def value(self) -> str:
        """What was given, perhaps shortened."""
        return self.metadata.get("value", "")

    @property
    def bound(self) -> str:
        """What the field takes."""
        return self.metadata.get("bound", "")


class WrongType(InvalidField, TypeError):
    """An argument is of a type that it cannot be."""

    @classmethod
    def of(cls, field: str, value: object, bound: str) -> WrongType:
        """Returns the error for a value of a wrong type; args as of InvalidField.of()."""
        shown = repr(value)
        if len(shown) > 80:
            shown = f"{shown[:77]}..."
        kind = type(value).__name__
        return cls(
            f"{field}: {shown} is of type {kind}, not {bound}",
            reason="INVALID_FIELD",
            metadata={"field": field, "value": shown, "bound": bound},
        )


class ClientClosed(TallymeshError):
    """The client is closed; what is called then fails, and what was under way."""

    def __init__(self) -> None:
        super().__init__("the client is closed", code="CANCELLED")


class UnknownKernel(InvalidField):
    """The work names no kernel, or one that this mesh does not know."""


class NotFound(TallymeshError):
    """The resource does not exist."""


class AlreadyExists(TallymeshError):
    """What was to be made exists already."""


class RequestIdReused(AlreadyExists):
    """The request id was used before with a different request."""


class RequestIdForgotten(TallymeshError):
    """The id is so old that it may have been used and forgotten; nothing was done.

    It is the time in the id that counts: if even new ids are refused, a clock is wrong.
    """


class BatchesMissing(TallymeshError):
    """Numbers of the stream have not been added that come before these."""


class JobEnded(TallymeshError):
    """The job has ended, so that the call cannot change it."""


class JobNotReplayable(TallymeshError):
    """The job has not failed, or has failed in a way that no further attempt can mend."""


class BacklogFull(TallymeshError):
    """The mesh takes no more just now; try again after `retry_after`."""


class StoreFull(TallymeshError):
    """The store's memory is full: nothing was done, and a repeat helps once there is room."""


class NoFreeSlot(TallymeshError):
    """Every worker that could compute this is busy; try again after `retry_after`."""


class NoWorker(TallymeshError):
    """No live worker could compute this."""


class Unreachable(TallymeshError):
    """The mesh, or a part of it that the call needs, does not answer."""


class DeadlineExceeded(TallymeshError):
    """The call took longer than its deadline. It may still have taken effect."""


class Aborted(TallymeshError):
    """The call lost against another, or its computation failed."""


class EtagMismatch(Aborted):
    """What the caller has read is not current any more: read again, then retry."""


class InternalError(TallymeshError):
    """A fault of the mesh; its log has the rest under `correlation_id`."""

    @property
    def correlation_id(self) -> str:
        """Id under which the mesh's log tells what happened, or ""."""
        return self.metadata.get("correlation_id", self.request_id)


class JobFailed(TallymeshError):
    """The job was given up.

    Attributes:
        job: The job in its final state; `job.error` says why.
    """

    def __init__(self, job: Job, reason: str) -> None:
        super().__init__(f"{job.name} failed: {job.error.message or reason}", reason=reason)
        self.job = job


class ChunkTimedOut(JobFailed):
    """A chunk took longer than `chunk_timeout` as often as it may be tried."""


class JobTimedOut(JobFailed):
    """The job did not end within its `job_timeout`."""


class JobCancelled(TallymeshError):
    """The job was cancelled.

    Attributes:
        job: The job in its final state.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(f"{job.name} was cancelled")
        self.job = job


class WaitTimeout(TallymeshError, TimeoutError):
    """The wait for a job, or for several, ended before they did. They go on.

    Attributes:
        job: The job as last seen; the first of several.
    """

    def __init__(self, job: Job, timeout: float, missing: int = 1) -> None:
        why = f" ({job.state_reason})" if job.state_reason else ""
        others = f" and {missing - 1:,} more" if missing > 1 else ""
        super().__init__(f"{job.name}{others} did not end within {timeout:g} s{why}")
        self.job = job


class StopTimeout(TallymeshError, TimeoutError):
    """The job is cancelled, but its chunks did not stop within the wait. They are being stopped.

    Attributes:
        job: The job as last seen.
    """

    def __init__(self, job: Job, timeout: float) -> None:
        super().__init__(f"{job.name} is cancelled, but its chunks did not stop in {timeout:g} s")
        self.job = job
