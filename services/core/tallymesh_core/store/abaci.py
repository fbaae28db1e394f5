"""Abaci: named exact sums, added to by anyone at once, each add counted once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from tallymesh_core.domain.decimals import Exact, format_decimal
from tallymesh_core.domain.errors import (
    BatchesMissing,
    DomainError,
    EtagMismatch,
    NotFound,
    RequestIdForgotten,
    RequestIdReused,
)
from tallymesh_core.store import rods
from tallymesh_core.store.connection import Store
from tallymesh_core.store.ledger import KEPT, Kind, Origin, pack_entry
from tallymesh_core.store.once import Memory, Once
from tallymesh_core.store.scripts import Script
from tallymesh_core.store.sums import Abacus, Sum

#: Where a limb hands its carry on: after a million adds at the earliest, and far below 2^52, up to
#: which Lua is exact.
_LIMB_LIMIT = 2**50
#: An id is forgotten when so many have come after it, however short a time that took.
_REMEMBERED = 1_000_000

_ADD = Script.load("abacus_add")
_ADD_BATCH = Script.load("abacus_add_batch")
_RESET = Script.load("abacus_reset")
_DELETE = Script.load("abacus_delete")


class _Code(IntEnum):
    """What abacus_add.lua, abacus_reset.lua and abacus_delete.lua answer."""

    DONE = 0
    REPEATED = 1
    REUSED = 2
    CHANGED = 3
    FORGOTTEN = 4
    MISSING = 5


class _BatchCode(IntEnum):
    """What abacus_add_batch.lua answers."""

    ADDED = 0
    REPEATED = 1
    MISSING = 2
    FORGOTTEN = 3
    REUSED = 4


@dataclass(frozen=True, slots=True)
class Add:
    """An add to be made.

    Attributes:
        abacus: To which.
        amount: What is added.
        origin: Where it comes from.
        once: Makes it count once.
        expected_etag: If given, the add is made only to a sum of this etag.
    """

    abacus: Abacus
    amount: Exact
    origin: Origin
    once: Once | None = None
    expected_etag: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """What several adds of a stream come to.

    Attributes:
        abacus: To which.
        amount: The sum of all of them.
        add_count: How many they are.
        origin: Where they come from.
        stream_id: Names the stream, so that the batch counts once; "" counts it each time.
        sequence: The batch's number in the stream, from 1 on.
    """

    abacus: Abacus
    amount: Exact
    add_count: int
    origin: Origin
    stream_id: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Added:
    """The answer to an add: the sum just after, and whether it had been counted before."""

    sum: Sum
    repeated: bool


@dataclass(frozen=True, slots=True)
class AddedBatch:
    """The answer to a batch.

    Attributes:
        sum: The sum just after; of a batch that had been counted before, the sum as it is.
        repeated: Whether it had been counted before.
        last: Number of the last batch of its stream that was added; 0 without a stream.
    """

    sum: Sum
    repeated: bool
    last: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The answer to a reset: the sums before and after, and whether it had been done before."""

    previous: Sum
    sum: Sum
    repeated: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """The answer to a delete: the sum just before, and whether it had been done before."""

    previous: Sum
    repeated: bool


