"""The command line: data on stdout, the rest on stderr, and an exit code for every end."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from tallymesh import DeadLetter, DeadLetterGroup, LedgerEntry, Sum
from tallymesh.cli import plugins
from tallymesh.cli.root import root
from tallymesh.v1 import errors_pb2
from tallymesh.v1.dispatch_service_pb2 import Worker
from tallymesh.v1.job_pb2 import Chunk, Job
from tallymesh.v1.mesh_service_pb2 import GetHealthResponse, StoreHealth, WorkerHealth
from tallymesh_core.domain import errors as domain
from tallymesh_core.rpc.interceptors import InternalError
from tests.harness.polling import eventually_sync
from tests.unit.client.fake_mesh import (
    NAME,
    REQUEST_ID,
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

    def invoke(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(root, arguments, input=stdin)

    return invoke


def cells(table: str) -> list[list[str]]:
    """The cells of a table's rows, without its headers."""
    return [re.split(r" {2,}", line.strip()) for line in table.splitlines()[1:]]


@pytest.fixture
def start(mesh: FakeMesh) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a command as a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def popen(
        *arguments: str, stderr: int = subprocess.PIPE, stdin: int | None = None
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tallymesh", *arguments],
            env={
                **os.environ,
                "TALLYMESH_ADDRESS": mesh.address,
                "TERM": "xterm",
                "COLUMNS": "120",
            },
            stdin=stdin,
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
    assert (
        f"lost {NAME} ({mesh.address}: connection reset); reattaching\nback on {NAME}\n"
        in done.stderr
    )
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
    ("error", "code", "facts"),
    [
        (domain.InvalidField("name", "X", "a name"), 2, "reason=INVALID_FIELD field=name"),
        (domain.NotFound("jobs/x"), 1, "reason=NOT_FOUND"),
        (domain.JobEnded("jobs/x", "FAILED"), 1, "reason=JOB_ENDED"),
        (domain.BacklogFull("the backlog is full"), 1, "reason=BACKLOG_FULL"),
        (InternalError("request-1"), 1, "reason=INTERNAL"),
    ],
    ids=lambda value: getattr(value, "reason", ""),
)
def test_errors_are_one_line(
    mesh: FakeMesh, run: Run, error: domain.DomainError, code: int, facts: str
) -> None:
    mesh.fail("GetJob", error)
    done = run("jobs", "get", "x")
    line = f"error: {error.message} [{facts} call={REQUEST_ID}]\n"
    assert (done.exit_code, done.stderr) == (code, line)
    assert not done.stdout


