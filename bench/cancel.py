"""How soon a cancelled job uses no processor any more, though its kernel does not listen.

From the call of CancelJob until no process is left of those that computed for the job: as the
kernel ignores every request to stop, they use a processor for as long as there are any.
"""

import time
from collections.abc import Sequence

from bench.figures import Bound, Figure, of_seconds
from bench.mesh import BenchMesh
from tallymesh import Client, Simulate
from tests.harness.local_mesh import alive
from tests.harness.polling import eventually_sync

_SECONDS = 30.0
_SLOTS = 2


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    stubborn = Simulate(busy=True, ignore_cancel=True)
    stubborn.duration.FromSeconds(3600)
    taken, told = [], []
    with Client(mesh.edge) as client:
        for _ in range(20 if quick else 100):
            _await_calm(mesh)
            before = mesh.compute_seconds()
            job = client.submit(stubborn, chunks=_SLOTS)
            computing = _await_computing(mesh, before)
            begun = time.perf_counter()
            job.cancel(wait=False)
            while any(map(alive, computing)):
                assert time.perf_counter() - begun < _SECONDS, f"{job.name} goes on computing"
                time.sleep(0.001)
            taken.append(time.perf_counter() - begun)
            cancellation = job.cancel(timeout=_SECONDS).cancellation
            told.append(
                (
                    cancellation.stop_time.ToMilliseconds()
                    - cancellation.request_time.ToMilliseconds()
                )
                / 1000
            )
    return [
        of_seconds("from CancelJob to no processor used", taken, bound=Bound(500, "<", "p99")),
        of_seconds("from request_time to stop_time of the job", told),
    ]


def _await_calm(mesh: BenchMesh) -> None:
    """Waits until those compute processes have loaded that take the place of killed ones."""

    def calm() -> bool:
        before = mesh.compute_seconds()
        time.sleep(0.1)
        # One of them is the spare.
        return len(before) == _SLOTS + 1 and before == mesh.compute_seconds()

    eventually_sync(calm, timeout=_SECONDS, message="idle workers")


def _await_computing(mesh: BenchMesh, before: dict[int, float]) -> set[int]:
    """Waits until all slots compute; returns their processes."""

    def busy() -> set[int]:
        used = mesh.compute_seconds()
        found = {pid for pid in before if used[pid] - before[pid] > 0.02}
        return found if len(found) == _SLOTS else set()

    return eventually_sync(busy, timeout=_SECONDS, message="all slots computing")
