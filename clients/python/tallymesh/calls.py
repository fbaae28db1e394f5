"""Calling the mesh: deadlines, and errors as this library tells them."""

from __future__ import annotations

import math
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tallymesh import errors

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Item_co = TypeVar("Item_co", bound=Message, covariant=True)
Metadata = Sequence[tuple[str, str]]

_REQUEST_ID_HEADER = "tallymesh-request-id"

_BY_REASON: Mapping[str, type[errors.TallymeshError]] = {
    "INVALID_FIELD": errors.InvalidField,
    "MALFORMED_REQUEST": errors.InvalidField,
    "UNKNOWN_KERNEL": errors.UnknownKernel,
    "REQUEST_ID_REUSED": errors.RequestIdReused,
    "REQUEST_ID_FORGOTTEN": errors.RequestIdForgotten,
    "BATCHES_MISSING": errors.BatchesMissing,
    "JOB_ENDED": errors.JobEnded,
    "JOB_NOT_REPLAYABLE": errors.JobNotReplayable,
    "BACKLOG_FULL": errors.BacklogFull,
    "ETAG_MISMATCH": errors.EtagMismatch,
    "STORE_FULL": errors.StoreFull,
    "NO_FREE_SLOT": errors.NoFreeSlot,
    "NO_WORKER": errors.NoWorker,
}
_BY_CODE: Mapping[grpc.StatusCode, type[errors.TallymeshError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidField,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidField,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.UNAVAILABLE: errors.Unreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.ABORTED: errors.Aborted,
    grpc.StatusCode.INTERNAL: errors.InternalError,
    grpc.StatusCode.UNKNOWN: errors.InternalError,
    grpc.StatusCode.DATA_LOSS: errors.InternalError,
}

# Codes by which a proxy, or gRPC itself, tells that a connection broke.
_BROKEN = ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED")
_NO_CONNECTION = "cannot connect to "
# How gRPC begins to tell that it has no connection, and where it ends a call with its channel.
_FAILED_TO_CONNECT = (
    "failed to connect",
    "errors resolving",
    "DNS resolution failed",
    "connections to all backends failing",
)
_CHANNEL_CLOSED = "Channel closed!"
# Seconds before a call that failed is made again; each further time waits twice as long.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
#: Seconds to go on trying where nothing has ever answered: long enough for an edge that is being
#: restarted, short enough for a person who has started none.
ABSENCE_SECONDS = 2.0
#: Seconds past its deadline after which a call is left, should gRPC itself not end it.
OVERTIME_SECONDS = 0.25
# gRPC takes no more: ten years stand for all that is longer.
_MAX_TIMEOUT = 10 * 365 * 86_400.0


class Stream(Protocol[Item_co]):
    """An open server stream."""

    def __iter__(self) -> Iterator[Item_co]:
        """Iterates over what the server sends."""

    def cancel(self) -> bool:
        """Ends the stream from this side."""


class Attempts:
    """Decides whether, and when, a call that failed is made again: until its time is over.

    It is where the mesh itself says when, as while its store is away, and where the mesh is there
    but a part of it is not, as while a gateway is restarted. Where nobody takes connections, and
    nobody has, that soon counts as an answer.

    Args:
        caller: Whose call it is.
        timeout: Seconds for all attempts together; None for the client's own.
    """

    def __init__(self, caller: Reach, timeout: float | None) -> None:
        self._caller = caller
        self._began = time.monotonic()
        self._deadline = self._began + bounded(caller.timeout if timeout is None else timeout)
        self._away: errors.TallymeshError | None = None
        self._delay = _FIRST_PAUSE

    def left(self) -> float:
        """Returns the seconds that the next attempt may take."""
        return max(self._deadline - time.monotonic(), 0.0)

    def pause_after(self, failed: grpc.RpcError | None) -> float:
        """Returns the seconds to wait before the next attempt.

        Args:
            failed: How the last one failed; None if it was not answered in its time.

        Raises:
            TallymeshError: There is to be none.
        """
        error: errors.TallymeshError = errors.DeadlineExceeded(
            "the time given has passed", code="DEADLINE_EXCEEDED"
        )
        if failed is not None:
            error = translate(failed, self._caller.address)
        if self._away is not None and isinstance(error, errors.DeadlineExceeded):
            raise self._away from failed  # which tells why there was no answer
        if was_reached(error):
            self._caller.reached = True
        pause = self._pause(error)
        if pause is None or time.monotonic() + pause >= self._deadline:
            raise error from failed
        self._away = error if was_reached(error) else None
        return pause

    def _pause(self, error: errors.TallymeshError) -> float | None:
        if not isinstance(error, errors.Unreachable):
            return None
        return self._next_delay() if error.retry_after is None else error.retry_after

    def _next_delay(self) -> float | None:
        delay = self._delay
        self._delay = min(2 * delay, _LONGEST_PAUSE)
        if self._caller.reached:
            return delay
        patience = self._began + ABSENCE_SECONDS - time.monotonic()
        return min(delay, patience) if patience > 0 else None


class UploadAttempts(Attempts):
    """As Attempts, of a stream of requests, which is sent again however it broke."""

    def _pause(self, error: errors.TallymeshError) -> float | None:
        if not is_accident(error):
            return None
        delay = self._next_delay()
        return None if delay is None else max(delay, error.retry_after or 0.0)


class Reach:
    """What a client knows of the way to its mesh.

    Attributes:
        address: Where the mesh is, for people.
        timeout: Seconds that a unary call may take.
        reached: Something of the mesh, perhaps only its edge, has answered.
        closed: The client is closed; what is called now fails, and what was under way.
    """

    def __init__(self, address: str, timeout: float, metadata: Metadata) -> None:
        self.address = address
        self.timeout = bounded(timeout)
        self.reached = False
        self.closed = False
        self.metadata = tuple(metadata)


class Caller(Reach):
    """Makes calls with this client's metadata and deadline, and translates their errors."""

    def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Answer],
        request: Request,
        timeout: float | None = None,
    ) -> Answer:
        """Returns the answer of a unary call, which must be safe to repeat.

        It is repeated while the mesh, or a part of it, is away: until the timeout.

        Args:
            method: What to call.
            request: What to send.
            timeout: Seconds for all attempts together; None for the client's own.

        Raises:
            TallymeshError: The call failed.
        """
        return self._repeat(
            Attempts(self, timeout),
            lambda left: method.future(request, timeout=left, metadata=self.metadata),
        )

    def upload(
        self,
        method: grpc.StreamUnaryMultiCallable[Request, Answer],
        requests: Sequence[Request],
        timeout: float | None = None,
    ) -> Answer:
        """Returns the answer to a stream of requests, which must be safe to send again.

        A stream that breaks is sent again, whole, until the timeout.

        Args:
            method: What to call.
            requests: What to send.
            timeout: Seconds for all attempts together; None for the client's own.

        Raises:
            TallymeshError: The call failed.
        """
        return self._repeat(
            UploadAttempts(self, timeout),
            lambda left: method.future(iter(requests), timeout=left, metadata=self.metadata),
        )

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Answer],
        request: Request,
        timeout: float | None = None,
    ) -> Stream[Answer]:
        """Opens a server stream; its errors come untranslated, while it is read.

        Args:
            method: What to call.
            request: What to send.
            timeout: Seconds after which it ends with DEADLINE_EXCEEDED; None for never.

        Raises:
            ClientClosed: The client is closed.
        """
        try:
            opened = method(request, timeout=timeout, metadata=self.metadata)
        except ValueError as refused:
            raise self._closed_or(refused) from refused
        return cast("Stream[Answer]", opened)

    def _repeat(self, attempts: Attempts, begin: Callable[[float], grpc.Future[Answer]]) -> Answer:
        while True:
            left = attempts.left()
            try:
                call = begin(left)
            except ValueError as refused:
                raise self._closed_or(refused) from refused
            try:
                # Not for ever where gRPC forgets its own deadline.
                answer = call.result(timeout=left + OVERTIME_SECONDS)
            except grpc.FutureTimeoutError:
                pause = attempts.pause_after(None)
            except grpc.RpcError as failed:
                pause = attempts.pause_after(failed)
            else:
                self.reached = True
                return answer
            finally:
                call.cancel()
            time.sleep(pause)

    def _closed_or(self, refused: ValueError) -> Exception:
        # gRPC has no error of its own for a call on a closed channel.
        return errors.ClientClosed() if self.closed else refused


