"""A whole mesh as a user starts it: `tallymesh up` in a process of its own."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness.polling import eventually_sync
from tests.harness.ports import free_port
from tests.harness.processes import Process, Processes
from tests.harness.tools import require
from tests.harness.valkey import find_server


class LocalMesh:
    """One `tallymesh up`, with the state file by which its processes are found."""

    def __init__(self, process: Process, state_file: Path) -> None:
        self.process = process
        self._state_file = state_file

    @property
    def address(self) -> str:
        return str(self._state()["address"])

    @property
    def pids(self) -> dict[str, int | None]:
        """The process ids by name; None for one that is just being started again."""
        return dict(self._state()["processes"])

    def kill(self, *names: str) -> None:
        """Kills processes by -9, all at once, and waits until others stand in their places."""
        killed = {name: self.pids[name] for name in names}
        for pid in killed.values():
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        eventually_sync(
            lambda: all(self.pids[name] not in {None, pid} for name, pid in killed.items()),
            message=f"{', '.join(names)} being started again",
        )

    def wait_until_ready(self, timeout: float = 45.0) -> None:
        def ready() -> bool:
            if not self.process.alive:
                raise RuntimeError(f"tallymesh up has ended:\n{self.process.output()}")
            return self._state_file.exists()

        eventually_sync(ready, timeout=timeout, message="the mesh being ready")

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self._state_file.read_text())
        return state


def start_mesh(
    processes: Processes,
    folder: Path,
    *options: str | Path,
    env: Mapping[str, str] | None = None,
) -> LocalMesh:
    """Starts a mesh on a free port and waits until it is ready.

    Args:
        processes: Ends it with the test.
        folder: For its state file.
        options: More options of `tallymesh up`.
        env: Laid over this process's own environment.
    """
    find_server()
    if "--no-edge" not in options:
        require("envoy")
    state_file = folder / "mesh.json"
    port = str(free_port())
    process = processes.start(
        [*up_command(), "--port", port, "--state", state_file, *options],
        env={"TMPDIR": str(folder), **(env or {})},
    )
    mesh = LocalMesh(process, state_file)
    mesh.wait_until_ready()
    return mesh


def up_command() -> tuple[str, ...]:
    """The command line of `tallymesh up`."""
    return (sys.executable, "-m", "tallymesh", "up")


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in {"Z", "X"}
    return False


def descendants(pid: int) -> set[int]:
    """The process ids of all that a process has started, directly or not."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry))
    found: set[int] = set()
    pending = [pid]
    while pending:
        children = parents.get(pending.pop(), [])
        found.update(children)
        pending.extend(children)
    return found


def computing(mesh: LocalMesh, within: float = 0.2) -> set[int]:
    """The processes of the mesh's workers that use a processor now, looking for so many seconds."""
    workers = [pid for name, pid in mesh.pids.items() if name.startswith("worker") and pid]
    children = {child for worker in workers for child in descendants(worker)}
    before = {pid: _processor_seconds(pid) for pid in children}
    time.sleep(within)
    # One that waits for work uses none at all; one that computes gets little where others do too.
    return {pid for pid in children if _processor_seconds(pid) > before[pid]}


def await_computing(mesh: LocalMesh, count: int) -> set[int]:
    """Waits until so many processes of the mesh's workers compute, and returns them."""
    return eventually_sync(
        lambda: found if len(found := computing(mesh)) == count else set(),
        timeout=30,
        message=f"{count} processes computing",
    )


def _processor_seconds(pid: int) -> float:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
