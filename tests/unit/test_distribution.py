"""What is installed carries everything that it opens at run time."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]


def wheel_contents(folder: Path, out: Path) -> set[str]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def sources(folder: str, *patterns: str) -> set[str]:
    """The paths below `folder` that match, relative to it."""
    root = ROOT / folder
    return {str(path.relative_to(root)) for pattern in patterns for path in root.rglob(pattern)}


@pytest.fixture(scope="module")
def server_wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return wheel_contents(ROOT, tmp_path_factory.mktemp("server"))


@pytest.mark.parametrize(
    "service", sorted(path.parent.name for path in (ROOT / "services").glob("*/tallymesh_*"))
)
def test_the_wheel_carries_each_service_and_its_data(service: str, server_wheel: set[str]) -> None:
    expected = sources(f"services/{service}", "*.py", "py.typed", "*.lua", "*.binpb", "*.yaml")
    assert expected
    assert expected <= server_wheel


def test_the_wheel_carries_the_page(server_wheel: set[str]) -> None:
    page = sources("clients/web/dist", "*.*")
    assert "index.html" in page
    assert {f"tallymesh_edge/page/{name}" for name in page} <= server_wheel


def test_the_client_carries_its_retry_policy_and_no_service(tmp_path: Path) -> None:
    contents = wheel_contents(ROOT / "clients" / "python", tmp_path)
    assert {"tallymesh/v1/service_config.json", "tallymesh/py.typed"} <= contents
    own = ("tallymesh/", "tallymesh_client-")
    assert not [name for name in contents if not name.startswith(own)]
