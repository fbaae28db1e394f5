"""A mesh for users' own tests."""

import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tallymesh.testing import CannotStartMesh, RunningMesh, mesh
from tests.harness.polling import eventually_sync
from tests.harness.processes import Processes

# The one that the quickstart shows.
QUICKSTART = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text()
KERNEL = QUICKSTART.split("```python\n# scoring.py\n")[1].split("```")[0]
CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def tallymesh_kernels():
    return ["scoring"]
"""
TESTS = """
from tallymesh import custom

def test_it(tallymesh_mesh):
    with tallymesh_mesh.client() as client:
        work = custom("acme.score", {"items": ["a", "bb", "ccc"]})
        assert client.run(work, chunks=2) == 6

async def compute(mesh):
    async with mesh.async_client() as client:
        return await client.count_primes(100)

def test_it_awaited(tallymesh_mesh):
    import asyncio

    assert asyncio.run(compute(tallymesh_mesh)) == 25
"""
HOLD = """
import time
from tallymesh.testing import mesh

with mesh() as running, running.client() as client:
    print(client.count_primes(100), flush=True)
    time.sleep(600)
"""


def test_a_user_tests_a_kernel_with_the_fixture(processes: Processes, tmp_path: Path) -> None:
    for name, text in (("scoring", KERNEL), ("conftest", CONFTEST), ("test_mine", TESTS)):
        (tmp_path / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run = processes.start(command, cwd=tmp_path)
    assert run.wait(90) == 0, run.output()
    assert "2 passed" in run.output()


def test_it_dies_with_who_asked_for_it(processes: Processes) -> None:
    holder = processes.start([sys.executable, "-c", HOLD])
    eventually_sync(lambda: "25" in holder.output(), timeout=60, message=holder.output())
    started = psutil.Process(holder.pid).children(recursive=True)
    assert len(started) > 5
    holder.signal(signal.SIGKILL)
    eventually_sync(
        lambda: not [one for one in started if one.is_running() and one.status() != "zombie"],
        timeout=20,
        message="the mesh ending with its holder",
    )


def test_it_outlives_the_thread_that_asked_for_it() -> None:
    with ExitStack() as stack:
        entered: list[RunningMesh] = []
        thread = threading.Thread(target=lambda: entered.append(stack.enter_context(mesh())))
        thread.start()
        thread.join()
        with entered[0].client() as client:
            assert client.count_primes(100) == 25


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(CannotStartMesh, match="no_such_module"), mesh(kernels=["no_such_module"]):
        pass
