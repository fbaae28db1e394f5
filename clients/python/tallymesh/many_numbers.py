"""Many numbers at once: streamed in messages that the mesh adds as one change each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from itertools import islice
from typing import TypeGuard, cast

from tallymesh.calls import Caller
from tallymesh.quantities import exact_text
from tallymesh.v1.abacus_service_pb2 import AddNumbersRequest, AddNumbersResponse
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tallymesh.works import unfit_number

# What the mesh takes in one message is 10,000 numbers and 4 MiB.
_BATCH_NUMBERS = 10_000
_BATCH_BYTES = 2**20
# What is sent in one call is kept until its answer is here, as it may have to be sent again.
_CALL_BATCHES = 32

# Python's usual one rounds to 28 digits.
_EXACTLY = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


def add_many(
    caller: Caller,
    stub: AbacusServiceStub,
    name: str,
    amounts: Iterable[int | Decimal | str],
    *,
    stream_id: str,
    timeout: float | None,
) -> AddNumbersResponse | None:
    """Adds numbers; see Abacus.add_many(). Returns None if there are none."""
    whole: AddNumbersResponse | None = None
    for batches in make_uploads(name, amounts, stream_id):
        whole = joined(whole, caller.upload(stub.AddNumbers, batches, timeout))
    return whole


def make_uploads(
    name: str, amounts: Iterable[int | Decimal | str], stream_id: str
) -> Iterator[list[AddNumbersRequest]]:
    """Yields the messages of each call by which to add numbers.

    Raises:
        InvalidField: An amount is no number, or too long.
        TypeError: An amount is a float.
    """
    batches = enumerate(_make_batches(amounts), start=1)
    while sent := list(islice(batches, _CALL_BATCHES)):
        for sequence, batch in sent:
            batch.sequence = sequence
        sent[0][1].name, sent[0][1].stream_id = name, stream_id
        yield [batch for _, batch in sent]


def joined(before: AddNumbersResponse | None, last: AddNumbersResponse) -> AddNumbersResponse:
    """Joins the answers to two calls, one after the other, into the last one."""
    if before is not None:
        last.accepted_count += before.accepted_count
        last.repeated_count += before.repeated_count
        last.added = _sum_text(before.added, last.added)
    return last


def _make_batches(amounts: Iterable[int | Decimal | str]) -> Iterator[AddNumbersRequest]:
    """Yields the messages by which to send the numbers; the same numbers make the same messages."""
    rest = iter(amounts)
    count = 0
    while some := list(islice(rest, _BATCH_NUMBERS)):
        if _are_short(some):
            yield AddNumbersRequest(numbers=some)
        else:
            yield from _make_mixed(some, count)
        count += len(some)


def _are_short(amounts: list[int | Decimal | str]) -> TypeGuard[list[int]]:
    # Looked at by builtins alone, as this is most of the time that a number takes.
    if set(map(type, amounts)) != {int}:
        return False
    whole = cast("list[int]", amounts)
    return min(whole) >= _SMALLEST and max(whole) <= _LARGEST


def _make_mixed(amounts: list[int | Decimal | str], first: int) -> Iterator[AddNumbersRequest]:
    batch, size = AddNumbersRequest(), 0
    for index, amount in enumerate(amounts, first):
        if isinstance(amount, int) and _SMALLEST <= amount <= _LARGEST:
            batch.numbers.append(int(amount))
            continue
        try:
            text = exact_text(amount)
        except (TypeError, ValueError) as error:
            bound = "a number of at most 4,096 digits"
            raise unfit_number(f"amounts[{index}]", amount, error, bound) from error
        batch.decimals.append(text)
        size += len(text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = AddNumbersRequest(), 0
    if batch.numbers or batch.decimals:
        yield batch


def _sum_text(one: str, other: str) -> str:
    text = f"{_EXACTLY.add(Decimal(one), Decimal(other)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
