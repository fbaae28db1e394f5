"""The ledger of an abacus: who changed it, when, and by how much. It keeps about the last 1,000."""

from dataclasses import dataclass
from enum import Enum

import msgpack

from tallymesh_core.domain.decimals import Exact, format_decimal
from tallymesh_core.store.connection import Store
from tallymesh_core.store.sums import Abacus, Sum

#: How many entries a ledger keeps at least.
KEPT = 1000


class Kind(Enum):
    """What sort of change an entry tells of; the value is how it is kept."""

    ADD = 1
    BATCH = 2
    JOB = 3
    RESET = 4


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a change comes from.

    Attributes:
        principal: Who asked for it.
        node: The node that made it.
    """

    principal: str
    node: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of an abacus.

    Attributes:
        version: Version of the abacus just after it.
        made_ms: When it was made, in milliseconds since the epoch.
        kind: What sort of change it is.
        amount: By how much the sum changed, as a plain decimal.
        add_count: How many adds are in it.
        origin: Where it comes from.
        id: The request id, stream id or job under which it counts once; "" for none.
        sequence: Number of the batch in its stream; else 0.
    """

    version: int
    made_ms: int
    kind: Kind
    amount: str
    add_count: int
    origin: Origin
    id: str
    sequence: int


class Ledger:
    """The ledgers of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(
        self, abacus: Abacus, before: int | None, limit: int
    ) -> tuple[list[Entry], int | None]:
        """Lists entries, the newest first.

        Args:
            abacus: Of which abacus.
            before: Only entries of versions before this one; None for the newest.
            limit: How many at most.

        Returns:
            The entries, and the version to go on before, or None when there are no more.

        Raises:
            StoreUnavailable: The store gave no answer.
        """
        shard = self._store.shard_of(*abacus)
        async with self._store.at(shard) as client:
            found = await client.xrevrange(
                f"{self._store.prefix(shard)}abacus-ledger:{abacus.path}",
                "+" if before is None else before - 1,
                count=limit + 1,
            )
        entries = [_read(place.decode(), fields) for place, fields in found[:limit]]
        return entries, entries[-1].version if len(found) > limit else None


def pack_entry(
    kind: Kind,
    origin: Origin,
    *,
    amount: str = "",
    add_count: int = 0,
    id_: str = "",
    sequence: int = 0,
) -> bytes:
    """Returns what the scripts keep of a change; of a reset they know the amount themselves."""
    facts = (kind.value, amount, add_count, origin.principal, origin.node, id_, sequence)
    return bytes(msgpack.packb(facts))


def _read(place: str, fields: dict[bytes, bytes]) -> Entry:
    version, _, made_ms = place.partition("-")
    kind, amount, add_count, principal, node, id_, sequence = msgpack.unpackb(fields[b"entry"])
    if Kind(kind) is Kind.RESET:
        before = Sum.from_record(fields[b"before"]).value
        amount = format_decimal(Exact(-before.unscaled, before.scale))
    origin = Origin(principal, node)
    return Entry(int(version), int(made_ms), Kind(kind), amount, add_count, origin, id_, sequence)
