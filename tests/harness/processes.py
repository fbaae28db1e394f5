"""Subprocesses of tests: started in a group of their own, tracked, and always ended."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self


class Process:
    """One subprocess, leader of its own process group, with its output kept in a file.

    It dies with the test run, even when that is killed by -9 (Linux; through setpriv).
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Starts `command`; `env` is laid over this process's own environment."""
        self.command = [str(word) for word in command]
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        leash = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        self._popen = subprocess.Popen(
            [*leash, *self.command],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs."""
        return self._popen.poll()

    def output(self) -> str:
        """Everything written so far to stdout and stderr."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone, if it still runs."""
        if self.alive:
            self._popen.send_signal(number)

    def wait(self, timeout: float = 10.0) -> int:
        """Waits for the end and returns the exit code; TimeoutExpired where it does not come."""
        return self._popen.wait(timeout)

    def stop(self, timeout: float = 30.0) -> int:
        """Ends it as a user would (SIGTERM), by force after `timeout`; returns the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL to the process alone, as a crash would; returns the exit code."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def close(self) -> None:
        """Ends the whole group by force and lets go of the output."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        self._log.close()


class Processes:
    """Starts processes and ends every one of them on leaving the `with` block."""

    def __init__(self) -> None:
        self._started: list[Process] = []

    def start(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        process = Process(command, env=env, cwd=cwd)
        self._started.append(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in reversed(self._started):
            process.close()
