"""How a worker paces itself: how much it asks for, sends and keeps, and what waits for what.

Nothing here looks at a clock: all times are passed in, in seconds.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

#: A call asks for what could be begun within this time. What could not be begun within twice that
#: is handed back, so that what was asked for is mostly kept; a chunk of unknown length that takes
#: longer is a long one; a process that has less than half of that to do is worth a call of its own.
HORIZON_SECONDS: Final = 0.05
#: How often running chunks are looked at: a little more often than a process runs dry.
TICK_SECONDS: Final = 0.02
#: A process that has less than this to do is sent more, and then at most so much again. A result
#: waits no longer than this for company.
BATCH_SECONDS: Final = 0.01
#: Less work than this is worth neither a batch of its own nor taking back from a process.
WORTHWHILE_SECONDS: Final = 0.001
#: Results that come so close to each other travel together, however short their chunks were: it is
#: far less than a call takes.
TOGETHER_SECONDS: Final = 0.0003
#: Asked for beside one chunk a slot while nothing is known of their length: two slots take a job of
#: 16 chunks in one go.
UNKNOWN_CHUNKS: Final = 14
#: Most chunks asked for at a time, however quick they are: each call names all that is held.
MAX_ROOM: Final = 4096
#: Progress is told of chunks that take longer than this, and so often.
PROGRESS_SECONDS: Final = 0.25
#: After chunks have come, the next waiting call is held off for so long: quick results come by then
#: and go with it.
LULL_SECONDS: Final = 0.003
#: A waiting call that is answered sooner, and with nothing, has not waited. After a few of these in
#: a row the gateway seems not to let calls wait, and is called less often.
QUICK_SECONDS: Final = 0.02
MAX_QUICK_ANSWERS: Final = 3
#: How long a call is held off that would most likely be in vain, and the first pause before one
#: that has failed is repeated. Pauses double; but a store that is back is to be in use within 2 s.
PAUSE_SECONDS: Final = 0.1
MAX_PAUSE_SECONDS: Final = 1.0

# Weight of the newest measurement in a mean: high, as chunks of one job may drift.
_WEIGHT: Final = 0.5


def blended(mean: float | None, newest: float) -> float:
    """Returns the mean with the newest measurement in it."""
    return newest if mean is None else mean + _WEIGHT * (newest - mean)


def remaining(duration: float | None, elapsed: float) -> float:
    """Returns how many seconds a running chunk still needs; infinite if that is unknown.

    Args:
        duration: How long such chunks take, if that is known.
        elapsed: How long it has been running.
    """
    if duration is None:
        return 0.0 if elapsed <= HORIZON_SECONDS else math.inf
    if elapsed < duration:
        return duration - elapsed
    # A little late means about to end; far too late means that it is unlike the others.
    return 0.0 if elapsed < 2 * duration else elapsed


def patience(duration: float, ends: Iterable[float]) -> float:
    """Returns how long a result waits for others, to be handed in with them.

    Half as long as its chunk took, within bounds, and only if another is expected by then.

    Args:
        duration: How long its chunk took.
        ends: In how many seconds each of the processes is expected to end a chunk of the same job.
    """
    most = max(TOGETHER_SECONDS, min(duration / 2, BATCH_SECONDS))
    return most if any(end <= most for end in ends) else 0.0


def batch_size(waiting: int, processes: int, duration: float) -> int:
    """Returns how many chunks a process is sent at a time.

    Batches shrink as work runs out, so that all processes end together.

    Args:
        waiting: How many chunks wait.
        processes: How many processes share them.
        duration: How long a chunk takes; not 0.
    """
    share = math.ceil(waiting / (2 * processes))
    smallest = int(WORTHWHILE_SECONDS / duration)
    largest = int(BATCH_SECONDS / duration)
    return max(1, min(max(share, smallest), largest))


def fit(
    waiting: Sequence[tuple[int, float | None]],
    loads: Iterable[float],
    horizon: float,
    *,
    unknown: int,
    typical: float | None,
) -> tuple[list[int], int]:
    """Fits chunks into what can be begun within so many seconds.

    Args:
        waiting: Ranges of chunks that wait: how many, and how long each takes if that is known.
        loads: How many seconds each process needs for what it has been sent.
        horizon: So many seconds.
        unknown: How many chunks of unknown length the processes have been sent.
        typical: How long a further chunk would take, if that is known.

    Returns:
        How many of each range can be begun; and how many further chunks could be, none of them
        where some that wait cannot.
    """
    free = sorted(load for load in loads if load <= horizon)
    unknown_room = len(free) + UNKNOWN_CHUNKS - unknown

    def capacity(duration: float | None) -> int:
        if not free:
            return 0
        if duration is None:
            return max(0, unknown_room)
        return sum(1 + int((horizon - load) / duration) for load in free)

    kept: list[int] = []
    for count, duration in waiting:
        size = min(capacity(duration), count)
        kept.append(size)
        if size < count:
            return kept + [0] * (len(waiting) - len(kept)), 0
        if duration is None:
            unknown_room -= size
        elif duration > horizon:
            free = free[size:]
        else:
            each = size * duration / len(free)
            free = [load + each for load in free if load + each <= horizon]
    return kept, min(capacity(typical), MAX_ROOM)


def pause(attempt: int, spread: float) -> float:
    """Returns how long to wait before a call is repeated, ever longer.

    Args:
        attempt: How often it has been repeated.
        spread: From 0 to 1, another for each worker, so that they do not all call at once.
    """
    longest: float = min(MAX_PAUSE_SECONDS, PAUSE_SECONDS * 2**attempt)
    return longest * (1 + spread) / 2


class Lull:
    """Until when the next waiting call is held off.

    Attributes:
        end: Until then.
    """

    def __init__(self) -> None:
        self.end = 0.0
        self._quick_answers = 0

    def note_chunks(self, now: float) -> None:
        """Takes note that an answer brought chunks."""
        self.end = now + LULL_SECONDS

    def note_nothing(self, now: float, waited: float | None) -> None:
        """Takes note that an answer brought none.

        Args:
            now: When it came.
            waited: How long its call had waited for chunks, if it was to do so, and had no other
                reason to be answered.
        """
        is_quick = waited is not None and waited < QUICK_SECONDS
        self._quick_answers = self._quick_answers + 1 if is_quick else 0
        is_in_vain = self._quick_answers > MAX_QUICK_ANSWERS
        self.end = now + PAUSE_SECONDS if is_in_vain else 0.0

    def note_refusal(self, now: float) -> None:
        """Takes note that a call was refused, as the next one like it would be."""
        self.end = now + PAUSE_SECONDS
