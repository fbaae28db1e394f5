"""A job, from the outside: watch it, wait for it, cancel it, replay it, see who computed what."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from tallymesh.arguments import ChunkIndex, PageSize, checked
from tallymesh.belonging import NotPickled
from tallymesh.calls import Caller, Stream
from tallymesh.errors import DeadlineExceeded, StopTimeout, WaitTimeout
from tallymesh.showing import job_html, open_bar
from tallymesh.v1.job_pb2 import Chunk, ChunkLog, Job, JobDelta, JobEvent, Progress
from tallymesh.v1.job_service_pb2 import (
    CancelJobRequest,
    GetJobRequest,
    ListChunkLogsRequest,
    ListChunksRequest,
    ReplayJobRequest,
    RunJobRequest,
    WatchJobRequest,
)
from tallymesh.v1.job_service_pb2_grpc import JobServiceStub
from tallymesh.watching import DEFAULT_LIMITS, Limits, OnCut, read_on
from tallymesh.works import FINAL_STATES, outcome

POLL_SECONDS = 0.05


@checked
class JobHandle(NotPickled):
    """A job in the mesh. It needs nobody to hold it: the job goes on without its handle.

    Attributes:
        job: The job as last seen.
    """

    _instead = "pass its name on, and take client.job(name) there"

    def __init__(
        self, caller: Caller, stub: JobServiceStub, job: Job, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.job = job
        self._caller = caller
        self._stub = stub
        self._limits = limits

    def __repr__(self) -> str:
        return f"<JobHandle {self.name}>"

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

    def refresh(self) -> Job:
        """Asks for the job and returns it.

        Raises:
            NotFound: There is no such job.
        """
        self.job = self._caller.unary(self._stub.GetJob, GetJobRequest(name=self.name))
        return self.job

    def progress(self) -> Progress:
        """Asks for the job and returns how far it is.

        Raises:
            NotFound: There is no such job.
        """
        return self.refresh().progress

    def events(
        self, *, timeout: float | None = None, on_cut: OnCut | None = None
    ) -> Iterator[JobEvent]:
        """Yields the messages of a watch as the mesh sends them, the ended job last.

        A stream that is cut is opened again: a further snapshot comes, and nothing is missed.

        Args:
            timeout: Seconds after which to stop waiting; None for never.
            on_cut: Told of every cut that is being mended.

        Raises:
            WaitTimeout: The job has not ended in time. It goes on.
            Unreachable: The mesh is not, or was not for a minute.
        """
        return self._follow(None, timeout, on_cut)

    def watch(
        self,
        *,
        bar: bool = False,
        timeout: float | None = None,
        on_cut: OnCut | None = None,
    ) -> Iterator[Job]:
        """Yields the job: as it is, whenever it changes, and last as it ended.

        Args:
            bar: Also show on stderr how far it is: by a bar on a terminal, by lines elsewhere.
            timeout: As of events().
            on_cut: As of events().

        Errors as of events().
        """
        with open_bar(bar) as display:
            for event in self.events(timeout=timeout, on_cut=on_cut):
                if event.WhichOneof("event") != "keepalive":
                    if display:
                        display.show(self.job)
                    yield self.job

    def result(self, timeout: float | None = None) -> Any:
        """Waits for the job to end and returns its result.

        A job that had ended when it was last seen is not asked for again.

        Args:
            timeout: Seconds to wait; None for as long as it takes.

        Returns:
            The count of CountPrimes, the prime of NthPrime, the sum of Add as a Decimal, the number
            of chunks of Simulate; of a kernel of one's own what it made, as JSON has it, or the
            bytes of its message. Where the job tolerates failures, it is without the
            `job.progress.chunks_failed` chunks that were given up.

        Raises:
            JobFailed: The job failed; ChunkTimedOut or JobTimedOut where a time was exceeded.
            JobCancelled: The job was cancelled.
            WaitTimeout: The job has not ended in time. It goes on.
        """
        if needs_watching(self.job):
            for _ in self.events(timeout=timeout):
                pass
        return outcome(self.job)

    def cancel(self, wait: bool = True, timeout: float = 10.0) -> Job:
        """Cancels the job and returns it. Cancelling a cancelled job does nothing.

        Args:
            wait: Also wait until `cancellation.stop_time` is set: the job uses no processor any
                more. That takes under half a second, also where a chunk does not listen; a worker
                that is lost counts as stopped after 5 s.
            timeout: Seconds to wait for that.

        Raises:
            JobEnded: It has succeeded or failed already.
            StopTimeout: Chunks still run; they are being stopped.
        """
        self.job = self._caller.unary(self._stub.CancelJob, CancelJobRequest(name=self.name))
        deadline = time.monotonic() + timeout
        while wait and not self.job.cancellation.HasField("stop_time"):
            if time.monotonic() >= deadline:
                raise StopTimeout(self.job, timeout)
            time.sleep(POLL_SECONDS)
            self.refresh()
        return self.job

    def replay(self) -> Job:
        """Runs the chunks of the failed job again that failed or were never done, and returns it.

        What is counted stays counted. The epoch in which the job was last seen goes with the call,
        so that a job which somebody else has replayed since is not replayed twice.

        Raises:
            JobNotReplayable: It has not failed, or in a way that no further attempt can mend.
            BacklogFull: Too many jobs wait; `retry_after` says when to come back.
        """
        seen = self.job.epoch or self.refresh().epoch
        request = ReplayJobRequest(name=self.name, epoch=seen)
        self.job = self._caller.unary(self._stub.ReplayJob, request)
        return self.job

    def chunks(self, page_size: PageSize = 1000) -> Iterator[Chunk]:
        """Yields all chunks of the job by index.

        Args:
            page_size: How many to ask for in one call, 1 to 1,000.
        """
        request = ListChunksRequest(parent=self.name, page_size=page_size)
        while True:
            page = self._caller.unary(self._stub.ListChunks, request)
            yield from page.chunks
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def logs(self, chunk: ChunkIndex | None = None) -> Iterator[ChunkLog]:
        """Yields what the chunks of the job have logged, by index; most log nothing.

        Args:
            chunk: Only of this one.
        """
        request = ListChunkLogsRequest(parent=self.name, page_size=1000, chunk=chunk)
        while True:
            page = self._caller.unary(self._stub.ListChunkLogs, request)
            yield from page.chunk_logs
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def run(self, request: RunJobRequest, timeout: float | None = None) -> Any:
        """Submits the job of `request`, waits for its end in the same call and returns its result.

        Errors as of result(); DeadlineExceeded if it is not known whether the job was accepted.
        """
        for _ in self._follow(request, timeout, None):
            pass
        return outcome(self.job)

    def _follow(
        self, request: RunJobRequest | None, timeout: float | None, on_cut: OnCut | None
    ) -> Iterator[JobEvent]:
        def open_stream(left: float | None) -> Stream[JobEvent]:
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
            for event in events:
                self.job = after(self.job, event)
                yield event
        except DeadlineExceeded as error:
            if timeout is None or not self.name:
                raise
            raise WaitTimeout(self.job, timeout) from error


def needs_watching(job: Job) -> bool:
    """Tells whether a job's result is not known from what was last seen of it."""
    # A job as it is listed comes without its result.
    return job.state not in FINAL_STATES or (
        job.state == Job.STATE_SUCCEEDED and not job.HasField("result")
    )


def is_ended(event: JobEvent) -> bool:
    """Tells whether an event is the last of a watch."""
    return event.WhichOneof("event") == "ended"


def after(job: Job, event: JobEvent) -> Job:
    """Returns the job as it is after the event; `job` itself stays as it was."""
    match event.WhichOneof("event"):
        case "snapshot":
            return event.snapshot
        case "ended":
            return event.ended
        case "delta":
            changed = Job()
            changed.CopyFrom(job)
            _apply(event.delta, changed)
            changed.version = event.version
            return changed
        case _:
            return job


def _apply(delta: JobDelta, job: Job) -> None:
    """Replaces in the job what a delta has, also where it is empty there."""
    # By name: the two messages number the same fields differently.
    for field in JobDelta.DESCRIPTOR.fields:
        job.ClearField(field.name)  # type: ignore[arg-type]  # a delta uses the job's own names
        value = getattr(delta, field.name)
        if field.message_type is None:
            setattr(job, field.name, value)
        elif field.message_type.GetOptions().map_entry:
            getattr(job, field.name).update(value)
        elif delta.HasField(field.name):  # type: ignore[arg-type]
            getattr(job, field.name).CopyFrom(value)
