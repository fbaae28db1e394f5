"""What a gateway knows of the live workers, read again when it has grown old."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from tallymesh.v1 import dispatch_service_pb2 as dispatch
from tallymesh_core.domain.jobs import LiveWorker
from tallymesh_core.store.leases import LeaseStore

_FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class KnownWorker:
    """A live worker: its description, and its state."""

    worker: dispatch.Worker
    live: LiveWorker

    def takes(self, queue: str, kernel: str) -> bool:
        """Tells whether it takes new chunks of such jobs."""
        return (
            kernel in self.worker.kernels
            and queue in (self.worker.queues or ("default",))
            and not self.live.draining
        )


class Fleet:
    """The live workers."""

    def __init__(self, leases: LeaseStore) -> None:
        self._leases = leases
        self._known: list[KnownWorker] = []
        self._slots: dict[str, Counter[str]] = {}
        self._read_at = float("-inf")

    async def workers(self) -> list[KnownWorker]:
        """Returns the live workers, as of at most a second ago."""
        if time.monotonic() - self._read_at > _FRESH_SECONDS:
            self._known = [
                KnownWorker(_described(live), live) for live in await self._leases.workers()
            ]
            self._slots.clear()
            self._read_at = time.monotonic()
        return self._known

    async def uids_of(self, worker: str) -> list[str]:
        """Returns the live processes of a worker, by its name or the uid of one of them."""
        return [
            live.uid for live in await self._leases.workers() if worker in (live.name, live.uid)
        ]

    async def drain(self, uids: Sequence[str]) -> None:
        """Asks processes to leave."""
        await self._leases.drain(uids)

    async def give_up(self, uids: Sequence[str]) -> None:
        """Gives what processes hold to others at once."""
        await self._leases.give_up(uids)

    async def slots(self, queue: str) -> Mapping[str, int]:
        """Returns how many slots take new chunks of a queue's jobs, by kernel."""
        workers = await self.workers()
        if queue not in self._slots:
            slots = self._slots[queue] = Counter()
            for known in workers:
                for kernel in known.worker.kernels:
                    if known.takes(queue, kernel):
                        slots[kernel] += known.worker.slots
        return self._slots[queue]

    async def serves(self, queue: str, kernel: str) -> bool:
        """Tells whether a live worker takes chunks of such jobs."""
        return any(known.takes(queue, kernel) for known in await self.workers())


def _described(live: LiveWorker) -> dispatch.Worker:
    try:
        return dispatch.Worker.FromString(live.info)
    except DecodeError:
        return dispatch.Worker(uid=live.uid)
