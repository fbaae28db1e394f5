"""Keeps a worker and the mesh of one mind, by Synchronize calls.

One call is kept waiting at a gateway: it shows that the worker lives, and brings chunks and what to
stop as soon as there is any. Results go at once, in calls that also ask for more. What a call tells
is kept until it is answered; a call without an answer is repeated as it was, at the next gateway,
for as long as it takes.
"""

import asyncio
import contextlib
import itertools
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc
import grpc.aio

from tallymesh.v1 import dispatch_service_pb2, dispatch_service_pb2_grpc
from tallymesh_core.rpc.channel import MAX_DISPATCH_BYTES, open_channel
from tallymesh_worker import pacing
from tallymesh_worker.foreman import Foreman
from tallymesh_worker.jobs import Jobs
from tallymesh_worker.outbox import Outbox, Parcel
from tallymesh_worker.spans import Span, joined

# How long a call waits: the mesh hears of the worker at least so often, of the 5 s after which it
# takes it for lost.
WAIT_SECONDS: Final = 1.0
# An answer is given up so long after it is due, early enough to ask another gateway in time.
ANSWER_SECONDS: Final = 2.0
# Calls that tell something, at a time: one on its way while the next is being filled.
MAX_TELLING: Final = 2
# Waiting calls at a time: one that offered nothing, as the worker was full, may still wait when
# another is opened to offer what has become free.
MAX_WAITING: Final = 2
# A call that fails so often, and not for want of a gateway, fails for what it tells.
MAX_FAILURES: Final = 8
# How long a leaving worker tries to tell its last results.
FAREWELL_SECONDS: Final = 2.0
MAX_KNOWN_JOBS: Final = 1024

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Call:
    """A call without an answer."""

    request: dispatch_service_pb2.SynchronizeRequest
    parcel: Parcel
    waits: bool
    failed: bool = False
    opened: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None


