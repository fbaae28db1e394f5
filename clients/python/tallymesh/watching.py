"""Reading a stream that may be cut: a new one takes up where the old one ended."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message

from tallymesh.calls import Stream, bounded, is_accident, translate, was_reached
from tallymesh.errors import DeadlineExceeded, TallymeshError, Unreachable

Item = TypeVar("Item", bound=Message)

#: Told of every cut that is about to be mended.
OnCut = Callable[[TallymeshError], None]


@dataclass(frozen=True)
class Limits:
    """How long to put up with what.

    Attributes:
        silence: Seconds without a message after which a stream counts as cut. The mesh sends one at
            least every 10 s.
        opening: Seconds to go on trying to get a first message from a mesh that was reached, as
            while its store is away. (Where it was not reached, gRPC itself tries again.)
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


class Reading:
    """Decides whether, and when, a stream that ended before its time is opened again.

    Args:
        limits: How long to put up with silence and absence.
        timeout: Seconds for the whole; None for no end.
        on_cut: Told of every cut.
        reached: The mesh has answered before.
    """

    def __init__(
        self, limits: Limits, timeout: float | None, on_cut: OnCut | None, *, reached: bool
    ) -> None:
        self._limits = limits
        self._on_cut = on_cut
        self._reached = reached
        self._begun_at = self._opened_at = time.monotonic()
        self._deadline = None if timeout is None else self._begun_at + bounded(timeout)
        self._last_sign_of_life: float | None = None
        self._delay = limits.first_delay

    def open(self) -> float | None:
        """Notes that a stream is opened, and returns the seconds that it may last."""
        self._opened_at = time.monotonic()
        return None if self._deadline is None else max(self._deadline - self._opened_at, 0.0)

    def hear(self) -> None:
        """Notes that the stream has brought something."""
        self._last_sign_of_life = time.monotonic()

    def pause_after(self, broken: grpc.RpcError | None) -> float:
        """Returns the seconds to wait before the next stream.

        Args:
            broken: How the stream broke; None if it just ended.

        Raises:
            DeadlineExceeded: The timeout has passed.
            Unreachable: The first stream could not be had, or no further one for all the patience.
            TallymeshError: The mesh refused.
        """
        error: TallymeshError = Unreachable("the stream ended before its time")
        if broken is not None:
            error = translate(broken)
            heard = self._last_sign_of_life is not None or self._reached
            if not is_accident(error) or not (heard or was_reached(error)):
                raise error from broken
        limits, now = self._limits, time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            raise DeadlineExceeded("the time given has passed", code="DEADLINE_EXCEEDED")
        patience = limits.opening if self._last_sign_of_life is None else limits.patience
        if now - (self._last_sign_of_life or self._begun_at) > patience:
            raise Unreachable(
                f"not to be had for {patience:g} s ({error.message})",
                reason=error.reason,
                code=error.code,
                request_id=error.request_id,
            ) from error
        if self._on_cut is not None:
            self._on_cut(error)
        if now - self._opened_at > limits.longest_delay:  # it had been well
            self._delay = limits.first_delay
        pause = max(self._delay * random.uniform(0.5, 1.0), error.retry_after or 0.0)  # noqa: S311
        self._delay = min(self._delay * 2, limits.longest_delay)
        return pause if self._deadline is None else min(pause, max(self._deadline - now, 0.0))


def read_on(
    open_stream: Callable[[float | None], Stream[Item]],
    is_last: Callable[[Item], bool],
    *,
    timeout: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
    on_cut: OnCut | None = None,
    reached: bool = False,
) -> Iterator[Item]:
    """Yields what the stream brings until its last message, opening it again when it is cut.

    Args:
        open_stream: Opens a stream that lasts at most the given number of seconds. What it brings
            must stand on its own, as a snapshot does.
        is_last: Whether a message is the last one; a stream that ends before it was cut.
        timeout: Seconds for the whole; None for no end.
        limits: How long to put up with silence and absence.
        on_cut: Told of every cut.
        reached: The mesh has answered before.

    Raises:
        DeadlineExceeded: The timeout has passed.
        Unreachable: The first stream could not be had, or no further one for all the patience.
        TallymeshError: The mesh refused.
    """
    reading = Reading(limits, timeout, on_cut, reached=reached)
    while True:
        stream = open_stream(reading.open())
        try:
            # Closed here, as a generator left to the garbage collector swallows a Ctrl-C.
            with closing(_Watchdog(stream, limits.silence).items()) as items:
                for item in items:
                    yield item
                    if is_last(item):
                        return
                    reading.hear()
            pause = reading.pause_after(None)
        except grpc.RpcError as broken:
            pause = reading.pause_after(broken)
        finally:
            stream.cancel()
        time.sleep(pause)


class _Watchdog(Generic[Item]):
    """Iterates over a stream and cancels it when it leaves its reader waiting for too long.

    A connection may die without a word, behind a proxy even without a failed ping.
    """

    def __init__(self, stream: Stream[Item], limit: float) -> None:
        self._stream = stream
        self._limit = limit
        self._waiting_since: float | None = None
        self._done = threading.Event()

    def items(self) -> Generator[Item, None, None]:
        """Yields what the stream brings."""
        threading.Thread(target=self._guard, name="tallymesh-watchdog", daemon=True).start()
        items = iter(self._stream)
        try:
            while True:
                self._waiting_since = time.monotonic()
                item = next(items, None)
                self._waiting_since = None
                if item is None:
                    return
                yield item
        finally:
            self._done.set()

    def _guard(self) -> None:
        while not self._done.wait(self._limit / 4):
            since = self._waiting_since
            if since is not None and time.monotonic() - since > self._limit:
                self._stream.cancel()
                return
