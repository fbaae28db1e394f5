"""The peer's nodes: uvicorn, in processes of their own."""

import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

from bench.peers.watched_sum import STORE_VARIABLE
from tests.harness.polling import eventually_sync
from tests.harness.ports import free_port
from tests.harness.processes import Processes

_APP = "bench.peers.watched_sum:create_app"


class Nodes:
    """Running nodes.

    Attributes:
        ports: Where they listen, on 127.0.0.1.
    """

    def __init__(self, ports: Sequence[int], pids: Sequence[int]) -> None:
        self.ports = ports
        self._pids = pids

    def cpu_seconds(self) -> float:
        """Processor time that they have used so far, together."""
        times = [psutil.Process(pid).cpu_times() for pid in self._pids]
        return float(sum(one.user + one.system for one in times))


@contextmanager
def running_nodes(count: int, store_url: str) -> Iterator[Nodes]:
    """Starts nodes of the peer on a store; nothing stands before them."""
    ports = [free_port() for _ in range(count)]
    with Processes() as processes:
        started = [
            processes.start(
                (
                    *(sys.executable, "-m", "uvicorn", "--factory", _APP),
                    *("--port", str(port), "--loop", "uvloop", "--http", "httptools"),
                    *("--no-access-log", "--log-level", "warning"),
                ),
                env={STORE_VARIABLE: store_url},
            )
            for port in ports
        ]
        for port in ports:
            eventually_sync(lambda port=port: _answers(port), message="the peer's answer")  # type: ignore[misc]
        yield Nodes(ports, [process.pid for process in started])


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False
