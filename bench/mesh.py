"""The mesh that is measured: `tallymesh up`, in processes of its own."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.figures import Figure
from tests.harness.local_mesh import LocalMesh, descendants, start_mesh
from tests.harness.processes import Processes


class BenchMesh:
    """A running mesh, with the ways past Envoy that users of one machine have too."""

    def __init__(self, mesh: LocalMesh, sockets: Path) -> None:
        self._mesh = mesh
        self.edge = mesh.address
        self.gateway = f"unix:{sockets}/gateway-1.sock"
        self.abacus = f"unix:{sockets}/abacus-1.sock"
        self.store_url = f"unix://{sockets}/valkey.sock"

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time that each process has used so far, its compute processes included.

        Its own supervisor is "up".
        """
        pids = {"up": self._mesh.process.pid}
        trees = {"up": {self._mesh.process.pid}}
        for name in self._mesh.pids:
            pids[name] = self.pid_of(name)
            trees[name] = {pids[name], *descendants(pids[name])}
        return {name: sum(map(_cpu_seconds, trees[name])) for name in pids}

    def pid_of(self, name: str) -> int:
        """The process id of a process that runs."""
        pid = self._mesh.pids[name]
        assert pid is not None, f"{name} has died"
        return pid

    def compute_seconds(self) -> dict[int, float]:
        """Processor time that each compute process has used so far, by its process id."""
        workers = [
            pid for name, pid in self._mesh.pids.items() if name.startswith("worker") and pid
        ]
        found = {}
        for child in (child for worker in workers for child in descendants(worker)):
            with contextlib.suppress(psutil.NoSuchProcess):
                found[child] = _cpu_seconds(child)
        return found

    def resident_bytes(self, name: str) -> int:
        """Memory that a process uses now, its compute processes included."""
        pid = self.pid_of(name)
        return sum(psutil.Process(one).memory_info().rss for one in (pid, *descendants(pid)))

    def costs(self, before: Mapping[str, float], count: int, what: str) -> Sequence[Figure]:
        """Processor time of each role since `before`, for each of `count` things."""
        roles: dict[str, float] = {}
        for name, seconds in self.cpu_seconds().items():
            role = name.partition("-")[0]
            roles[role] = roles.get(role, 0.0) + seconds - before[name]
        return [
            Figure(name=f"processor time {what}: {role}", value=1e6 * seconds / count, unit="µs")
            for role, seconds in sorted(roles.items(), key=lambda item: -item[1])
            if role not in ("up", "abacus")
        ]


@contextmanager
def running_mesh(*options: str) -> Iterator[BenchMesh]:
    """Starts a mesh with these options of `tallymesh up`, and leaves nothing of it behind."""
    # A unix socket's path may have some 100 bytes, so the folder is to be short.
    folder = Path(tempfile.mkdtemp(prefix="tm-bench-"))
    try:
        with Processes() as processes:
            mesh = start_mesh(processes, folder, "--log-level", "warning", *options)
            (sockets,) = folder.glob("tallymesh-up-*")
            yield BenchMesh(mesh, sockets)
            mesh.process.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
