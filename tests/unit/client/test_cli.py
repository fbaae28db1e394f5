"""The command line: data on stdout, the rest on stderr, and an exit code for every end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints

import click
import pytest
from click.testing import CliRunner, Result

from tallymesh import Sum
from tallymesh.cli import plugins
from tallymesh.cli.root import root
from tallymesh.v1.job_pb2 import Chunk, Job
from tallymesh.v1.mesh_service_pb2 import GetHealthResponse
from tallymesh_core.domain import errors as domain
from tallymesh_core.rpc.interceptors import InternalError
from tests.unit.client.fake_mesh import (
    NAME,
    Cut,
    FakeMesh,
    Silence,
    cancelled_job,
    delta,
    ended,
    failed_job,
    running_job,
    snapshot,
    succeeded_job,
)

Run = Callable[..., Result]


@pytest.fixture
def run(mesh: FakeMesh, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in process against the fake mesh."""
    monkeypatch.setenv("TALLYMESH_ADDRESS", mesh.address)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(root, arguments)

    return invoke


@pytest.fixture
def start(mesh: FakeMesh) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a command as a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def popen(*arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tallymesh", *arguments],
            env={
                **os.environ,
                "TALLYMESH_ADDRESS": mesh.address,
                "TERM": "xterm",
                "COLUMNS": "120",
            },
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        process.kill()
        process.communicate()


def test_primes_prints_the_bare_count_and_a_summary_beside_it(mesh: FakeMesh, run: Run) -> None:
    mesh.streams.append([snapshot(running_job()), ended(succeeded_job(failed_attempts=1))])
    done = run("primes", "1e10", "--chunks", "8", "--label", "team=blue")
    assert (done.exit_code, done.stdout) == (0, "455052511\n")
    assert "455,052,511 primes from 0 to 10,000,000,000 in 1.50 s" in done.stderr
    assert "8 chunks, by worker-1 5, worker-2 3" in done.stderr
    assert "waited 250 ms, ran 1.25 s" in done.stderr
    assert "accepted by gateway-1" in done.stderr
    assert "1 failed attempt" in done.stderr
    [request] = mesh.asked("CreateJob")
    assert request.job.work.count_primes.stop == 10**10
    assert request.job.chunk_count == 8
    assert dict(request.job.labels) == {"team": "blue"}


def test_primes_as_json_is_one_job(mesh: FakeMesh, run: Run) -> None:
    mesh.streams.append([snapshot(running_job()), ended(succeeded_job())])
    done = run("primes", "1e10", "-o", "json")
    job = json.loads(done.stdout)
    assert job["result"]["count_primes"]["count"] == "455052511"
    assert job["state"] == "STATE_SUCCEEDED"
    assert job["handled_by"] == {"worker-1": "5", "worker-2": "3"}


def test_primes_as_jsonl_is_one_event_a_line(mesh: FakeMesh, run: Run) -> None:
    mesh.streams.append(
        [snapshot(running_job()), delta(4, failed_attempts=1), ended(succeeded_job())]
    )
    done = run("-o", "jsonl", "primes", "1e10")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [next(key for key in event if key != "version") for event in events] == [
        "snapshot",
        "delta",
        "ended",
    ]


@pytest.mark.parametrize(
    ("last", "code", "said"),
    [
        (succeeded_job(), 0, "primes from"),
        (failed_job(), 1, "error: jobs/abc1 failed: no such luck (chunk 3, on worker-2)"),
        (cancelled_job(), 3, "jobs/abc1 was cancelled"),
    ],
    ids=["succeeded", "failed", "cancelled"],
)
@pytest.mark.parametrize("command", [("primes", "10"), ("jobs", "watch", "abc1")])
def test_the_exit_code_is_how_the_job_ended(
    mesh: FakeMesh, run: Run, last: Job, code: int, said: str, command: tuple[str, ...]
) -> None:
    mesh.streams.extend([[snapshot(running_job()), Cut()], [ended(last)]])
    done = run(*command)
    assert done.exit_code == code
    assert said in done.stderr
    assert f"lost {NAME} (connection reset); reattaching\nback on {NAME}\n" in done.stderr
    assert bool(done.stdout) == (code == 0)


def test_a_wait_that_is_too_long_exits_4_and_says_how_to_go_on(mesh: FakeMesh, run: Run) -> None:
    mesh.streams.append([snapshot(running_job()), Silence()])
    done = run("primes", "10", "--timeout", "200ms")
    assert done.exit_code == 4
    assert "tallymesh jobs watch jobs/abc1" in done.stderr
    assert not mesh.asked("CancelJob")


def test_nobody_there_exits_5_with_a_hint(run: Run) -> None:
    done = run("--address", "localhost:1", "status")
    assert done.exit_code == 5
    assert done.stderr.startswith("error: no mesh answers at localhost:1 (")
    assert done.stderr.endswith("start one with: tallymesh up\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (domain.InvalidField("name", "X", "a name"), 2),
        (domain.NotFound("jobs/x"), 1),
        (domain.JobEnded("jobs/x", "FAILED"), 1),
        (domain.BacklogFull("the backlog is full"), 1),
        (InternalError("c0ffee"), 1),
    ],
    ids=lambda value: getattr(value, "reason", ""),
)
def test_errors_are_one_line(
    mesh: FakeMesh, run: Run, error: domain.DomainError, code: int
) -> None:
    mesh.fail("GetJob", error)
    done = run("jobs", "get", "x")
    assert (done.exit_code, done.stderr) == (code, f"error: {error.message}\n")
    assert not done.stdout


