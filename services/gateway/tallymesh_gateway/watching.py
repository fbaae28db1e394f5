"""Watches of jobs: what happens to a job, streamed to everyone who looks, read once for all."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import Any

from tallymesh.v1 import job_pb2
from tallymesh_core.domain.errors import ShuttingDown
from tallymesh_core.domain.jobs import JobRecord
from tallymesh_core.store.events import Interrupted, JobChanged
from tallymesh_core.store.jobs import JobStore
from tallymesh_gateway.answers import Answers
from tallymesh_gateway.pacing import WatchPace

KEEPALIVE_SECONDS = 5.0


class _Watch:
    """One job that is being watched, by however many."""

    def __init__(self, tenant: str, job_id: str) -> None:
        self.tenant, self.job_id = tenant, job_id
        self.watchers = 0
        #: How the job was last told.
        self.event: job_pb2.JobEvent | None = None
        self.failure: Exception | None = None
        self.told = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.reading = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._pace = WatchPace(self._loop.time())
        # What happened before this may go unseen, so a look is due whatever comes; but the first
        # watcher is just being told how things stand.
        self._pace.note("ready", self._loop.time(), watchers=1)
        self._newest = 0
        self._sooner = asyncio.Event()

    @property
    def may_read(self) -> bool:
        """Whether the job may be read for a commit now."""
        return not self.reading.locked() and self._pace.is_free(self._loop.time())

    def note(self, kind: str, version: int) -> None:
        """Takes note of a change, unless it has been told already."""
        if self.event is None or version > self.event.version:
            self._newest = max(self._newest, version)
            if self._pace.note(kind, self._loop.time(), self.watchers):
                self._sooner.set()

    def note_gap(self) -> None:
        """Takes note that changes may have been missed, the end among them."""
        self._pace.note("ended", self._loop.time(), self.watchers)
        self._sooner.set()

    async def wait_until_due(self) -> None:
        """Waits until the job is to be read."""
        while (left := self._pace.due - self._loop.time()) > 0:
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left if left < math.inf else None):
                    await self._sooner.wait()

    def is_due(self) -> bool:
        """Tells whether the job is to be read."""
        return self._pace.due <= self._loop.time()

    def begin(self, *, commit: bool = False) -> None:
        """Takes note that the job is being read; as of WatchPace."""
        self._pace.begin(self._loop.time(), self.watchers, commit=commit)

    @property
    def has_ended(self) -> bool:
        """Whether the end has been told."""
        return self.event is not None and self.event.HasField("ended")

    def tell(self, event: job_pb2.JobEvent) -> None:
        """Wakes all watchers to how the job is now."""
        self.event = event
        if self._newest <= event.version:
            # What was noted while it was being read is in it.
            self._pace.settle()
        self._wake()

    def fail(self, error: Exception) -> None:
        """Wakes all watchers to what keeps them from going on."""
        self.failure = error
        self._wake()

    def _wake(self) -> None:
        told, self.told = self.told, asyncio.Event()
        told.set()


class Watches:
    """All jobs that are being watched through this gateway."""

    def __init__(self, jobs: JobStore, answers: Answers, node: str) -> None:
        self._jobs = jobs
        self._answers = answers
        self._node = node
        self._watches: dict[str, _Watch] = {}
        self._closing = False

    def notice(self, events: Sequence[JobChanged] | Interrupted) -> None:
        """Takes note of what the store tells, by its events or in answer to a commit."""
        if isinstance(events, Interrupted):
            for watch in self._watches.values():
                watch.note_gap()
            return
        for event in events:
            if watched := self._watches.get(event.ref):
                watched.note(event.kind, event.version)

    def looks(self, refs: Iterable[str]) -> list[Coroutine[Any, Any, None]]:
        """Returns what is to be read along with a commit to these jobs, right after it."""
        found = (self._watches.get(ref) for ref in refs)
        return [self._look(watch) for watch in found if watch and watch.may_read]

    async def _look(self, watch: _Watch) -> None:
        # The worker whose commit this goes along with must not hear of a watch's trouble; whoever
        # follows the job meets it too.
        with contextlib.suppress(Exception):
            async with watch.reading:
                watch.begin(commit=True)
                await self._read(watch)

    def close(self) -> None:
        """Ends all watches, so that their clients go on at another gateway."""
        self._closing = True
        for watch in self._watches.values():
            watch.fail(ShuttingDown(self._node))

    async def watch(
        self, tenant: str, job_id: str, known: JobRecord | None = None
    ) -> AsyncIterator[job_pb2.JobEvent]:
        """Yields a snapshot, what changes, signs of life, and the ended job last.

        Args:
            tenant: Whose job.
            job_id: Which job.
            known: The job as it was just now, if that is known.

        Raises:
            NotFound: There is no such job.
            StoreUnavailable: The store cannot be reached.
            ShuttingDown: The gateway is stopping.
        """
        if self._closing:
            raise ShuttingDown(self._node)
        ref = f"{tenant}/{job_id}"
        watch = self._watches.setdefault(ref, _Watch(tenant, job_id))
        watch.watchers += 1
        try:
            record = known or await self._jobs.get(tenant, job_id)
            version, job = record.version, await self._answers.job(record)
            yield job_pb2.JobEvent(version=version, snapshot=job)
            if record.state.is_final:
                yield job_pb2.JobEvent(version=version, ended=job)
                return
            if watch.task is None:
                watch.task = asyncio.create_task(self._follow(watch))
            while True:
                told, event = watch.told, watch.event
                # A store that lost its last moments may tell of the end under an old version.
                if event and (event.version > version or watch.has_ended):
                    version = event.version
                    yield event
                    if event.HasField("ended"):
                        return
                elif watch.failure:
                    raise watch.failure
                else:
                    try:
                        async with asyncio.timeout(KEEPALIVE_SECONDS):
                            await told.wait()
                    except TimeoutError:
                        yield job_pb2.JobEvent(version=version, keepalive=job_pb2.Keepalive())
        finally:
            watch.watchers -= 1
            if watch.watchers == 0:
                if watch.task:
                    watch.task.cancel()
                self._forget(watch)

    def _forget(self, watch: _Watch) -> None:
        """Has whoever comes from now on begin anew."""
        ref = f"{watch.tenant}/{watch.job_id}"
        if self._watches.get(ref) is watch:
            del self._watches[ref]

    async def _follow(self, watch: _Watch) -> None:
        """Reads the job whenever it has changed, at the watch's pace."""
        try:
            while not watch.has_ended:
                await watch.wait_until_due()
                async with watch.reading:
                    # It may just have been read along with a commit.
                    if watch.is_due():
                        watch.begin()
                        await self._read(watch)
        except Exception as error:
            # Who watches is told, whatever it is; who comes later begins anew.
            self._forget(watch)
            watch.fail(error)

    async def _read(self, watch: _Watch) -> None:
        """Reads the job, and tells all who watch it."""
        record = await self._jobs.get(watch.tenant, watch.job_id)
        event = job_pb2.JobEvent(version=record.version)
        if record.state.is_final:
            # The job may be replayed while some here still read of its end.
            self._forget(watch)
            event.ended.CopyFrom(await self._answers.job(record))
        else:
            event.delta.CopyFrom(await self._answers.delta(record))
        watch.tell(event)
