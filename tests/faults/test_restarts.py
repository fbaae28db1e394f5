"""A gateway that is restarted again and again, as both clients see it: not at all."""

import asyncio
import itertools
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tallymesh import AsyncClient, Client, CountPrimes
from tests.harness.local_mesh import LocalMesh, start_mesh
from tests.harness.polling import eventually_sync
from tests.harness.processes import Processes

#: What each client has to have done between two restarts.
LEAST = 3


class Users:
    """Two clients that go on submitting, watching and adding until told to stop.

    Attributes:
        done: How often each has done all that.
        errors: What they were told.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self.stopped = threading.Event()
        self.done = [0, 0]
        self.errors: list[BaseException] = []
        targets: tuple[Callable[[], None], ...] = (self._block, lambda: asyncio.run(self._wait()))
        self._threads = [threading.Thread(target=self._note, args=(one,)) for one in targets]

    def went_on(self, before: list[int]) -> bool:
        """Tells whether each has done enough since, or something went wrong."""
        enough = [now >= then + LEAST for now, then in zip(self.done, before, strict=True)]
        return bool(self.errors) or all(enough)

    def __enter__(self) -> "Users":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self._threads:
            thread.join(30)

    def _note(self, use: Callable[[], None]) -> None:
        try:
            use()
        except BaseException as error:
            self.errors.append(error)

    def _block(self) -> None:
        with Client(self._address) as client:
            while not self.stopped.is_set():
                job = client.submit(CountPrimes(stop=1000), chunks=4)
                assert job.result(timeout=30) == 168
                assert client.run(CountPrimes(stop=100), timeout=30) == 25
                assert client.job(job.name).refresh().name == job.name
                client.abacus("blocking").add(1)
                self.done[0] += 1

    async def _wait(self) -> None:
        async with AsyncClient(self._address) as client:
            while not self.stopped.is_set():
                job = await client.submit(CountPrimes(stop=1000), chunks=4)
                assert await job.result(timeout=30) == 168
                assert await client.run(CountPrimes(stop=100), timeout=30) == 25
                assert (await client.job(job.name).refresh()).name == job.name
                await client.abacus("awaited").add(1)
                self.done[1] += 1


def restart(mesh: LocalMesh, number: signal.Signals) -> None:
    pid = mesh.pids["gateway-1"]
    assert pid is not None
    os.kill(pid, number)
    eventually_sync(
        lambda: mesh.pids["gateway-1"] not in (None, pid),
        timeout=20,
        message="another gateway",
    )


@pytest.mark.parametrize(
    "rounds", [4, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_no_client_sees_a_gateway_restarted(
    processes: Processes, folder: Path, rounds: int
) -> None:
    mesh = start_mesh(processes, folder, "--workers", "1", "--slots", "2")
    how = itertools.cycle([signal.SIGKILL, signal.SIGTERM])
    with Users(mesh.address) as users:
        for number in itertools.islice(how, rounds):
            before = list(users.done)
            eventually_sync(partial(users.went_on, before), timeout=60, message="both going on")
            assert not users.errors
            restart(mesh, number)
        users.stopped.set()
    assert not users.errors
    with Client(mesh.address) as client:
        # Each add that was acknowledged, and none twice.
        assert client.abacus("blocking").sum == users.done[0]
        assert client.abacus("awaited").sum == users.done[1]
