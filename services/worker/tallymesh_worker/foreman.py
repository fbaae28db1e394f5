"""Hands the chunks that a worker holds to its compute processes.

Chunks wait here, and go to the processes in batches: so much that no process runs dry, so little
that what turns out long can still be done by others. What waits behind a long chunk is taken back
from its process, given to an idle one, or handed back to the mesh.
"""

import asyncio
import enum
import functools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tallymesh.v1 import dispatch_service_pb2, errors_pb2
from tallymesh_worker import pacing
from tallymesh_worker.jobs import Job, Jobs
from tallymesh_worker.outbox import Outbox
from tallymesh_worker.pool import Pool
from tallymesh_worker.process import ComputeProcess, RunningChunk
from tallymesh_worker.spans import Span
from tallymesh_worker.times import Times

logger = logging.getLogger(__name__)


class _Fate(enum.Enum):
    """What becomes of a running chunk once it has stopped."""

    DROPPED = enum.auto()
    """It is the worker's no more: nothing is told of it."""
    RETURNED = enum.auto()
    """It is handed back untouched."""
    TIMED_OUT = enum.auto()
    """It is told as failed."""


@dataclass(slots=True)
class _Stopping:
    """A chunk that is being stopped, and why."""

    chunk: RunningChunk
    fate: _Fate


