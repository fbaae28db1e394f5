"""Fixtures that every level of tests shares."""

import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.harness.local_mesh import LocalMesh, start_mesh
from tests.harness.processes import Processes
from tests.harness.valkey import ValkeyServer
from tests.harness.valkey_cluster import ValkeyCluster

#: How much of what a mesh said is shown beside a failure.
_SHOWN_CHARACTERS = 8_000


#: What computes, kills or looks at a clock, and so wants no other of its kind beside it.
_ALONE = ("browser", "e2e", "faults")


def pytest_configure() -> None:
    """Lets what the tests start hear Ctrl-C, also where they run in a shell's background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has the tests of whole meshes run one after the other, beside the rest."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in _ALONE:
            item.add_marker(pytest.mark.xdist_group("meshes"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows, beside a test's failure, what the mesh that it used has said."""
    report = yield
    # By the end of the last test the shared mesh is gone, and what it has said with it.
    if report.failed and report.when != "teardown":
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, LocalMesh):
                said = value.process.output()[-_SHOWN_CHARACTERS:]
                report.sections.append(("What the mesh said", said))
    return report


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts subprocesses, none of which outlives the test."""
    with Processes() as tracked:
        yield tracked


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="tm-test-") as path:
        yield Path(path)


@pytest.fixture(scope="session")
def mesh() -> Iterator[LocalMesh]:
    """A whole mesh behind Envoy, as a user starts it; shared by all tests that do it no harm."""
    with Processes() as processes, tempfile.TemporaryDirectory(prefix="tm-mesh-") as path:
        # Two slots wherever this runs, so that a count lasts long enough to be watched.
        kernels = [f"--kernels=tests.harness.{name}" for name in ("own_kernels", "bad_kernels")]
        mesh = start_mesh(processes, Path(path), "--ephemeral", "--slots", "1", *kernels)
        yield mesh
        assert mesh.process.stop() == 0
        assert "Traceback" not in mesh.process.output()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """The server that tests share; one that kills or pauses takes `new_valkey` instead."""
    with closing(ValkeyServer()) as server:
        server.start()
        yield server


@pytest.fixture
def store_url(valkey_server: ValkeyServer) -> str:
    """The URL of the shared server, emptied for this test."""
    valkey_server.execute("FLUSHALL")
    return valkey_server.url


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[ValkeyCluster]:
    """The cluster that tests share; one that kills takes one of its own."""
    with closing(ValkeyCluster()) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture
def cluster_url(valkey_cluster: ValkeyCluster) -> str:
    """The URL of the shared cluster, emptied for this test."""
    valkey_cluster.flush()
    return valkey_cluster.url


@pytest.fixture
def new_valkey() -> Iterator[Callable[..., ValkeyServer]]:
    """Starts servers of this test's own: `new_valkey(fsync=True)`; options as of ValkeyServer."""
    with ExitStack() as stack:

        def start(*, appendonly: bool = False, fsync: bool = False) -> ValkeyServer:
            server = ValkeyServer(appendonly=appendonly, fsync=fsync)
            stack.enter_context(closing(server))
            server.start()
            return server

        yield start
