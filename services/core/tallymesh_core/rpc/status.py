"""The one translator between domain errors and gRPC statuses."""

import logging
from typing import cast

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tallymesh_core.domain.errors import DomainError, ServiceUnavailable

#: ErrorInfo.domain of every error that a mesh answers.
ERROR_DOMAIN = "tallymesh"

logger = logging.getLogger(__name__)


def to_status(error: DomainError) -> status_pb2.Status:
    """Returns the rich status that tells a caller of the error."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata
    )
    packed = [_pack(info)]
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message, reason=error.reason
        )
        packed.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        packed.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=error.code.value, message=error.message, details=packed)


def trailers(error: DomainError) -> tuple[tuple[str, str | bytes], ...]:
    """Returns the trailing metadata that carries the status and, where it applies, the pushback."""
    pairs: list[tuple[str, str | bytes]] = [
        ("grpc-status-details-bin", to_status(error).SerializeToString())
    ]
    if error.retry_after is not None:
        pairs.append(("grpc-retry-pushback-ms", str(round(error.retry_after * 1000))))
    return tuple(pairs)


def grpc_code(error: DomainError) -> grpc.StatusCode:
    """Returns the gRPC code of the error."""
    return next(code for code in grpc.StatusCode if code.value[0] == error.code.value)


def from_rpc_error(error: grpc.aio.AioRpcError, service: str) -> DomainError:
    """Returns the domain error for a failed call to another service of the mesh.

    An error that the other service told by name keeps its name, code and facts; anything else is
    the service being unreachable.

    Args:
        error: What the call raised.
        service: The other service, for the message.
    """
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
    except ValueError:  # the details contradict the status, as where a deadline passed meanwhile
        status = None
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            for kind in _named_errors():
                if kind.reason == info.reason:
                    told = DomainError.__new__(kind)
                    DomainError.__init__(
                        told,
                        status.message,
                        field=info.metadata.get("field", ""),
                        metadata=info.metadata,
                    )
                    return told
    logger.warning("call to %s failed: %s", service, error)
    return ServiceUnavailable(f"{service} cannot be reached")


def _named_errors() -> list[type[DomainError]]:
    return DomainError.__subclasses__()


def _pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
