"""How soon the chunks of a worker that was killed by -9 are leased to another.

From the kill to the time of the chunk's new lease by the store's clock, in whole milliseconds. By
default it is silence that gives a worker up: here those are killed that nobody minds. But
`tallymesh up` sees its own workers die.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.figures import Bound, Figure, of_samples
from bench.mesh import BenchMesh
from tallymesh import Client, JobHandle, Simulate
from tests.harness.polling import eventually_sync
from tests.harness.processes import Process, Processes

_SECONDS = 30.0
_QUEUE = "bench-release"
_ENDLESS = Simulate()
_ENDLESS.duration.FromSeconds(3600)


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    with Client(mesh.gateway) as client:
        silent = _kill_unminded(mesh, client, 2 if quick else 7)
        seen = _kill_minded(mesh, client, 2 if quick else 5)
    return [
        *_figures("silent", silent, Bound(6.5)),
        *_figures("seen to die by `tallymesh up`", seen, Bound(1)),
    ]


def _figures(how: str, seconds: list[float], bound: Bound) -> Sequence[Figure]:
    name = f"from kill -9 of a worker to new leases, {how}"
    return [
        of_samples(name, seconds, "s"),
        Figure(
            name=f"{name}: slowest of {len(seconds)}", value=max(seconds), unit="s", bound=bound
        ),
    ]


def _kill_unminded(mesh: BenchMesh, client: Client, count: int) -> list[float]:
    """Kills workers of our own one after the other while another waits for what they held."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tm-bench-")))
        processes = stack.enter_context(Processes())

        def start(name: str, slots: int) -> Process:
            return processes.start(
                [sys.executable, "-m", "tallymesh", "worker"],
                env={
                    "TALLYMESH_GATEWAY": mesh.gateway,
                    "TALLYMESH_LISTEN": f"unix:{folder}/{name}.sock",
                    "TALLYMESH_NODE": name,
                    "TALLYMESH_QUEUES": _QUEUE,
                    "TALLYMESH_SLOTS": str(slots),
                    "TALLYMESH_LOG_LEVEL": "error",
                },
            )

        victims = {f"victim-{number}": start(f"victim-{number}", 1) for number in range(count)}
        job = client.submit(_ENDLESS, chunks=count, queue=_QUEUE)
        stack.callback(job.cancel)
        _await_running(job, count)
        start("heir", count)
        _await_workers(client, count + 3)
        holders = {chunk.worker: chunk.index for chunk in job.chunks()}
        killed = {}
        for name, victim in victims.items():
            victim.kill()
            killed[holders[name]] = time.time()
            # Each at another moment of what gateways do now and then.
            time.sleep(0.37)
        return [_new_lease(job, chunk) - at for chunk, at in killed.items()]


def _kill_minded(mesh: BenchMesh, client: Client, count: int) -> list[float]:
    """Kills workers of the mesh's own, each while another one is idle."""
    taken = []
    dead: set[str] = set()
    for _ in range(count):
        uids = _await_workers(client, 2, dead)
        job = client.submit(_ENDLESS, chunks=1)
        _await_running(job, 1)
        (chunk,) = job.chunks()
        os.kill(mesh.pid_of(chunk.worker), signal.SIGKILL)
        killed = time.time()
        dead.add(uids[chunk.worker])
        taken.append(_new_lease(job, chunk.index) - killed)
        job.cancel(timeout=_SECONDS)
    return taken


def _await_running(job: JobHandle, count: int) -> None:
    eventually_sync(
        lambda: job.refresh().progress.chunks_running == count,
        timeout=_SECONDS,
        message=f"{count} chunks running",
    )


def _await_workers(client: Client, count: int, dead: Collection[str] = ()) -> Mapping[str, str]:
    """Waits for so many workers, without those that are dead; returns their uids by name."""

    def present() -> Mapping[str, str] | None:
        uids = {one.worker.name: one.worker.uid for one in client.health().workers}
        return uids if len(uids) == count and not set(dead).intersection(uids.values()) else None

    found = eventually_sync(present, timeout=_SECONDS, message=f"{count} workers")
    assert found is not None
    return found


def _new_lease(job: JobHandle, index: int) -> float:
    """Waits for a chunk's second lease; returns when that was, in seconds since the epoch."""

    def leased() -> float | None:
        chunk = next(chunk for chunk in job.chunks() if chunk.index == index)
        return chunk.lease_time.ToMilliseconds() / 1000 if chunk.attempt == 2 else None

    found = eventually_sync(leased, timeout=_SECONDS, message=f"chunk {index} leased again")
    assert found is not None
    return found
