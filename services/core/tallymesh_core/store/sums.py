"""Sums: which abacus there is, and what is in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

from tallymesh_core.domain.decimals import Exact
from tallymesh_core.store import rods

#: The fields of an abacus that are not its limbs: version, adds since the last reset, time.
_FACTS = (b"v", b"n", b"t")


class Abacus(NamedTuple):
    """Which abacus: whose, and its name without `abaci/`."""

    tenant: str
    name: str

    @property
    def path(self) -> str:
        """Its place in keys and events."""
        return f"{self.tenant}/{self.name}"


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
