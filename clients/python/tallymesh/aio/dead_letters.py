"""Dead letters, awaited: as tallymesh.dead_letters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Unpack

from tallymesh.aio.calls import AsyncCaller
from tallymesh.arguments import PageSize, checked
from tallymesh.belonging import NotPickled
from tallymesh.dead_letters import DeadLetterConditions, make_filter
from tallymesh.v1.dead_letter_service_pb2 import (
    DeadLetter,
    DeadLetterGroup,
    DeleteDeadLettersRequest,
    DeleteDeadLettersResponse,
    ListDeadLetterGroupsRequest,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
    ReplayDeadLettersResponse,
)

if TYPE_CHECKING:
    from tallymesh.v1.dead_letter_service_pb2_grpc import DeadLetterServiceAsyncStub


@checked
class AsyncDeadLetters(NotPickled):
    """The dead letters of a mesh, as DeadLetters."""

    _instead = "take client.dead_letters there"

    def __init__(self, caller: AsyncCaller, stub: DeadLetterServiceAsyncStub) -> None:
        self._caller = caller
        self._stub = stub

    async def groups(self, page_size: PageSize = 50) -> AsyncIterator[DeadLetterGroup]:
        """Yields the kinds of error that dead letters died of, as DeadLetters.groups()."""
        request = ListDeadLetterGroupsRequest(page_size=page_size)
        while True:
            page = await self._caller.unary(self._stub.ListDeadLetterGroups, request)
            for group in page.groups:
                yield group
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def list(
        self, page_size: PageSize = 50, **conditions: Unpack[DeadLetterConditions]
    ) -> AsyncIterator[DeadLetter]:
        """Yields dead letters, the newest first, as DeadLetters.list()."""
        request = ListDeadLettersRequest(filter=make_filter(conditions), page_size=page_size)
        while True:
            page = await self._caller.unary(self._stub.ListDeadLetters, request)
            for letter in page.dead_letters:
                yield letter
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def replay(
        self, *, validate_only: bool = False, **conditions: Unpack[DeadLetterConditions]
    ) -> ReplayDeadLettersResponse:
        """Runs dead letters again, as DeadLetters.replay()."""
        chosen = make_filter(conditions)
        request = ReplayDeadLettersRequest(filter=chosen, validate_only=validate_only)
        return await self._caller.unary(self._stub.ReplayDeadLetters, request)

    async def delete(
        self, *, validate_only: bool = False, **conditions: Unpack[DeadLetterConditions]
    ) -> DeleteDeadLettersResponse:
        """Forgets dead letters, as DeadLetters.delete()."""
        chosen = make_filter(conditions)
        request = DeleteDeadLettersRequest(filter=chosen, validate_only=validate_only)
        return await self._caller.unary(self._stub.DeleteDeadLetters, request)
