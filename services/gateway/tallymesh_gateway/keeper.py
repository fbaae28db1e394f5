"""The keeper: small tasks that keep the mesh going.

Every gateway runs them. Each is one atomic step, so it does not matter which gateway does it, or
that two do.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import grpc.aio

from tallymesh.v1 import abacus_service_pb2, abacus_service_pb2_grpc
from tallymesh_core.domain.errors import (
    DomainError,
    InvalidField,
    NotFound,
    ServiceUnavailable,
    StoreFull,
    StoreUnavailable,
)
from tallymesh_core.domain.jobs import JobRecord
from tallymesh_core.rpc.status import from_rpc_error
from tallymesh_core.store.events import Interrupted, JobChanged
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tallymesh_gateway.answers import Answers

_REAP_SECONDS = 0.5
# Another gateway may have accepted what is due next.
_LOOK_SECONDS = 1.0
_EXPIRE_SECONDS = 1.0
_POST_SECONDS = 1.0
_POST_BATCH = 100
_POST_TIMEOUT_SECONDS = 5.0

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class Keeper:
    """The periodic tasks of one gateway."""

    def __init__(
        self, jobs: JobStore, leases: LeaseStore, answers: Answers, abacus: grpc.aio.Channel
    ) -> None:
        self._jobs = jobs
        self._leases = leases
        self._answers = answers
        self._abacus = abacus_service_pb2_grpc.AbacusServiceStub(abacus)
        self._posting = asyncio.Event()
        self._due = asyncio.Event()

    def expect(self, record: JobRecord) -> None:
        """Takes note of a job that may have to be ended in time."""
        if record.spec.timeout_ms:
            self._due.set()

    def notice(self, events: list[JobChanged] | Interrupted) -> None:
        """Takes note of what the store tells: a total to be posted, a chunk to be tried again."""
        if isinstance(events, Interrupted):
            self._posting.set()
            self._due.set()
            return
        if any(event.kind == "ended" and event.extra.split()[1] == "1" for event in events):
            self._posting.set()
        if any(event.kind == "retrying" for event in events):
            self._due.set()

    async def run(self) -> None:
        """Runs all tasks until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reap())
            tasks.create_task(self._do_due())
            tasks.create_task(self._expire())
            tasks.create_task(self._post())

    async def _reap(self) -> None:
        while True:
            for uid in await _survive(self._leases.reap) or ():
                logger.warning("worker lost, its chunks go to others", extra={"uid": uid})
            await asyncio.sleep(_REAP_SECONDS)

    async def _do_due(self) -> None:
        """Lets chunks be tried again, and ends jobs, when their time has come."""
        while True:
            self._due.clear()
            waits = await asyncio.gather(
                _survive(self._leases.promote), _survive(self._jobs.time_out)
            )
            known = [wait for wait in waits if wait is not None]
            await _sleep_or(self._due, min((_LOOK_SECONDS, *known)))
            # Events come in bursts; one look serves them all.
            await asyncio.sleep(0.01)

    async def _expire(self) -> None:
        while True:
            if not await _survive(self._jobs.expire):
                await asyncio.sleep(_EXPIRE_SECONDS)

    async def _post(self) -> None:
        while True:
            self._posting.clear()
            await _survive(self._post_all)
            await _sleep_or(self._posting, _POST_SECONDS)

    async def _post_all(self) -> None:
        for ref in await self._jobs.outbox(_POST_BATCH):
            # Where one does not get through, none does: the next round tries again.
            but = (ServiceUnavailable, StoreUnavailable, StoreFull)
            await _survive(partial(self._post_one, ref), but=but)

    async def _post_one(self, ref: str) -> None:
        tenant, _, job_id = ref.partition("/")
        try:
            record = await self._jobs.get(tenant, job_id, chunk_map=False)
        except NotFound:
            return
        amount = ""
        try:
            amount = await self._answers.amount(record)
            total = await self._add(record, amount)
        except (InvalidField, ValueError) as error:
            await self._jobs.note_posted(tenant, job_id, amount=amount, total="", error=str(error))
            return
        await self._jobs.note_posted(tenant, job_id, amount=amount, total=total)

    async def _add(self, record: JobRecord, amount: str) -> str:
        request = abacus_service_pb2.AddNumberRequest(
            name=f"abaci/{record.spec.abacus}", decimal=amount, job=f"jobs/{record.id}"
        )
        try:
            answer = await self._abacus.AddNumber(request, timeout=_POST_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "the abacus") from error
        return answer.sum.value


async def _survive(
    task: Callable[[], Awaitable[Answer]], *, but: tuple[type[DomainError], ...] = ()
) -> Answer | None:
    """Runs a task; what goes wrong is told, and the task's next run puts it right."""
    try:
        return await task()
    except but:
        raise
    except (StoreUnavailable, StoreFull):
        pass  # the health report tells of it, once
    except DomainError as error:
        logger.warning("%s", error.message)
    except Exception:
        logger.exception("a task of the keeper failed")
    return None


async def _sleep_or(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
