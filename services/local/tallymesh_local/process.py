"""One process of the mesh: started, watched, started again when it dies, and ended."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
import uuid
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tallymesh_local.console import Console

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
#: A process that has lived this long is started again without regard to earlier deaths.
_STEADY_SECONDS = 10.0
_CHUNK_BYTES = 64 * 1024
_SWEEPS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a process of the mesh runs.

    Attributes:
        name: The process's name, as people see it.
        launcher: The module that starts it: `tallymesh_local.leash` or `tallymesh_local.role`.
        command: What is given to the launcher: a program's path and arguments, or a role.
        environment: Variables laid over those of this process.
        last_will: The signal that it gets when this process itself dies.
        has_uid: Each of its processes gets a TALLYMESH_UID of its own.
        noise: Matches output that tells nobody anything, which is dropped.
    """

    name: str
    launcher: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    last_will: signal.Signals = signal.SIGKILL
    has_uid: bool = False
    noise: re.Pattern[str] | None = None


class Supervised:
    """Keeps one program running until it is stopped."""

    def __init__(
        self,
        program: Program,
        console: Console,
        changed: Callable[[], None],
        died: Callable[[str], Awaitable[None]],
    ) -> None:
        """Prepares a process, without starting it.

        Args:
            program: What to run.
            console: Takes its output and the news of its deaths.
            changed: Called whenever the process is another one.
            died: Called with the uid of a process that has one and has died unasked.
        """
        self.name = program.name
        #: How the process ended last, as "was killed by SIGKILL"; empty while it never did.
        self.last_end = ""
        self._program = program
        self._console = console
        self._changed = changed
        self._died = died
        self._uid = ""
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id, or None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def start(self) -> None:
        """Begins to keep the program running."""
        self._task = asyncio.create_task(self._keep_running(), name=f"supervise {self.name}")

    async def stop(self, grace: float) -> None:
        """Ends the process by SIGTERM, or by SIGKILL where `grace` seconds were not enough."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        if self._task is None:
            return
        done, _ = await asyncio.wait([self._task], timeout=grace)
        if not done:
            self._console.say(f"{self.name} did not end within {grace:g} s: killing it")
            self.kill()
        await self._task

    def kill(self) -> None:
        """Ends the process and those that it has started at once; it is not started again."""
        self._stopping.set()
        if self.pid is not None:
            self._sweep(self.pid)

    async def _keep_running(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            end = await self._run_once()
            if self._stopping.is_set():
                return
            if time.monotonic() - started > _STEADY_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            self.last_end = end
            self._console.say(f"{self.name} {end}; starting it again in {pause:g} s")
            await asyncio.gather(self._pause(pause), self._tell_death())
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _tell_death(self) -> None:
        if self._uid:
            await self._died(self._uid)

    async def _run_once(self) -> str:
        program = self._program
        own = {}
        if program.has_uid:
            self._uid = own["TALLYMESH_UID"] = str(uuid.uuid4())
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", program.launcher),
            *(str(os.getpid()), str(int(program.last_will))),
            *program.command,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env={**os.environ, **program.environment, **own},
            # A group of its own: Ctrl-C in a terminal is for us, who end things in order.
            start_new_session=True,
        )
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        self._changed()
        assert process.stdout is not None
        reading = asyncio.create_task(self._read(process.stdout))
        await _exited(process.pid)
        self._sweep(process.pid)
        code = await process.wait()
        await reading
        self._changed()
        return _describe(code)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        pending = b""
        while chunk := await stream.read(_CHUNK_BYTES):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self._log(line)
        if pending:
            self._log(pending)

    def _log(self, raw: bytes) -> None:
        line = raw.decode(errors="replace")
        noise = self._program.noise
        if noise is None or not noise.search(line):
            self._console.log(self.name, line)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @staticmethod
    def _sweep(session: int) -> None:
        """Kills a process's whole session: what it has started, in whichever groups that is."""
        # What is killed may just have started something.
        for _ in range(_SWEEPS):
            members = list(_members(session))
            if not members:
                return
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


async def _exited(pid: int) -> None:
    """Waits for a process alone; asyncio may wait for all who hold its output, too."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    exited = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, exited.set)
    try:
        await exited.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _members(session: int) -> Iterator[int]:
    """Yields the live processes of a session."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, _, its, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(its) == session and state not in "ZX":
                    yield int(folder.name)


def _describe(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
