"""kill -9 of anything in the middle of adds: each that was acknowledged counts, and counts once."""

import asyncio
import itertools
import threading
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from tallymesh import Add, Client, Job, Simulate, Work
from tallymesh.jobs import JobHandle
from tallymesh.v1 import abacus_service_pb2 as pb
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tests.harness.local_mesh import start_mesh
from tests.harness.polling import eventually, eventually_sync
from tests.harness.processes import Processes

if TYPE_CHECKING:
    from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceAsyncStub

CLIENTS = 16
STREAMERS = 4
TILL = "abaci/till"
TOTALS = ("abaci/one", "abaci/two", "abaci/three")
CRASHES = (
    ("worker-1",),
    ("gateway-1",),
    ("abacus-1",),
    ("worker-2", "gateway-2", "abacus-2"),
    ("worker-1", "gateway-1", "abacus-1"),
)
#: By these a call tells that it has met a crash, on its way or at its end.
CUT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
)


@dataclass
class Clerk:
    """A client that adds one thing after the other, each under one id until it is acknowledged.

    Attributes:
        number: Tells it from the others; in all that it adds.
        acknowledged: The amount of each change that was acknowledged, by what it is known under.
        adds: How many numbers those are.
        cuts: How many calls were cut.
    """

    number: int
    acknowledged: dict[tuple[str, int], Decimal] = field(default_factory=dict)
    adds: int = 0
    cuts: int = 0

    async def work(self, stub: "AbacusServiceAsyncStub", closing: asyncio.Event) -> None:
        """Adds until closing time; what is begun by then is acknowledged before this returns."""
        for turn in itertools.count(1):
            if closing.is_set():
                return
            if self.number < STREAMERS:
                await self._stream(stub, turn)
            else:
                await self._add(stub, turn)

    async def _add(self, stub: "AbacusServiceAsyncStub", turn: int) -> None:
        amount = Decimal(f"{turn}.{self.number:02}")
        id_ = f"{self.number}-{turn}"
        request = pb.AddNumberRequest(name=TILL, decimal=str(amount), request_id=id_)
        while not await self._acknowledges(stub.AddNumber(request, timeout=10)):
            pass
        self.acknowledged[id_, 0] = amount
        self.adds += 1

    async def _stream(self, stub: "AbacusServiceAsyncStub", turn: int) -> None:
        id_ = f"{self.number}-{turn}"
        messages = [
            pb.AddNumbersRequest(
                name=TILL,
                stream_id=id_,
                sequence=sequence,
                numbers=range(turn, turn + 20),
                decimals=[f"0.{self.number:02}", f"-{sequence}"],
            )
            for sequence in range(1, 6)
        ]
        while not await self._acknowledges(stub.AddNumbers(iter(messages), timeout=10)):
            pass
        for message in messages:
            amount = sum(message.numbers) + sum(map(Decimal, message.decimals))
            self.acknowledged[id_, message.sequence] = Decimal(amount)
            self.adds += len(message.numbers) + len(message.decimals)

    async def _acknowledges(self, call: "grpc.aio.Call") -> bool:
        try:
            await call  # type: ignore[misc]
        except grpc.aio.AioRpcError as error:
            if error.code() not in CUT:
                raise
            self.cuts += 1
            await asyncio.sleep(0.02)
            return False
        return True


async def test_what_is_acknowledged_under_fsync_counts_once_whoever_dies(
    processes: Processes, folder: Path
) -> None:
    kept = ("--data", folder / "data", "--durability", "fsync")
    mesh = start_mesh(processes, folder, "--abaci", "2", "--workers", "1", "--slots", "1", *kept)
    clerks = [Clerk(number) for number in range(CLIENTS)]
    closing = asyncio.Event()
    # So that Envoy is found again at once.
    options = [("grpc.max_reconnect_backoff_ms", 100), ("grpc.initial_reconnect_backoff_ms", 50)]
    async with grpc.aio.insecure_channel(mesh.address, options=options) as channel:
        stub = AbacusServiceStub(channel)
        async with asyncio.TaskGroup() as tasks:
            for clerk in clerks:
                tasks.create_task(clerk.work(stub, closing))
            for victims in (("valkey",), ("abacus-1",), ("edge",), ("valkey", "abacus-2", "edge")):
                await everyone_adds(clerks)
                cuts = sum(clerk.cuts for clerk in clerks)
                await asyncio.to_thread(mesh.kill, *victims)
                await everyone_adds(clerks)
                assert sum(clerk.cuts for clerk in clerks) > cuts, "nothing was under way"
            closing.set()
        final = await stub.GetSum(pb.GetSumRequest(name=TILL))

    acknowledged = {id_: amount for clerk in clerks for id_, amount in clerk.acknowledged.items()}
    assert Decimal(final.value) == sum(acknowledged.values())
    assert final.add_count == sum(clerk.adds for clerk in clerks)
    assert final.version == len(acknowledged)
    with Client(mesh.address) as client:
        entries = list(client.abacus(TILL).entries(page_size=500))
    versions = [entry.version for entry in entries]
    assert versions == list(range(final.version, final.version - len(entries), -1))
    noted = {
        (entry.request_id or entry.stream_id, entry.sequence): Decimal(entry.amount)
        for entry in entries
    }
    assert len(noted) == len(entries) >= 1000
    assert noted.items() <= acknowledged.items()