def test_a_part_of_the_mesh_that_is_away_exits_5_in_its_own_words(mesh: FakeMesh, run: Run) -> None:
    away = domain.StoreUnavailable()
    away.retry_after = 0.01
    mesh.fail("CheckStore", *[away] * 5)
    done = run("check-store")
    assert (done.exit_code, done.stderr) == (5, "error: the store cannot be reached\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("primes",),
        ("primes", "many"),
        ("primes", "-5"),
        ("primes", "2^64"),
        ("primes", "10^10^10"),
        ("primes", "10", "--form", "3"),
        ("primes", "10", "--chunks", "1e9"),
        ("primes", "10", "--label", "blue"),
        ("primes", "10", "--timeout", "soon"),
        ("primes", "10", "-o", "xml"),
        ("add",),
        ("add", "1", "one"),
        ("add", "1", "--two"),
        ("simulate", "--seed", "-1"),
        ("jobs", "list", "--limit", "0"),
        ("jobs", "list", "--state", "odd"),
        ("whoami", "--address", "https://localhost"),
        ("primes", "10", "--chunk", "5"),
        ("prime", "10"),
        ("nonsense",),
    ],
    ids=" ".join,
)
def test_wrong_use_exits_2_without_a_call(
    mesh: FakeMesh, run: Run, arguments: tuple[str, ...]
) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert "rror: " in done.stderr
    assert "Traceback" not in done.output
    assert not mesh.calls


def test_an_unexpected_error_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("tallymesh.cli.options.Settings.connect", burst)
    done = run("whoami")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: unexpected RuntimeError: boom")
    assert done.stderr.count("\n") == 1


def test_negative_numbers_are_arguments(mesh: FakeMesh, run: Run) -> None:
    mesh.streams.append([ended(succeeded_job())])
    assert run("add", "-5", "3", "-0.5", "-1e3", "-o", "json").exit_code == 0
    assert list(mesh.asked("CreateJob")[0].job.work.add.numbers) == ["-5", "3", "-0.5", "-1e3"]
    assert run("abacus", "add", "x", "-5").stdout == "-5\n"
    assert mesh.asked("AddNumber")[0].decimal == "-5"


