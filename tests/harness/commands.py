"""Programs as a user runs them from a shell: the command line of Tallymesh, curl, grpcurl."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def tallymesh(address: str, *words: str) -> list[str]:
    """The command line of `tallymesh`, for the mesh at an address."""
    return [sys.executable, "-m", "tallymesh", "--address", address, *words]


def run(command: Sequence[str], timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Starts a command whose output is read while it comes, and ends it in the end."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def json_objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yields JSON objects as soon as each is whole, on one line or indented over several."""
    pending = ""
    for line in lines:
        pending += line
        if line.startswith(("}", "{")) and line.rstrip().endswith("}"):
            yield json.loads(pending)
            pending = ""
