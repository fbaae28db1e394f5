"""Ways to the shared mesh."""

from collections.abc import Iterator

import pytest

from tallymesh import Client
from tests.harness.commands import run, tallymesh
from tests.harness.local_mesh import LocalMesh
from tests.harness.rest import Rest


class CommandLine:
    """The command line, told where the shared mesh is."""

    def __init__(self, address: str) -> None:
        self._address = address

    def command(self, *words: str) -> list[str]:
        """A command, to be run."""
        return tallymesh(self._address, *words)

    def output(self, *words: str, timeout: float = 30.0) -> str:
        """What a command writes to stdout, which must end with exit code 0."""
        ended = run(self.command(*words), timeout)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def fail(self, *words: str, code: int) -> str:
        """What a command says, which must end with another exit code and write no data."""
        ended = run(self.command(*words))
        assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stderr


@pytest.fixture
def cli(mesh: LocalMesh) -> CommandLine:
    return CommandLine(mesh.address)


@pytest.fixture
def rest(mesh: LocalMesh) -> Rest:
    return Rest(mesh.address)


@pytest.fixture(scope="module")
def client(mesh: LocalMesh) -> Iterator[Client]:
    with Client(mesh.address) as client:
        yield client
