"""The mesh in containers, as docker-compose.yml describes it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallymesh import Client, CountPrimes, TallymeshError
from tests.harness.polling import eventually_sync
from tests.harness.ports import free_port
from tests.harness.tools import missing, require

ROOT = Path(__file__).parents[3]
PROJECT = "tallymesh-test"


def docker(*words: str, port: int = 0) -> str:
    """Runs docker in the checkout and returns what it prints."""
    ended = subprocess.run(
        [require("docker"), *words],
        cwd=ROOT,
        env={**os.environ, "TALLYMESH_PORT": str(port)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def port() -> Iterator[int]:
    """The public port of a mesh in containers."""
    try:
        docker("compose", "version")
        docker("info")
    except AssertionError:
        missing("docker compose, with an engine that runs,")
    docker("build", "--network", "host", "--quiet", "--tag", "tallymesh:0.1.0", ".")
    chosen = free_port()
    try:
        docker("compose", "--project-name", PROJECT, "up", "--detach", "--no-build", port=chosen)
        yield chosen
    finally:
        docker("compose", "--project-name", PROJECT, "down", "--volumes", port=chosen)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_containers_count_exactly_while_some_are_killed(port: int) -> None:
    with Client(f"127.0.0.1:{port}") as client:

        def ready() -> bool:
            try:
                return client.health().worker_count == 2
            except TallymeshError:
                return False

        eventually_sync(ready, timeout=60, message="the mesh in containers being ready")
        job = client.submit(
            CountPrimes(stop=10**11, method=CountPrimes.METHOD_SIEVE), abacus="counted"
        )
        eventually_sync(lambda: job.refresh().progress.chunks_done > 10, message="it counting")
        docker("kill", f"{PROJECT}-worker-1", f"{PROJECT}-gateway-1")
        assert job.result(timeout=120) == 4_118_054_813
        eventually_sync(
            lambda: client.abacus("counted").sum == 4_118_054_813, message="the abacus having it"
        )