def new_request_id() -> str:
    """Returns an id that makes one mutating call safe to repeat: a UUID of version 7.

    It tells its time, so that the mesh can refuse it when it is too old to be remembered.
    """
    ms = time.time_ns() // 1_000_000
    noise = secrets.randbits(74)
    value = ms << 80 | 7 << 76 | noise >> 62 << 64 | 2 << 62 | noise & (1 << 62) - 1
    return str(uuid.UUID(int=value))


def bounded(timeout: float) -> float:
    """Returns seconds as gRPC can take them.

    Raises:
        InvalidField: They are not a number.
    """
    if math.isnan(timeout):
        raise errors.InvalidField.of("timeout", timeout, "a number of seconds")
    return min(timeout, _MAX_TIMEOUT)


def is_accident(error: errors.TallymeshError) -> bool:
    """Tells whether a stream broke on its way; an error with a reason is the mesh's own word."""
    if isinstance(error, errors.ClientClosed):
        return False
    return error.code in _BROKEN and (not error.reason or error.code == "UNAVAILABLE")


def was_reached(error: errors.TallymeshError) -> bool:
    """Tells whether something of the mesh, perhaps only its edge, took the connection."""
    if isinstance(error, errors.DeadlineExceeded):
        return False  # which may have passed while there was no connection
    return not error.message.startswith(_NO_CONNECTION)


