"""Abaci: named exact sums, added to by anyone at once, each add counted once."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple, Self

from tallymesh_core.domain.decimals import Exact, format_decimal
from tallymesh_core.domain.errors import EtagMismatch, RequestIdReused
from tallymesh_core.store import rods
from tallymesh_core.store.connection import Store
from tallymesh_core.store.scripts import Script

#: Where a limb hands its carry on: after a million adds at the earliest, and far below 2^52, up to
#: which Lua is exact.
_LIMB_LIMIT = 2**50
#: The fields of an abacus that are not its limbs: version, adds since the last reset, time.
_FACTS = (b"v", b"n", b"t")

_EVENTS_AT_ONCE = 1000
_BLOCK_SECONDS = 2.0
#: A connection that says nothing for so much longer than it was asked to wait is dead.
_PATIENCE_SECONDS = 2.0

_ADD = Script.load("abacus_add")
_RESET = Script.load("abacus_reset")


class _Code(IntEnum):
    """What abacus_add.lua and abacus_reset.lua answer."""

    DONE = 0
    REPEATED = 1
    REUSED = 2
    CHANGED = 3


class Memory(Enum):
    """Where ids are remembered; the value is for how many milliseconds at least."""

    REQUESTS = 3_600_000
    JOBS = 7 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Once:
    """What makes a change count once, however often it is asked for.

    Attributes:
        id: Names the change, within its abacus and memory.
        memory: Where the id is remembered.
    """

    id: str
    memory: Memory = Memory.REQUESTS


class Abacus(NamedTuple):
    """Which abacus: whose, and its name without `abaci/`."""

    tenant: str
    name: str

    @property
    def path(self) -> str:
        """Its place in keys and events."""
        return f"{self.tenant}/{self.name}"


@dataclass(frozen=True, slots=True)
class Add:
    """An add to be made.

    Attributes:
        abacus: To which.
        amount: What is added.
        once: Makes it count once.
        expected_etag: If given, the add is made only to a sum of this etag.
    """

    abacus: Abacus
    amount: Exact
    once: Once | None = None
    expected_etag: str = ""


@dataclass(frozen=True, slots=True)
class Sum:
    """The state of an abacus.

    Attributes:
        value: The sum.
        add_count: How many adds are in it since it was last reset.
        version: Grows with every change; 0 for one never used.
        update_ms: When it last changed, in milliseconds since the epoch; 0 for one never used.
    """

    value: Exact
    add_count: int
    version: int
    update_ms: int

    @property
    def etag(self) -> str:
        """Stands for this state; the time tells it from one of a store that lost its latest."""
        return f"{self.version}-{self.update_ms}"

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Self:
        """Reads the hash of an abacus."""
        version, add_count, update_ms = (int(fields.get(fact, 0)) for fact in _FACTS)
        limbs = {int(index): int(limb) for index, limb in fields.items() if index not in _FACTS}
        return cls(rods.join(limbs), add_count, version, update_ms)

    @classmethod
    def from_record(cls, record: bytes) -> Self:
        """Reads the same in the one text that the scripts make of it."""
        words = record.split()
        return cls.from_fields(dict(zip(words[::2], words[1::2], strict=True)))


@dataclass(frozen=True, slots=True)
class Added:
    """The answer to an add: the sum just after, and whether it had been counted before."""

    sum: Sum
    repeated: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The answer to a reset: the sums before and after, and whether it had been done before."""

    previous: Sum
    sum: Sum
    repeated: bool


