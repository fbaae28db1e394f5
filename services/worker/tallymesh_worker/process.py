"""A compute process as its worker sees it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tallymesh_worker.frames import PAGE_BYTES, Order, Page, Report, pack, unpacker
from tallymesh_worker.jobs import Job
from tallymesh_worker.spans import Span
from tallymesh_worker.times import Times

# A stop asks first: a kernel that looks every 50 ms has seen it by then. Then comes SIGTERM, and
# SIGKILL for a process that has set itself to ignore that.
COOPERATION_SECONDS: Final = 0.1
TERMINATION_SECONDS: Final = 0.2
RECEIVE_BYTES: Final = 256 * 1024


class Listener(Protocol):
    """Whoever gives a process its work."""

    def computed(
        self, job: Job, chunks: Span, values: tuple[int, ...] | tuple[bytes, ...], times: Times
    ) -> None:
        """Chunks are done; `values` holds the number of each, or its partial."""

    def concluded(self, job: Job, chunk: Span, result: bytes, times: Times) -> None:
        """A chunk is done that gave its job's result."""

    def failed(self, job: Job, chunk: Span, message: str, *, refused: bool) -> None:
        """A chunk has failed; `refused` if the work itself is invalid."""

    def logged(self, chunk: Span, text: bytes, *, failed: bool) -> None:
        """A chunk has logged something, and is about to end; `failed` if that is why."""

    def available(self, unfinished: list[Span]) -> None:
        """The process can be sent work again; `unfinished` is what it gave up unasked."""

    def ended(self, crashed: Span | None, unfinished: list[Span], how: str) -> None:
        """The process is no more.

        Args:
            crashed: The chunk that it was computing.
            unfinished: What else it had been sent.
            how: Such as "process killed by SIGKILL".
        """


class Owner(Protocol):
    """Whoever starts processes and replaces them."""

    def ready(self, process: "ComputeProcess") -> None:
        """The process has loaded what it needs."""

    def gone(self, process: "ComputeProcess") -> None:
        """The process is no more, or is as good as that."""


@dataclass(slots=True)
class _Batch:
    """Chunks sent and not reported yet."""

    job: Job
    span: Span
    serial: int

    @property
    def end(self) -> int:
        """The serial after the last."""
        return self.serial + self.span.count

    def part(self, serial: int, end: int) -> Span:
        """Returns the chunks of the serials from `serial` up to `end`."""
        shift = self.span.first - self.serial
        return self.span.part(serial + shift, end + shift)


@dataclass(frozen=True, slots=True)
class RunningChunk:
    """The chunk that a process computes.

    Attributes:
        job: Its job.
        batch: The chunks among which it was sent.
        index: Which chunk.
        serial: Which of those sent to the process.
        elapsed: Seconds since it was begun.
        fraction: Share done as the kernel tells it, 0 to 1.
    """

    job: Job
    batch: Span
    index: int
    serial: int
    elapsed: float
    fraction: float

    @property
    def span(self) -> Span:
        """The chunk alone."""
        return self.batch.part(self.index, self.index + 1)


@dataclass(frozen=True, slots=True)
class _Stop:
    """A chunk that is being stopped.

    Attributes:
        chunk: Which one.
        listener: Whose it is; by the time that it has stopped, the process may be another's.
        over: To be called once it is not computed any more.
    """

    chunk: RunningChunk
    listener: Listener
    over: Callable[[], None]


