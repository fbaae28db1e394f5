"""A mesh in which everything goes wrong, and whose sums are exact all the same.

Real gateways, workers, an abacus and a Valkey under fsync, with zombies among the workers, on wires
that are cut; all of them are killed, frozen and restarted while jobs run. Then every result is
compared with what Python says, and every working set has to be empty.
"""

import asyncio
import contextlib
import random
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc.aio

from tallymesh import Add, CountPrimes, Simulate, Work
from tallymesh.v1 import abacus_service_pb2, job_service_pb2
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tallymesh.v1.dispatch_service_pb2 import (
    ChunkFailure,
    ChunkRange,
    ChunkResults,
    SynchronizeRequest,
    SynchronizeResponse,
    Worker,
)
from tallymesh.v1.dispatch_service_pb2_grpc import DispatchServiceStub
from tallymesh.v1.errors_pb2 import ERROR_REASON_CHUNK_FAILED
from tallymesh.v1.job_pb2 import Job
from tallymesh.v1.job_service_pb2_grpc import JobServiceStub
from tests.harness.polling import eventually
from tests.harness.processes import Process, Processes
from tests.harness.valkey import ValkeyServer
from tests.harness.wire import Wire

#: A worker counts as lost after 5 s; a zombie comes back later than that.
STALL_SECONDS = 6.5
FINAL = (Job.STATE_SUCCEEDED, Job.STATE_FAILED, Job.STATE_CANCELLED)
#: What has to be empty when nothing is under way.
WORKING_SETS = (
    "leases",
    "again",
    "later",
    "tries",
    "fractions",
    "lane",
    "held",
    "halting",
    "owing",
)
ABACUS = "abaci/chaos"


@dataclass
class Plan:
    """A job, and what is to come of it."""

    job: Job
    expected: str
    is_cancelled: bool = False
    is_tolerant: bool = False
    name: str = ""


