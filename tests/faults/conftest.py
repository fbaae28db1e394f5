"""A mesh for each test, to be hurt."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tallymesh import Client
from tests.harness.local_mesh import LocalMesh, start_mesh
from tests.harness.processes import Processes


@pytest.fixture
def mesh(processes: Processes, folder: Path) -> LocalMesh:
    # Two slots wherever this runs, so that a count lasts long enough to be hurt.
    return start_mesh(processes, folder, "--ephemeral", "--slots", "1")


@pytest.fixture
def client(mesh: LocalMesh) -> Iterator[Client]:
    with Client(mesh.address) as client:
        yield client
