"""A named exact sum in the mesh, shared by everyone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from tallymesh.arguments import PageSize, checked
from tallymesh.belonging import NotPickled
from tallymesh.calls import Caller, Stream, new_request_id
from tallymesh.many_numbers import add_many
from tallymesh.quantities import exact_text
from tallymesh.v1.abacus_service_pb2 import (
    AddNumberRequest,
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
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tallymesh.watching import DEFAULT_LIMITS, Limits, OnCut, read_on
from tallymesh.works import unfit_number


@checked
class Abacus(NotPickled):
    """An abacus. It comes into being by its first use, with the sum 0.

    Attributes:
        name: Resource name, `abaci/{abacus}`.
    """

    _instead = "pass its name on, and take client.abacus(name) there"

    def __init__(
        self, caller: Caller, stub: AbacusServiceStub, name: str, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.name = name
        self._caller = caller
        self._stub = stub
        self._limits = limits

    def __repr__(self) -> str:
        return f"<Abacus {self.name}>"

    @property
    def sum(self) -> Decimal:
        """The exact sum, asked for anew each time."""
        return Decimal(self.read().value)

    def read(self) -> Sum:
        """Returns the sum with what is known of it: its etag, how many adds, when, who answered."""
        return self._caller.unary(self._stub.GetSum, GetSumRequest(name=self.name))

    def add(
        self,
        amount: int | Decimal | str,
        *,
        request_id: str | None = None,
        expected_etag: str = "",
    ) -> Decimal:
        """Adds a number, a negative one subtracts, and returns the sum just after.

        Args:
            amount: Any int or Decimal, or a str such as "10_000", "1e10" or "2**40".
            request_id: Makes it safe to add again what may have been added already: under one id
                it counts once. Default a new one, which covers the retries of this call.
            expected_etag: The etag of the sum that this is meant for, as read() tells it. If the
                sum has changed since, nothing is added.

        Raises:
            EtagMismatch: The sum has changed; read it again.
            TypeError: The amount is a float.
            InvalidField: The amount is no number, or longer than 4,096 digits.
            RequestIdReused: The id was used before to add something else.
        """
        return Decimal(
            self.post(amount, request_id=request_id, expected_etag=expected_etag).sum.value
        )

    def post(
        self,
        amount: int | Decimal | str,
        *,
        request_id: str | None = None,
        expected_etag: str = "",
    ) -> AddNumberResponse:
        """As add(), with the mesh's whole answer."""
        request = make_addition(self.name, amount, request_id, expected_etag)
        return self._caller.unary(self._stub.AddNumber, request)

    def add_many(
        self,
        amounts: Iterable[int | Decimal | str],
        *,
        stream_id: str | None = None,
        timeout: float | None = None,
    ) -> Decimal:
        """Adds many numbers, far faster than one by one, and returns the sum just after.

        They go in messages of up to 10,000, each of which is one change of the abacus, and in calls
        of up to 32 of those. When a call fails, those before it have been added, and perhaps some
        of its own: the same numbers under the same `stream_id` count once.

        Args:
            amounts: As add() takes.
            stream_id: Makes it safe to add again what may have been added already. Default a new
                one, which covers the retries of these calls.
            timeout: Seconds for each call; None for the client's own.

        Raises:
            TypeError: An amount is a float.
            InvalidField: An amount is no number, or longer than 4,096 digits.
            RequestIdReused: The stream_id was used before to add other numbers.
        """
        return Decimal(self.post_many(amounts, stream_id=stream_id, timeout=timeout).sum.value)

    def post_many(
        self,
        amounts: Iterable[int | Decimal | str],
        *,
        stream_id: str | None = None,
        timeout: float | None = None,
    ) -> AddNumbersResponse:
        """As add_many(), with the mesh's whole answer."""
        answer = add_many(
            self._caller,
            self._stub,
            self.name,
            amounts,
            stream_id=stream_id or new_request_id(),
            timeout=timeout,
        )
        return answer or AddNumbersResponse(added="0", sum=self.read())

    def reset(self, *, request_id: str | None = None, expected_etag: str = "") -> Decimal:
        """Sets the sum to 0 and returns what it was just before.

        Args:
            request_id: As of add().
            expected_etag: As of add().

        Raises:
            EtagMismatch: The sum has changed; read it again.
        """
        cleared = self.clear(request_id=request_id, expected_etag=expected_etag)
        return Decimal(cleared.previous.value)

    def clear(self, *, request_id: str | None = None, expected_etag: str = "") -> ResetSumResponse:
        """As reset(), with the mesh's whole answer."""
        request = ResetSumRequest(
            name=self.name,
            request_id=request_id or new_request_id(),
            expected_etag=expected_etag,
        )
        return self._caller.unary(self._stub.ResetSum, request)

    def delete(self, *, request_id: str | None = None, expected_etag: str = "") -> Sum:
        """Deletes the abacus with its ledger, and returns what it was just before.

        Its next use makes a new one. What was added under an id counts in that one no second time.

        Args:
            request_id: As of add().
            expected_etag: As of add().

        Raises:
            NotFound: There is no such abacus.
            EtagMismatch: The sum has changed; read it again.
        """
        request = DeleteAbacusRequest(
            name=self.name,
            request_id=request_id or new_request_id(),
            expected_etag=expected_etag,
        )
        return self._caller.unary(self._stub.DeleteAbacus, request).previous

    def entries(self, *, page_size: PageSize = 50) -> Iterator[LedgerEntry]:
        """Yields the changes of the abacus, the newest first, page by page; about the last 1,000.

        Args:
            page_size: How many to ask for in one call, 1 to 500.
        """
        request = ListEntriesRequest(parent=self.name, page_size=page_size)
        while True:
            page = self._caller.unary(self._stub.ListEntries, request)
            yield from page.entries
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def watch(self, *, timeout: float | None = None, on_cut: OnCut | None = None) -> Iterator[Sum]:
        """Yields the sum as it is, then whenever it has changed, without an end of its own.

        Args:
            timeout: Seconds after which to end with DeadlineExceeded; None for never.
            on_cut: Told of every cut of the stream that is being mended.
        """

        def open_stream(left: float | None) -> Stream[Sum]:
            return self._caller.stream(self._stub.WatchSum, WatchSumRequest(name=self.name), left)

        seen: int | None = None
        sums = read_on(
            self._caller,
            open_stream,
            lambda _: False,
            timeout=timeout,
            limits=self._limits,
            on_cut=on_cut,
        )
        for current in sums:
            if current.version != seen:
                seen = current.version
                yield current


def make_addition(
    name: str, amount: int | Decimal | str, request_id: str | None, expected_etag: str
) -> AddNumberRequest:
    """Returns the request that adds a number; errors as of Abacus.add()."""
    request = AddNumberRequest(
        name=name, request_id=request_id or new_request_id(), expected_etag=expected_etag
    )
    if isinstance(amount, int) and -(2**63) <= amount < 2**63:
        request.number = amount
        return request
    try:
        request.decimal = exact_text(amount)
    except (TypeError, ValueError) as error:
        bound = "a number of at most 4,096 digits"
        raise unfit_number("amount", amount, error, bound) from error
    return request
