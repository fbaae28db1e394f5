"""Works and results of jobs: read once and kept for all who need them, as they never change."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Generic, TypeVar

from google.protobuf.message import Message

from tallymesh.v1.dispatch_service_pb2 import JobWork
from tallymesh.v1.work_pb2 import Result, Work
from tallymesh_core.domain.errors import NotFound
from tallymesh_core.domain.jobs import JobRecord, JobSpec
from tallymesh_core.store.jobs import JobStore

#: Most works that are kept, and most results; and most bytes of either.
_MOST, _MOST_BYTES = 4096, 32 * 1024 * 1024

_Message = TypeVar("_Message", bound=Message)


class Contents:
    """The works and results that a gateway has needed last. They are shared: none is changed."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._works: _Recent[JobWork] = _Recent(self._read_works)
        self._results: _Recent[Result] = _Recent(self._read_results)

    def keep(self, accepted: JobRecord) -> None:
        """Keeps the work of a job that was accepted just now: it will be asked for soon."""
        if accepted.work:
            self._works.add(accepted.ref, _job_work(accepted.ref, accepted.spec, accepted.work))

    async def works(self, refs: Collection[str]) -> Mapping[str, JobWork]:
        """Returns works as workers are told them; that of a job which is gone is left out."""
        return await self._works.get(refs)

    async def load(self, records: Iterable[JobRecord]) -> None:
        """Reads together what is then asked for one by one."""
        await self._works.get([record.ref for record in records])
        await self._results.get([record.ref for record in records if _has_long_result(record)])

    async def work(self, record: JobRecord) -> Work:
        """Returns the work of a job.

        Raises:
            NotFound: The job is gone.
        """
        if found := await self._works.get([record.ref]):
            return found[record.ref].work
        raise NotFound(f"jobs/{record.id}")

    async def result(self, record: JobRecord) -> Result:
        """Returns the result of a job that is not additive and has succeeded.

        Raises:
            NotFound: The job is gone.
        """
        if not _has_long_result(record):
            return Result.FromString(record.result)
        if found := await self._results.get([record.ref]):
            return found[record.ref]
        raise NotFound(f"jobs/{record.id}")

    async def _read_works(self, refs: Collection[str]) -> Mapping[str, JobWork]:
        works = await self._jobs.works_of(refs)
        return {ref: _job_work(ref, spec, work) for ref, (spec, work) in works.items()}

    async def _read_results(self, refs: Collection[str]) -> Mapping[str, Result]:
        results = await self._jobs.results_of(refs)
        return {ref: Result.FromString(result) for ref, result in results.items()}


class _Recent(Generic[_Message]):
    """Messages by ref, those that were used last; others are read."""

    def __init__(
        self, read: Callable[[Collection[str]], Awaitable[Mapping[str, _Message]]]
    ) -> None:
        self._read = read
        self._kept: OrderedDict[str, _Message] = OrderedDict()
        self._bytes = 0

    async def get(self, refs: Collection[str]) -> Mapping[str, _Message]:
        found = {ref: self._kept[ref] for ref in refs if ref in self._kept}
        for ref in found:
            self._kept.move_to_end(ref)
        if missing := [ref for ref in refs if ref not in found]:
            for ref, message in (await self._read(missing)).items():
                found[ref] = message
                self.add(ref, message)
        return found

    def add(self, ref: str, message: _Message) -> None:
        if (before := self._kept.pop(ref, None)) is not None:
            self._bytes -= before.ByteSize()
        self._kept[ref] = message
        self._bytes += message.ByteSize()
        while len(self._kept) > _MOST or self._bytes > _MOST_BYTES:
            _, forgotten = self._kept.popitem(last=False)
            self._bytes -= forgotten.ByteSize()


def _has_long_result(record: JobRecord) -> bool:
    return record.result_bytes > len(record.result)


def _job_work(ref: str, spec: JobSpec, work: bytes) -> JobWork:
    made = JobWork(
        job=ref,
        work=Work.FromString(work),
        chunk_count=spec.chunk_count,
        additive=spec.additive,
    )
    if spec.chunk_timeout_ms:
        made.chunk_timeout.FromMilliseconds(spec.chunk_timeout_ms)
    return made
