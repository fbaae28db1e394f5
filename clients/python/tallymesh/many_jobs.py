"""Many jobs at once: submitted in batches, collected from one stream as they end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Generic, Protocol, TypeVar

from tallymesh.calls import Caller, Stream
from tallymesh.errors import DeadlineExceeded, WaitTimeout
from tallymesh.jobs import JobHandle
from tallymesh.v1.job_pb2 import Job
from tallymesh.v1.job_service_pb2 import (
    BatchCreateJobsRequest,
    CollectJobsRequest,
    CollectJobsResponse,
)
from tallymesh.v1.job_service_pb2_grpc import JobServiceStub
from tallymesh.watching import Limits, OnCut, read_on
from tallymesh.works import AnyWork, JobOptions, make_template, wrap


class _Handle(Protocol):
    """What stands for a job: the job as last seen, and its name."""

    job: Job

    @property
    def name(self) -> str: ...


Handle = TypeVar("Handle", bound=_Handle)

# What the mesh takes in one call; of bytes half as many, as answers hold the jobs too.
_BATCH_JOBS = 1_000
_BATCH_BYTES = 2 * 2**20
_COLLECTED_NAMES = 10_000


def make_batches(
    works: Iterable[AnyWork | Job], options: JobOptions, request_id: str
) -> Iterator[BatchCreateJobsRequest]:
    """Yields the calls by which to submit many jobs.

    Args:
        works: What to compute; a Job says all for itself and takes no options.
        options: Of the jobs that are made of works.
        request_id: The n-th job, from 0, gets this with `-n`.

    Raises:
        InvalidField: As make_job().
        TypeError: As make_job().
    """
    template = make_template(options)
    batch, size = BatchCreateJobsRequest(), 0
    for index, work in enumerate(works):
        request = batch.requests.add(request_id=f"{request_id}-{index}")
        if isinstance(work, Job):
            request.job.CopyFrom(work)
        else:
            request.job.CopyFrom(template)
            request.job.work.CopyFrom(wrap(work, f"works[{index}]"))
        size += request.ByteSize()
        if len(batch.requests) == _BATCH_JOBS or size >= _BATCH_BYTES:
            yield batch
            batch, size = BatchCreateJobsRequest(), 0
    if batch.requests:
        yield batch


def as_completed(
    caller: Caller,
    stub: JobServiceStub,
    handles: Iterable[JobHandle],
    *,
    timeout: float | None,
    limits: Limits,
    on_cut: OnCut | None,
) -> Iterator[JobHandle]:
    """Yields the handles as their jobs end; see Client.as_completed()."""
    missing = Missing(handles, timeout)

    def open_stream(left: float | None) -> Stream[CollectJobsResponse]:
        return caller.stream(stub.CollectJobs, missing.request(), left)

    with missing.told():
        while missing:
            left = missing.left()
            for answer in read_on(
                caller,
                open_stream,
                missing.is_last,
                timeout=left,
                limits=limits,
                on_cut=on_cut,
            ):
                yield from missing.take(answer)


class Missing(Generic[Handle]):
    """The jobs that have not ended yet, of those that are waited for.

    Args:
        handles: What to wait for.
        timeout: Seconds to wait; None for as long as it takes.
    """

    def __init__(self, handles: Iterable[Handle], timeout: float | None) -> None:
        self._handles = {handle.name: handle for handle in handles}
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._to_come = 0  # of those that the open stream was asked for

    def __bool__(self) -> bool:
        return bool(self._handles)

    def left(self) -> float | None:
        """Returns the seconds that are left, or None."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def request(self) -> CollectJobsRequest:
        """Returns the request of a stream that brings them, or the first of them."""
        names = list(islice(self._handles, _COLLECTED_NAMES))
        self._to_come = len(names)
        return CollectJobsRequest(names=names)

    def is_last(self, _: CollectJobsResponse) -> bool:
        """Tells whether the stream has done its part."""
        # Where there are more than a call takes, the next begins when half of these have ended.
        few = self._to_come <= _COLLECTED_NAMES // 2
        return not self._to_come or (self._to_come < len(self._handles) and few)

    def take(self, answer: CollectJobsResponse) -> Iterator[Handle]:
        """Yields the handles of the jobs that an answer says have ended."""
        for job in answer.jobs:
            if handle := self._handles.pop(job.name, None):
                self._to_come -= 1
                handle.job = job
                yield handle

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tells of those that are missing when the time is over."""
        try:
            yield
        except DeadlineExceeded as error:
            if self._timeout is None:
                raise
            first = next(iter(self._handles.values()))
            raise WaitTimeout(first.job, self._timeout, len(self._handles)) from error