class Abaci:
    """The abaci of a store."""

    def __init__(
        self, store: Store, *, limb_limit: int = _LIMB_LIMIT, remembered: int = _REMEMBERED
    ) -> None:
        """Opens the abaci of a store.

        Args:
            store: Where they are kept.
            limb_limit: Where a limb hands its carry on: 10^9 to 2^50.
            remembered: An id is forgotten when so many have come after it to its abacus.
        """
        self._store = store
        self._limb_limit = limb_limit
        self._remembered = remembered

    def shard_of(self, abacus: Abacus) -> int:
        """Returns the shard on which an abacus lives."""
        return self._store.shard_of(*abacus)

    async def add(self, shard: int, adds: Sequence[Add]) -> list[Added | DomainError]:
        """Makes adds in one step of the store, one after the other.

        Args:
            shard: Where the abaci of all of them live.
            adds: The adds. Each stands for itself: a refused one leaves the others be.

        Returns:
            The answer to each, in their order: RequestIdReused if its id stands for another
            request, RequestIdForgotten if it may stand for a request of long ago, EtagMismatch if
            the abacus has another etag than expected.

        Raises:
            StoreUnavailable: The store gave no answer. The adds may have been made or not: those
                with a `once` can safely be asked for again.
        """
        arguments: list[str | int | bytes] = [self._limb_limit, KEPT]
        for add in adds:
            amount, limbs = format_decimal(add.amount), rods.split(add.amount)
            id_ = add.once.id if add.once else ""
            kind = Kind.JOB if add.once and add.once.memory is Memory.JOBS else Kind.ADD
            arguments += self._identity(add.abacus, add.once, f"add {amount} {add.expected_etag}")
            arguments.append(pack_entry(kind, add.origin, amount=amount, add_count=1, id_=id_))
            arguments += (add.expected_etag, len(limbs))
            for limb in limbs.items():
                arguments += limb
        answers = await self._store.run(_ADD, shard, *arguments)
        return [
            _refusal(_Code(code), add.abacus, add.once, add.expected_etag, record)
            or Added(Sum.from_record(record), code == _Code.REPEATED)
            for add, code, record in zip(adds, answers[::2], answers[1::2], strict=True)
        ]

    async def add_batch(self, batch: Batch) -> AddedBatch:
        """Adds what several adds of a stream come to, as one change.

        Raises:
            BatchesMissing: Batches of its stream that come before it have not been added.
            RequestIdForgotten: The stream may be one of long ago.
            RequestIdReused: Its number stands for another batch, one of the last 32 of its stream.
            StoreUnavailable: The store gave no answer; with a `stream_id` it is safe to ask again.
        """
        once = Once(batch.stream_id, Memory.STREAMS) if batch.stream_id else None
        amount = format_decimal(batch.amount)
        entry = pack_entry(
            Kind.BATCH,
            batch.origin,
            amount=amount,
            add_count=batch.add_count,
            id_=batch.stream_id,
            sequence=batch.sequence,
        )
        limbs = [part for limb in rods.split(batch.amount).items() for part in limb]
        code, record, last = await self._store.run(
            _ADD_BATCH,
            self.shard_of(batch.abacus),
            self._limb_limit,
            KEPT,
            *self._identity(batch.abacus, once, f"add {batch.add_count} {amount}"),
            batch.sequence,
            entry,
            batch.add_count,
            *limbs,
        )
        match _BatchCode(code):
            case _BatchCode.MISSING:
                raise BatchesMissing(batch.stream_id, batch.sequence, int(last))
            case _BatchCode.FORGOTTEN:
                raise RequestIdForgotten(batch.stream_id, "stream_id")
            case _BatchCode.REUSED:
                other = f"other numbers in message {batch.sequence}"
                raise RequestIdReused(batch.stream_id, "stream_id", other)
        return AddedBatch(Sum.from_record(record), code == _BatchCode.REPEATED, int(last))

    async def get(self, abacus: Abacus) -> Sum:
        """Returns the state of an abacus.

        Raises:
            StoreUnavailable: The store gave no answer.
        """
        shard = self.shard_of(abacus)
        async with self._store.at(shard) as client:
            return Sum.from_fields(await client.hgetall(self._key(shard, abacus)))

    async def reset(
        self, abacus: Abacus, origin: Origin, once: Once | None = None, expected_etag: str = ""
    ) -> Reset:
        """Sets an abacus to 0.

        Args:
            abacus: Which.
            origin: Where this comes from.
            once: Makes it be done once.
            expected_etag: If given, it is done only to a sum of this etag.

        Raises:
            EtagMismatch: The sum has another etag.
            RequestIdReused: The id of `once` stands for another request.
            RequestIdForgotten: The id of `once` may stand for a request of long ago.
            StoreUnavailable: The store gave no answer; with a `once` it is safe to ask again.
        """
        code, before, after = await self._store.run(
            _RESET,
            self.shard_of(abacus),
            *self._identity(abacus, once, f"reset {expected_etag}"),
            KEPT,
            pack_entry(Kind.RESET, origin, id_=once.id if once else ""),
            expected_etag,
        )
        if refusal := _refusal(_Code(code), abacus, once, expected_etag, before):
            raise refusal
        return Reset(Sum.from_record(before), Sum.from_record(after), code == _Code.REPEATED)

    async def delete(
        self, abacus: Abacus, once: Once | None = None, expected_etag: str = ""
    ) -> Deleted:
        """Deletes an abacus with its ledger; what its ids stand for stays remembered.

        Args:
            abacus: Which.
            once: Makes it be done once.
            expected_etag: If given, it is done only to a sum of this etag.

        Raises:
            NotFound: There is no such abacus.
            EtagMismatch: The sum has another etag.
            RequestIdReused: The id of `once` stands for another request.
            RequestIdForgotten: The id of `once` may stand for a request of long ago.
            StoreUnavailable: The store gave no answer; with a `once` it is safe to ask again.
        """
        code, before = await self._store.run(
            _DELETE,
            self.shard_of(abacus),
            *self._identity(abacus, once, f"delete {expected_etag}"),
            expected_etag,
        )
        if refusal := _refusal(_Code(code), abacus, once, expected_etag, before):
            raise refusal
        return Deleted(Sum.from_record(before), code == _Code.REPEATED)

    async def page(
        self, tenant: str, after: str, limit: int
    ) -> tuple[list[tuple[Abacus, Sum]], str]:
        """Lists abaci in order of their names.

        Args:
            tenant: Whose.
            after: Only names that sort after this one; "" for the first.
            limit: How many at most.

        Returns:
            The abaci with their sums, and the name to go on from, or "" when there are no more.

        Raises:
            StoreUnavailable: The store gave no answer.
        """
        names: list[str] = []
        for shard in range(self._store.shards):
            async with self._store.at(shard) as client:
                names += [
                    name.decode()
                    for name in await client.zrangebylex(
                        f"{self._store.prefix(shard)}abaci:{tenant}",
                        f"({after}" if after else "-",
                        "+",
                        start=0,
                        num=limit + 1,
                    )
                ]
        names.sort()
        following = names[limit - 1] if len(names) > limit else ""
        abaci = [Abacus(tenant, name) for name in names[:limit]]
        by_shard: dict[int, list[Abacus]] = {}
        for abacus in abaci:
            by_shard.setdefault(self.shard_of(abacus), []).append(abacus)
        sums: dict[Abacus, Sum] = {}
        for shard, some in by_shard.items():
            async with self._store.at(shard) as client:
                pipe = client.pipeline(transaction=False)
                for abacus in some:
                    pipe.hgetall(self._key(shard, abacus))
                found = map(Sum.from_fields, await pipe.execute())
            sums |= zip(some, found, strict=True)
        # One that was deleted meanwhile is left out.
        return [(abacus, sums[abacus]) for abacus in abaci if sums[abacus].version], following

    def _key(self, shard: int, abacus: Abacus) -> str:
        return f"{self._store.prefix(shard)}abacus:{abacus.path}"

    def _identity(self, abacus: Abacus, once: Once | None, request: str) -> list[str | int | bytes]:
        """Returns what tells the scripts which abacus, and whether they did it before."""
        if once is None:
            return [abacus.path, Memory.REQUESTS.name.lower(), 0, 0, "", 0, ""]
        return [
            abacus.path,
            once.memory.name.lower(),
            once.memory.value,
            self._remembered,
            once.id,
            once.made_ms,
            hashlib.blake2b(request.encode(), digest_size=12).hexdigest(),
        ]


def _refusal(
    code: _Code, abacus: Abacus, once: Once | None, expected_etag: str, record: bytes
) -> DomainError | None:
    """Returns the error that a script's code stands for, or None if it did what it was asked."""
    id_ = once.id if once else ""
    match code:
        case _Code.REUSED:
            return RequestIdReused(id_)
        case _Code.FORGOTTEN:
            return RequestIdForgotten(id_)
        case _Code.CHANGED:
            current = Sum.from_record(record).etag
            return EtagMismatch(f"abaci/{abacus.name}", expected_etag, current)
        case _Code.MISSING:
            return NotFound(f"abaci/{abacus.name}")
    return None