class Abaci:
    """The abaci of a store."""

    def __init__(self, store: Store, *, limb_limit: int = _LIMB_LIMIT) -> None:
        """Opens the abaci of a store.

        Args:
            store: Where they are kept.
            limb_limit: Where a limb hands its carry on: 10^9 to 2^50.
        """
        self._store = store
        self._limb_limit = limb_limit

    def shard_of(self, abacus: Abacus) -> int:
        """Returns the shard on which an abacus lives."""
        return self._store.shard_of(*abacus)

    async def add(
        self, shard: int, adds: Sequence[Add]
    ) -> list[Added | RequestIdReused | EtagMismatch]:
        """Makes adds in one step of the store, one after the other.

        Args:
            shard: Where the abaci of all of them live.
            adds: The adds. Each stands for itself: a refused one leaves the others be.

        Returns:
            The answer to each, in their order: an error if its id stands for another request, or
            the abacus has another etag than expected.

        Raises:
            StoreUnavailable: The store gave no answer. The adds may have been made or not: those
                with a `once` can safely be asked for again.
        """
        arguments: list[str | int] = [self._limb_limit]
        for add in adds:
            limbs = rods.split(add.amount)
            request = f"add {format_decimal(add.amount)} {add.expected_etag}"
            arguments += _identity(add.abacus, add.once, request)
            arguments += (add.expected_etag, len(limbs))
            for limb in limbs.items():
                arguments += limb
        answers = await self._store.run(_ADD, shard, *arguments)
        return [
            _added(add, _Code(code), record)
            for add, code, record in zip(adds, answers[::2], answers[1::2], strict=True)
        ]

    async def get(self, abacus: Abacus) -> Sum:
        """Returns the state of an abacus.

        Raises:
            StoreUnavailable: The store gave no answer.
        """
        shard = self.shard_of(abacus)
        async with self._store.at(shard) as client:
            key = f"{self._store.prefix(shard)}abacus:{abacus.path}"
            return Sum.from_fields(await client.hgetall(key))

    async def reset(
        self, abacus: Abacus, once: Once | None = None, expected_etag: str = ""
    ) -> Reset:
        """Sets an abacus to 0.

        Args:
            abacus: Which.
            once: Makes it be done once.
            expected_etag: If given, it is done only to a sum of this etag.

        Raises:
            EtagMismatch: The sum has another etag.
            RequestIdReused: The id of `once` stands for another request.
            StoreUnavailable: The store gave no answer; with a `once` it is safe to ask again.
        """
        code, before, after = await self._store.run(
            _RESET,
            self.shard_of(abacus),
            *_identity(abacus, once, f"reset {expected_etag}"),
            expected_etag,
        )
        if once and code == _Code.REUSED:
            raise RequestIdReused(once.id)
        if code == _Code.CHANGED:
            raise _mismatch(abacus, expected_etag, before)
        return Reset(Sum.from_record(before), Sum.from_record(after), code == _Code.REPEATED)

    async def last_change(self, shard: int) -> str:
        """Returns the place of the last change on a shard, for `changes` to go on from.

        Raises:
            StoreUnavailable: The store gave no answer.
        """
        async with self._store.at(shard) as client:
            last = await client.xrevrange(self._events(shard), count=1)
        return last[0][0].decode() if last else "0-0"

    async def changes(self, shard: int, after: str) -> tuple[str, set[str] | None]:
        """Waits for changes on a shard, for about two seconds.

        Args:
            shard: Where to look.
            after: Place after which to look.

        Returns:
            The place to go on from, and the paths of the abaci that changed; None in their stead
            when there were so many changes that some may have been missed.

        Raises:
            StoreUnavailable: The store gave no answer.
        """
        async with (
            self._store.at(shard, blocking=True) as reader,
            asyncio.timeout(_BLOCK_SECONDS + _PATIENCE_SECONDS),
        ):
            streams = await reader.xread(
                {self._events(shard): after},
                count=_EVENTS_AT_ONCE,
                block=round(_BLOCK_SECONDS * 1000),
            )
        if not streams:
            return after, set()
        [(_, events)] = streams
        last = events[-1][0].decode()
        if len(events) == _EVENTS_AT_ONCE:
            return last, None
        return last, {event[b"abacus"].decode() for _, event in events}

    def _events(self, shard: int) -> str:
        return f"{self._store.prefix(shard)}abacus-events"


def _added(add: Add, code: _Code, record: bytes) -> Added | RequestIdReused | EtagMismatch:
    if add.once and code is _Code.REUSED:
        return RequestIdReused(add.once.id)
    if code is _Code.CHANGED:
        return _mismatch(add.abacus, add.expected_etag, record)
    return Added(Sum.from_record(record), code is _Code.REPEATED)


def _mismatch(abacus: Abacus, expected: str, record: bytes) -> EtagMismatch:
    return EtagMismatch(f"abaci/{abacus.name}", expected, Sum.from_record(record).etag)


def _identity(abacus: Abacus, once: Once | None, request: str) -> list[str | int]:
    """Returns the arguments that tell the scripts which abacus, and whether they did it before."""
    memory = once.memory if once else Memory.REQUESTS
    fingerprint = hashlib.blake2b(request.encode(), digest_size=12).hexdigest() if once else ""
    return [abacus.path, memory.name.lower(), memory.value, once.id if once else "", fingerprint]
