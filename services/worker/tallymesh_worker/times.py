"""When chunks were computed, and how long that took."""

from typing import NamedTuple


class Times(NamedTuple):
    """The times of consecutive chunks that were computed one after the other."""

    started: int
    """When the first was begun, on the monotonic clock in ns."""
    elapsed: int
    """How long all of them took, in ns."""
    compute_micros: tuple[int, ...]
    """Processor time of each, in us."""

    @property
    def mean_seconds(self) -> float:
        """How long a chunk took."""
        return self.elapsed / len(self.compute_micros) / 1e9

    def of_first(self, count: int) -> "Times":
        """Returns the times of the first `count` chunks, as if all had taken equally long."""
        if count == len(self.compute_micros):
            return self
        elapsed = self.elapsed * count // len(self.compute_micros)
        return Times(self.started, elapsed, self.compute_micros[:count])