@dataclass
class Chaos:
    """One run.

    Attributes:
        seed: All draws follow from it, though not when they happen.
        jobs: How many jobs.
        chunks: Chunks of each.
        seconds: After so long nothing more goes wrong, so that it ends.
        stalls: Freeze workers and let zombies come back after they have been given up.
        told: What went wrong, and how often.
    """

    folder: Path
    seed: int
    jobs: int
    chunks: int
    seconds: float
    stalls: bool
    told: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._gateways: dict[str, Process] = {}
        self._workers: dict[str, Process] = {}
        self._late: set[asyncio.Task[None]] = set()
        self._is_over = False

    async def run(self) -> None:
        """Runs it.

        Raises:
            AssertionError: A sum is wrong, a job has not ended, or something is left.
        """
        valkey = ValkeyServer(fsync=True)
        valkey.start()
        try:
            with Processes() as processes:
                self._processes = processes
                async with (
                    Wire(self.folder / "store.sock", valkey.socket) as store,
                    Wire(self.folder / "g0.sock", self.folder / "gateway0.sock") as first,
                    Wire(self.folder / "g1.sock", self.folder / "gateway1.sock") as second,
                ):
                    await self._run_on(valkey, [store, first, second])
        finally:
            valkey.close()

    async def _run_on(self, valkey: ValkeyServer, wires: list[Wire]) -> None:
        self._start_all()
        addresses = [f"unix:{self.folder}/gateway{i}.sock" for i in range(2)]
        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(one)) for one in addresses
            ]
            self._stubs = [JobServiceStub(channel) for channel in channels]
            plans = self._plans()
            await self._submit(plans)
            zombies = [asyncio.create_task(self._zombie(number)) for number in range(3)]
            trouble = asyncio.create_task(self._make_trouble(valkey, wires))
            try:
                await self._end_all(plans)
                await trouble
            finally:
                self._is_over = True
                trouble.cancel()
                await asyncio.gather(trouble, *zombies, *self._late, return_exceptions=True)
            await self._check(plans)
            await self._check_abacus(plans)
            await eventually(
                lambda: not self._left_in(valkey), timeout=30, message="empty working sets"
            )

    # What runs.

    def _start_all(self) -> None:
        for number in range(2):
            self._start_gateway(f"gateway{number}")
        self._start_worker("worker0")
        self._start_worker("worker1")
        self._processes.start(
            (sys.executable, "-m", "tallymesh", "abacus"),
            env={
                "TALLYMESH_STORE_URL": f"unix://{self.folder}/store.sock",
                "TALLYMESH_LISTEN": f"unix:{self.folder}/abacus.sock",
                "TALLYMESH_NODE": "abacus",
                "TALLYMESH_DURABILITY": "fsync",
            },
        )

    def _start_gateway(self, name: str) -> None:
        self._gateways[name] = self._processes.start(
            (sys.executable, "-m", "tallymesh", "gateway"),
            env={
                "TALLYMESH_STORE_URL": f"unix://{self.folder}/store.sock",
                "TALLYMESH_LISTEN": f"unix:{self.folder}/{name}.sock",
                "TALLYMESH_ABACUS": f"unix:{self.folder}/abacus.sock",
                "TALLYMESH_NODE": name,
                "TALLYMESH_SHARDS": "2",
                "TALLYMESH_DURABILITY": "fsync",
            },
        )

    def _start_worker(self, name: str) -> None:
        self._workers[name] = self._processes.start(
            (sys.executable, "-m", "tallymesh", "worker"),
            env={
                "TALLYMESH_GATEWAY": f"unix:{self.folder}/g0.sock,unix:{self.folder}/g1.sock",
                "TALLYMESH_NODE": name,
                "TALLYMESH_SLOTS": "2",
                "TALLYMESH_QUEUES": "default,other",
            },
        )

    # What goes wrong.

    async def _make_trouble(self, valkey: ValkeyServer, wires: list[Wire]) -> None:
        end = time.monotonic() + self.seconds
        kinds: list[Callable[[], Awaitable[None]]] = [
            self._kill_worker,
            self._kill_worker,
            self._kill_gateway,
            lambda: self._cut(wires),
            lambda: self._cut(wires),
            lambda: self._cut(wires),
            lambda: self._kill_store(valkey),
            lambda: self._flush_scripts(valkey),
        ]
        if self.stalls:
            kinds.append(self._freeze_worker)
        while time.monotonic() < end:
            await asyncio.sleep(self._draw.uniform(0.1, 1.0))
            await self._draw.choice(kinds)()

    async def _kill_worker(self) -> None:
        name = self._draw.choice(sorted(self._workers))
        self._workers[name].kill()
        self._start_worker(name)
        self.told["workers killed"] += 1

    async def _kill_gateway(self) -> None:
        name = self._draw.choice(sorted(self._gateways))
        self._gateways[name].kill()
        self._start_gateway(name)
        self.told["gateways killed"] += 1

    async def _cut(self, wires: list[Wire]) -> None:
        self._draw.choice(wires).cut(self._draw)
        self.told["cuts"] += 1

    async def _kill_store(self, valkey: ValkeyServer) -> None:
        valkey.kill()
        await asyncio.to_thread(valkey.start)
        self.told["stores killed"] += 1

    async def _flush_scripts(self, valkey: ValkeyServer) -> None:
        valkey.execute("SCRIPT", "FLUSH")
        self.told["scripts flushed"] += 1

    async def _freeze_worker(self) -> None:
        worker = self._workers[self._draw.choice(sorted(self._workers))]
        worker.signal(signal.SIGSTOP)
        self.told["workers frozen"] += 1

        async def thaw() -> None:
            await asyncio.sleep(STALL_SECONDS)
            worker.signal(signal.SIGCONT)

        self._remember(thaw())

    async def _zombie(self, number: int) -> None:
        """Lives several lives as a worker, and keeps few rules."""
        draw = random.Random(f"{self.seed} {number}")
        while not self._is_over:
            address = f"unix:{self.folder}/g{draw.randrange(2)}.sock"
            async with grpc.aio.insecure_channel(address) as channel:
                stub = DispatchServiceStub(channel)
                worker = Worker(
                    name=f"zombie{number}",
                    uid=uuid.uuid4().hex,
                    slots=1,
                    kernels=["simulate"],
                    queues=["default", "other"],
                )
                self.told["zombie lives"] += 1
                held: list[ChunkRange] = []
                for _ in range(draw.randrange(2, 12)):
                    answer = await _try(
                        stub.Synchronize(
                            SynchronizeRequest(
                                call_id=uuid.uuid4().hex,
                                worker=worker,
                                held=held,
                                capacity=draw.randrange(1, 6),
                            ),
                            timeout=3,
                        )
                    )
                    if answer is None:
                        continue
                    held += [one.chunks for one in answer.assignments]
                    for chunks in list(held):
                        held.remove(chunks)
                        await self._misbehave(draw, stub, worker, chunks, held)
                    await asyncio.sleep(draw.uniform(0, 0.2))

    async def _misbehave(
        self,
        draw: random.Random,
        stub: Any,
        worker: Worker,
        chunks: ChunkRange,
        held: list[ChunkRange],
    ) -> None:
        done = ChunkResults(chunks=chunks, sums=[1] * chunks.count)

        async def say(**said: Any) -> SynchronizeResponse | None:
            request = SynchronizeRequest(call_id=uuid.uuid4().hex, worker=worker, held=held, **said)
            answer = await _try(stub.Synchronize(request, timeout=3))
            return answer if isinstance(answer, SynchronizeResponse) else None

        async def come_back() -> None:
            await asyncio.sleep(STALL_SECONDS)
            address = f"unix:{self.folder}/g{draw.randrange(2)}.sock"
            async with grpc.aio.insecure_channel(address) as channel:
                request = SynchronizeRequest(
                    call_id=uuid.uuid4().hex, worker=worker, results=[done]
                )
                await _try(DispatchServiceStub(channel).Synchronize(request, timeout=3))

        match draw.randrange(8):
            case 0:
                self.told["chunks dropped"] += 1
            case 1:
                self.told["results told twice"] += 1
                await say(results=[done])
                await say(results=[done])
            case 2:
                self.told["chunks failed"] += 1
                one = ChunkRange()
                one.CopyFrom(chunks)
                one.count = 1
                failure = ChunkFailure(
                    chunk=one, reason=ERROR_REASON_CHUNK_FAILED, message="a zombie's mood"
                )
                await say(failures=[failure])
            case 3:
                self.told["chunks handed back"] += 1
                await say(returned=[chunks])
            case 4 if self.stalls:
                self.told["results told too late"] += 1
                self._remember(come_back())
            case _:
                self.told["results told"] += 1
                await say(results=[done])

    def _remember(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    # The jobs.

    def _plans(self) -> list[Plan]:
        plans = []
        for number in range(self.jobs):
            queue = "other" if number % 3 == 0 else "default"
            match number % 10:
                case 0 | 1:
                    stop = 10_000 + 37 * number
                    plan = Plan(
                        Job(work=Work(count_primes=CountPrimes(stop=stop))), str(_primes(stop))
                    )
                case 2:
                    numbers = [f"{i}.{number}" for i in range(self.chunks)]
                    plan = Plan(
                        Job(work=Work(add=Add(numbers=numbers))), _plain(sum(map(Decimal, numbers)))
                    )
                case 3:
                    work = Work(simulate=Simulate(failure_rate=0.3, seed=number))
                    plan = Plan(
                        Job(work=work, max_attempts=1, tolerate_failures=self.chunks),
                        "",
                        is_tolerant=True,
                    )
                case 4:
                    work = Work(simulate=Simulate())
                    work.simulate.duration.FromMilliseconds(200)
                    plan = Plan(Job(work=work), "", is_cancelled=True)
                case _:
                    work = Work(simulate=Simulate(failure_rate=0.05, crash_rate=0.002, seed=number))
                    work.simulate.duration.FromMilliseconds(self._draw.randrange(10))
                    plan = Plan(Job(work=work, max_attempts=100), str(self.chunks))
            plan.job.queue = queue
            plan.job.chunk_count = self.chunks
            if not (plan.is_cancelled or plan.is_tolerant):
                plan.job.abacus = ABACUS
            plans.append(plan)
        return plans

    async def _submit(self, plans: list[Plan]) -> None:
        for first in range(0, len(plans), 50):
            some = plans[first : first + 50]
            request = job_service_pb2.BatchCreateJobsRequest(
                requests=[
                    job_service_pb2.CreateJobRequest(job=plan.job, request_id=uuid.uuid4().hex)
                    for plan in some
                ]
            )
            answer = await self._insist("BatchCreateJobs", request)
            for plan, job in zip(some, answer.jobs, strict=True):
                plan.name = job.name

    async def _end_all(self, plans: list[Plan]) -> None:
        """Waits until all have ended, cancels what is to be, and replays what has failed."""
        waiting = {plan.name: plan for plan in plans}
        deadline = time.monotonic() + self.seconds + 240
        while waiting:
            assert time.monotonic() < deadline, f"not ended: {sorted(waiting)}"
            for plan in [plan for plan in waiting.values() if plan.is_cancelled][:2]:
                request = job_service_pb2.CancelJobRequest(name=plan.name)
                await self._insist("CancelJob", request)
            names = list(waiting)[:1000]
            asked = job_service_pb2.BatchGetJobsRequest(names=names)
            answer = await self._insist("BatchGetJobs", asked)
            for job in answer.jobs:
                if job.state == Job.STATE_FAILED:
                    self.told["jobs replayed"] += 1
                    again = job_service_pb2.ReplayJobRequest(name=job.name, epoch=job.epoch)
                    await self._insist("ReplayJob", again)
                elif job.state in FINAL:
                    del waiting[job.name]
            await asyncio.sleep(0.2)

    async def _insist(self, method: str, request: Any) -> Any:
        """Makes a call until one of the gateways answers it."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return await getattr(self._draw.choice(self._stubs), method)(request, timeout=10)
            except grpc.aio.AioRpcError as error:
                passing = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
                if error.code() not in passing or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    # What has come of it.

    async def _check(self, plans: list[Plan]) -> None:
        for plan in plans:
            asked = job_service_pb2.GetJobRequest(name=plan.name)
            job: Job = await self._insist("GetJob", asked)
            done = job.progress.chunks_done
            if plan.is_cancelled:
                assert job.state in (Job.STATE_CANCELLED, Job.STATE_SUCCEEDED), job
                continue
            assert job.state == Job.STATE_SUCCEEDED, job
            assert sum(job.handled_by.values()) == done, job
            assert done + job.progress.chunks_failed == self.chunks, job
            assert _result(job) == (str(done) if plan.is_tolerant else plan.expected), job

    async def _check_abacus(self, plans: list[Plan]) -> None:
        due = sum((Decimal(plan.expected) for plan in plans if plan.job.abacus), Decimal(0))
        address = f"unix:{self.folder}/abacus.sock"
        async with grpc.aio.insecure_channel(address) as channel:
            stub = AbacusServiceStub(channel)
            request = abacus_service_pb2.GetSumRequest(name=ABACUS)

            async def is_due() -> bool:
                found = await _try(stub.GetSum(request, timeout=5))
                assert found is None or Decimal(found.value) <= due, "something was posted twice"
                return found is not None and Decimal(found.value) == due

            await eventually(is_due, timeout=60, interval=0.2, message="all totals being posted")

    @staticmethod
    def _left_in(valkey: ValkeyServer) -> list[str]:
        found = valkey.execute("KEYS", "*")
        assert isinstance(found, list)
        keys = [str(key).partition("}:")[2] for key in found]
        return [
            key
            for key in keys
            if key.partition(":")[0] in WORKING_SETS or key in ("delayed", "outbox", "deadlines")
        ]


async def _try(call: Any) -> Any:
    """Returns a call's answer, or None where it fails."""
    try:
        return await call
    except grpc.aio.AioRpcError:
        return None


def _result(job: Job) -> str:
    match job.result.WhichOneof("kernel"):
        case "count_primes":
            return str(job.result.count_primes.count)
        case "add":
            return job.result.add.sum
    return str(job.result.simulate.chunks)


def _primes(stop: int) -> int:
    sieve = bytearray([1]) * (stop + 1)
    sieve[:2] = b"\0\0"
    for number in range(2, int(stop**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, stop + 1, number)))
    return sum(sieve)


def _plain(value: Decimal | int) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