def test_detach_prints_the_name_and_how_to_come_back(mesh: FakeMesh, run: Run) -> None:
    done = run("--address", mesh.address, "simulate", "--duration", "1.5s", "--detach")
    assert (done.exit_code, done.stdout) == (0, f"{NAME}\n")
    assert f"tallymesh --address {mesh.address} jobs watch {NAME}" in done.stderr
    assert mesh.asked("CreateJob")[0].job.work.simulate.duration.ToMilliseconds() == 1500


def test_primes_waits_for_its_abacus(mesh: FakeMesh, run: Run) -> None:
    mesh.streams.append([ended(succeeded_job(abacus="abaci/beans"))])
    mesh.job = succeeded_job()
    mesh.job.abacus_posting.sum = "1455052511"
    mesh.job.abacus_posting.post_time.GetCurrentTime()
    done = run("primes", "1e10", "--abacus", "beans")
    assert done.stdout == "455052511\n"
    assert "abaci/beans is now 1,455,052,511" in done.stderr
    assert mesh.asked("CreateJob")[0].job.abacus == "abaci/beans"


def test_jobs_list(mesh: FakeMesh, run: Run) -> None:
    mesh.listed = [succeeded_job(), running_job()]
    done = run("jobs", "list", "--state", "running", "--limit", "5")
    header, first, second = done.stdout.splitlines()
    assert header.split()[:3] == ["NAME", "STATE", "KERNEL"]
    assert first.split()[:6] == [NAME, "SUCCEEDED", "count_primes", "default", "8/8", "100%"]
    assert header.index("STATE") == first.index("SUCCEEDED") == second.index("RUNNING")
    assert "\x1b" not in done.stdout
    assert len(json.loads(run("jobs", "list", "-o", "json").stdout)["jobs"]) == 2
    lines = run("jobs", "list", "-o", "jsonl", "--limit", "1").stdout.splitlines()
    assert [json.loads(line)["name"] for line in lines] == [NAME]


def test_jobs_get_chunks_and_cancel(mesh: FakeMesh, run: Run) -> None:
    page = run("jobs", "get", "abc1").stdout
    assert "count primes from 0 to 10000000000" in page
    assert "2 of 8 chunks, 25.0%" in page
    mesh.chunks = [Chunk(index=7, state=Chunk.STATE_DONE, worker="worker-1", attempt=2)]
    table = run("jobs", "chunks", NAME).stdout
    assert table.splitlines()[1].split() == ["7", "DONE", "worker-1", "2", "-", "-"]
    assert run("jobs", "cancel", "abc1").stdout == f"{NAME} is cancelled\n"


def test_abacus_commands(mesh: FakeMesh, run: Run) -> None:
    mesh.sums["abaci/beans"] = Sum(name="abaci/beans", value="12.5")
    assert run("abacus", "get", "beans").stdout == "12.5\n"
    assert run("abacus", "reset", "abaci/beans").stdout == "12.5\n"
    mesh.streams.append([Sum(value="1", version=1), Sum(value="2", version=2), Silence()])
    watched = run("abacus", "watch", "beans", "--timeout", "200ms")
    assert (watched.exit_code, watched.stdout) == (4, "1\n2\n")


def test_status_tells_of_trouble_and_exits_by_it(mesh: FakeMesh, run: Run) -> None:
    assert run("status").exit_code == 0
    mesh.health = GetHealthResponse(
        status=GetHealthResponse.STATUS_DEGRADED, problems=["no worker is alive"]
    )
    done = run("status")
    assert done.exit_code == 1
    assert "DEGRADED" in done.stdout
    assert "no worker is alive" in done.stdout
    assert json.loads(run("status", "-o", "json").stdout)["status"] == "STATUS_DEGRADED"


def test_whoami_and_check_store(run: Run) -> None:
    assert "gateway-1, version 0.1.0" in run("whoami").stdout
    assert "0.4 ms" in run("check-store").stdout


