"""Turns a job that is asked for into one that can be accepted, or says what is wrong with it."""

import hashlib

from google.protobuf.unknown_fields import UnknownFieldSet

from tallymesh.v1 import job_pb2
from tallymesh_core.domain.errors import InvalidField, UnknownKernel
from tallymesh_core.domain.jobs import MAX_CHUNKS, NewJob
from tallymesh_core.rpc.context import Caller
from tallymesh_gateway import names
from tallymesh_kernels import Invalid, Registry
from tallymesh_kernels import UnknownKernel as KernelMissing

_MAX_PRIORITY = 9
_MAX_ATTEMPTS, _DEFAULT_ATTEMPTS = 100, 4


def accept(
    job: job_pb2.Job, request_id: str, *, kernels: Registry, caller: Caller, node: str
) -> tuple[NewJob, str]:
    """Checks a job and completes it.

    Args:
        job: What is asked for.
        request_id: The id that makes the request safe to repeat, or "".
        kernels: What the mesh can compute.
        caller: Who asks.
        node: The gateway that accepts.

    Returns:
        The job, and the hash by which a repeat of the request is told from another one.

    Raises:
        InvalidField: A field is missing, malformed or out of its bound.
        UnknownKernel: The work names no known kernel.
    """
    names.request_id(request_id)
    try:
        kernel, work = kernels.of(job.work)
    except KernelMissing as error:
        unset = not error.name and not len(UnknownFieldSet(job.work))
        said = error.name or ("" if unset else "an unknown one")
        raise UnknownKernel("job.work", said, ", ".join(error.known)) from None
    try:
        kernel.validate(work)
    except Invalid as error:
        raise InvalidField(
            f"job.work.{kernel.name}.{error.field}", error.value, error.bound
        ) from None
    most = min(MAX_CHUNKS, kernel.max_chunks)
    if job.HasField("chunk_count") and not 1 <= job.chunk_count <= most:
        raise InvalidField("job.chunk_count", job.chunk_count, f"a number from 1 to {most}")
    if not 0 <= job.priority <= _MAX_PRIORITY:
        raise InvalidField("job.priority", job.priority, f"a number from 0 to {_MAX_PRIORITY}")
    if job.HasField("max_attempts") and not 1 <= job.max_attempts <= _MAX_ATTEMPTS:
        raise InvalidField(
            "job.max_attempts", job.max_attempts, f"a number from 1 to {_MAX_ATTEMPTS}"
        )
    new = NewJob(
        tenant=caller.tenant,
        queue=names.queue(job.queue, "job.queue"),
        kernel=kernel.name,
        work=job.work.SerializeToString(deterministic=True),
        chunk_count=job.chunk_count or kernel.plan(work),
        additive=kernel.additive,
        priority=job.priority,
        max_attempts=job.max_attempts or _DEFAULT_ATTEMPTS,
        abacus=names.abacus_id(job.abacus, "job.abacus"),
        labels=names.labels(dict(job.labels), "job.labels"),
        initiated_by=node,
    )
    return new, hashlib.sha256(job.SerializeToString(deterministic=True)).hexdigest()[:32]
