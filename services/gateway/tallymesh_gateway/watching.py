"""Watches of jobs: what happens to a job, streamed to everyone who looks, read once for all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

from tallymesh.v1 import job_pb2
from tallymesh_core.domain.errors import ShuttingDown
from tallymesh_core.domain.jobs import JobRecord
from tallymesh_core.store.events import Interrupted, JobChanged
from tallymesh_core.store.jobs import JobStore
from tallymesh_gateway.answers import Answers

#: Changes are told at most so often, except the end.
_PACE_SECONDS = 0.05
#: After a pause the first of them may be so much ahead of the pace, so that each of a few is told
#: at once.
_AHEAD_SECONDS = 0.15
#: With very many watchers the pace slows by so much for each, to bound the cost.
_PACE_PER_WATCHER_SECONDS = 0.0002
KEEPALIVE_SECONDS = 5.0
#: A commit to a job of so many chunks may well be its last: the job is read along with it.
_SMALL_JOB = 64


class _Watch:
    """One job that is being watched, by however many."""

    def __init__(self, tenant: str, job_id: str) -> None:
        self.tenant, self.job_id = tenant, job_id
        self.watchers = 0
        self.is_small = False
        self.record: JobRecord | None = None
        self.delta: job_pb2.JobEvent | None = None
        self.failure: Exception | None = None
        self.changed = asyncio.Event()
        self.ended = asyncio.Event()
        self.told = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Wakes all watchers to the new state."""
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

    def notice(self, events: list[JobChanged] | Interrupted) -> None:
        """Takes note of what the store tells."""
        if isinstance(events, Interrupted):
            for watch in self._watches.values():
                watch.changed.set()
                watch.ended.set()
            return
        for event in events:
            watched = self._watches.get(event.ref)
            if watched and not (watched.record and watched.record.version >= event.version):
                watched.changed.set()
                if event.kind == "ended":
                    watched.ended.set()

    def looks(self, refs: Iterable[str]) -> list[Coroutine[Any, Any, None]]:
        """Returns what is to be read along with a commit to these jobs, right after it."""
        found = (self._watches.get(ref) for ref in refs)
        return [self._look(watch) for watch in found if watch and watch.is_small]

    async def _look(self, watch: _Watch) -> None:
        # The worker whose commit this goes along with must not hear of a watch's trouble; whoever
        # follows the job meets it too.
        with contextlib.suppress(Exception):
            record = await self._jobs.get(watch.tenant, watch.job_id)
            if record.state.is_final:
                self._forget(watch)
                watch.record = record
                watch.tell()

    def touch(self, ref: str, ended: bool) -> None:
        """Takes note that a job has changed, before the store's events tell it."""
        if watched := self._watches.get(ref):
            watched.changed.set()
            if ended:
                watched.ended.set()

    def close(self) -> None:
        """Ends all watches, so that their clients go on at another gateway."""
        self._closing = True
        for watch in self._watches.values():
            watch.failure = ShuttingDown(self._node)
            watch.tell()

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
            yield job_pb2.JobEvent(version=record.version, snapshot=await self._answers.job(record))
            version = record.version
            watch.is_small = record.spec.chunk_count <= _SMALL_JOB
            while not record.state.is_final:
                if watch.task is None:
                    watch.task = asyncio.create_task(self._follow(watch))
                told = watch.told
                # A store that lost its last moments may tell of the end under an old version.
                if watch.record is None or (
                    watch.record.version <= version and not watch.record.state.is_final
                ):
                    if watch.failure:
                        raise watch.failure
                    try:
                        async with asyncio.timeout(KEEPALIVE_SECONDS):
                            await told.wait()
                    except TimeoutError:
                        yield job_pb2.JobEvent(version=version, keepalive=job_pb2.Keepalive())
                    continue
                record = watch.record
                version = record.version
                if not record.state.is_final and watch.delta:
                    yield watch.delta
            yield job_pb2.JobEvent(version=record.version, ended=await self._answers.job(record))
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
        """Reads the job whenever it has changed, no faster than the pace."""
        try:
            # What happened before this began may have gone unseen, so a look is due whatever comes;
            # but the watcher has just been told how things stand.
            watch.changed.set()
            loop = asyncio.get_running_loop()
            due = loop.time()
            while watch.record is None or not watch.record.state.is_final:
                pace = max(_PACE_SECONDS, watch.watchers * _PACE_PER_WATCHER_SECONDS)
                due += pace
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await watch.ended.wait()
                watch.ended.clear()
                await watch.changed.wait()
                watch.changed.clear()
                due = max(due, loop.time() - _AHEAD_SECONDS)
                if watch.record and watch.record.state.is_final:
                    return
                record = await self._jobs.get(watch.tenant, watch.job_id)
                if not record.state.is_final:
                    watch.delta = job_pb2.JobEvent(
                        version=record.version, delta=await self._answers.delta(record)
                    )
                else:
                    # The job may be replayed while some here still read of its end.
                    self._forget(watch)
                watch.record = record
                watch.tell()
        except Exception as error:
            # Who watches is told, whatever it is; who comes later begins anew.
            self._forget(watch)
            watch.failure = error
            watch.tell()