class ComputeProcess:
    """Sends a compute process its chunks, hears its reports, stops it.

    Attributes:
        listener: Who is told of what it computes.
        libraries: What it counts primes with and why, a line each; none until the process is ready.
        kernels: The kernels that it can run, by name; none until the process is ready.
    """

    def __init__(
        self, owner: Owner, listener: Listener, memory_limit: int, kernels: Sequence[str]
    ) -> None:
        """Starts the process.

        Args:
            owner: Is told when the process is ready and when it is gone.
            listener: Who is told of what it computes.
            memory_limit: Resident bytes beyond which the process ends between two batches of
                chunks; 0 for no limit.
            kernels: Where kernels of one's own are, as loading.load() takes them.

        Raises:
            OSError: It cannot be started.
        """
        self.listener = listener
        self.libraries: tuple[str, ...] = ()
        self.kernels: tuple[str, ...] = ()
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._batches: deque[_Batch] = deque()
        self._known: set[int] = set()
        self._next_serial = 1
        self._stop: _Stop | None = None
        self._leaving = False
        self._timer: asyncio.TimerHandle | None = None
        self._unsent: deque[memoryview] = deque()
        self._frames = unpacker()
        self._ended = asyncio.Event()
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        page = os.memfd_create("tallymesh-page")
        try:
            os.truncate(page, PAGE_BYTES)
            self._page = Page(page)
            arguments = map(str, (theirs.fileno(), page, os.getpid(), memory_limit))
            # Executed afresh, never forked from a process with threads and channels; in a group
            # of its own, so that Ctrl-C passes it by and what it starts can be ended with it.
            self._popen = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-m", "tallymesh_worker.child", *arguments, *kernels],
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__,
                pass_fds=(theirs.fileno(), page),
                process_group=0,
            )
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
            os.close(page)
        self._pidfd = os.pidfd_open(self._popen.pid)
        self._loop.add_reader(self._socket, self._receive)
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._popen.pid

    @property
    def over(self) -> bool:
        """It is no more."""
        return self._ended.is_set()

    @property
    def accepts(self) -> bool:
        """It can be sent work."""
        return not (self._stop or self._leaving)

    @property
    def idle(self) -> bool:
        """It can be sent work and has none."""
        return self.accepts and not self._batches

    def sent(self) -> Iterator[tuple[Job, Span]]:
        """Yields what it has been sent and has not reported, in order."""
        for batch in self._batches:
            yield batch.job, batch.span

    def running(self) -> RunningChunk | None:
        """Returns the chunk that it computes."""
        serial, started, fraction = self._page.running()
        for batch in self._batches:
            if batch.serial <= serial < batch.end:
                elapsed = max(0, time.monotonic_ns() - started) / 1e9
                index = batch.span.first + serial - batch.serial
                return RunningChunk(batch.job, batch.span, index, serial, elapsed, fraction)
        return None

    def send(self, job: Job, span: Span, *, whole: bool = False) -> None:
        """Sends chunks, to be computed after what was sent before.

        Args:
            job: The job.
            span: The chunks.
            whole: Compute the work as its only chunk, up to its result.
        """
        serial = self._next_serial
        self._batches.append(_Batch(job, span, serial))
        self._next_serial += span.count
        if whole:
            order = pack(Order.WHOLE, serial, job.key, span.attempt)
        elif span.first >= job.chunk_count:
            order = pack(Order.REDUCE, serial, job.key, span.attempt, span.partials)
        else:
            order = pack(Order.RUN, serial, job.key, span.attempt, span.first, span.count)
        if job.key not in self._known:
            self._known.add(job.key)
            order = pack(Order.JOB, job.key, job.work, job.chunk_count, job.additive) + order
        self._write(order)

    def forget(self, job: Job) -> None:
        """Makes the process forget a job of which it has no chunk."""
        if job.key in self._known:
            self._known.remove(job.key)
            self._write(pack(Order.FORGET, job.key))

    def withdraw(self) -> list[Span]:
        """Takes back what it has not begun, and returns it."""
        if not self._batches:
            return []
        running = self._page.running().serial
        is_ours = any(batch.serial <= running < batch.end for batch in self._batches)
        self._void(kept=running if is_ours else 0)
        kept: deque[_Batch] = deque()
        withdrawn: list[Span] = []
        for batch in self._batches:
            # What comes before the running chunk is done; its report is on the way.
            begun = min(batch.end, running + 1)
            if begun > batch.serial:
                kept.append(_Batch(batch.job, batch.part(batch.serial, begun), batch.serial))
            if begun < batch.end:
                withdrawn.append(batch.part(max(begun, batch.serial), batch.end))
        self._batches = kept
        return withdrawn

    def stop(self, chunk: RunningChunk | None, over: Callable[[], None]) -> list[Span]:
        """Stops computing, and takes back all that the process has been sent.

        The kernel is asked to give the chunk up, then the process is terminated, then killed.

        Args:
            chunk: What it computes, as `running` has just told it.
            over: Called once that chunk is not computed any more. The listener then hears that the
                process is available again, or has ended.

        Returns:
            What else the process had been sent.
        """
        self._void(kept=0)
        if chunk:
            self._stop = _Stop(chunk, self.listener, over)
        return self._take_all(chunk.span if chunk else None)

    async def close(self) -> None:
        """Kills the process and waits until it is no more."""
        self._leave()
        self._signal(signal.SIGKILL)
        await self._ended.wait()

    def _void(self, kept: int) -> None:
        """Makes void all that was sent but for the serial kept, and sees to it that it stops."""
        self._page.void(self._next_serial, kept)
        if not self._leaving:
            if self._timer:
                self._timer.cancel()
            self._timer = self._loop.call_later(COOPERATION_SECONDS, self._terminate)

    def _terminate(self) -> None:
        """Terminates the process if it still computes what is void."""
        running = self._page.running().serial
        if self._leaving or not (running and self._page.is_void(running)):
            return
        unfinished = self._take_all(None)
        self._leave()
        self._signal(signal.SIGTERM)
        self._timer = self._loop.call_later(TERMINATION_SECONDS, self._signal, signal.SIGKILL)
        if unfinished:
            # A chunk that was begun just as it was taken back has kept these waiting.
            self.listener.available(unfinished)

    def _take_all(self, apart: Span | None) -> list[Span]:
        """Takes all it was sent from the books, and returns it but for the chunk `apart`."""
        taken = [batch.span for batch in self._batches]
        self._batches.clear()
        return [part for span in taken for part in span.without(apart)] if apart else taken

    def _signal(self, number: signal.Signals) -> None:
        if self._popen.returncode is None:
            os.killpg(self._popen.pid, number)

    def _leave(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._owner.gone(self)

    def _write(self, data: bytes) -> None:
        self._unsent.append(memoryview(data))
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        if self._leaving:
            return
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent[0])
                self._unsent[0] = self._unsent[0][sent:]
                if not self._unsent[0]:
                    self._unsent.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._flush)
        except ConnectionError:
            self._unsent.clear()  # it has died; _reap tells of it
        else:
            self._loop.remove_writer(self._socket)

    def _receive(self) -> bool:
        """Hears what has come, and tells whether more may come."""
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        if not data:
            self._loop.remove_reader(self._socket)
            return False
        self._frames.feed(data)
        for frame in self._frames:
            self._hear(*frame)
        return True

    def _hear(self, kind: int, *facts: Any) -> None:
        if kind == Report.READY:
            self.libraries, self.kernels = facts
            self._owner.ready(self)
            return
        serial = facts[0]
        if kind == Report.LOG:
            self._tell_log(serial, *facts[1:])
            return
        last = serial + len(facts[1]) - 1 if kind in (Report.SUMS, Report.PARTIALS) else serial
        if self._stop:
            if last >= self._stop.chunk.serial:
                self._conclude_stop()
                if not self._leaving:
                    self.listener.available([])
            return
        batch = self._settle(serial, last + 1)
        if batch is None:
            return  # withdrawn meanwhile
        job, span = batch
        match kind:
            case Report.SUMS | Report.PARTIALS:
                _, values, micros, started, wall = facts
                count = span.count  # less than were computed, where some were withdrawn meanwhile
                times = Times(started, wall, micros).of_first(count)
                self.listener.computed(job, span, values[:count], times)
            case Report.RESULT:
                _, result, micros, started, wall = facts
                self.listener.concluded(job, span, result, Times(started, wall, (micros,)))
            case Report.FAILED:
                _, refused, message = facts
                self.listener.failed(job, span, message, refused=refused)
            case Report.DROPPED:
                self.listener.available([span])

    def _tell_log(self, serial: int, text: bytes, failed: bool) -> None:
        if self._stop and self._stop.chunk.serial == serial:
            self._stop.listener.logged(self._stop.chunk.span, text, failed=True)
        for batch in self._batches:
            if batch.serial <= serial < batch.end:
                self.listener.logged(batch.part(serial, serial + 1), text, failed=failed)

    def _settle(self, serial: int, end: int) -> tuple[Job, Span] | None:
        """Takes the chunks of the serials from the books, if they are there."""
        while self._batches and self._batches[0].end <= serial:
            self._batches.popleft()
        if not self._batches or serial < self._batches[0].serial:
            return None
        batch = self._batches[0]
        done = batch.part(serial, min(end, batch.end))
        if end >= batch.end:
            self._batches.popleft()
        else:
            self._batches[0] = _Batch(batch.job, batch.part(end, batch.end), end)
        return batch.job, done

    def _conclude_stop(self) -> None:
        if self._stop:
            over, self._stop = self._stop.over, None
            over()

    def _reap(self) -> None:
        # While nobody has waited for it, its group is nobody else's: what it started ends with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._leave()
        while self._receive():
            pass
        for descriptor in (self._socket.fileno(), self._pidfd):
            self._loop.remove_reader(descriptor)
        self._loop.remove_writer(self._socket)
        if self._timer:
            self._timer.cancel()
        last = self._page.running().serial
        if last and (text := self._page.logged(last)):
            self._tell_log(last, text, failed=True)
        running = self.running()
        crashed = running.span if running else None
        unfinished = self._take_all(crashed)
        self._socket.close()
        os.close(self._pidfd)
        self._page.close()
        self._ended.set()
        self._conclude_stop()
        self.listener.ended(crashed, unfinished, _how(self._popen.returncode))


def _how(code: int) -> str:
    if code >= 0:
        return f"process ended with exit code {code}"
    try:
        return f"process killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"process killed by signal {-code}"
