"""The programs of the roles: what they answer, and why they do not start."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.processes import Process, Processes
from tests.harness.valkey import ValkeyServer

ROLES = ("gateway", "worker", "abacus")


def run(processes: Processes, role: str, *words: str) -> Process:
    program = f"import sys; from tallymesh_{role}.app import main; sys.exit(main())"
    return processes.start([sys.executable, "-c", program, *words])


@pytest.mark.parametrize("role", ROLES)
def test_help_says_what_it_is_and_where_its_settings_are(processes: Processes, role: str) -> None:
    process = run(processes, role, "--help")
    assert process.wait(20) == 0
    said = process.output()
    assert f"usage: tallymesh-{role}" in said
    assert "docs/configuration.md" in said
    assert "TALLYMESH_LISTEN" in said
    assert ("TALLYMESH_STORE_URL" in said) is (role != "worker")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("word", ["--listen=127.0.0.1:1", "up", "--hel", "-x"])
def test_what_it_does_not_know_is_refused_in_a_sentence(
    processes: Processes, role: str, word: str
) -> None:
    process = run(processes, role, word)
    assert process.wait(20) == 2
    [line] = process.output().splitlines()
    assert line.startswith(f"tallymesh-{role}: {word!r} is no argument")
    assert "TALLYMESH_*" in line


def test_its_version(processes: Processes) -> None:
    process = run(processes, "gateway", "--version")
    assert process.wait(20) == 0
    assert process.output().startswith("tallymesh-gateway ")


@pytest.mark.parametrize("role", ["gateway", "abacus"])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((("requirepass", "secret"),), "TALLYMESH_STORE_URL: the store refuses the login"),
        (
            (("maxmemory", "50mb"), ("maxmemory-policy", "allkeys-lfu")),
            "set `maxmemory-policy noeviction`, or TALLYMESH_STORE_TOLERATE=eviction",
        ),
    ],
    ids=["no password", "evicts"],
)
def test_a_store_that_is_set_wrong_is_no_outage_to_wait_for(
    processes: Processes,
    folder: Path,
    new_valkey: Callable[..., ValkeyServer],
    role: str,
    settings: tuple[tuple[str, str], ...],
    said: str,
) -> None:
    server = new_valkey()
    for name, value in settings:
        server.execute("CONFIG", "SET", name, value)
    process = processes.start(
        [sys.executable, "-m", "tallymesh", role],
        env={"TALLYMESH_STORE_URL": server.url, "TALLYMESH_LISTEN": f"unix:{folder}/role.sock"},
    )
    assert process.wait(30) == 2
    last = process.output().splitlines()[-1]
    assert last.startswith(f"tallymesh {role}: ")
    assert said in last
    assert "Traceback" not in process.output()