async def everyone_adds(clerks: list[Clerk], changes: int = 10) -> None:
    """Waits until each of them has so many more changes acknowledged."""
    goals = [len(clerk.acknowledged) + changes for clerk in clerks]
    await eventually(
        lambda: all(
            len(clerk.acknowledged) >= goal for clerk, goal in zip(clerks, goals, strict=True)
        ),
        timeout=20,
        message="everyone adding",
    )


class Submitter(threading.Thread):
    """Submits jobs whose totals go to abaci, batch after batch, each when the one before has ended.

    Attributes:
        jobs: Those that were accepted.
        due: What each comes to, by abacus and job.
    """

    def __init__(self, client: Client, number: int) -> None:
        super().__init__(daemon=True)
        self.jobs: list[JobHandle] = []
        self.due: dict[str, dict[str, Decimal]] = {name: {} for name in TOTALS}
        self._client = client
        self._numbers = itertools.count(100_000 * (number + 1))
        self._closing = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._closing.is_set():
                for job in self._client.as_completed(self._submit(), timeout=60):
                    assert job.job.state == Job.STATE_SUCCEEDED, job.job
        except BaseException as error:
            self._failure = error

    def end(self) -> None:
        """Waits until the last batch has ended; raises what has gone wrong on the way."""
        self._closing.set()
        self.join()
        if self._failure is not None:
            raise self._failure

    def _submit(self) -> list[JobHandle]:
        plans = [self._plan(next(self._numbers)) for _ in range(12)]
        handles = self._client.submit_many(job for job, _ in plans)
        for handle, (job, total) in zip(handles, plans, strict=True):
            self.due[job.abacus][handle.name] = total
        self.jobs += handles
        return handles

    @staticmethod
    def _plan(number: int) -> tuple[Job, Decimal]:
        name = TOTALS[number % len(TOTALS)]
        if number % 2:
            work = Work(simulate=Simulate(duration=Duration(nanos=10_000_000)))
            return Job(work=work, chunk_count=3, abacus=name), Decimal(3)
        work = Work(add=Add(numbers=[str(number), "0.001"]))
        return Job(work=work, chunk_count=2, abacus=name), Decimal(f"{number}.001")


def test_a_jobs_total_lands_once_whoever_dies(processes: Processes, folder: Path) -> None:
    mesh = start_mesh(processes, folder, "--gateways", "2", "--abaci", "2", "--slots", "1")
    with Client(mesh.address) as client:
        abaci = {name: client.abacus(name) for name in TOTALS}
        submitters = [Submitter(client, number) for number in range(2)]

        def landed() -> int:
            return sum(abacus.read().add_count for abacus in abaci.values())

        def goes_on(before: int) -> bool:
            return before + 10 <= landed() < sum(len(one.jobs) for one in submitters)

        for submitter in submitters:
            submitter.start()
        for victims in CRASHES:
            before = landed()
            eventually_sync(lambda: goes_on(before), message="totals landing")  # noqa: B023
            mesh.kill(*victims)
        before = landed()
        eventually_sync(lambda: goes_on(before), message="totals landing after all that")
        for submitter in submitters:
            submitter.end()

        jobs = [job for submitter in submitters for job in submitter.jobs]
        # When the mesh has noted that one has landed, it enters it no second time.
        eventually_sync(
            lambda: all(job.refresh().abacus_posting.HasField("post_time") for job in jobs),
            timeout=20,
            message="all totals having landed",
        )
        for name, abacus in abaci.items():
            due = submitters[0].due[name] | submitters[1].due[name]
            entries = {entry.version: entry for entry in abacus.entries(page_size=500)}
            final = abacus.read()
            assert Decimal(final.value) == sum(due.values())
            assert final.add_count == final.version == len(due)
            assert {entry.job: Decimal(entry.amount) for entry in entries.values()} == due