def test_commands_of_other_distributions_join(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = EntryPoints(
        EntryPoint(name, f"{__name__}:{attribute}", "tallymesh.commands")
        for name, attribute in (
            ("up", "joining"),
            ("abacus_node", "joining"),
            ("demo", "missing"),
            ("node", "NAME"),
        )
    )
    monkeypatch.setattr(plugins, "entry_points", lambda group: installed.select(group=group))
    help_text = run("--help").stdout
    assert "Joins the mesh." in help_text
    assert "abacus-node" not in help_text
    assert (run("up").exit_code, run("up").stdout) == (7, "joined\n")
    assert (run("abacus").exit_code, run("abacus").stdout) == (7, "joined\n")
    for name in ("demo", "node"):
        broken = run(name, "--workers", "2")
        assert broken.exit_code == 1
        assert broken.stderr.startswith(f"error: {name} cannot be loaded: ")


def test_commands_that_are_not_installed_say_what_is_missing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints())
    done = run("up")
    assert done.exit_code == 2
    assert "install the distribution `tallymesh`" in done.stderr
    alone = run("abacus")
    assert alone.exit_code == 2
    assert "abacus [OPTIONS] [COMMAND]" in alone.stdout


@click.command()
def joining() -> int:
    """Joins the mesh."""
    click.echo("joined")
    return 7


def test_help_needs_no_grpc() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from tallymesh.cli.root import root;"
        "assert CliRunner().invoke(root, ['primes', '--help']).exit_code == 0;"
        "sys.exit(any(name in sys.modules for name in ('grpc', 'google.protobuf', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_first_ctrl_c_detaches(
    mesh: FakeMesh, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    mesh.streams.append([snapshot(running_job()), Silence()])
    process = start("primes", "1e10", "-o", "jsonl")
    assert process.stdout
    assert b"snapshot" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 0
    assert b"tallymesh jobs watch jobs/abc1" in stderr
    assert not mesh.asked("CancelJob")


def test_the_second_ctrl_c_cancels(
    mesh: FakeMesh, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    mesh.streams.append([snapshot(running_job()), Silence()])
    process = start("primes", "1e10", "-o", "jsonl")
    assert process.stdout
    assert process.stderr
    assert b"snapshot" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    while b"press Ctrl-C again" not in (line := process.stderr.readline()):
        assert line, "it ended without a word"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 3
    assert mesh.asked("CancelJob")[0].name == NAME
    assert b"Traceback" not in process.stderr.read()


def test_a_terminal_gets_a_live_bar(
    mesh: FakeMesh, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    mesh.streams.append([snapshot(running_job()), ended(succeeded_job())])
    parent, child = os.openpty()
    try:
        process = start("primes", "1e10", stderr=child)
        os.close(child)
        shown = b""
        try:
            while block := os.read(parent, 4096):
                shown += block
        except OSError:  # how a terminal tells that nobody is left at its other end
            pass
        assert process.wait(timeout=20) == 0
    finally:
        os.close(parent)
    assert b"/8 chunks" in shown
    assert b"455,052,511 primes" in shown


def test_a_reader_that_has_had_enough_ends_it_quietly(
    mesh: FakeMesh, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    mesh.streams.append([Sum(value=str(number), version=number) for number in range(1, 2000)])
    process = start("abacus", "watch", "beans")
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == b"1\n"
    process.stdout.close()
    assert process.wait(timeout=20) == 0
    assert process.stderr.read() == b""
    process.stdout = None


def test_a_line_every_few_seconds_where_there_is_no_terminal(
    mesh: FakeMesh, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh.cli.progress._FIRST_LINE_SECONDS", 0.0)
    mesh.streams.append([snapshot(running_job()), delta(4), ended(succeeded_job())])
    done = run("primes", "1e10")
    lines = [line for line in done.stderr.splitlines() if line.startswith(f"{NAME}: ")]
    assert lines == [f"{NAME}: 2/8 chunks (25.0%), 2 workers"]
