"""Many jobs at once: submitted in batches, collected from one stream as they end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice

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
            request.job.work.CopyFrom(wrap(work))
        size += request.ByteSize()
        if len(batch.requests) == _BATCH_JOBS or size >= _BATCH_BYTES:
            yield batch
            batch, size = BatchCreateJobsRequest(), 0
    if batch.requests:
        yield batch


def collect(
    caller: Caller,
    stub: JobServiceStub,
    handles: Iterable[JobHandle],
    *,
    timeout: float | None,
    limits: Limits,
    on_cut: OnCut | None,
) -> Iterator[JobHandle]:
    """Yields the handles as their jobs end; see Client.collect()."""
    missing = {handle.name: handle for handle in handles}
    deadline = None if timeout is None else time.monotonic() + timeout
    to_come = 0  # of those that the open stream was asked for

    def open_stream(left: float | None) -> Stream[CollectJobsResponse]:
        nonlocal to_come
        names = list(islice(missing, _COLLECTED_NAMES))
        to_come = len(names)
        return caller.stream(stub.CollectJobs, CollectJobsRequest(names=names), left)

    def is_last(_: CollectJobsResponse) -> bool:
        # Where there are more than a call takes, the next begins when half of these have ended.
        return not to_come or (to_come < len(missing) and to_come <= _COLLECTED_NAMES // 2)

    try:
        while missing:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            for answer in read_on(open_stream, is_last, timeout=left, limits=limits, on_cut=on_cut):
                for job in answer.jobs:
                    if handle := missing.pop(job.name, None):
                        to_come -= 1
                        handle.job = job
                        yield handle
    except DeadlineExceeded as error:
        if timeout is None:
            raise
        first = next(iter(missing.values()))
        raise WaitTimeout(first.job, timeout, len(missing)) from error
