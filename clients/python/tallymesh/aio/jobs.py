"""A job, from the outside, awaited: as tallymesh.jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc.aio

from tallymesh.aio.calls import AsyncCaller, read_on
from tallymesh.arguments import ChunkIndex, PageSize, checked
from tallymesh.belonging import NotPickled
from tallymesh.errors import DeadlineExceeded, StopTimeout, WaitTimeout
from tallymesh.jobs import POLL_SECONDS, after, is_ended, needs_watching
from tallymesh.showing import job_html, open_bar
from tallymesh.v1.job_pb2 import Chunk, ChunkLog, Job, JobEvent, Progress
from tallymesh.v1.job_service_pb2 import (
    CancelJobRequest,
    GetJobRequest,
    ListChunkLogsRequest,
    ListChunksRequest,
    ReplayJobRequest,
    RunJobRequest,
    WatchJobRequest,
)
from tallymesh.watching import DEFAULT_LIMITS, Limits, OnCut
from tallymesh.works import FINAL_STATES, outcome

if TYPE_CHECKING:
    from tallymesh.v1.job_service_pb2_grpc import JobServiceAsyncStub


@checked
class AsyncJobHandle(NotPickled):
    """A job in the mesh, as JobHandle. A task that waits for it and is cancelled leaves it alone.

    Attributes:
        job: The job as last seen.
    """

    _instead = "pass its name on, and take client.job(name) there"

    def __init__(
        self,
        caller: AsyncCaller,
        stub: JobServiceAsyncStub,
        job: Job,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.job = job
        self._caller = caller
        self._stub = stub
        self._limits = limits

    def __repr__(self) -> str:
        return f"<AsyncJobHandle {self.name}>"

    def _repr_html_(self) -> str:
        return job_html(self.job)

    @property
    def name(self) -> str:
        """Resource name, `jobs/{job}`."""
        return self.job.name

    @property
    def ended(self) -> bool:
        """Whether the job, as last seen, is in a final state."""
        return self.job.state in FINAL_STATES

    async def refresh(self) -> Job:
        """Asks for the job and returns it, as JobHandle.refresh()."""
        self.job = await self._caller.unary(self._stub.GetJob, GetJobRequest(name=self.name))
        return self.job

    async def progress(self) -> Progress:
        """Asks for the job and returns how far it is, as JobHandle.progress()."""
        return (await self.refresh()).progress

    def events(
        self, *, timeout: float | None = None, on_cut: OnCut | None = None
    ) -> AsyncIterator[JobEvent]:
        """Yields the messages of a watch as the mesh sends them, as JobHandle.events()."""
        return self._follow(None, timeout, on_cut)

    async def watch(
        self,
        *,
        bar: bool = False,
        timeout: float | None = None,
        on_cut: OnCut | None = None,
    ) -> AsyncIterator[Job]:
        """Yields the job whenever it changes, and last as it ended, as JobHandle.watch()."""
        with open_bar(bar) as display:
            async for event in self.events(timeout=timeout, on_cut=on_cut):
                if event.WhichOneof("event") != "keepalive":
                    if display:
                        display.show(self.job)
                    yield self.job

    async def result(self, timeout: float | None = None) -> Any:
        """Waits for the job to end and returns its result, as JobHandle.result()."""
        if needs_watching(self.job):
            async for _ in self.events(timeout=timeout):
                pass
        return outcome(self.job)

    async def cancel(self, wait: bool = True, timeout: float = 10.0) -> Job:
        """Cancels the job and returns it, as JobHandle.cancel()."""
        self.job = await self._caller.unary(self._stub.CancelJob, CancelJobRequest(name=self.name))
        deadline = time.monotonic() + timeout
        while wait and not self.job.cancellation.HasField("stop_time"):
            if time.monotonic() >= deadline:
                raise StopTimeout(self.job, timeout)
            await asyncio.sleep(POLL_SECONDS)
            await self.refresh()
        return self.job

    async def replay(self) -> Job:
        """Runs the chunks again that failed or were never done, as JobHandle.replay()."""
        seen = self.job.epoch or (await self.refresh()).epoch
        request = ReplayJobRequest(name=self.name, epoch=seen)
        self.job = await self._caller.unary(self._stub.ReplayJob, request)
        return self.job

    async def chunks(self, page_size: PageSize = 1000) -> AsyncIterator[Chunk]:
        """Yields all chunks of the job by index, as JobHandle.chunks()."""
        request = ListChunksRequest(parent=self.name, page_size=page_size)
        while True:
            page = await self._caller.unary(self._stub.ListChunks, request)
            for chunk in page.chunks:
                yield chunk
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def logs(self, chunk: ChunkIndex | None = None) -> AsyncIterator[ChunkLog]:
        """Yields what the chunks of the job have logged, by index, as JobHandle.logs()."""
        request = ListChunkLogsRequest(parent=self.name, page_size=1000, chunk=chunk)
        while True:
            page = await self._caller.unary(self._stub.ListChunkLogs, request)
            for log in page.chunk_logs:
                yield log
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def run(self, request: RunJobRequest, timeout: float | None = None) -> Any:
        """Submits the job of `request` and returns its result, as JobHandle.run()."""
        async for _ in self._follow(request, timeout, None):
            pass
        return outcome(self.job)

    async def _follow(
        self, request: RunJobRequest | None, timeout: float | None, on_cut: OnCut | None
    ) -> AsyncIterator[JobEvent]:
        def open_stream(left: float | None) -> grpc.aio.UnaryStreamCall[Any, JobEvent]:
            if self.name or request is None:
                watch = WatchJobRequest(name=self.name)
                return self._caller.stream(self._stub.WatchJob, watch, left)
            return self._caller.stream(self._stub.RunJob, request, left)

        events = read_on(
            self._caller,
            open_stream,
            is_ended,
            timeout=timeout,
            limits=self._limits,
            on_cut=on_cut,
        )
        try:
            async for event in events:
                self.job = after(self.job, event)
                yield event
        except DeadlineExceeded as error:
            if timeout is None or not self.name:
                raise
            raise WaitTimeout(self.job, timeout) from error