class Foreman:
    """Knows all chunks that wait or are being computed.

    Attributes:
        pool: The compute processes.
        draining: It takes no more chunks.
        chunks_done: Chunks finished.
        chunks_failed: Chunks failed, crashed or timed out.
        has_obeyed: Chunks were dropped, or the last of those have stopped, since this was reset.
        news: Called when there may be something to tell the mesh, or room for more chunks.
    """

    def __init__(
        self,
        jobs: Jobs,
        outbox: Outbox,
        *,
        slots: int,
        memory_limit: int,
        kernels: Sequence[str] = (),
    ) -> None:
        """Prepares; the pool is to be started.

        Args:
            jobs: What is known of jobs.
            outbox: Where results, failures and what is handed back go to.
            slots: How many chunks are computed at a time.
            memory_limit: As for ComputeProcess.
            kernels: As for ComputeProcess.
        """
        self.pool = Pool(slots, self, memory_limit=memory_limit, kernels=kernels)
        self.draining = False
        self.chunks_done = 0
        self.chunks_failed = 0
        self.has_obeyed = False
        self.news: Callable[[], None] = lambda: None
        self._jobs = jobs
        self._outbox = outbox
        self._waiting: deque[Span] = deque()
        self._stopping: dict[ComputeProcess, _Stopping] = {}
        self._typical: float | None = None
        self._told: dict[Span, float] = {}
        self._ticking = False

    # What is held.

    def spans(self) -> Iterator[Span]:
        """Yields all chunks that wait or are being computed, but for those dropped."""
        yield from self._waiting
        for process in self.pool.active():
            for _, span in process.sent():
                yield span
        for stopping in self._stopping.values():
            if stopping.fate is not _Fate.DROPPED:
                yield stopping.chunk.span

    def dropped(self) -> Iterator[Span]:
        """Yields the chunks dropped that are still being computed."""
        for stopping in self._stopping.values():
            if stopping.fate is _Fate.DROPPED:
                yield stopping.chunk.span

    def running(self) -> list[RunningChunk]:
        """Returns the chunks that are being computed."""
        found = (process.running() for process in self.pool.active())
        return [chunk for chunk in found if chunk]

    def progress(self) -> list[tuple[Span, float]]:
        """Returns how far long chunks are, where that has changed since it was last returned."""
        now = {
            chunk.span: chunk.fraction
            for chunk in self.running()
            if chunk.elapsed > pacing.PROGRESS_SECONDS and chunk.fraction > 0
        }
        changed = [(span, share) for span, share in now.items() if self._told.get(span) != share]
        self._told = now
        return changed

    def room(self) -> int:
        """Returns how many more chunks could be begun soon."""
        return 0 if self.draining else self._fit(pacing.HORIZON_SECONDS)[2]

    def is_running_dry(self) -> bool:
        """Tells whether a process is about to have nothing to do."""
        return not self.draining and self._fit(pacing.HORIZON_SECONDS / 2)[2] > 0

    # What the mesh says.

    def take(self, answer: dispatch_service_pb2.SynchronizeResponse) -> None:
        """Takes the chunks that an answer gives."""
        for work in answer.works:
            self._jobs.learn(work)
        for assignment in answer.assignments:
            partials = tuple(partial.SerializeToString() for partial in assignment.partials)
            span = Span.of(assignment.chunks, partials)
            job = self._jobs.get(span.job)
            if job is None or self.draining:
                # A job forgotten while the call was open; the next one does not name it.
                self._outbox.add_returned([span])
                continue
            self._waiting.append(span)
            job.is_given_out |= span.end >= job.chunk_count
        for job in self._jobs.forget({span.job for span in self.spans()}):
            self.pool.forget(job)
        self._pump()
        self.news()

    def drop(self, stops: list[Span]) -> None:
        """Stops computing chunks that are the worker's no more."""
        stopped = _by_job(stops)
        self.has_obeyed |= _is_hit(self.spans(), stopped)
        for stopping in self._stopping.values():
            if _is_hit([stopping.chunk.span], stopped):
                stopping.fate = _Fate.DROPPED
        freed: list[Span] = []
        for process in self.pool.active():
            if _is_hit((span for _, span in process.sent()), stopped):
                running = process.running()
                if running and _is_hit([running.span], stopped):
                    freed += self._stop(process, running, _Fate.DROPPED)
                else:
                    freed += process.withdraw()
        waiting = list(self._waiting)
        self._waiting.clear()
        self._requeue(_without(waiting, stopped))
        self._requeue(_without(freed, stopped))
        self._pump()
        self.news()

    def find_nothing(self) -> None:
        """Takes note that the mesh has no work: what comes next may be of another kind."""
        if not self._holds_any():
            self._typical = None

    # The end.

    def drain(self) -> None:
        """Takes no more chunks and hands back those that are not begun."""
        self.draining = True
        self._outbox.add_returned(list(self._waiting))
        self._waiting.clear()
        for process in self.pool.active():
            self._outbox.add_returned(process.withdraw())
        self.news()

    def give_up(self) -> None:
        """Stops what is being computed, and hands it back as it stops."""
        for process in self.pool.active():
            self._outbox.add_returned(self._stop(process, process.running(), _Fate.RETURNED))
        self.news()

    # What the processes say.

    def computed(
        self, job: Job, chunks: Span, values: tuple[int, ...] | tuple[bytes, ...], times: Times
    ) -> None:
        """Hands in results."""
        mean = times.mean_seconds
        job.measure(mean)
        self._typical = pacing.blended(self._typical, mean)
        if job.is_given_out and not self._holds_any():
            self._typical = None  # what comes next may be of another kind
        self.chunks_done += chunks.count
        # Whoever waits for a job of one chunk waits for nothing else.
        ends = self._next_ends(job) if job.chunk_count > 1 else ()
        patience = pacing.patience(mean, ends)
        due = time.monotonic() + patience if patience else 0.0
        self._outbox.add_values(chunks, values, times, due=due)
        self._pump()
        self.news()

    def concluded(self, job: Job, chunk: Span, result: bytes, times: Times) -> None:
        """Hands in a job's result."""
        self.chunks_done += 1
        self._outbox.add_result(chunk, result, times)
        self._pump()
        self.news()

    def failed(self, job: Job, chunk: Span, message: str, *, refused: bool) -> None:
        """Hands in a failure."""
        reason = (
            errors_pb2.ERROR_REASON_WORK_REFUSED
            if refused
            else errors_pb2.ERROR_REASON_CHUNK_FAILED
        )
        self.chunks_failed += 1
        self._outbox.add_failure(chunk, reason, message)
        self._pump()
        self.news()

    def logged(self, chunk: Span, text: bytes, *, failed: bool) -> None:
        """Hands in what a chunk has logged."""
        self._outbox.add_log(chunk, text, failed=failed)

    def available(self, unfinished: list[Span]) -> None:
        """Gives a process that can take it the next work."""
        self._requeue(unfinished)
        self._pump()
        self.news()

    def ended(self, crashed: Span | None, unfinished: list[Span], how: str) -> None:
        """Hands in a crash, and gives what else the process had to others."""
        if crashed:
            self.chunks_failed += 1
            self._outbox.add_failure(crashed, errors_pb2.ERROR_REASON_CHUNK_CRASHED, how)
            logger.warning(
                "%s while computing", how, extra={"job": crashed.job, "chunk": crashed.first}
            )
        self.available(unfinished)

    # How chunks are stopped.

    def _stop(self, process: ComputeProcess, chunk: RunningChunk | None, fate: _Fate) -> list[Span]:
        """Stops a process, and returns what else it had been sent."""
        if chunk:
            self._stopping[process] = _Stopping(chunk, fate)
        return process.stop(chunk, functools.partial(self._stopped, process))

    def _stopped(self, process: ComputeProcess) -> None:
        """Tells what has become of a chunk that was stopped, now that it uses no processor."""
        stopping = self._stopping.pop(process)
        chunk = stopping.chunk
        match stopping.fate:
            case _Fate.DROPPED:
                self.has_obeyed |= next(self.dropped(), None) is None
            case _Fate.RETURNED:
                self._outbox.add_returned([chunk.span])
            case _Fate.TIMED_OUT:
                self.chunks_failed += 1
                self._outbox.add_failure(
                    chunk.span,
                    errors_pb2.ERROR_REASON_CHUNK_TIMED_OUT,
                    f"took longer than chunk_timeout, {chunk.job.timeout:g} s",
                )
        self.news()

    # How chunks are spread.

    def _holds_any(self) -> bool:
        return next(self.spans(), None) is not None

    def _requeue(self, spans: list[Span]) -> None:
        if self.draining:
            self._outbox.add_returned(spans)
        else:
            self._waiting.extendleft(reversed(spans))

    def _pump(self) -> None:
        """Sends the processes what they need."""
        processes = [process for process in self.pool.active() if process.accepts]
        if not self._waiting and any(process.idle for process in processes):
            self._unload(processes)
        if self._waiting:
            self._spread(processes)
        if not self._ticking and any(not process.idle for process in processes):
            self._ticking = True
            asyncio.get_running_loop().call_later(pacing.TICK_SECONDS, self._look)

    def _spread(self, processes: list[ComputeProcess]) -> None:
        loads = {process: self._load(process) for process in processes}
        while self._waiting and loads:
            process = min(loads, key=loads.__getitem__)
            job = self._job(self._waiting[0])
            duration = self._duration(job)
            waiting = sum(span.count for span in self._waiting)
            idle = [process for process in loads if process.idle]
            if job.duration is None and idle:
                # Who knows how long they are: an even share for each, to be shared out again.
                process = idle[0]
                size = math.ceil(waiting / len(idle))
            elif duration is None or loads[process] > pacing.BATCH_SECONDS:
                return
            else:
                size = pacing.batch_size(waiting, len(loads), duration)
            span, rest = self._waiting.popleft().split(size)
            if rest:
                self._waiting.appendleft(rest)
            process.send(job, span)
            loads[process] += span.count * (duration or 0.0)

    def _unload(self, processes: list[ComputeProcess]) -> None:
        """Takes back what waits at the busiest process, for others to begin at once."""

        def behind(process: ComputeProcess) -> float:
            running = process.running()
            if running is None:
                return 0.0
            count = sum(span.count for _, span in process.sent()) - 1
            duration = self._duration(running.job)
            return count * max(running.elapsed, duration or 0.0)

        busiest = max(processes, key=behind)
        if behind(busiest) > pacing.WORTHWHILE_SECONDS:
            self._requeue(busiest.withdraw())

    def _look(self) -> None:
        """Looks at what is running, and acts where it takes long."""
        self._ticking = False
        for process in self.pool.active():
            chunk = process.running()
            if chunk is None:
                continue
            if chunk.elapsed > chunk.job.timeout:
                self._requeue(self._stop(process, chunk, _Fate.TIMED_OUT))
            elif chunk.elapsed > pacing.HORIZON_SECONDS:
                if chunk.job.duration is None:
                    chunk.job.measure(chunk.elapsed)
                if self._remaining(chunk) > pacing.BATCH_SECONDS:
                    self._requeue(process.withdraw())
        kept, surplus, _ = self._fit(2 * pacing.HORIZON_SECONDS)
        if surplus:
            self._waiting = deque(kept)
            self._outbox.add_returned(surplus)
        self._pump()
        self.news()

    def _fit(self, horizon: float) -> tuple[list[Span], list[Span], int]:
        """Fits chunks into what can be begun within so many seconds.

        Returns:
            Those waiting that can, those that cannot, and how many more of typical length could.
        """
        processes = [process for process in self.pool.active() if process.accepts]
        sizes, room = pacing.fit(
            [(span.count, self._duration(self._job(span))) for span in self._waiting],
            [self._load(process) for process in processes],
            horizon,
            unknown=sum(
                span.count
                for process in processes
                for job, span in process.sent()
                if not self._duration(job)
            ),
            typical=self._typical,
        )
        kept: list[Span] = []
        surplus: list[Span] = []
        for span, size in zip(self._waiting, sizes, strict=True):
            if size == 0:
                surplus.append(span)
                continue
            fitting, rest = span.split(size)
            kept.append(fitting)
            if rest:
                surplus.append(rest)
        return kept, surplus, room

    def _next_ends(self, job: Job) -> Iterator[float]:
        """Yields in how many seconds each process is expected to end a chunk of a job."""
        for process in self.pool.active():
            if running := process.running():
                if running.job is job:
                    yield self._remaining(running)
            elif (sent := next(process.sent(), None)) and sent[0] is job:
                yield self._duration(job) or 0.0

    def _load(self, process: ComputeProcess) -> float:
        """How many seconds a process needs for what it has been sent; infinite if unknown."""
        seconds = sum(span.count * (self._duration(job) or 0.0) for job, span in process.sent())
        if running := process.running():
            seconds += self._remaining(running) - (self._duration(running.job) or 0.0)
        return seconds

    def _remaining(self, chunk: RunningChunk) -> float:
        """How many seconds a running chunk still needs; infinite if unknown."""
        return pacing.remaining(self._duration(chunk.job), chunk.elapsed)

    def _duration(self, job: Job) -> float | None:
        """How long a chunk takes: as the others of its job, else as those of other jobs."""
        return self._typical if job.duration is None else job.duration

    def _job(self, span: Span) -> Job:
        job = self._jobs.get(span.job)
        assert job is not None, "a job is known as long as chunks of it are held"
        return job


def _by_job(spans: list[Span]) -> Mapping[str, Sequence[Span]]:
    found: dict[str, list[Span]] = {}
    for span in spans:
        found.setdefault(span.job, []).append(span)
    return found


def _is_hit(spans: Iterable[Span], stopped: Mapping[str, Sequence[Span]]) -> bool:
    return any(span.is_hit(stop) for span in spans for stop in stopped.get(span.job, ()))


def _without(spans: list[Span], stopped: Mapping[str, Sequence[Span]]) -> list[Span]:
    left = []
    for span in spans:
        parts = [span]
        for stop in stopped.get(span.job, ()):
            parts = [rest for part in parts for rest in part.without(stop)]
        left += parts
    return left
