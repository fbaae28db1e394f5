"""Fixtures that every level of tests shares."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from tests.harness.processes import Processes
from tests.harness.valkey import ValkeyServer


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts subprocesses, none of which outlives the test."""
    with Processes() as tracked:
        yield tracked


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
