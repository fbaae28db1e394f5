"""Turns a job that is asked for into one that can be accepted, or says what is wrong with it."""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.unknown_fields import UnknownFieldSet

from tallymesh.v1 import job_pb2
from tallymesh.v1.work_pb2 import Work
from tallymesh_core.domain.errors import InvalidField, UnknownKernel
from tallymesh_core.domain.jobs import MAX_CHUNKS, TTL_SECONDS, NewJob
from tallymesh_core.rpc.context import Caller
from tallymesh_core.store.jobs import Submission
from tallymesh_gateway import names
from tallymesh_gateway.fleet import Fleet
from tallymesh_kernels import (
    AnyKernel,
    Foreign,
    Function,
    Invalid,
    Registry,
    as_asked,
    is_settled,
    settled,
)
from tallymesh_kernels import UnknownKernel as KernelMissing

_MAX_PRIORITY = 9
_MAX_ATTEMPTS, _DEFAULT_ATTEMPTS = 100, 4


class Task(NamedTuple):
    """Valid work that leaves nothing to the mesh, its kernel, and what that kernel is given."""

    work: Work
    kernel: AnyKernel | Foreign
    message: Any


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Checks jobs and completes them, on behalf of one gateway.

    Attributes:
        kernels: What the mesh can compute.
        fleet: The workers, by whom the mesh chooses how to compute what leaves that to it.
        node: The gateway that accepts.
        ttl_ms: How long jobs are kept after their end that do not say so.
    """

    kernels: Registry
    fleet: Fleet
    node: str
    ttl_ms: int = TTL_SECONDS * 1000

    async def accept(
        self, job: job_pb2.Job, request_id: str, *, caller: Caller, within: str = ""
    ) -> Submission:
        """Checks a job and completes it.

        Args:
            job: What is asked for.
            request_id: The id that makes the request safe to repeat, or "".
            caller: Who asks.
            within: Where in the request this is, such as `requests[2].`, for errors.

        Raises:
            InvalidField: A field is missing, malformed or out of its bound.
            UnknownKernel: The work names no known kernel.
        """
        at = f"{within}job"
        id_field = f"{within}request_id"
        names.request_id(request_id, id_field)
        queue = names.queue(job.queue, f"{at}.queue")
        task = await self.task(
            job.work,
            f"{at}.work",
            queue,
            chunk_count=job.chunk_count if job.HasField("chunk_count") else None,
        )
        kernel = task.kernel
        most = min(MAX_CHUNKS, kernel.max_chunks)
        if job.HasField("chunk_count") and not 1 <= job.chunk_count <= most:
            bound = f"a number from 1 to {most}" if most > 1 else f"1, all that {kernel.name} takes"
            raise InvalidField(f"{at}.chunk_count", job.chunk_count, bound)
        chunk_count = job.chunk_count or _plan(kernel, task.message, f"{at}.chunk_count", most)
        _within(job.priority, f"{at}.priority", 0, _MAX_PRIORITY)
        if job.HasField("max_attempts"):
            _within(job.max_attempts, f"{at}.max_attempts", 1, _MAX_ATTEMPTS)
        _within(job.tolerate_failures, f"{at}.tolerate_failures", 0, MAX_CHUNKS)
        new = NewJob(
            tenant=caller.tenant,
            queue=queue,
            kernel=kernel.name,
            work=task.work.SerializeToString(deterministic=True),
            chunk_count=chunk_count,
            # What a function gives for a single chunk need not be a number.
            additive=kernel.additive and not (chunk_count == 1 and isinstance(kernel, Function)),
            priority=job.priority,
            max_attempts=job.max_attempts or _DEFAULT_ATTEMPTS,
            abacus=names.abacus_id(job.abacus, f"{at}.abacus"),
            labels=names.labels(dict(job.labels), f"{at}.labels"),
            initiated_by=self.node,
            tolerate_failures=job.tolerate_failures,
            chunk_timeout_ms=names.milliseconds(
                job.chunk_timeout, f"{at}.chunk_timeout", least_ms=1, most_days=7
            )
            if job.HasField("chunk_timeout")
            else 0,
            timeout_ms=names.milliseconds(job.timeout, f"{at}.timeout", least_ms=1, most_days=365)
            if job.HasField("timeout")
            else 0,
            ttl_ms=names.milliseconds(job.ttl, f"{at}.ttl", least_ms=1000, most_days=365)
            if job.HasField("ttl")
            else self.ttl_ms,
        )
        return Submission(new, request_id, _hash_of(job) if request_id else "", id_field)

    async def task(
        self, work: Work, field: str, queue: str, *, chunk_count: int | None = None
    ) -> Task:
        """Checks a work, and chooses what it leaves to the mesh.

        Args:
            work: What is to be computed.
            field: Where in the request this is, such as `job.work`, for errors.
            queue: Whose workers are to compute it.
            chunk_count: Into how many chunks it is to be cut, or None for any.

        Raises:
            InvalidField: A field is missing, malformed or out of its bound.
            UnknownKernel: The work names no known kernel.
        """
        names.json(work.custom.json, f"{field}.custom.json")
        task = self._checked(work, field)
        work = as_asked(work)
        if not is_settled(work):
            slots = await self.fleet.slots(queue)
            work = settled(work, chunk_count=chunk_count, slots=slots)
        return task if work is task.work else Task(work, *self.kernels.of_any(work))

    def _checked(self, work: Work, field: str) -> Task:
        try:
            kernel, message = self.kernels.of_any(work)
            if isinstance(kernel, Function):
                message = kernel.read(message)
            kernel.validate(message)
            return Task(work, kernel, message)
        except KernelMissing as error:
            unset = not error.name and not len(UnknownFieldSet(work))
            said = error.name or ("" if unset else "an unknown one")
            raise UnknownKernel(field, said, ", ".join(error.known)) from None
        except Invalid as error:
            at = f"{field}.{work.WhichOneof('kernel')}.{error.field}"
            raise InvalidField(at, error.value, error.bound) from None


def _plan(kernel: Any, work: Any, field: str, most: int) -> int:
    """Has the kernel plan, and believes no kernel that is not built in."""
    if isinstance(kernel, Foreign):
        raise InvalidField(field, "", f"given, as this gateway does not have {kernel.name} to plan")
    try:
        planned, again = kernel.plan(work), kernel.plan(work)
    except (Exception, SystemExit) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidField(
            field, "", f"given, as the plan of {kernel.name} fails ({said})"
        ) from None
    if planned != again:
        raise InvalidField(
            field, "", f"given, as {kernel.name} plans {planned} chunks, then {again}, for one work"
        )
    if not isinstance(planned, int) or not 1 <= planned <= most:
        raise InvalidField(
            field, "", f"given, as {kernel.name} plans {planned!r} chunks, not 1 to {most}"
        )
    return planned


def _hash_of(job: job_pb2.Job) -> str:
    return hashlib.sha256(job.SerializeToString(deterministic=True)).hexdigest()[:32]


def _within(value: int, field: str, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidField(field, value, f"a number from {least} to {most}")
