"""What clients hang on is killed and comes back: every one of them ends by its own timeout."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tallymesh import (
    AsyncClient,
    Client,
    CountPrimes,
    DeadlineExceeded,
    JobCancelled,
    Unreachable,
    WaitTimeout,
)
from tests.harness.commands import run, tallymesh
from tests.harness.local_mesh import LocalMesh, start_mesh
from tests.harness.polling import eventually_sync
from tests.harness.ports import free_port
from tests.harness.processes import Process, Processes

#: Seconds that each client waits, and how much later it may be told so on a busy machine.
TIMEOUT, GRACE = 6.0, 10.0
#: How long what they hang on is away: longer than a retry takes, shorter than the timeout.
AWAY = 1.0
WORK = CountPrimes(stop=10)

#: Every way in which a client waits on a stream, and a call that is none.
WAYS: dict[str, Callable[[Client, str, float], object]] = {
    "result": lambda client, job, timeout: client.job(job).result(timeout),
    "run": lambda client, job, timeout: client.run(WORK, timeout=timeout),
    "as_completed": lambda client, job, timeout: list(client.as_completed([job], timeout=timeout)),
    "compute": lambda client, job, timeout: client.compute(WORK, timeout=timeout),
    "watch": lambda client, job, timeout: list(client.abacus("a").watch(timeout=timeout)),
    "unary": lambda client, job, timeout: client.whoami(),
}


async def _all_at_once(client: AsyncClient, job: str, timeout: float) -> list[object]:
    async def as_completed() -> None:
        async for _ in client.as_completed([job], timeout=timeout):
            pass

    async def watch() -> None:
        async for _ in client.abacus("a").watch(timeout=timeout):
            pass

    told: list[object] = await asyncio.gather(
        client.job(job).result(timeout),
        client.run(WORK, timeout=timeout),
        as_completed(),
        client.compute(WORK, timeout=timeout),
        watch(),
        client.whoami(),
        return_exceptions=True,
    )
    return told


class Waiting:
    """Threads that wait, each by a client of its own.

    Attributes:
        ends: What each was told, and after how many seconds.
    """

    def __init__(self) -> None:
        self.ends: list[tuple[object, float]] = []
        self._threads: list[threading.Thread] = []

    def start(self, wait: Callable[[], object]) -> None:
        def note() -> None:
            began = time.monotonic()
            told: object
            try:
                told = wait()
            except Exception as error:
                told = error
            took = time.monotonic() - began
            self.ends.extend((one, took) for one in (told if isinstance(told, list) else [told]))

        # Daemons, as one that hangs is not to hang the tests.
        self._threads.append(threading.Thread(target=note, daemon=True))
        self._threads[-1].start()

    def join(self, timeout: float) -> Counter[type]:
        """Waits for all of them, and counts what they were told."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        hung = sum(thread.is_alive() for thread in self._threads)
        assert not hung, f"{hung} of {len(self._threads)} wait past their timeout"
        return Counter(type(told) for told, _ in self.ends)


def start_waiting(address: str, count: int, job: str = "x", timeout: float = TIMEOUT) -> Waiting:
    """Starts so many blocking clients, in turn by all ways, and one AsyncClient in all of them."""
    waiting = Waiting()
    for index in range(count):
        way = list(WAYS.values())[index % len(WAYS)]

        def wait(way: Callable[[Client, str, float], object] = way) -> object:
            with Client(address, timeout=timeout) as client:
                return way(client, job, timeout)

        waiting.start(wait)

    async def wait_async() -> list[object]:
        async with AsyncClient(address, timeout=timeout) as client:
            return await _all_at_once(client, job, timeout)

    waiting.start(lambda: asyncio.run(wait_async()))
    return waiting


def start_silence(processes: Processes, port: int, *words: str) -> Process:
    started = processes.start(
        [sys.executable, "-m", "tests.harness.silent_server", str(port), *words]
    )
    eventually_sync(lambda: "ready" in started.output(), message="the server being ready")
    return started


@contextmanager
def frozen(*pids: int | None) -> Iterator[None]:
    """Stops processes while the block lasts, so that they take calls and answer none."""
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            assert pid is not None
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(120)
def test_a_server_that_never_answers_dies_and_comes_back(processes: Processes) -> None:
    port = free_port()
    silent = start_silence(processes, port)
    waiting = start_waiting(f"127.0.0.1:{port}", 48)
    eventually_sync(lambda: silent.output().count("/tallymesh") >= 54, message="all calls there")

    silent.kill()
    time.sleep(AWAY)
    start_silence(processes, port)

    told = waiting.join(TIMEOUT + GRACE)
    # Of a run it is not known whether its job was accepted.
    assert told == {WaitTimeout: 18, DeadlineExceeded: 36}
    assert all(took >= TIMEOUT - 0.5 for _, took in waiting.ends)


