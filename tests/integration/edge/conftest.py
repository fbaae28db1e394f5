"""A real Envoy with the edge's own configuration, in front of stand-ins for the services."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import grpc
import pytest

from tallymesh_edge.config import EdgeConfig, render
from tests.harness.polling import eventually_sync
from tests.harness.ports import free_port
from tests.harness.processes import Process, Processes
from tests.harness.tools import require

PAGE = "<!doctype html><title>Tallymesh</title>"
SCRIPT = "console.log(1)"
#: Whose pages may call, besides this machine's.
ORIGIN = "https://app.example"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read whole."""

    status: int
    headers: Message
    body: bytes


@dataclass(frozen=True)
class Edge:
    """A running edge."""

    port: int
    envoy: Process
    services: Process

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Iterator[HTTPResponse]:
        """Sends one HTTP request and gives the answer, to be read as it comes."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            # The edge answers a request that is too long before it has read all of it.
            with suppress(ConnectionError):
                connection.request(method, path, body, headers or {})
            with connection.getresponse() as response:
                yield response

    def request(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Sends one HTTP request and reads the answer whole."""
        with self.open(method, path, body, headers) as response:
            return Answer(response.status, response.headers, response.read())


def start_edge(processes: Processes, root: Path, **given: Any) -> Edge:
    """Starts two stand-ins and an Envoy before them, and waits until it passes calls on."""
    sockets = [root / "gateway-1.sock", root / "abacus-1.sock"]
    services = processes.start(
        [sys.executable, "-m", "tests.integration.edge.services", *sockets],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    port = free_port()
    config = EdgeConfig(
        gateways=[f"unix:{sockets[0]}"], abaci=[f"unix:{sockets[1]}"], port=port, **given
    )
    path = root / "envoy.yaml"
    path.write_text(render(config))
    envoy = processes.start(
        [
            require("envoy"),
            *("-c", path, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error"),
        ]
    )
    edge = Edge(port, envoy, services)

    def ready() -> bool:
        assert envoy.alive, envoy.output()
        assert services.alive, services.output()
        try:
            with grpc.insecure_channel(edge.address) as channel:
                grpc.channel_ready_future(channel).result(timeout=1)
            return all(
                edge.request("GET", path).status == 200 for path in ("/v1/whoami", "/v1/abaci/a")
            )
        except (OSError, grpc.FutureTimeoutError):
            return False

    eventually_sync(ready, message="the edge passing calls on")
    return edge


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """The edge that this module's tests share, with a page of two files."""
    with Processes() as processes, tempfile.TemporaryDirectory(prefix="tm-edge-") as folder:
        root = Path(folder)
        (root / "page" / "assets").mkdir(parents=True)
        (root / "page" / "index.html").write_text(PAGE)
        (root / "page" / "assets" / "app-1a2b.js").write_text(SCRIPT)
        (root / "page" / "openapi.json").write_text("{}")
        (root / "page" / "docs").mkdir()
        (root / "page" / "docs" / "index.html").write_text(PAGE)
        yield start_edge(processes, root, page=root / "page", origins=[ORIGIN])


@pytest.fixture
def channel(edge: Edge) -> Iterator[grpc.Channel]:
    """A channel to the shared edge."""
    with grpc.insecure_channel(edge.address) as channel:
        yield channel
