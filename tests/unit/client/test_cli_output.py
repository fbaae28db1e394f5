"""What a command writes where: nothing is lost in silence, and stderr is for people."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from tallymesh.cli.root import root
from tallymesh.v1 import abacus_service_pb2 as abaci
from tallymesh.v1 import dead_letter_service_pb2 as letters
from tallymesh.v1.job_pb2 import Chunk, Job
from tests.unit.client.fake_mesh import FakeMesh, ended, running_job, snapshot, succeeded_job

Run = Callable[..., Result]


@pytest.fixture
def run(mesh: FakeMesh, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("TALLYMESH_ADDRESS", mesh.address)
    return lambda *words: CliRunner().invoke(root, words)


def shell(line: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command by a shell, which may close what it writes on."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {line}', "sh", sys.executable, "-m", "tallymesh", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_result_that_cannot_be_written_is_an_error(mesh: FakeMesh) -> None:
    mesh.streams.append([snapshot(running_job()), ended(succeeded_job())])
    done = shell(">&-", "--address", mesh.address, "primes", "1e10")
    assert done.returncode == 1
    assert "cannot write on stdout: it is closed" in done.stderr
    done = shell(">/dev/full", "--address", mesh.address, "whoami")
    assert done.returncode != 0
    assert "No space left" in done.stderr


def test_who_has_nothing_to_write_needs_no_stdout(mesh: FakeMesh) -> None:
    mesh.streams.append([ended(succeeded_job())])
    done = shell(">&- 2>&-", "--address", mesh.address, "primes", "1e10", "-o", "none")
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("jobs", ("jobs", "list")),
        ("chunks", ("jobs", "chunks", "abc1")),
        ("groups", ("dlq", "list")),
        ("dead_letters", ("dlq", "show")),
        ("abaci", ("abacus", "list")),
        ("entries", ("abacus", "entries", "a")),
    ],
)
def test_a_list_that_is_cut_says_so(
    mesh: FakeMesh, run: Run, key: str, command: tuple[str, ...]
) -> None:
    mesh.listed = [Job(name=f"jobs/j{index}") for index in range(3)]
    mesh.chunks = [Chunk(index=index) for index in range(3)]
    mesh.sums = {
        f"abaci/a{index}": abaci.Sum(name=f"abaci/a{index}", value="0") for index in range(3)
    }
    mesh.entries = [abaci.LedgerEntry() for _ in range(3)]
    mesh.groups = [letters.DeadLetterGroup(name=f"deadLetterGroups/{one}") for one in range(3)]
    mesh.dead_letters = [letters.DeadLetter(name=f"jobs/a/chunks/{one}") for one in range(3)]
    for limit, is_cut in ((2, True), (3, False), (4, False)):
        said = f"there are more than these {limit}; --limit says how many to list\n"
        for form in ("table", "jsonl"):
            done = run(*command, "--limit", str(limit), "-o", form)
            assert done.exit_code == 0, done.output
            assert (said in done.stderr) == is_cut
            assert "there are more" not in done.stdout
        assert len(done.stdout.splitlines()) == min(limit, 3)
        listed = json.loads(run(*command, "--limit", str(limit), "-o", "json").stdout)
        assert (len(listed[key]), listed["truncated"]) == (min(limit, 3), is_cut)
    assert "there are more" not in run(*command, "--limit", "2", "--quiet").stderr


def test_the_doctor_writes_a_line_for_each_check(run: Run) -> None:
    lines = [json.loads(line) for line in run("doctor", "-o", "jsonl").stdout.splitlines()]
    assert len(lines) > 5
    assert all({"check", "status", "detail", "advice"} == line.keys() for line in lines)
    whole = json.loads(run("doctor", "-o", "json").stdout)["findings"]
    assert [one["check"] for one in whole] == [line["check"] for line in lines]


#: Asks a server that speaks no TLS for it, by the library.
ASK = """
from tallymesh import Client, Unreachable
try:
    Client({address!r}, tls=True, timeout=1).whoami()
except Unreachable as error:
    print(error)
"""


@pytest.mark.parametrize("verbosity", ["", "INFO"])
def test_grpc_writes_on_stderr_only_where_the_user_says_so(
    mesh: FakeMesh, monkeypatch: pytest.MonkeyPatch, verbosity: str
) -> None:
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    if verbosity:
        monkeypatch.setenv("GRPC_VERBOSITY", verbosity)
    command = [sys.executable, "-c", ASK.format(address=mesh.address)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert f"cannot connect to {mesh.address}: " in done.stdout
    assert bool(done.stderr) == bool(verbosity), done.stderr
    told = shell("", "--address", f"https://{mesh.address}", "whoami", "--timeout", "1s")
    assert told.returncode == 5
    assert ("Handshake failed" in told.stderr) == bool(verbosity), told.stderr
    assert len(told.stderr.splitlines()) == 1 or verbosity