def translate(error: grpc.RpcError, address: str = "the mesh") -> errors.TallymeshError:
    """Returns the error of this library for a failed call.

    Args:
        error: What gRPC raised.
        address: Where the mesh was called, for people.
    """
    # Every RpcError that a channel raises is also the call it belongs to.
    call = cast("grpc.Call", error)
    code = call.code()
    if code == grpc.StatusCode.CANCELLED and call.details() == _CHANNEL_CLOSED:
        return errors.ClientClosed()
    info, retry_after, violation = _details(call)
    metadata = dict(info.metadata)
    if violation is not None and "field" not in metadata:
        metadata = {**metadata, "field": violation.field, "bound": violation.description}
    kind = _BY_REASON.get(info.reason) or _BY_CODE.get(code, errors.TallymeshError)
    message = call.details() or f"the call failed with {code.name}"
    if kind is errors.Unreachable and not info.reason:
        message = _absence(message, address)
    return kind(
        message,
        reason=info.reason,
        code=code.name,
        request_id=_request_id(call),
        retry_after=retry_after,
        metadata=metadata,
    )


def _absence(details: str, address: str) -> str:
    # gRPC tells the cause of a connection that it cannot make last, after all its own layers.
    if details.startswith(_FAILED_TO_CONNECT):
        if "handshake failed" in details:
            cause = "no TLS handshake; does a mesh without TLS stand there?"
        else:
            cause = details.rpartition(": ")[2].rstrip("]")
        return f"{_NO_CONNECTION}{address}: {cause}"
    return f"{address}: {details}"


def _details(
    call: grpc.Call,
) -> tuple[
    error_details_pb2.ErrorInfo,
    float | None,
    error_details_pb2.BadRequest.FieldViolation | None,
]:
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    bad = error_details_pb2.BadRequest()
    retry_after = None
    try:
        status = rpc_status.from_call(call)
    except ValueError:  # the details contradict the status: only the status is to be trusted
        status = None
    for detail in status.details if status else ():
        if detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        else:
            detail.Unpack(bad)
            detail.Unpack(info)
    return info, retry_after, bad.field_violations[0] if bad.field_violations else None


def _request_id(call: grpc.Call) -> str:
    for metadata in (call.initial_metadata(), call.trailing_metadata()):
        for key, value in metadata or ():
            if key == _REQUEST_ID_HEADER and isinstance(value, str):
                return value
    return ""