@pytest.mark.timeout(120)
def test_a_command_ends_by_its_timeout_too(processes: Processes) -> None:
    port = free_port()
    silent = start_silence(processes, port)
    command = tallymesh(f"127.0.0.1:{port}", "jobs", "watch", "x", "--timeout", f"{TIMEOUT:g}s")
    ends: list[tuple[int, str]] = []

    def wait() -> None:
        done = run(command, timeout=TIMEOUT + 3 * GRACE)
        ends.append((done.returncode, done.stderr))

    thread = threading.Thread(target=wait)
    thread.start()
    eventually_sync(lambda: "/tallymesh" in silent.output(), message="its call being there")

    silent.kill()
    time.sleep(AWAY)
    start_silence(processes, port)

    thread.join()
    [(code, said)] = ends
    assert code == 4, said
    assert "did not end within 6 s" in said


@pytest.mark.timeout(120)
def test_a_server_that_takes_connections_and_speaks_no_grpc(processes: Processes) -> None:
    port = free_port()
    mute = start_silence(processes, port, "mute")
    waiting = start_waiting(f"127.0.0.1:{port}", 48)

    mute.kill()
    time.sleep(AWAY)
    start_silence(processes, port, "mute")

    told = waiting.join(TIMEOUT + GRACE)
    assert set(told) <= {Unreachable, WaitTimeout, DeadlineExceeded}
    assert told.total() == 54


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("entrance", ["edge", "gateway-1"])
def test_what_answers_a_mesh_dies_and_comes_back(
    processes: Processes, folder: Path, entrance: str, end: signal.Signals
) -> None:
    without_edge = [] if entrance == "edge" else ["--no-edge"]
    mesh = start_mesh(processes, folder, "--ephemeral", "--slots", "1", *without_edge)
    with Client(mesh.address) as client:
        job = client.submit(WORK, queue="nobody")
        # Nothing is told while it is frozen: the streams break before their first message.
        with frozen(mesh.pids["gateway-1"]):
            short = start_waiting(mesh.address, 24, job.name) if entrance == "edge" else None
            long = [_start_result(mesh.address, job.name, 60.0) for _ in range(40)]
            streams = len(long) + (20 if short else 0)
            eventually_sync(lambda: _streams() >= streams, message="all streams being asked for")
            _end_and_await_another(mesh, entrance, end)
            if short:
                told = short.join(TIMEOUT + GRACE)
                assert told.total() == 30
                assert told[WaitTimeout] == 10, short.ends
                # A unary call may end as the edge tells that no gateway answers.
                assert told[DeadlineExceeded] + told[Unreachable] == 20, short.ends
                assert told[Unreachable] <= 5, short.ends
        job.cancel(wait=False)
        for one in long:
            assert one.join(30) == {JobCancelled: 1}


@pytest.mark.timeout(120)
def test_a_command_that_has_just_begun_outlasts_a_new_edge_and_frozen_gateways(
    processes: Processes, folder: Path
) -> None:
    mesh = start_mesh(processes, folder, "--ephemeral", "--slots", "1")
    with frozen(mesh.pids["gateway-1"]):
        asking = processes.start(tallymesh(mesh.address, "whoami", "--timeout", "60s"))
        port = int(mesh.address.rpartition(":")[2])
        eventually_sync(lambda: _is_connected(asking.pid, port), message="its connection")
        _end_and_await_another(mesh, "edge", signal.SIGKILL)
        time.sleep(5)  # longer than nobody's answer takes to be told
    assert asking.wait(60) == 0, asking.output()
    assert "gateway-1" in asking.output()


def _is_connected(pid: int, port: int) -> bool:
    return any(
        one.raddr and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED
        for one in psutil.Process(pid).net_connections("tcp")
    )


def _start_result(address: str, job: str, timeout: float) -> Waiting:
    def wait() -> object:
        with Client(address) as client:
            return client.job(job).result(timeout)

    waiting = Waiting()
    waiting.start(wait)
    return waiting


def _streams() -> int:
    return sum(thread.name == "tallymesh-reader" for thread in threading.enumerate())


def _end_and_await_another(mesh: LocalMesh, name: str, end: signal.Signals) -> None:
    pid = mesh.pids[name]
    assert pid is not None
    os.kill(pid, end)
    if name != "edge":
        # SIGTERM is not heard by who is frozen; SIGKILL is, who may be gone by now.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    eventually_sync(lambda: mesh.pids[name] not in {None, pid}, timeout=30, message="another one")
