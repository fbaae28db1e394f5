"""Which jobs to list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypedDict

from tallymesh.arguments import each
from tallymesh.v1.job_service_pb2 import JOB_VIEW_BASIC, JOB_VIEW_FULL, ListJobsRequest
from tallymesh.works import demand_known, parse_state


class JobFilters(TypedDict, total=False):
    """Which jobs: all filters given must apply.

    Attributes:
        states: Names of states, such as "running".
        kernel: Only jobs of this kernel.
        queue: Only jobs of this queue.
        labels: Only jobs with all of these labels.
        created_from: Only jobs accepted at or after this time; without a zone it is UTC.
        created_until: Only jobs accepted before this time.
    """

    states: Iterable[str] | None
    kernel: str | None
    queue: str | None
    labels: Mapping[str, str] | None
    created_from: datetime | None
    created_until: datetime | None


def make_list_request(filters: JobFilters, *, full: bool, page_size: int) -> ListJobsRequest:
    """Returns the request for the first page of jobs.

    Raises:
        InvalidField: There is no such state.
        TypeError: There is no such filter.
    """
    demand_known(filters, JobFilters, "filter of jobs")
    request = ListJobsRequest(
        page_size=page_size,
        states=[parse_state(one) for one in each("states", filters.get("states") or (), str)],
        kernel=filters.get("kernel") or "",
        queue=filters.get("queue") or "",
        labels=[f"{key}={value}" for key, value in (filters.get("labels") or {}).items()],
        view=JOB_VIEW_FULL if full else JOB_VIEW_BASIC,
    )
    if (since := filters.get("created_from")) is not None:
        request.create_time_from.FromDatetime(since)
    if (until := filters.get("created_until")) is not None:
        request.create_time_until.FromDatetime(until)
    return request
