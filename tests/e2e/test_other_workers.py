"""Workers in other languages: those of examples/ keep the rules, alone and beside Python's."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from grpc import insecure_channel

from tallymesh import ChunkTimedOut, Client, CountPrimes
from tallymesh.v1.dispatch_service_pb2 import (
    ChunkRange,
    ChunkResults,
    SynchronizeRequest,
    Worker,
)
from tallymesh.v1.dispatch_service_pb2_grpc import DispatchServiceStub
from tallymesh_kernels import Chunk
from tests.harness.local_mesh import LocalMesh, start_mesh
from tests.harness.polling import eventually_sync
from tests.harness.primes import PRIMES_UP_TO
from tests.harness.processes import Process, Processes
from tests.harness.tools import missing, require

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

#: Starts a worker that takes its chunks from a queue.
Start = Callable[[str], Process]

# The first build of what the Go worker imports takes its time.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """A mesh with one Python worker, to which others come."""
    with Processes() as processes:
        folder = tmp_path_factory.mktemp("mesh")
        yield start_mesh(processes, folder, "--ephemeral", "--workers", "1", "--slots", "1")


def go(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a command of Go on the example's module, without a network."""
    return subprocess.run(
        [require("go"), *words],
        cwd=EXAMPLES / "go-worker",
        env={**os.environ, "GOPROXY": "off", "GOFLAGS": "-buildvcs=false"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def go_worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go worker, built."""
    if go("list", "-deps", "-test", ".").returncode:
        missing("what examples/go-worker imports")
    program = tmp_path_factory.mktemp("go") / "go-worker"
    built = go("build", "-o", program, ".")
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture(params=["go", "shell"])
def name(request: pytest.FixtureRequest) -> str:
    """The name of the worker that a test starts."""
    return f"{request.param}-worker"


@pytest.fixture
def start(
    request: pytest.FixtureRequest, name: str, mesh: LocalMesh, client: Client, processes: Processes
) -> Iterator[Start]:
    """Starts the worker and waits until the mesh knows it; ends it in time for the next test's."""
    started: list[Process] = []

    def start(queue: str) -> Process:
        if name == "go-worker":
            program = request.getfixturevalue("go_worker")
            command = [program, "-address", mesh.address, "-queue", queue, "-slots", "2"]
        else:
            require("jq")
            command = [EXAMPLES / "shell-worker.sh", mesh.address, queue]
        worker = processes.start(command)
        started.append(worker)
        eventually_sync(lambda: held(client, name) is not None, message=f"{name} being known")
        return worker

    yield start
    for worker in started:
        worker.stop()
    await_goodbye(client, name)


def held(client: Client, name: str) -> int | None:
    """How many chunks a worker holds; None if the mesh does not know it."""
    for one in client.health().workers:
        if one.worker.name == name:
            return one.chunks_held
    return None


def await_goodbye(client: Client, name: str) -> None:
    """Waits until the mesh has forgotten a worker, less long than it waits for a silent one."""
    eventually_sync(lambda: held(client, name) is None, timeout=4, message=f"{name} having left")


def await_chunk(client: Client, name: str) -> None:
    eventually_sync(lambda: held(client, name), message=f"{name} having a chunk")


def test_go_finds_nothing_to_criticise(go_worker: Path) -> None:
    for command in (["vet", "./..."], ["test", "./..."]):
        ran = go(*command)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    formatted = subprocess.run(
        [require("gofmt"), "-l", EXAMPLES], capture_output=True, text=True, check=True
    )
    assert not formatted.stdout


def test_a_worker_in_another_language_does_a_whole_job_and_leaves_when_told(
    name: str, start: Start, client: Client
) -> None:
    worker = start(name)
    job = client.submit(CountPrimes(stop=10**6), queue=name, chunks=7)

    assert job.result(timeout=60) == PRIMES_UP_TO[10**6]
    assert dict(job.refresh().handled_by) == {name: 7}
    client.drain_worker(name)
    assert worker.wait() == 0
    await_goodbye(client, name)


def test_a_chunk_is_the_same_numbers_in_every_language(
    name: str, start: Start, client: Client, mesh: LocalMesh
) -> None:
    # As Python cuts the work, every second chunk is counted here, the others there. Were it cut
    # otherwise there, the total would be another.
    job = client.submit(CountPrimes(start=2, stop=200), queue=name, chunks=14)
    here = Worker(name="here", uid=str(uuid4()), slots=1, kernels=["count_primes"], queues=[name])
    with insecure_channel(mesh.address) as channel:
        synchronize = DispatchServiceStub(channel).Synchronize
        chunks: list[ChunkRange] = []
        while len(chunks) < 14:  # each call gets a part only, as other workers are alive
            call = SynchronizeRequest(call_id=str(uuid4()), worker=here, held=chunks, capacity=14)
            chunks += [
                ChunkRange(job=one.chunks.job, epoch=one.chunks.epoch, first=i, count=1, attempt=1)
                for one in synchronize(call).assignments
                for i in range(one.chunks.first, one.chunks.first + one.chunks.count)
            ]
        results = [
            ChunkResults(chunks=chunk, sums=[primes_of_chunk(2, 200, Chunk(chunk.first, 14))])
            for chunk in chunks[::2]
        ]
        told = SynchronizeRequest(
            call_id=str(uuid4()), worker=here, held=chunks, results=results, returned=chunks[1::2]
        )
        assert synchronize(told).accepted == 7
        synchronize(SynchronizeRequest(call_id="3", worker=here, draining=True))

    start(name)

    assert job.result(timeout=60) == 46
    assert dict(job.refresh().handled_by) == {"here": 7, name: 7}


def primes_of_chunk(start: int, stop: int, chunk: Chunk) -> int:
    begin, end = chunk.of(stop - start + 1)
    return sum(
        all(number % divisor for divisor in range(2, number))
        for number in range(start + begin, start + end)
    )


@pytest.mark.parametrize(
    ("name", "stop", "chunks"), [("go-worker", 10**10, 101), ("shell-worker", 10**9, 2003)]
)
def test_python_and_another_language_do_a_job_together(
    name: str, stop: int, chunks: int, start: Start, client: Client
) -> None:
    start("default")
    job = client.submit(CountPrimes(stop=stop), chunks=chunks)

    assert job.result(timeout=120) == PRIMES_UP_TO[stop]
    handled_by = job.refresh().handled_by
    assert set(handled_by) == {"worker-1", name}
    assert sum(handled_by.values()) == chunks


def test_a_worker_in_another_language_stops_when_told(
    name: str, start: Start, client: Client
) -> None:
    start(name)
    endless = client.submit(CountPrimes(start=10**11, stop=10**12), queue=name, chunks=2)
    await_chunk(client, name)

    endless.cancel()

    job = client.submit(CountPrimes(stop=10**6), queue=name, chunks=3)
    assert job.result(timeout=30) == PRIMES_UP_TO[10**6]


def test_a_worker_in_another_language_hands_back_what_it_does_not_finish(
    name: str, start: Start, client: Client
) -> None:
    worker = start("default")
    job = client.submit(CountPrimes(stop=10**10), chunks=3)
    await_chunk(client, name)

    assert worker.stop() == 0

    assert job.result(timeout=60) == PRIMES_UP_TO[10**10]
    assert dict(job.refresh().handled_by) == {"worker-1": 3}
    assert (job.job.lost_leases, job.job.failed_attempts) == (0, 0)


@pytest.mark.parametrize("name", ["go-worker"])
def test_the_go_worker_keeps_to_the_time(name: str, start: Start, client: Client) -> None:
    start(name)
    endless = CountPrimes(start=10**11, stop=10**12, method=CountPrimes.METHOD_SIEVE)
    job = client.submit(endless, queue=name, chunks=1, chunk_timeout=0.1, max_attempts=2)

    with pytest.raises(ChunkTimedOut):
        job.result(timeout=60)

    assert job.refresh().failed_attempts == 2


@pytest.mark.parametrize("name", ["go-worker"])
def test_the_go_worker_dies(name: str, start: Start, client: Client) -> None:
    worker = start("default")
    job = client.submit(CountPrimes(stop=10**10), chunks=101)
    eventually_sync(lambda: job.refresh().handled_by.get(name), message="a result of the worker")

    worker.kill()

    assert job.result(timeout=100) == PRIMES_UP_TO[10**10]
    ended = job.refresh()
    assert sum(ended.handled_by.values()) == ended.progress.chunks_done == 101
    assert ended.lost_leases > 0
    assert ended.failed_attempts == 0
