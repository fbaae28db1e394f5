"""What makes a change to an abacus count once, however often it is asked for."""

import re
from dataclasses import dataclass
from enum import Enum

#: A UUID of version 7 begins with the milliseconds since the epoch at which it was made.
_DATED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.I)

_HOUR_MS = 3_600_000


class Memory(Enum):
    """Where ids are remembered; the value is for how many milliseconds at least."""

    REQUESTS = _HOUR_MS
    STREAMS = 24 * _HOUR_MS
    JOBS = 7 * 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class Once:
    """What makes a change count once.

    Attributes:
        id: Names the change, within its abacus and memory.
        memory: Where the id is remembered.
    """

    id: str
    memory: Memory = Memory.REQUESTS

    @property
    def made_ms(self) -> int:
        """When the id says that it was made, in milliseconds since the epoch; 0 if it does not."""
        return int(self.id[:8] + self.id[9:13], 16) if _DATED.fullmatch(self.id) else 0
