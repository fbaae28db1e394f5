"""A real mesh for one's own tests: started for them, on free ports, gone with them.

It is `tallymesh up` in a process of its own, with its data in memory, so it needs the distribution
`tallymesh` with its extra `embedded`. It dies with the process that asked for it, also by kill -9.

    from tallymesh.testing import mesh

    with mesh(kernels=["my_kernels"]) as running, running.client() as client:
        assert client.count_primes(100) == 25

pytest finds the fixture `tallymesh_mesh`, one mesh for the whole run, by itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tallymesh.aio.client import AsyncClient
    from tallymesh.client import Client

_POLL_SECONDS = 0.05
_STOP_SECONDS = 20.0
# A port that was free may be taken by somebody else before the mesh has it.
_TRIES = 3


class CannotStartMesh(Exception):
    """No mesh could be started; the message says why."""


@dataclass(frozen=True)
class RunningMesh:
    """A mesh that takes jobs.

    Attributes:
        address: Where it is, `host:port`: gRPC, grpc-web, REST and the page.
    """

    address: str

    def client(self, **options: Any) -> Client:
        """Returns a client of it; options as of Client."""
        from tallymesh.client import Client

        return Client(self.address, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        """Returns a client of it for asyncio; options as of AsyncClient."""
        from tallymesh.aio.client import AsyncClient

        return AsyncClient(self.address, **options)


@contextmanager
def mesh(
    *,
    workers: int = 1,
    slots: int = 1,
    kernels: Sequence[str] = (),
    timeout: float = 60.0,
) -> Iterator[RunningMesh]:
    """Runs a mesh while the `with` block lasts.

    Args:
        workers: How many worker processes, 1 to 256.
        slots: How many chunks each computes at a time, 1 to 1,024.
        kernels: Modules with kernels of one's own, found as `import` finds them here.
        timeout: Seconds that it may take to be ready.

    Raises:
        CannotStartMesh: A part of it is not installed, or it does not come up in time.
    """
    if find_spec("tallymesh_local") is None:
        raise CannotStartMesh(
            "the services are not installed: pip install 'tallymesh[embedded]' beside the client"
        )
    options = ["--workers", str(workers), "--slots", str(slots)]
    for module in kernels:
        options += ["--kernels", module]
    with tempfile.TemporaryDirectory(prefix="tallymesh-test-") as folder:
        process, address = _start(options, Path(folder), timeout)
        try:
            yield RunningMesh(address)
        finally:
            _stop(process)


def _start(
    options: Sequence[str], folder: Path, timeout: float
) -> tuple[subprocess.Popen[bytes], str]:
    state, said = folder / "state.json", folder / "output"
    for left in reversed(range(_TRIES)):
        up = ["-m", "tallymesh", "up", "--port", str(_free_port()), "--state", str(state)]
        leash = ["-m", "tallymesh_local.leash", str(os.getpid()), str(int(signal.SIGTERM))]
        command = [sys.executable, *leash, sys.executable, *up, *options]
        # Modules of kernels are looked for where this process looks.
        path = os.pathsep.join(part for part in (os.getcwd(), *sys.path) if part)
        with said.open("wb") as output:
            process = _spawn(command, output, path)
        deadline = time.monotonic() + timeout
        try:
            while process.poll() is None and not state.exists() and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            if state.exists():
                return process, str(json.loads(state.read_text())["address"])
        except BaseException:
            _stop(process)
            raise
        code = process.poll()
        _stop(process)
        told = said.read_text(errors="replace").strip()
        if not left or "cannot listen" not in told:
            break
    why = f"was not ready within {timeout:g} s" if code is None else f"ended with exit code {code}"
    raise CannotStartMesh(f"the mesh {why}:\n{told}")


def _spawn(command: Sequence[str], output: IO[bytes], path: str) -> subprocess.Popen[bytes]:
    started: SimpleQueue[subprocess.Popen[bytes] | OSError] = SimpleQueue()

    def run() -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - ours, word by word
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path},
                # A Ctrl-C at the terminal is for the tests; they end the mesh themselves.
                start_new_session=True,
            )
        except OSError as error:
            started.put(error)
            return
        started.put(process)
        process.wait()

    # What is on the leash ends with the thread that started it, and the caller's may end early.
    threading.Thread(target=run, name="tallymesh-mesh", daemon=True).start()
    process = started.get()
    if isinstance(process, OSError):
        raise process
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