class Synchronizer:
    """Makes the calls."""

    def __init__(
        self,
        worker: dispatch_service_pb2.Worker,
        gateways: Sequence[str],
        foreman: Foreman,
        jobs: Jobs,
        outbox: Outbox,
        *,
        connected: Callable[[], None],
        drain: Callable[[], None],
    ) -> None:
        """Opens channels to the gateways; `wake` begins.

        Args:
            worker: Who calls.
            gateways: Addresses of gateways; any will do.
            foreman: Takes what the mesh gives.
            jobs: What is known of jobs.
            outbox: Holds what there is to tell.
            connected: Called whenever a gateway has answered.
            drain: Called when the mesh wants the worker to leave.
        """
        self._worker = worker
        self._foreman = foreman
        self._jobs = jobs
        self._outbox = outbox
        self._connected = connected
        self._drain = drain
        self._channels = [
            open_channel(address, max_receive_bytes=MAX_DISPATCH_BYTES) for address in gateways
        ]
        self._stubs = [
            dispatch_service_pb2_grpc.DispatchServiceStub(channel) for channel in self._channels
        ]
        # Workers that start together are not all to go to the same gateway.
        self._gateway = random.randrange(len(self._stubs))  # noqa: S311 - not a secret
        self._lost = False
        self._ids = itertools.count(1)
        self._calls: dict[str, _Call] = {}
        self._wait_seconds = WAIT_SECONDS
        self._lull = pacing.Lull()
        self._progress_due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._woken = False
        self._changed = asyncio.Event()
        foreman.news = self.wake

    def wake(self) -> None:
        """Makes the calls that are due, soon."""
        self._changed.set()
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._advance)

    async def leave(self, grace: float) -> None:
        """Ends what the worker holds, and says goodbye.

        Args:
            grace: Seconds that chunks being computed get to end; then they are handed back.
        """
        self._abandon([call for call in self._calls.values() if call.waits])
        self._foreman.drain()
        await self._until(lambda: not self._is_computing(), grace)
        self._foreman.give_up()
        await self._until(
            lambda: not (self._is_computing() or self._outbox or self._telling()), FAREWELL_SECONDS
        )
        self._hush()
        with contextlib.suppress(grpc.aio.AioRpcError):
            stub, request = self._stubs[self._gateway], self._request(Parcel(), [])
            await stub.Synchronize(request, timeout=FAREWELL_SECONDS)

    async def close(self) -> None:
        """Ends all calls."""
        self._hush()
        for channel in self._channels:
            await channel.close()

    def _hush(self) -> None:
        """Ends all calls and makes no more."""
        self._foreman.news = _unheard
        if self._timer:
            self._timer.cancel()
        self._abandon(list(self._calls.values()))

    def _is_computing(self) -> bool:
        return any(True for _ in itertools.chain(self._foreman.spans(), self._foreman.dropped()))

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()

    def _abandon(self, calls: list[_Call]) -> None:
        for call in calls:
            del self._calls[call.request.call_id]
            self._outbox.put_back(call.parcel)
            if call.task:
                call.task.cancel()

    # Which calls are due.

    def _advance(self) -> None:
        self._woken = False
        if self._foreman.news is _unheard:
            return
        now = time.monotonic()
        while self._telling() < MAX_TELLING:
            progress = self._foreman.progress() if now >= self._progress_due else []
            if progress:
                self._progress_due = now + pacing.PROGRESS_SECONDS
            if now < self._outbox.due and not progress and not self._foreman.has_obeyed:
                break
            self._open(progress, waits=False)
        wants_to_wait = self._telling() == 0 and self._wants_to_wait()
        if wants_to_wait and now >= self._lull.end:
            self._open([], waits=True)
            wants_to_wait = False
        self._look_again(min(self._outbox.due, self._lull.end if wants_to_wait else math.inf) - now)

    def _look_again(self, delay: float) -> None:
        """Looks again after so many seconds, if something is due then that no answer will bring."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if 0 < delay < math.inf:
            self._timer = asyncio.get_running_loop().call_later(delay, self.wake)

    def _telling(self) -> int:
        return sum(not call.waits for call in self._calls.values())

    def _wants_to_wait(self) -> bool:
        waiting = sum(call.waits for call in self._calls.values())
        if waiting == 0:
            return True
        has_spare = waiting < MAX_WAITING and not self._is_offering()
        return has_spare and self._foreman.is_running_dry()

    def _is_offering(self) -> bool:
        return any(call.waits and call.request.capacity for call in self._calls.values())

    # One call.

    def _open(self, progress: list[tuple[Span, float]], *, waits: bool) -> None:
        parcel = self._outbox.draw()
        request = self._request(parcel, progress)
        # Where nothing else waits for chunks, what tells results waits for them: one call less.
        waits = waits or (request.capacity > 0 and not self._is_offering())
        if waits:
            request.wait.FromMicroseconds(round(self._wait_seconds * 1e6))
        call = _Call(request, parcel, waits)
        self._calls[request.call_id] = call
        call.task = asyncio.create_task(self._make(call))

    def _request(
        self, parcel: Parcel, progress: list[tuple[Span, float]]
    ) -> dispatch_service_pb2.SynchronizeRequest:
        offered = sum(call.request.capacity for call in self._calls.values())
        self._foreman.has_obeyed = False
        request = dispatch_service_pb2.SynchronizeRequest(
            call_id=str(next(self._ids)),
            worker=self._worker,
            open_call_ids=self._calls,
            held=self._held(parcel),
            results=parcel.results,
            failures=parcel.failures,
            returned=[span.to_range() for span in joined(parcel.returned)],
            logs=parcel.logs,
            progress=[
                dispatch_service_pb2.ChunkProgress(chunk=span.to_range(), fraction=fraction)
                for span, fraction in progress
            ],
            capacity=max(0, self._foreman.room() - offered),
            known_jobs=self._jobs.names()[-MAX_KNOWN_JOBS:],
            draining=self._foreman.draining,
            stopping=self._stopping(),
        )
        parcel.tell_ages(request)
        return request

    def _held(self, *parcels: Parcel) -> list[dispatch_service_pb2.ChunkRange]:
        """Lists all that the worker has been given, with what is in parcels not yet sent."""
        spans = itertools.chain(
            self._foreman.spans(),
            self._outbox.spans(),
            *(parcel.spans() for parcel in parcels),
            *(call.parcel.spans() for call in self._calls.values()),
        )
        return [span.to_range() for span in joined(spans)]

    def _stopping(self) -> list[dispatch_service_pb2.ChunkRange]:
        return [span.to_range() for span in joined(self._foreman.dropped())]

    def _renew(self, call: _Call) -> None:
        """Brings up to date what a call that is to be repeated tells of the worker as a whole.

        Old news of that would make the mesh take back what the worker was given meanwhile.
        """
        del call.request.held[:], call.request.stopping[:]
        call.request.held.extend(self._held())
        call.request.stopping.extend(self._stopping())
        call.parcel.tell_ages(call.request)
        others = [call_id for call_id in self._calls if call_id != call.request.call_id]
        call.request.open_call_ids[:] = others

    async def _make(self, call: _Call) -> None:
        timeout = ANSWER_SECONDS + (self._wait_seconds if call.waits else 0.0)
        for attempt in itertools.count():
            gateway = self._gateway
            try:
                answer = await self._stubs[gateway].Synchronize(call.request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                if _is_refusal(error) or (attempt >= MAX_FAILURES and not _may_pass(error)):
                    # A fault of ours that no repetition mends.
                    logger.error("a gateway refuses a call", extra={"error": error.details()})  # noqa: TRY400
                    self._outbox.take_apart(call.parcel, error.details() or error.code().name)
                    self._end(call)
                    self._lull.note_refusal(time.monotonic())
                    return
                self._lose(call, gateway, error)
                await self._back_off(attempt)
                self._renew(call)
            else:
                self._end(call)
                self._apply(call, answer)
                return

    async def _back_off(self, attempt: int) -> None:
        """Waits before a call is repeated, ever longer, but not beyond a lost gateway's return."""
        channel = self._channels[self._gateway]
        delay = pacing.pause(attempt, random.random())  # noqa: S311 - spreads load
        if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            await asyncio.sleep(delay)  # it answers, but cannot serve
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await channel.channel_ready()

    def _end(self, call: _Call) -> None:
        del self._calls[call.request.call_id]
        self.wake()

    def _lose(self, call: _Call, gateway: int, error: grpc.aio.AioRpcError) -> None:
        call.failed = True
        if not self._lost:
            self._lost = True
            logger.warning(
                "no gateway answers; computing goes on",
                extra={"code": error.code().name, "details": error.details()},
            )
        if self._gateway == gateway:
            self._gateway = (gateway + 1) % len(self._stubs)

    def _apply(self, call: _Call, answer: dispatch_service_pb2.SynchronizeResponse) -> None:
        if self._lost and not any(other.failed for other in self._calls.values()):
            self._lost = False
            logger.info("a gateway answers again", extra={"gateway": answer.answered_by})
        self._connected()
        if answer.drain:
            self._drain()
        if answer.stop:
            self._foreman.drop([Span.of(chunks) for chunks in answer.stop])
        now = time.monotonic()
        if answer.assignments:
            self._lull.note_chunks(now)
            self._foreman.take(answer)
        else:
            if call.request.capacity:
                self._foreman.find_nothing()
            waited = now - call.opened if call.waits and not answer.stop else None
            self._lull.note_nothing(now, waited)
        again = answer.call_again_after.ToMicroseconds() / 1e6
        self._wait_seconds = min(WAIT_SECONDS, again) if again > 0 else WAIT_SECONDS


def _is_refusal(error: grpc.aio.AioRpcError) -> bool:
    said = error.details() or ""
    match error.code():
        case grpc.StatusCode.INVALID_ARGUMENT:
            return True
        # gRPC's own words for what it cannot take.
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return "larger than max" in said
        case grpc.StatusCode.INTERNAL:
            return "deserializing" in said
        case _:
            return False


def _may_pass(error: grpc.aio.AioRpcError) -> bool:
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def _unheard() -> None:
    """News that nobody waits for."""
