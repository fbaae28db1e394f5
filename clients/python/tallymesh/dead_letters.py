"""Dead letters: chunks that were given up, to be looked at, replayed or forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TypedDict, Unpack

from tallymesh.arguments import PageSize, checked, each
from tallymesh.belonging import NotPickled
from tallymesh.calls import Caller
from tallymesh.v1.dead_letter_service_pb2 import (
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
    DeleteDeadLettersRequest,
    DeleteDeadLettersResponse,
    ListDeadLetterGroupsRequest,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
    ReplayDeadLettersResponse,
)
from tallymesh.v1.dead_letter_service_pb2_grpc import DeadLetterServiceStub
from tallymesh.works import demand_known, parse_reason, resource_name


class DeadLetterConditions(TypedDict, total=False):
    """Which dead letters: all conditions given must hold.

    Attributes:
        names: Of these names, `jobs/{job}/chunks/{chunk}`; at most 1,000.
        group: Of this kind of error, with or without `deadLetterGroups/`.
        job: Of this job, with or without `jobs/`.
        kernel: Of this kernel.
        reason: With this reason, such as "CHUNK_FAILED", in either case.
        failed_from: Given up at or after this time; without a zone it is UTC.
        failed_until: Given up before this time.
    """

    names: Iterable[str] | None
    group: str | None
    job: str | None
    kernel: str | None
    reason: str | None
    failed_from: datetime | None
    failed_until: datetime | None


@checked
class DeadLetters(NotPickled):
    """The dead letters of a mesh, as `client.dead_letters`.

    A chunk that has failed as often as it may, or has lost its worker too often, is one until it is
    replayed or deleted, or its job expires.
    """

    _instead = "take client.dead_letters there"

    def __init__(self, caller: Caller, stub: DeadLetterServiceStub) -> None:
        self._caller = caller
        self._stub = stub

    def groups(self, page_size: PageSize = 50) -> Iterator[DeadLetterGroup]:
        """Yields the kinds of error that dead letters died of, the one seen last first.

        Args:
            page_size: How many to ask for in one call, 1 to 1,000.
        """
        request = ListDeadLetterGroupsRequest(page_size=page_size)
        while True:
            page = self._caller.unary(self._stub.ListDeadLetterGroups, request)
            yield from page.groups
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def list(
        self, page_size: PageSize = 50, **conditions: Unpack[DeadLetterConditions]
    ) -> Iterator[DeadLetter]:
        """Yields dead letters, the newest first.

        Args:
            page_size: How many to ask for in one call, 1 to 1,000.
            **conditions: As of DeadLetterConditions; none for all.

        Raises:
            InvalidField: A condition is malformed.
        """
        request = ListDeadLettersRequest(filter=make_filter(conditions), page_size=page_size)
        while True:
            page = self._caller.unary(self._stub.ListDeadLetters, request)
            yield from page.dead_letters
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def replay(
        self, *, validate_only: bool = False, **conditions: Unpack[DeadLetterConditions]
    ) -> ReplayDeadLettersResponse:
        """Runs dead letters again, their attempts anew, and tells how many and of which jobs.

        A failed job is replayed for it. The letters of jobs that have succeeded or were cancelled
        stay, and count as skipped.

        Args:
            validate_only: Only count; change nothing.
            **conditions: As of DeadLetterConditions, at least one.

        Raises:
            InvalidField: A condition is malformed, or there is none.
        """
        request = ReplayDeadLettersRequest(
            filter=make_filter(conditions), validate_only=validate_only
        )
        return self._caller.unary(self._stub.ReplayDeadLetters, request)

    def delete(
        self, *, validate_only: bool = False, **conditions: Unpack[DeadLetterConditions]
    ) -> DeleteDeadLettersResponse:
        """Forgets dead letters, and tells how many. Their jobs stay as they are.

        Args and errors as of replay().
        """
        request = DeleteDeadLettersRequest(
            filter=make_filter(conditions), validate_only=validate_only
        )
        return self._caller.unary(self._stub.DeleteDeadLetters, request)


def make_filter(conditions: DeadLetterConditions) -> DeadLetterFilter:
    """Returns the filter that the conditions say; errors as of DeadLetters.list()."""
    demand_known(conditions, DeadLetterConditions, "condition on dead letters")
    chosen = DeadLetterFilter(
        names=[
            resource_name("jobs", name)
            for name in each("names", conditions.get("names") or (), str)
        ],
        kernel=conditions.get("kernel") or "",
    )
    if group := conditions.get("group"):
        chosen.group = resource_name("deadLetterGroups", group)
    if job := conditions.get("job"):
        chosen.job = resource_name("jobs", job)
    if reason := conditions.get("reason"):
        chosen.reason = parse_reason(reason)
    if (since := conditions.get("failed_from")) is not None:
        chosen.fail_time_from.FromDatetime(since)
    if (until := conditions.get("failed_until")) is not None:
        chosen.fail_time_until.FromDatetime(until)
    return chosen
