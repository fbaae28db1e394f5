"""The gateway's service for dead letters: convert, call the use case, convert."""

from typing import Any

import grpc.aio

from tallymesh.v1 import dead_letter_service_pb2 as pb
from tallymesh.v1 import dead_letter_service_pb2_grpc, errors_pb2
from tallymesh_core.domain.errors import InvalidField
from tallymesh_core.domain.jobs import DeadLetterFilter
from tallymesh_core.rpc import paging
from tallymesh_core.rpc.context import current_caller
from tallymesh_core.store.letters import LetterStore
from tallymesh_gateway import answers, names
from tallymesh_kernels import Registry

Context = grpc.aio.ServicerContext[Any, Any]

_MAX_NAMES = 1000
_MAX_JOBS_TOLD = 1000


class DeadLetterService(dead_letter_service_pb2_grpc.DeadLetterServiceServicer):
    """tallymesh.v1.DeadLetterService."""

    def __init__(self, letters: LetterStore, kernels: Registry, node: str) -> None:
        self._letters = letters
        self._kernels = kernels
        self._node = node

    async def ListDeadLetterGroups(
        self, request: pb.ListDeadLetterGroupsRequest, context: Context
    ) -> pb.ListDeadLetterGroupsResponse:
        """See the proto."""
        size = paging.page_size(request.page_size, 50, 1000)
        groups, cursor = await self._letters.groups(
            current_caller().tenant,
            before=paging.page_cursor(request.page_token, "groups", "[0-9]{1,15}:[0-9a-f]{12}"),
            limit=size,
        )
        return pb.ListDeadLetterGroupsResponse(
            groups=map(answers.dead_letter_group, groups),
            next_page_token=paging.page_token(cursor, "groups") if cursor else "",
            answered_by=self._node,
        )

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: Context
    ) -> pb.ListDeadLettersResponse:
        """See the proto."""
        size = paging.page_size(request.page_size, 50, 1000)
        wanted = self._wanted(request.filter)
        # Tells lists apart, so that a page token is only taken by the list that gave it.
        asked = request.filter.SerializeToString(deterministic=True).hex()
        letters, cursor = await self._letters.page(
            current_caller().tenant,
            wanted,
            before=paging.page_cursor(
                request.page_token, asked, "[0-9]{1,15}:[0-9a-z]{16}:[0-9]{1,7}"
            ),
            limit=size,
        )
        return pb.ListDeadLettersResponse(
            dead_letters=map(answers.dead_letter, letters),
            next_page_token=paging.page_token(cursor, asked) if cursor else "",
            answered_by=self._node,
        )

    async def ReplayDeadLetters(
        self, request: pb.ReplayDeadLettersRequest, context: Context
    ) -> pb.ReplayDeadLettersResponse:
        """See the proto."""
        _demand_condition(request.filter)
        became = await self._letters.replay(
            current_caller().tenant,
            self._wanted(request.filter),
            only_count=request.validate_only,
        )
        return pb.ReplayDeadLettersResponse(
            replayed=became.replayed,
            skipped=became.skipped,
            jobs=[f"jobs/{job_id}" for job_id in became.jobs[:_MAX_JOBS_TOLD]],
            answered_by=self._node,
        )

    async def DeleteDeadLetters(
        self, request: pb.DeleteDeadLettersRequest, context: Context
    ) -> pb.DeleteDeadLettersResponse:
        """See the proto."""
        _demand_condition(request.filter)
        deleted = await self._letters.delete(
            current_caller().tenant,
            self._wanted(request.filter),
            only_count=request.validate_only,
        )
        return pb.DeleteDeadLettersResponse(deleted=deleted, answered_by=self._node)

    def _wanted(self, given: pb.DeadLetterFilter) -> DeadLetterFilter:
        if len(given.names) > _MAX_NAMES:
            raise InvalidField("filter.names", len(given.names), f"at most {_MAX_NAMES} names")
        names.kernel(given.kernel, "filter.kernel", self._kernels)
        reasons = {value: name for name, value in errors_pb2.ErrorReason.items()}
        if given.reason not in reasons:
            raise InvalidField("filter.reason", given.reason, "a reason of an error")
        return DeadLetterFilter(
            chunks=tuple(
                names.chunk(name, f"filter.names[{i}]") for i, name in enumerate(given.names)
            ),
            group=names.letter_group(given.group, "filter.group") if given.group else "",
            job_id=names.job_id(given.job, "filter.job") if given.job else "",
            kernel=given.kernel,
            reason=reasons[given.reason].removeprefix("ERROR_REASON_") if given.reason else "",
            from_ms=names.moment(given.fail_time_from, "filter.fail_time_from")
            if given.HasField("fail_time_from")
            else None,
            until_ms=names.moment(given.fail_time_until, "filter.fail_time_until")
            if given.HasField("fail_time_until")
            else None,
        )


def _demand_condition(given: pb.DeadLetterFilter) -> None:
    if not given.ByteSize():
        raise InvalidField("filter", "", "a filter with at least one condition")
