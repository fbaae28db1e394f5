"""Work for workers: one use case, Synchronize, and the calls that wait for something to do."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tallymesh.v1 import dispatch_service_pb2 as pb
from tallymesh.v1.errors_pb2 import ErrorReason
from tallymesh.v1.work_pb2 import Result
from tallymesh_core.domain.errors import ShuttingDown
from tallymesh_core.domain.jobs import (
    ChunkFailure,
    ChunkSpan,
    JobRecord,
    LoggedChunk,
    SpanResults,
)
from tallymesh_core.store.chunk_logs import ChunkLogStore
from tallymesh_core.store.events import Interrupted, JobChanged
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tallymesh_gateway import names
from tallymesh_gateway.collecting import Collections
from tallymesh_gateway.contents import Contents
from tallymesh_gateway.watching import Watches

#: A waiting call looks for itself so often, so that a lost wake-up costs no more.
_LOOK_SECONDS = 1.0
#: The longest pause between a worker's calls: well under the time after which it counts as lost.
_CALL_AGAIN_SECONDS = 1.0
#: Jobs accepted here of whose first event word is still awaited; it may have come before.
_MOST_FORESEEN = 4096
#: A stop of this many chunks from the first is a stop of all.
_ALL_CHUNKS = 1 << 31


@dataclass(eq=False)
class _Waiting:
    """A call that waits for something to say."""

    uid: str
    lanes: frozenset[str]
    capacity: int
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    stop: list[pb.ChunkRange] = field(default_factory=list)


class Dispatcher:
    """Answers the calls of workers."""

    def __init__(
        self,
        jobs: JobStore,
        leases: LeaseStore,
        watches: Watches,
        collections: Collections,
        node: str,
        *,
        logs: ChunkLogStore,
        contents: Contents,
    ) -> None:
        """Begins with no call waiting.

        Args:
            jobs: The jobs.
            leases: The leases.
            watches: Told of commits at once, before the store's events tell of them.
            collections: Likewise.
            node: Name of this gateway.
            logs: What chunks have logged.
            contents: The works of jobs.
        """
        self._jobs = jobs
        self._watches = watches
        self._collections = collections
        self._woken_for: dict[str, None] = {}
        self._leases = leases
        self._logs = logs
        self._node = node
        self._waiting: dict[_Waiting, None] = {}
        self._contents = contents
        self._closing = False

    def notice(self, events: list[JobChanged] | Interrupted) -> None:
        """Wakes the calls that have something to say now."""
        if isinstance(events, Interrupted):
            self._woken_for.clear()
            for waiting in self._waiting:
                waiting.woken.set()
            return
        for event in events:
            if event.kind == "ready" and not self._foreseen(event):
                lane, leasable = event.extra.rsplit(" ", 1)
                self._wake(lane, int(leasable))
        ended = {event.ref: event.extra.split() for event in events if event.kind == "ended"}
        for waiting in self._waiting:
            for ref, (epoch, _, *owners) in ended.items():
                if waiting.uid in owners:
                    waiting.stop.append(
                        pb.ChunkRange(job=ref, epoch=int(epoch), first=0, count=_ALL_CHUNKS)
                    )
                    waiting.woken.set()

    def _wake(self, lane: str, leasable: int) -> None:
        """Wakes as many waiting calls as there are chunks, those first that have waited longest."""
        for waiting in self._waiting:
            # Who is woken already may take no more than what it was woken for.
            is_free = waiting.capacity and not waiting.woken.is_set()
            if leasable > 0 and is_free and lane in waiting.lanes:
                waiting.woken.set()
                leasable -= 1

    def close(self) -> None:
        """Answers all waiting calls, so that their workers go on at another gateway."""
        self._closing = True
        for waiting in self._waiting:
            waiting.woken.set()

    async def synchronize(self, request: pb.SynchronizeRequest) -> pb.SynchronizeResponse:
        """Takes what a worker has to say and answers with what it needs to know.

        Raises:
            StoreUnavailable: The store cannot be reached; the worker repeats the call.
            ShuttingDown: The gateway is stopping.
        """
        if self._closing:
            raise ShuttingDown(self._node)
        worker = request.worker
        answer = pb.SynchronizeResponse(answered_by=self._node)
        answer.call_again_after.FromMilliseconds(round(_CALL_AGAIN_SECONDS * 1000))
        waiting = _Waiting(
            worker.uid,
            frozenset(
                f"{queue}/{kernel}"
                for queue in worker.queues or ("default",)
                for kernel in worker.kernels
            ),
            0 if request.draining else request.capacity,
        )
        wait = request.wait.ToMilliseconds() / 1000
        if wait:
            # Before the first look, so that nothing that comes after it is missed.
            self._waiting[waiting] = None
        try:
            spans = await self._take_in(request, waiting, answer)
            if request.draining and not request.held and await self._leases.leave(worker.uid):
                return answer
            deadline = time.monotonic() + wait
            while True:
                answer.stop.extend(waiting.stop)
                left = deadline - time.monotonic()
                if spans or answer.stop or answer.drain or left <= 0 or self._closing:
                    await self._assign(spans, set(request.known_jobs), answer)
                    return answer
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, _LOOK_SECONDS)):
                        await waiting.woken.wait()
                waiting.woken.clear()
                spans = await self._lease(request, waiting)
        finally:
            self._waiting.pop(waiting, None)
            if waiting.woken.is_set() and not self._closing:
                # It looked too early for what it was woken for: another has to look.
                for lane in waiting.lanes:
                    self._wake(lane, 1)

    async def _take_in(
        self,
        request: pb.SynchronizeRequest,
        waiting: _Waiting,
        answer: pb.SynchronizeResponse,
    ) -> list[ChunkSpan]:
        worker = request.worker
        results = [_results(one) for one in request.results]
        failures = [_failure(one) for one in request.failures]
        returned = [_span(one) for one in request.returned]
        over: dict[str, list[ChunkSpan]] = {}
        for span in (
            *(one.span for one in results),
            *(one.span for one in failures),
            *returned,
        ):
            over.setdefault(span.ref, []).append(span)
        steps: list[Coroutine[Any, Any, Any]] = []
        if request.logs:
            # Before what ends their jobs: who sees the end finds the logs.
            logs = [LoggedChunk(_span(one.chunk), one.text, one.failed) for one in request.logs]
            await self._logs.keep(worker.name, logs)
        if results:
            steps.append(self._commit(worker, results, answer))
            steps += self._watches.looks({one.span.ref for one in results})
        if failures:
            steps.append(self._leases.fail(worker.uid, worker.name, failures))
        if returned:
            steps.append(self._leases.give_back(worker.uid, returned))
        if self._leases.shards > 1:
            # Each goes from shard to shard. A beat that came first somewhere would take what is
            # over for what the worker does not know of.
            await asyncio.gather(*steps)
            steps.clear()
        steps.append(self._beat(request, over, answer))
        # Asked for together, they travel to the store together, and run in this order.
        *_, spans = await asyncio.gather(*steps, self._lease(request, waiting))
        return list(spans)

    async def _commit(
        self, worker: pb.Worker, results: list[SpanResults], answer: pb.SynchronizeResponse
    ) -> None:
        committed = await self._leases.commit(worker.uid, worker.name, results)
        answer.accepted, answer.refused = committed.accepted, committed.refused
        self._watches.notice(committed.events)
        self._collections.notice(committed.events)

    async def _beat(
        self,
        request: pb.SynchronizeRequest,
        over: Mapping[str, Sequence[ChunkSpan]],
        answer: pb.SynchronizeResponse,
    ) -> None:
        worker = request.worker
        heard = await self._leases.beat(
            worker.uid,
            name=worker.name,
            info=worker.SerializeToString(),
            slots=worker.slots,
            draining=request.draining,
            held=[_span(one) for one in request.held],
            open_calls=[*request.open_call_ids, request.call_id],
            progress=[(_span(one.chunk), one.fraction) for one in request.progress],
            stopping={one.job for one in request.stopping},
        )
        answer.drain = heard.drain
        answer.stop.extend(
            _range(span) for span in heard.stop if not _covered(span, over.get(span.ref, ()))
        )

    async def _lease(self, request: pb.SynchronizeRequest, waiting: _Waiting) -> list[ChunkSpan]:
        if not waiting.capacity or self._closing:
            return []
        return await self._leases.lease(
            waiting.uid, request.call_id, waiting.capacity, sorted(waiting.lanes)
        )

    async def _assign(
        self, spans: list[ChunkSpan], known: set[str], answer: pb.SynchronizeResponse
    ) -> None:
        works = await self._contents.works({span.ref for span in spans})
        for span in spans:
            work = works.get(span.ref)
            if work is None:
                continue
            assignment = answer.assignments.add(chunks=_range(span))
            if span.first == work.chunk_count:
                for partial in await self._jobs.partials_of(span.ref):
                    assignment.partials.append(Result.FromString(partial))
            if span.ref not in known:
                known.add(span.ref)
                answer.works.append(work)

    def expect(self, record: JobRecord) -> None:
        """Takes note of a job accepted here: workers wait for it, and will ask for its work."""
        self._contents.keep(record)
        if record.version == 1:
            self._woken_for[record.ref] = None
            while len(self._woken_for) > _MOST_FORESEEN:
                del self._woken_for[next(iter(self._woken_for))]
            self._wake(f"{record.spec.queue}/{record.spec.kernel}", record.spec.chunk_count)

    def _foreseen(self, event: JobChanged) -> bool:
        """Tells whether calls were woken for an event before it was heard of."""
        if event.version > 1 or event.ref not in self._woken_for:
            return False
        del self._woken_for[event.ref]
        return True


def _results(one: pb.ChunkResults) -> SpanResults:
    return SpanResults(
        _span(one.chunks),
        sums=tuple(one.sums) if one.sums else None,
        partials=tuple(part.SerializeToString() for part in one.partials) if one.partials else None,
        result=one.result.SerializeToString() if one.HasField("result") else None,
        micros=tuple(one.compute_micros),
        age_micros=one.age_micros,
        elapsed_micros=one.elapsed_micros,
    )


def _failure(one: pb.ChunkFailure) -> ChunkFailure:
    reason = ErrorReason.Name(one.reason).removeprefix("ERROR_REASON_")
    return ChunkFailure(_span(one.chunk), reason, names.without_controls(one.message))


def _span(one: pb.ChunkRange) -> ChunkSpan:
    return ChunkSpan(one.job, one.epoch, one.first, one.count, one.attempt)


def _range(span: ChunkSpan) -> pb.ChunkRange:
    return pb.ChunkRange(
        job=span.ref, epoch=span.epoch, first=span.first, count=span.count, attempt=span.attempt
    )


def _covered(span: ChunkSpan, over: Sequence[ChunkSpan]) -> bool:
    # What is over of its job is told in ranges that do not overlap.
    last = span.first + span.count
    shared = (min(last, other.first + other.count) - max(span.first, other.first) for other in over)
    return sum(max(0, count) for count in shared) >= span.count
