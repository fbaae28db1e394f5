"""The compute processes of a worker: so many as compute, and a warm spare."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Final

from tallymesh_worker.jobs import Job
from tallymesh_worker.process import ComputeProcess, Listener

# A process that does not come up is tried again after so long, not at once.
RESTART_SECONDS: Final = 1.0
# A process needs well under a second to load; a machine under heavy load several.
START_SECONDS: Final = 60.0

logger = logging.getLogger(__name__)


class CannotCompute(Exception):
    """The compute processes do not start; the message is one line for a person."""


class Pool:
    """Keeps `slots` processes computing and one ready to take the place of any of them.

    Attributes:
        slots: How many compute at a time.
        replaced: How many processes have been replaced.
        libraries: What the processes count primes with and why, a line each.
        kernels: The kernels that the processes can run, by name.
    """

    def __init__(
        self, slots: int, listener: Listener, *, memory_limit: int, kernels: Sequence[str] = ()
    ) -> None:
        """Prepares; `start` starts.

        Args:
            slots: How many processes compute.
            listener: Who is told of what they compute, unless one is reserved by another.
            memory_limit: As for ComputeProcess.
            kernels: As for ComputeProcess.
        """
        self.slots = slots
        self.replaced = 0
        self.libraries: tuple[str, ...] = ()
        self.kernels: tuple[str, ...] = ()
        self._listener = listener
        self._memory_limit = memory_limit
        self._kernels = kernels
        self._loading: set[ComputeProcess] = set()
        self._active: list[ComputeProcess] = []
        self._spares: list[ComputeProcess] = []
        self._leaving: set[ComputeProcess] = set()
        self._complete = asyncio.Event()
        self._closing = False

    async def start(self) -> None:
        """Starts all processes and waits until they can compute.

        Raises:
            CannotCompute: They cannot.
        """
        self._fill()
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._complete.wait()
        except TimeoutError:
            raise CannotCompute(
                f"no compute process was ready within {START_SECONDS:.0f} s"
            ) from None

    async def close(self) -> None:
        """Kills all processes and waits until none is left."""
        self._closing = True
        everyone = [*self._loading, *self._active, *self._spares, *self._leaving]
        await asyncio.gather(*(process.close() for process in everyone))

    def active(self) -> Iterator[ComputeProcess]:
        """Yields the processes that compute for the pool's own listener."""
        for process in self._active:
            if process.listener is self._listener:
                yield process

    def reserve(self, listener: Listener) -> ComputeProcess | None:
        """Takes an idle process, the spare if no other is, out of the pool's hands.

        Args:
            listener: Who is told of what it computes, until it is released.

        Returns:
            The process, or None if none is idle.
        """
        for process in (*self.active(), *self._spares):
            if process.idle and process.listener is self._listener:
                process.listener = listener
                return process
        return None

    def release(self, process: ComputeProcess) -> None:
        """Gives a reserved process back; it may still be stopping what it computed."""
        process.listener = self._listener
        self._settle()

    def forget(self, job: Job) -> None:
        """Makes all processes forget a job."""
        for process in (*self._active, *self._spares):
            process.forget(job)

    def ready(self, process: ComputeProcess) -> None:
        """Puts a process to its place as it has loaded what it needs."""
        self._loading.discard(process)
        self._spares.append(process)
        self.libraries, self.kernels = process.libraries, process.kernels
        self._settle()

    def gone(self, process: ComputeProcess) -> None:
        """Puts the spare into the place of a process that is no more, or as good as that."""
        was_loading = process in self._loading
        self._loading.discard(process)
        for group in (self._active, self._spares):
            if process in group:
                group.remove(process)
        if self._closing:
            return
        if was_loading:
            self._fill_later("it ended before it was ready")
            return
        self._leaving = {other for other in self._leaving if not other.over} | {process}
        self.replaced += 1
        self._settle()
        self._fill()

    def _settle(self) -> None:
        for process in self._spares[:]:
            if len(self._active) < self.slots and process.listener is self._listener:
                self._spares.remove(process)
                self._active.append(process)
        if len(self._active) == self.slots:
            self._complete.set()
        self._listener.available([])

    def _fill(self) -> None:
        if self._closing:
            return
        alive = len(self._loading) + len(self._active) + len(self._spares)
        for _ in range(self.slots + 1 - alive):
            try:
                self._loading.add(self._start_one())
            except OSError as error:
                self._fill_later(str(error))
                return

    def _start_one(self) -> ComputeProcess:
        return ComputeProcess(self, self._listener, self._memory_limit, self._kernels)

    def _fill_later(self, reason: str) -> None:
        logger.error("a compute process did not start", extra={"reason": reason})
        asyncio.get_running_loop().call_later(RESTART_SECONDS, self._fill)
