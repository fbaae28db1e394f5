"""A named exact sum in the mesh, awaited: as tallymesh.abacus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from tallymesh.abacus import make_addition
from tallymesh.aio.calls import AsyncCaller, read_on
from tallymesh.arguments import PageSize, checked
from tallymesh.belonging import NotPickled
from tallymesh.calls import new_request_id
from tallymesh.many_numbers import joined, make_uploads
from tallymesh.v1.abacus_service_pb2 import (
    AddNumberResponse,
    AddNumbersResponse,
    DeleteAbacusRequest,
    GetSumRequest,
    LedgerEntry,
    ListEntriesRequest,
    ResetSumRequest,
    ResetSumResponse,
    Sum,
    WatchSumRequest,
)
from tallymesh.watching import DEFAULT_LIMITS, Limits, OnCut

if TYPE_CHECKING:
    from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceAsyncStub


@checked
class AsyncAbacus(NotPickled):
    """An abacus, as Abacus. It comes into being by its first use, with the sum 0.

    Attributes:
        name: Resource name, `abaci/{abacus}`.
    """

    _instead = "pass its name on, and take client.abacus(name) there"

    def __init__(
        self,
        caller: AsyncCaller,
        stub: AbacusServiceAsyncStub,
        name: str,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.name = name
        self._caller = caller
        self._stub = stub
        self._limits = limits

    def __repr__(self) -> str:
        return f"<AsyncAbacus {self.name}>"

    @property
    def sum(self) -> Awaitable[Decimal]:
        """The exact sum, to be awaited; asked for anew each time."""
        return self._sum()

    async def read(self) -> Sum:
        """Returns the sum with what is known of it, as Abacus.read()."""
        return await self._caller.unary(self._stub.GetSum, GetSumRequest(name=self.name))

    async def add(
        self,
        amount: int | Decimal | str,
        *,
        request_id: str | None = None,
        expected_etag: str = "",
    ) -> Decimal:
        """Adds a number and returns the sum just after, as Abacus.add()."""
        answer = await self.post(amount, request_id=request_id, expected_etag=expected_etag)
        return Decimal(answer.sum.value)

    async def post(
        self,
        amount: int | Decimal | str,
        *,
        request_id: str | None = None,
        expected_etag: str = "",
    ) -> AddNumberResponse:
        """As add(), with the mesh's whole answer."""
        request = make_addition(self.name, amount, request_id, expected_etag)
        return await self._caller.unary(self._stub.AddNumber, request)

    async def add_many(
        self,
        amounts: Iterable[int | Decimal | str],
        *,
        stream_id: str | None = None,
        timeout: float | None = None,
    ) -> Decimal:
        """Adds many numbers and returns the sum just after, as Abacus.add_many()."""
        answer = await self.post_many(amounts, stream_id=stream_id, timeout=timeout)
        return Decimal(answer.sum.value)

    async def post_many(
        self,
        amounts: Iterable[int | Decimal | str],
        *,
        stream_id: str | None = None,
        timeout: float | None = None,
    ) -> AddNumbersResponse:
        """As add_many(), with the mesh's whole answer."""
        whole: AddNumbersResponse | None = None
        for batches in make_uploads(self.name, amounts, stream_id or new_request_id()):
            answer = await self._caller.upload(self._stub.AddNumbers, batches, timeout)
            whole = joined(whole, answer)
        return whole or AddNumbersResponse(added="0", sum=await self.read())

    async def reset(self, *, request_id: str | None = None, expected_etag: str = "") -> Decimal:
        """Sets the sum to 0 and returns what it was just before, as Abacus.reset()."""
        cleared = await self.clear(request_id=request_id, expected_etag=expected_etag)
        return Decimal(cleared.previous.value)

    async def clear(
        self, *, request_id: str | None = None, expected_etag: str = ""
    ) -> ResetSumResponse:
        """As reset(), with the mesh's whole answer."""
        request = ResetSumRequest(
            name=self.name,
            request_id=request_id or new_request_id(),
            expected_etag=expected_etag,
        )
        return await self._caller.unary(self._stub.ResetSum, request)

    async def delete(self, *, request_id: str | None = None, expected_etag: str = "") -> Sum:
        """Deletes the abacus with its ledger, and returns what it was, as Abacus.delete()."""
        request = DeleteAbacusRequest(
            name=self.name,
            request_id=request_id or new_request_id(),
            expected_etag=expected_etag,
        )
        return (await self._caller.unary(self._stub.DeleteAbacus, request)).previous

    async def entries(self, *, page_size: PageSize = 50) -> AsyncIterator[LedgerEntry]:
        """Yields the changes of the abacus, the newest first, as Abacus.entries()."""
        request = ListEntriesRequest(parent=self.name, page_size=page_size)
        while True:
            page = await self._caller.unary(self._stub.ListEntries, request)
            for entry in page.entries:
                yield entry
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch(
        self, *, timeout: float | None = None, on_cut: OnCut | None = None
    ) -> AsyncIterator[Sum]:
        """Yields the sum as it is, then whenever it has changed, as Abacus.watch()."""
        request = WatchSumRequest(name=self.name)
        seen: int | None = None
        async for current in read_on(
            self._caller,
            lambda left: self._caller.stream(self._stub.WatchSum, request, left),
            lambda _: False,
            timeout=timeout,
            limits=self._limits,
            on_cut=on_cut,
        ):
            if current.version != seen:
                seen = current.version
                yield current

    async def _sum(self) -> Decimal:
        return Decimal((await self.read()).value)
