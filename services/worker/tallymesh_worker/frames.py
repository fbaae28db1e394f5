"""What the worker and its compute processes say to each other.

Two ways, each for what it is good at. A stream of msgpack arrays over a socket pair carries work
one way and results the other. A page of shared memory carries what must be read or written at any
moment: what is running, since when, how far, what it logs, and what is void. So a progress report
costs a store, a check for cancellation a load, and a process that was killed still tells what it
was computing.

A *serial* numbers the chunks sent to one process: from 1, without gaps, in the order in which they
are computed. It says which one is meant even when the same chunk is sent twice.
"""

import enum
import mmap
from typing import Any, Final, NamedTuple

import msgpack

LOG_BYTES: Final = 16 * 1024
MAX_LINE_BYTES: Final = 2000
# Lines go round a ring that is larger than what is read of it: the newest overwrites none of that.
_RING_AT: Final = mmap.PAGESIZE
_RING_BYTES: Final = LOG_BYTES + 2 * 2048
PAGE_BYTES: Final = _RING_AT + _RING_BYTES
# Room for saying how many lines are left out.
_KEPT_LOG_BYTES: Final = LOG_BYTES - 64
# Order of the page's 64-bit words.
_RUNNING, _STARTED, _FRACTION, _VOID_BELOW, _KEPT, _LOGGED, _LOG_SIZE, _LINES = range(8)


class Order(enum.IntEnum):
    """Kinds of frames to a compute process, and what follows the kind in each."""

    JOB = 1
    """key, work as bytes, chunk_count, whether additive: what later orders mean by this key."""
    FORGET = 2
    """key: no later order means it."""
    RUN = 3
    """serial of the first, key, attempt, first chunk, count: compute chunks."""
    REDUCE = 4
    """serial, key, attempt, partials as bytes: merge all partials into the result."""
    WHOLE = 5
    """serial, key, attempt: compute the work as its only chunk, up to its result."""


class Report(enum.IntEnum):
    """Kinds of frames from a compute process, and what follows the kind in each."""

    READY = 1
    """What it counts primes with, a line each; names of kernels that it can run: the process has
    loaded what it needs."""
    SUMS = 2
    """serial of the first, number of each, processor time of each in us, when the first was begun
    (monotonic clock, ns), wall time of all in ns."""
    PARTIALS = 3
    """As SUMS, with messages as bytes in place of numbers."""
    RESULT = 4
    """serial, message as bytes, processor time in us, when begun, wall time, both as for SUMS."""
    FAILED = 5
    """serial, whether the work itself is invalid, a sentence."""
    DROPPED = 6
    """serial: begun, then given up as it had become void."""
    LOG = 7
    """serial, text as bytes, whether the chunk failed: what it logged. Comes before its end."""


def pack(*frame: Any) -> bytes:
    """Returns a frame as it goes over the socket."""
    return msgpack.packb(frame)  # type: ignore[no-any-return]


def unpacker() -> msgpack.Unpacker:
    """Returns a reader of frames: `feed` it bytes, iterate over the frames that are complete."""
    return msgpack.Unpacker(use_list=False, max_buffer_size=0)  # the peer is our own program


class Running(NamedTuple):
    """The chunk that a process is computing."""

    serial: int
    """Which one; 0 while it computes none."""
    started: int
    """When it was begun, on the monotonic clock in ns."""
    fraction: float
    """Share done as told by the kernel, 0 to 1."""


class Page:
    """Shared memory of a compute process and its worker. Each word, and the log, has one writer."""

    def __init__(self, descriptor: int) -> None:
        """Maps the page.

        Args:
            descriptor: File of at least PAGE_BYTES; it may be closed afterwards.
        """
        self._map = mmap.mmap(descriptor, PAGE_BYTES)
        self._words = memoryview(self._map).cast("Q")
        self._reals = memoryview(self._map).cast("d")

    def close(self) -> None:
        """Unmaps the page."""
        self._words.release()
        self._reals.release()
        self._map.close()

    # Written by the compute process.

    def begin(self, serial: int, now: int) -> None:
        """Says that a chunk begins."""
        self._reals[_FRACTION] = 0.0
        self._words[_STARTED] = now
        self._words[_RUNNING] = serial

    def rest(self) -> None:
        """Says that no chunk runs; since when one ran stays, as it may just be read."""
        self._words[_RUNNING] = 0

    def advance(self, fraction: float) -> None:
        """Says how far the running chunk is."""
        self._reals[_FRACTION] = fraction

    def log(self, serial: int, line: bytes) -> None:
        """Adds a line to what the running chunk logs; what is beyond MAX_LINE_BYTES is cut off."""
        words = self._words
        if words[_LOGGED] != serial:
            words[_LOG_SIZE] = words[_LINES] = 0
            words[_LOGGED] = serial
        data = line[:MAX_LINE_BYTES] + b"\n"
        at = words[_LOG_SIZE] % _RING_BYTES
        now = min(len(data), _RING_BYTES - at)
        self._map[_RING_AT + at : _RING_AT + at + now] = data[:now]
        self._map[_RING_AT : _RING_AT + len(data) - now] = data[now:]
        words[_LOG_SIZE] += len(data)
        words[_LINES] += 1

    def logged(self, serial: int) -> bytes:
        """Returns the last lines that a chunk has logged, if it was the last to log any."""
        if self._words[_LOGGED] != serial:
            return b""
        size = self._words[_LOG_SIZE]
        kept = min(size, _KEPT_LOG_BYTES)
        at = (size - kept) % _RING_BYTES
        ring = self._map[_RING_AT : _RING_AT + _RING_BYTES]
        text = (ring + ring)[at : at + kept] if at + kept > _RING_BYTES else ring[at : at + kept]
        if kept < size:
            text = text.partition(b"\n")[2]
        if left_out := self._words[_LINES] - text.count(b"\n"):
            text = b"(%d earlier lines are left out)\n%b" % (left_out, text)
        return text.removesuffix(b"\n")

    def running(self) -> Running:
        """Returns what is being computed."""
        return Running(self._words[_RUNNING], self._words[_STARTED], self._reals[_FRACTION])

    # Written by the worker.

    def void(self, below: int, kept: int) -> None:
        """Makes all chunks void whose serial is below the given one, except the one kept."""
        self._words[_KEPT] = kept
        self._words[_VOID_BELOW] = below

    def is_void(self, serial: int) -> bool:
        """Tells whether a chunk needs no computing any more."""
        return serial < self._words[_VOID_BELOW] and serial != self._words[_KEPT]