def test_a_part_of_the_mesh_that_is_away_exits_5_in_its_own_words(mesh: FakeMesh, run: Run) -> None:
    away = domain.StoreUnavailable()
    away.retry_after = 0.01
    mesh.fail("CheckStore", *[away] * 5, Silence())
    done = run("check-store", "--timeout", "500ms")
    assert (done.exit_code, done.stderr) == (
        5,
        f"error: the store cannot be reached [reason=STORE_UNAVAILABLE call={REQUEST_ID}]\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("primes",),
        ("primes", "many"),
        ("whoami", "--timeout", "0"),
        ("whoami", "--address", "a..b:80"),
        ("abacus", "get", "caf\udce9"),
        ("run", "acme.score", "--json", '{"a":' * 20_000),
        ("primes", "-5"),
        ("primes", "2^64"),
        ("primes", "10^10^10"),
        ("primes", "10", "--form", "3"),
        ("primes", "10", "--chunks", "1e9"),
        ("primes", "10", "--label", "blue"),
        ("primes", "10", "--timeout", "soon"),
        ("primes", "10", "--ttl", "1w"),
        ("primes", "10", "--job-timeout", "-1s"),
        ("primes", "10", "--chunk-timeout", "36501d"),
        ("primes", "10", "--tolerate-failures", "-1"),
        ("primes", "10", "-o", "xml"),
        ("add",),
        ("add", "1", "one"),
        ("add", "1", "--two"),
        ("simulate", "--seed", "-1"),
        ("jobs", "list", "--limit", "0"),
        ("jobs", "list", "--state", "odd"),
        ("jobs", "replay"),
        ("dlq", "show", "--limit", "0"),
        ("dlq", "show", "--reason", "odd"),
        ("dlq", "replay"),
        ("dlq", "replay", "--dry-run"),
        ("dlq", "delete", "--group", ""),
        ("drain",),
        ("whoami", "--address", "ftp://localhost"),
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


def test_how_long_and_how_often_goes_with_the_job(mesh: FakeMesh, run: Run) -> None:
    options = "--max-attempts 2 --tolerate-failures 3 --chunk-timeout 500ms --job-timeout 1.5h"
    done = run("primes", "10", *options.split(), "--ttl", "30d", "--detach")
    assert done.exit_code == 0
    job = mesh.asked("CreateJob")[0].job
    assert (job.max_attempts, job.tolerate_failures) == (2, 3)
    spans = [span.ToTimedelta().total_seconds() for span in (job.chunk_timeout, job.timeout)]
    assert [*spans, job.ttl.seconds] == [0.5, 5400, 30 * 86_400]


def test_what_went_wrong_on_the_way_is_told(mesh: FakeMesh, run: Run) -> None:
    job = succeeded_job(failed_attempts=6)
    job.progress.chunks_failed = 2
    mesh.streams.append([ended(job)])
    done = run("primes", "1e10", "--tolerate-failures", "2")
    assert (done.exit_code, done.stdout) == (0, "455052511\n")
    assert "without 2 chunks given up on the way (6 failed attempts)" in done.stderr
    assert f"tallymesh dlq show --job {NAME}" in done.stderr
    mesh.streams.append([ended(failed_job())])
    assert f"tallymesh jobs replay {NAME}" in run("primes", "10").stderr
    mesh.streams.append([ended(failed_job())])
    elsewhere = run("primes", "10", "--address", mesh.address)
    assert f"tallymesh --address {mesh.address} jobs replay {NAME}" in elsewhere.stderr


def test_jobs_get_tells_how_a_job_was_cancelled(mesh: FakeMesh, run: Run) -> None:
    run("jobs", "cancel", NAME, "--no-wait")
    assert ", being stopped\n" in run("jobs", "get", NAME).stdout
    mesh.job.cancellation.acknowledge_time.FromMilliseconds(1_700_000_001_002)
    mesh.job.cancellation.stop_time.FromMilliseconds(1_700_000_001_150)
    page = run("jobs", "get", NAME).stdout
    assert "acknowledged after 2.0 ms, stopped after 150 ms" in page


def test_jobs_get_tells_of_limits_stages_replays_and_expiry(mesh: FakeMesh, run: Run) -> None:
    mesh.job = failed_job(errors_pb2.ERROR_REASON_JOB_TIMED_OUT)
    job = mesh.job
    job.error.chunk = -1
    job.error.worker = ""
    job.max_attempts, job.tolerate_failures, job.epoch = 3, 2, 2
    job.progress.chunks_failed = 1
    job.chunk_timeout.FromMilliseconds(1500)
    job.timeout.FromSeconds(600)
    job.stages.waiting.FromMilliseconds(250)
    job.stages.computing.FromMilliseconds(1200)
    job.expire_time.FromSeconds(1_700_604_800)
    replay = job.replays.add(epoch=2, chunks=3)
    replay.error.message = "out of luck"
    replay.error.chunk = 5
    page = run("jobs", "get", NAME).stdout
    told = dict(line.split(maxsplit=1) for line in page.splitlines())
    assert told["error"] == "no such luck"
    assert told["limits"] == (
        "3 attempts a chunk, 2 chunks may fail, 1.50 s an attempt, 10 min 00 s in all"
    )
    assert told["progress"].endswith("25.0%, 1 given up")
    assert told["stages"] == "waiting 250 ms, computing 1.20 s"
    assert told["epoch"] == "2"
    assert told["replayed"].endswith("epoch 2, 3 chunks; had failed: out of luck (chunk 5)")
    assert told["expires"].startswith("2023-11-2")


def test_jobs_chunks_tells_times_and_errors(mesh: FakeMesh, run: Run) -> None:
    done = Chunk(index=7, state=Chunk.STATE_DONE, worker="worker-1", attempt=2)
    done.refused_duplicates = 1
    done.lease_time.FromMilliseconds(1_700_000_000_000)
    done.start_time.FromMilliseconds(1_700_000_000_003)
    done.commit_time.FromMilliseconds(1_700_000_000_053)
    lost = Chunk(index=8, state=Chunk.STATE_FAILED, attempt=4)
    lost.error.message = "no such luck"
    lost.error.chunk = 8
    mesh.chunks = [done, lost]
    first, second = cells(run("jobs", "chunks", NAME).stdout)
    assert first[:4] == ["7", "DONE", "worker-1", "2"]
    assert first[5:] == ["+3.0 ms", "+53 ms", "50 ms", "1"]
    assert second[:4] == ["8", "FAILED", "-", "4"]
    assert second[-1] == "no such luck (chunk 8)"


def test_jobs_replay(mesh: FakeMesh, run: Run) -> None:
    mesh.job = failed_job()
    mesh.job.epoch = 1
    assert run("jobs", "replay", NAME).stdout == f"{NAME} runs again, epoch 2\n"
    mesh.fail("ReplayJob", domain.JobEnded(NAME, "SUCCEEDED"))
    assert run("jobs", "replay", NAME).exit_code == 1


def test_dlq_lists_and_shows(mesh: FakeMesh, run: Run) -> None:
    failed: Any = {"kernel": "add", "reason": errors_pb2.ERROR_REASON_CHUNK_FAILED}
    mesh.groups = [
        DeadLetterGroup(
            name="deadLetterGroups/0123456789ab", count=3, message="no\nluck " * 20, **failed
        )
    ]
    mesh.dead_letters = [
        DeadLetter(name=f"{NAME}/chunks/{index}", failed_attempts=4, message="no luck", **failed)
        for index in range(5)
    ]
    [group] = cells(run("dlq", "list").stdout)
    assert group[:4] == ["0123456789ab", "3", "add", "CHUNK_FAILED"]
    assert group[-1].startswith("no luck no luck")
    assert len(group[-1]) == 80
    shown = cells(run("dlq", "show", "0123456789ab", "--reason", "chunk_failed").stdout)
    assert [letter[0] for letter in shown] == [f"{NAME}/chunks/{index}" for index in range(5)]
    assert shown[0][1:6] == ["CHUNK_FAILED", "-", "4", "0", "0"]
    [request] = mesh.asked("ListDeadLetters")
    assert request.filter.group == "deadLetterGroups/0123456789ab"
    assert request.filter.reason == errors_pb2.ERROR_REASON_CHUNK_FAILED
    lines = run("dlq", "show", "--limit", "2", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["chunk"] for line in lines] == ["0", "0"]
    assert len(json.loads(run("dlq", "list", "-o", "json").stdout)["groups"]) == 1


def test_dlq_replays_and_deletes(mesh: FakeMesh, run: Run) -> None:
    done = run("dlq", "replay", "--group", "0123456789ab", "--kernel", "add")
    assert done.stdout == (
        f"3 dead letters run again, 1 of jobs that have ended otherwise stay\n  {NAME}\n"
    )
    [request] = mesh.asked("ReplayDeadLetters")
    assert (request.filter.kernel, request.validate_only) == ("add", False)
    done = run("dlq", "delete", "abc1/chunks/3", "--dry-run", "--reason", "chunk_failed")
    assert done.stdout == "4 dead letters would be deleted\n"
    [deletion] = mesh.asked("DeleteDeadLetters")
    assert list(deletion.filter.names) == [f"{NAME}/chunks/3"]
    assert deletion.validate_only
    answer = json.loads(run("dlq", "replay", "--job", NAME, "-o", "json").stdout)
    assert (answer["replayed"], answer["jobs"]) == ("3", [NAME])


def test_drain(mesh: FakeMesh, run: Run) -> None:
    assert run("drain", "worker-1").stdout == "worker-1 is draining (u1, u2)\n"
    assert mesh.asked("DrainWorker")[0].name == "workers/worker-1"


def test_jobs_get_chunks_and_cancel(mesh: FakeMesh, run: Run) -> None:
    page = run("jobs", "get", "abc1").stdout
    assert "count primes from 0 to 10000000000" in page
    assert "2 of 8 chunks, 25.0%" in page
    mesh.chunks = [Chunk(index=7, state=Chunk.STATE_DONE, worker="worker-1", attempt=2)]
    table = run("jobs", "chunks", NAME).stdout
    assert cells(table) == [["7", "DONE", "worker-1", "2", *"-----"]]
    assert run("jobs", "cancel", "abc1", "--no-wait").stdout == f"{NAME} is cancelled\n"
    slow = run("jobs", "cancel", "abc1", "--timeout", "100ms")
    assert slow.exit_code == 4
    assert slow.stderr == f"error: {NAME} is cancelled, but its chunks did not stop in 0.1 s\n"
    mesh.job.cancellation.stop_time.FromMilliseconds(1_700_000_001_120)
    said = run("jobs", "cancel", "abc1").stdout
    assert said == f"{NAME} is cancelled, and stopped after 120 ms\n"


def test_abacus_commands(mesh: FakeMesh, run: Run) -> None:
    mesh.sums["abaci/beans"] = Sum(name="abaci/beans", value="12.5")
    assert run("abacus", "get", "beans").stdout == "12.5\n"
    assert run("abacus", "reset", "abaci/beans").stdout == "12.5\n"
    mesh.streams.append([Sum(value="1", version=1), Sum(value="2", version=2), Silence()])
    watched = run("abacus", "watch", "beans", "--timeout", "200ms")
    assert (watched.exit_code, watched.stdout) == (4, "1\n2\n")
    mesh.sums["abaci/peas"] = Sum(name="abaci/peas", value="-7", add_count=3)
    assert cells(run("abacus", "list").stdout) == [
        ["beans", "12.5", "0", "-"],
        ["peas", "-7", "3", "-"],
    ]
    assert len(run("abacus", "list", "--limit", "1", "-o", "jsonl").stdout.splitlines()) == 1
    assert run("abacus", "delete", "peas").stdout == "-7\n"
    gone = run("abacus", "delete", "peas")
    assert (gone.exit_code, "abaci/peas does not exist" in gone.stderr) == (1, True)


def test_entries_of_an_abacus(mesh: FakeMesh, run: Run) -> None:
    kind = LedgerEntry
    mesh.entries = [
        LedgerEntry(kind=kind.KIND_RESET, amount="-5.5", principal="ada", initiated_by="abacus-1"),
        LedgerEntry(kind=kind.KIND_BATCH, amount="5.5", add_count=9, stream_id="s"),
    ]
    listed = run("abacus", "entries", "beans")
    assert cells(listed.stdout)[0] == ["-", "reset", "-5.5", "0", "ada", "abacus-1", "-"]
    assert [cells(listed.stdout)[1][at] for at in (1, 2, 3, -1)] == ["batch", "5.5", "9", "s"]
    [asked] = mesh.asked("ListEntries")
    assert asked.parent == "abaci/beans"


def test_several_amounts_are_one_change(mesh: FakeMesh, run: Run) -> None:
    assert run("abacus", "add", "beans", "42", "0.1", "-7").stdout == "35.1\n"
    [[message]] = mesh.asked("AddNumbers")
    assert (message.name, list(message.decimals)) == ("abaci/beans", ["42", "0.1", "-7"])
    again = [run("abacus", "add", "beans", "1", "2", "--request-id", "r") for _ in range(2)]
    assert [one.exit_code for one in again] == [0, 0]
    assert "counted before" in again[1].stderr
    assert not again[0].stderr


@pytest.mark.parametrize(
    "arguments", [[], ["--stdin", "5"], ["1", "2", "--expected-etag", "1-1"], ["--stdin", "1e"]]
)
def test_wrong_uses_of_add(mesh: FakeMesh, run: Run, arguments: list[str]) -> None:
    assert run("abacus", "add", "beans", *arguments).exit_code == 2
    assert not mesh.calls


def test_numbers_on_stdin(mesh: FakeMesh, run: Run) -> None:
    done = run("abacus", "add", "beans", "--stdin", stdin="1\n-2\n\n 0.5 \n10_000\n2**70\n3")
    assert done.stdout == f"{2**70 + 10_002}.5\n"
    [first], [second] = mesh.asked("AddNumbers")
    assert (list(first.numbers), len(first.decimals)) == ([1, -2], 3)
    assert list(second.numbers) == [3]


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        ("\nNaN", "line 2 of stdin: 'NaN' is not a number"),
        ("1e5000\n", "line 1 of stdin: '1e5000' has more than 4,096 digits"),
        ("1" * 100_000, "line 1 of stdin is too long"),
        ("\n\x00\n", "line 2 of stdin"),
    ],
)
def test_a_bad_line_is_named(mesh: FakeMesh, run: Run, stdin: str, said: str) -> None:
    done = run("abacus", "add", "beans", "--stdin", stdin=stdin)
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize("options", [(), ("--request-id", "beans-1")])
def test_what_was_added_before_a_bad_line_is_told(
    mesh: FakeMesh, run: Run, options: tuple[str, ...]
) -> None:
    done = run("abacus", "add", "beans", "--stdin", *options, stdin="1\n2\nmany\n4\n")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "line 3 of stdin: 'many' is not a number" in done.stderr
    assert "added before it: 2 numbers, for a sum of 3" in done.stderr


