"""Fixtures for the client: a mesh that does as it is told, and a client of it."""

from collections.abc import Iterator

import pytest

from tallymesh import Client, Limits
from tests.unit.client.fake_mesh import FakeMesh

#: Short enough for tests to wait for.
QUICK = Limits(silence=0.3, opening=0.5, patience=1.0, first_delay=0.01, longest_delay=0.05)


@pytest.fixture
def mesh() -> Iterator[FakeMesh]:
    fake = FakeMesh()
    yield fake
    fake.close()


@pytest.fixture
def client(mesh: FakeMesh) -> Iterator[Client]:
    with Client(mesh.address, limits=QUICK) as connected:
        yield connected
