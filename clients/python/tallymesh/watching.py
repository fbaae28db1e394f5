"""Reading a stream that may be cut: a new one takes up where the old one ended."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message

from tallymesh.arguments import checked
from tallymesh.calls import (
    ABSENCE_SECONDS,
    OVERTIME_SECONDS,
    Reach,
    Stream,
    bounded,
    is_accident,
    translate,
    was_reached,
)
from tallymesh.errors import DeadlineExceeded, TallymeshError, Unreachable

Item = TypeVar("Item", bound=Message)

#: Told of every cut that is about to be mended.
OnCut = Callable[[TallymeshError], None]


@checked
@dataclass(frozen=True)
class Limits:
    """How long to put up with what.

    Attributes:
        silence: Seconds without a message after which a stream counts as cut. The mesh sends one at
            least every 10 s.
        opening: Seconds to go on trying to get a first message from a mesh that was reached, as
            while its store is away; as long as `patience` where a timeout is given. (Where nobody
            takes connections, it is 2 s.)
        patience: Seconds to go on trying to get a stream back.
        first_delay: Seconds before the first try; each further one waits twice as long.
        longest_delay: Seconds that it waits at most.
    """

    silence: float = 25.0
    opening: float = 10.0
    patience: float = 60.0
    first_delay: float = 0.1
    longest_delay: float = 2.0


DEFAULT_LIMITS = Limits()

# Messages kept for a reader that is slower than the mesh: the mesh merges what comes later.
_READ_AHEAD = 2


class Reading:
    """Decides whether, and when, a stream that ended before its time is opened again.

    Args:
        caller: Who reads.
        limits: How long to put up with silence and absence.
        timeout: Seconds for the whole; None for no end.
        on_cut: Told of every cut.
    """

    def __init__(
        self, caller: Reach, limits: Limits, timeout: float | None, on_cut: OnCut | None
    ) -> None:
        self._caller = caller
        self._limits = limits
        self._on_cut = on_cut
        self._begun_at = self._opened_at = time.monotonic()
        self._deadline = None if timeout is None else self._begun_at + bounded(timeout)
        self._last_sign_of_life: float | None = None
        self._delay = limits.first_delay

    def open(self) -> float | None:
        """Notes that a stream is opened, and returns the seconds that it may last."""
        self._opened_at = time.monotonic()
        return self._left(self._opened_at)

    def wait(self) -> float:
        """Returns the seconds to wait for the next message: gRPC may forget its own deadline."""
        left = self._left(time.monotonic())
        silence = min(self._limits.silence, threading.TIMEOUT_MAX)
        return silence if left is None else min(silence, left + OVERTIME_SECONDS)

    def hear(self) -> None:
        """Notes that the stream has brought something."""
        self._last_sign_of_life = time.monotonic()

    def pause_after(self, broken: grpc.RpcError | None) -> float:
        """Returns the seconds to wait before the next stream.

        Args:
            broken: How the stream broke; None if it just ended, or was silent for too long.

        Raises:
            DeadlineExceeded: The timeout has passed.
            Unreachable: The first stream could not be had, or no further one for all the patience.
            TallymeshError: The mesh refused.
        """
        error: TallymeshError = Unreachable(
            f"the stream from {self._caller.address} ended before its time"
        )
        if broken is not None:
            error = translate(broken, self._caller.address)
            if not is_accident(error):
                raise error from broken
        if was_reached(error):
            self._caller.reached = True
        now = time.monotonic()
        left = self._left(now)
        waited = now - (self._last_sign_of_life or self._begun_at)
        if not self._caller.reached and isinstance(error, Unreachable):
            # Nobody takes connections: that is what there is to be told, whatever time is left.
            if waited >= ABSENCE_SECONDS or left == 0.0:
                raise error from broken
        elif left == 0.0:
            raise DeadlineExceeded("the time given has passed", code="DEADLINE_EXCEEDED")
        patience = self._patience()
        if waited > patience:
            raise Unreachable(
                f"not to be had for {patience:g} s ({error.message})",
                reason=error.reason,
                code=error.code,
                request_id=error.request_id,
            ) from error
        if self._on_cut is not None and self._caller.reached:
            self._on_cut(error)
        if now - self._opened_at > self._limits.longest_delay:  # it had been well
            self._delay = self._limits.first_delay
        pause = max(self._delay * random.uniform(0.5, 1.0), error.retry_after or 0.0)  # noqa: S311
        self._delay = min(self._delay * 2, self._limits.longest_delay)
        if not self._caller.reached:
            pause = min(pause, max(ABSENCE_SECONDS - waited, 0.0))
        return pause if left is None else min(pause, left)

    def _left(self, now: float) -> float | None:
        return None if self._deadline is None else max(self._deadline - now, 0.0)

    def _patience(self) -> float:
        if self._last_sign_of_life is not None:
            return self._limits.patience
        # Who says how long to wait is not told after less that there is nothing to be had.
        return self._limits.opening if self._deadline is None else self._limits.patience


def read_on(
    caller: Reach,
    open_stream: Callable[[float | None], Stream[Item]],
    is_last: Callable[[Item], bool],
    *,
    timeout: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
    on_cut: OnCut | None = None,
) -> Iterator[Item]:
    """Yields what the stream brings until its last message, opening it again when it is cut.

    Args:
        caller: Who reads; it is noted there that the mesh was reached.
        open_stream: Opens a stream that lasts at most the given number of seconds. What it brings
            must stand on its own, as a snapshot does.
        is_last: Whether a message is the last one; a stream that ends before it was cut.
        timeout: Seconds for the whole; None for no end.
        limits: How long to put up with silence and absence.
        on_cut: Told of every cut.

    Raises:
        DeadlineExceeded: The timeout has passed.
        Unreachable: The first stream could not be had, or no further one for all the patience.
        TallymeshError: The mesh refused.
    """
    reading = Reading(caller, limits, timeout, on_cut)
    while True:
        # Closed here, as a generator left to the garbage collector swallows a Ctrl-C.
        with closing(_Reader(open_stream(reading.open()))) as stream:
            try:
                while (item := stream.read(reading.wait())) is not None:
                    caller.reached = True
                    yield item
                    if is_last(item):
                        return
                    reading.hear()
                pause = reading.pause_after(None)
            except queue.Empty:
                pause = reading.pause_after(None)
            except grpc.RpcError as broken:
                pause = reading.pause_after(broken)
        time.sleep(pause)


class _Reader(Generic[Item]):
    """Reads a stream in a thread of its own, so that waiting for it ends when it is to end.

    A connection may die without a word, behind a proxy even without a failed ping, and gRPC may
    leave who reads waiting for ever: past the deadline, and past a cancel.
    """

    def __init__(self, stream: Stream[Item]) -> None:
        self._stream = stream
        self._closed = False
        self._read: queue.Queue[Item | Exception | None] = queue.Queue(_READ_AHEAD)
        threading.Thread(target=self._pass_on, name="tallymesh-reader", daemon=True).start()

    def read(self, timeout: float) -> Item | None:
        """Returns the next message, or None if the stream has ended.

        Raises:
            queue.Empty: There was none for so many seconds.
            RpcError: The stream broke.
        """
        read = self._read.get(timeout=timeout)
        if isinstance(read, Exception):
            raise read
        return read

    def close(self) -> None:
        """Ends the stream, and does not wait for that."""
        self._closed = True
        self._stream.cancel()
        with suppress(queue.Empty):
            while True:
                self._read.get_nowait()

    def _pass_on(self) -> None:
        try:
            for item in self._stream:
                self._read.put(item)
                if self._closed:
                    return
        except Exception as broken:
            self._read.put(broken)
        else:
            self._read.put(None)