def test_numbers_on_stdin_are_added_as_they_come(
    mesh: FakeMesh, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = start("abacus", "add", "beans", "--stdin", stdin=subprocess.PIPE)
    assert process.stdin is not None
    for number in (1, 2):
        process.stdin.write(b"%d\n" % number)
        process.stdin.flush()
        eventually_sync(lambda number=number: len(mesh.asked("AddNumbers")) == number)  # type: ignore[misc]
    assert process.communicate(timeout=10)[0] == b"3\n"


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


def test_status_and_doctor_tell_what_primes_are_counted_with(mesh: FakeMesh, run: Run) -> None:
    wheel, numpy = "libprimesieve 12.9 (wheel): newer than 11.0 (system)", "numpy 2.4: no other"
    for sieves, told in (
        ((wheel, wheel), {wheel}),
        ((wheel, numpy), {f"{wheel} (on w0)", f"{numpy} (on w1)"}),
        ((wheel, wheel, numpy), {f"{wheel} (on 2 of 3 workers)", f"{numpy} (on w2)"}),
        (("",), set()),
    ):
        workers = [
            Worker(name=f"w{i}", libraries=[sieve] if sieve else [])
            for i, sieve in enumerate(sieves)
        ]
        mesh.health = GetHealthResponse(
            status=GetHealthResponse.STATUS_HEALTHY,
            workers=[WorkerHealth(worker=worker) for worker in workers],
        )
        for command, mark in (("status", r"library +"), ("doctor", "ok    library: ")):
            shown = re.findall(rf"^{mark}(.*)$", run(command).stdout, re.MULTILINE)
            assert (set(shown), len(shown)) == (told, len(told))


def test_status_and_doctor_tell_what_ails_the_store(mesh: FakeMesh, run: Run) -> None:
    said = "the store has evicted 7 keys"
    mesh.health = GetHealthResponse(
        status=GetHealthResponse.STATUS_DEGRADED,
        problems=[said],
        store=StoreHealth(connected=True, problems=[said], evicted_key_count=7),
    )
    status, doctor = run("status"), run("doctor")
    assert (status.exit_code, doctor.exit_code) == (1, 1)
    assert re.search(rf"^mesh +DEGRADED\nproblem +{said}$", status.stdout, re.MULTILINE)
    assert ", 7 evicted, " in status.stdout
    assert f"fail  store: {said}" in doctor.stdout


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
    last = succeeded_job()
    last.progress.chunks_failed = 1
    mesh.streams.append([snapshot(running_job()), ended(last)])
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
    assert b"/8 chunks  1 given up" in shown
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
    monkeypatch.setattr("tallymesh.display._FIRST_LINE_SECONDS", 0.0)
    running = running_job()
    running.progress.chunks_failed, running.progress.chunks_retrying = 1, 3
    mesh.streams.append([snapshot(running), delta(4), ended(succeeded_job())])
    done = run("primes", "1e10")
    lines = [line for line in done.stderr.splitlines() if line.startswith(f"{NAME}: ")]
    assert lines == [f"{NAME}: 2/8 chunks (25.0%), 1 given up, 3 retrying, 2 workers"]
