"""AbacusService: reads requests, has the store do it, writes answers."""

import contextlib
from collections.abc import AsyncIterator

from tallymesh.v1 import abacus_service_pb2 as pb
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceServicer
from tallymesh_abacus import requests
from tallymesh_abacus.adder import Adder
from tallymesh_abacus.answers import write_entry, write_sum
from tallymesh_abacus.stream import Upload
from tallymesh_abacus.watch import Watches
from tallymesh_core.domain.decimals import format_decimal
from tallymesh_core.domain.errors import ShuttingDown
from tallymesh_core.rpc.context import current_caller
from tallymesh_core.rpc.paging import page_cursor, page_size, page_token
from tallymesh_core.store.abaci import Abaci, Add
from tallymesh_core.store.connection import Store
from tallymesh_core.store.ledger import Ledger, Origin
from tallymesh_core.store.sums import Abacus, Sum

# A page of the longest sums there may be, some 5 KiB each, has to fit into a message.
_PAGE, _MAX_PAGE = 50, 500


class AbacusService(AbacusServiceServicer):
    """The handlers of one abacus node."""

    def __init__(self, node: str, store: Store) -> None:
        """Makes the handlers.

        Args:
            node: Name of this process, told in answers.
            store: Where the abaci are; calls answer UNAVAILABLE until it is connected.
        """
        self._node = node
        self._abaci = Abaci(store)
        self._adder = Adder(self._abaci)
        self._ledger = Ledger(store)
        self._watches = Watches(self._abaci, store, node)
        self._closed = False

    def close(self) -> None:
        """Ends what may have no end of its own; other calls are answered on."""
        self._closed = True
        self._watches.close()

    async def AddNumber(
        self, request: pb.AddNumberRequest, context: object
    ) -> pb.AddNumberResponse:
        """Adds a number."""
        abacus = requests.abacus(request.name)
        add = Add(
            abacus,
            requests.amount(request),
            self._origin(),
            requests.once(request.request_id, request.job),
            requests.etag(request.expected_etag),
        )
        added = await self._adder.add(add)
        return pb.AddNumberResponse(
            added=format_decimal(add.amount),
            sum=self._told(abacus, added.sum),
            repeated=added.repeated,
        )

    async def AddNumbers(
        self, messages: AsyncIterator[pb.AddNumbersRequest], context: object
    ) -> pb.AddNumbersResponse:
        """Adds many numbers."""
        upload = Upload(self._abaci, self._origin())
        async for message in messages:
            if self._closed:
                raise ShuttingDown(self._node)
            await upload.add(message)
        done = upload.end()
        return pb.AddNumbersResponse(
            accepted_count=done.accepted,
            repeated_count=done.repeated,
            added=format_decimal(done.added),
            sum=self._told(done.abacus, done.sum),
            sequence=done.sequence,
        )

    async def GetSum(self, request: pb.GetSumRequest, context: object) -> pb.Sum:
        """Returns the sum."""
        abacus = requests.abacus(request.name)
        return self._told(abacus, await self._abaci.get(abacus))

    async def ResetSum(self, request: pb.ResetSumRequest, context: object) -> pb.ResetSumResponse:
        """Sets the sum to 0."""
        abacus = requests.abacus(request.name)
        reset = await self._abaci.reset(
            abacus,
            self._origin(),
            requests.once(request.request_id),
            requests.etag(request.expected_etag),
        )
        return pb.ResetSumResponse(
            previous=self._told(abacus, reset.previous),
            sum=self._told(abacus, reset.sum),
            repeated=reset.repeated,
        )

    async def WatchSum(self, request: pb.WatchSumRequest, context: object) -> AsyncIterator[pb.Sum]:
        """Streams the sum."""
        abacus = requests.abacus(request.name)
        async with contextlib.aclosing(self._watches.watch(abacus)) as sums:
            async for one in sums:
                yield self._told(abacus, one)

    async def ListAbaci(
        self, request: pb.ListAbaciRequest, context: object
    ) -> pb.ListAbaciResponse:
        """Lists abaci by name."""
        size = page_size(request.page_size, _PAGE, _MAX_PAGE)
        after = page_cursor(request.page_token, "abaci", "[a-z0-9-]{1,63}")
        page, following = await self._abaci.page(current_caller().tenant, after, size)
        return pb.ListAbaciResponse(
            abaci=[self._told(abacus, state) for abacus, state in page],
            next_page_token=page_token(following, "abaci") if following else "",
        )

    async def DeleteAbacus(
        self, request: pb.DeleteAbacusRequest, context: object
    ) -> pb.DeleteAbacusResponse:
        """Deletes an abacus."""
        abacus = requests.abacus(request.name)
        deleted = await self._abaci.delete(
            abacus, requests.once(request.request_id), requests.etag(request.expected_etag)
        )
        return pb.DeleteAbacusResponse(
            previous=self._told(abacus, deleted.previous), repeated=deleted.repeated
        )

    async def ListEntries(
        self, request: pb.ListEntriesRequest, context: object
    ) -> pb.ListEntriesResponse:
        """Lists the changes of an abacus, the newest first."""
        abacus = requests.abacus(request.parent, "parent")
        size = page_size(request.page_size, _PAGE, _MAX_PAGE)
        cursor = page_cursor(request.page_token, request.parent, "[1-9][0-9]{0,18}")
        before = int(cursor) if cursor else None
        page, following = await self._ledger.page(abacus, before, size)
        return pb.ListEntriesResponse(
            entries=[write_entry(abacus, entry) for entry in page],
            next_page_token=page_token(str(following), request.parent) if following else "",
        )

    def _origin(self) -> Origin:
        return Origin(current_caller().principal, self._node)

    def _told(self, abacus: Abacus, state: Sum) -> pb.Sum:
        return write_sum(abacus, state, self._node)
