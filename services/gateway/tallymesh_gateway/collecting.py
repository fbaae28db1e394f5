"""Collections: several jobs waited for at once, each told when it has ended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence

from tallymesh_core.domain.errors import ShuttingDown
from tallymesh_core.domain.jobs import JobRecord
from tallymesh_core.store.events import Interrupted, JobChanged
from tallymesh_core.store.jobs import JobStore

KEEPALIVE_SECONDS = 5.0
#: Jobs end in bursts: after the first, so long is waited for company.
_LULL_SECONDS = 0.005
#: Jobs read and told at a time.
_BATCH = 250


class _Collection:
    """The jobs that one call waits for, and those of them to be looked at."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.missing = dict.fromkeys(ids)
        self.due = dict.fromkeys(self.missing)
        self.woken = asyncio.Event()
        self.woken.set()

    def look_at(self, job_id: str) -> None:
        """Takes note that a job may have ended."""
        if job_id in self.missing:
            self.due[job_id] = None
            self.woken.set()


class Collections:
    """All collections that this gateway serves."""

    def __init__(self, jobs: JobStore, node: str) -> None:
        self._jobs = jobs
        self._node = node
        self._by_ref: dict[str, list[_Collection]] = {}
        self._closing = False

    def notice(self, events: Sequence[JobChanged] | Interrupted) -> None:
        """Takes note of what the store tells, by its events or in answer to a commit."""
        if isinstance(events, Interrupted):
            for ref in self._by_ref:
                self._look_at(ref)
            return
        for event in events:
            if event.kind == "ended":
                self._look_at(event.ref)

    def _look_at(self, ref: str) -> None:
        for collection in self._by_ref.get(ref, ()):
            collection.look_at(ref.rpartition("/")[2])

    def close(self) -> None:
        """Ends all collections, so that their clients go on at another gateway."""
        self._closing = True
        for collections in self._by_ref.values():
            for collection in collections:
                collection.woken.set()

    async def collect(
        self, tenant: str, job_ids: Sequence[str]
    ) -> AsyncIterator[Sequence[JobRecord]]:
        """Yields jobs when they have ended, each once; nothing for a while, to show life.

        Raises:
            NotFound: One of them does not exist.
            StoreUnavailable: The store cannot be reached.
            ShuttingDown: The gateway is stopping.
        """
        collection = _Collection(job_ids)
        refs = [f"{tenant}/{job_id}" for job_id in collection.missing]
        # Before the first look, so that no end that comes after it is missed.
        for ref in refs:
            self._by_ref.setdefault(ref, []).append(collection)
        try:
            while collection.missing:
                if self._closing:
                    raise ShuttingDown(self._node)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KEEPALIVE_SECONDS):
                        await collection.woken.wait()
                if not collection.due:
                    if not self._closing:
                        yield ()
                    continue
                await asyncio.sleep(_LULL_SECONDS)
                batch = list(collection.due)[:_BATCH]
                for job_id in batch:
                    del collection.due[job_id]
                ended = await self._jobs.get_all(tenant, batch, only_ended=True)
                for record in ended:
                    del collection.missing[record.id]
                    # Its end may have been noticed once more while it was being read.
                    collection.due.pop(record.id, None)
                if not collection.due:
                    collection.woken.clear()
                if ended:
                    yield ended
        finally:
            for ref in refs:
                self._by_ref[ref].remove(collection)
                if not self._by_ref[ref]:
                    del self._by_ref[ref]
