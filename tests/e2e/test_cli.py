"""The command line, each command as a user runs it."""

import json
import re
import signal
import subprocess
from uuid import uuid4

import pytest

from tallymesh import Client, Job, JobFailed, NotFound, Simulate
from tallymesh_kernels import describe_libraries
from tests.e2e.conftest import CommandLine
from tests.harness.commands import run, running
from tests.harness.polling import eventually_sync

ONE_HOUR = ("--duration", "1h")


def test_the_mesh_tells_of_itself(cli: CommandLine) -> None:
    status = cli.output("status")
    assert "HEALTHY" in status
    assert "worker-1" in status
    assert "worker-2" in status
    for line in describe_libraries():
        assert line in status
    assert "gateway-1" in cli.output("whoami")
    assert "round trip" in cli.output("check-store")


def test_a_count_is_bare_on_stdout_and_explained_on_stderr(cli: CommandLine) -> None:
    ended = run(cli.command("primes", "1_000_000", "--from", "10", "--chunks", "4"))
    assert (ended.returncode, ended.stdout) == (0, "78494\n")
    assert "78,494 primes from 10 to 1,000,000" in ended.stderr
    assert "4 chunks" in ended.stderr
    assert "accepted by gateway-1, answered by gateway-1" in ended.stderr


def test_numbers_are_added_exactly(cli: CommandLine) -> None:
    assert cli.output("add", "0.1", "0.2", "-5", "1e30", "2**40") == (
        "1000000000000000001099511627771.3\n"
    )


def test_a_computation_without_a_job(cli: CommandLine) -> None:
    ended = run(cli.command("compute", "primes", "1e6"))
    assert (ended.returncode, ended.stdout) == (0, "78498\n")
    assert re.search(r"computed by worker-[12] in .*, without a job", ended.stderr)
    assert cli.output("compute", "add", "0.1", "-5") == "-4.9\n"
    lines = cli.output("compute", "simulate", "--duration", "300ms", "-o", "jsonl").splitlines()
    told = [json.loads(line) for line in lines]
    assert told[0]["fraction"] == 0
    assert told[-1]["result"]["simulate"]["chunks"] == "1"
    slow = ("compute", "simulate", *ONE_HOUR, "--timeout", "500ms")
    assert "in time" in cli.fail(*slow, code=4)
    said = cli.fail("compute", "simulate", "--failure-rate", "1", code=1)
    assert "reason=CHUNK_FAILED" in said
    assert "reason=NO_WORKER" in cli.fail("compute", "add", "1", "--queue", "nobodys", code=1)
    assert "No such option" in cli.fail("compute", "add", "1", "--detach", code=2)
    assert cli.output("compute", "run", "acme.squares", "--json", '{"n": 10}') == "285\n"


def test_why_a_job_is_as_it_is(cli: CommandLine, client: Client) -> None:
    waiting = cli.output("add", "1", "--queue", "nobodys", "--detach").strip()
    said = cli.output("jobs", "why", waiting)
    assert "is PENDING" in said
    assert "It does not run: no live worker serves kernel add" in said
    assert "tallymesh worker --queues nobodys" in said
    cli.output("jobs", "cancel", waiting)
    assert "ended as CANCELLED" in cli.output("jobs", "why", waiting)

    failing = ("simulate", "--failure-rate", "1", "--max-attempts", "1", "--chunks", "1")
    name = cli.fail(*failing, code=1).split("jobs replay ")[1].strip()
    why = json.loads(cli.output("jobs", "why", name, "-o", "json"))["why"]
    assert any(line.startswith("CHUNK_FAILED: simulated failure") for line in why)
    assert any(line.startswith(f"Dead letter {name}/chunks/0") for line in why)
    again = f"tallymesh --address {client.address} jobs replay {name}"
    assert why[-1] == f"Run what failed again: {again}"
    cli.output("dlq", "delete", "--job", name)


def test_why_a_chunk_is_tried_again(cli: CommandLine, client: Client) -> None:
    failing = ("simulate", "--failure-rate", "1", "--max-attempts", "20", "--chunks", "1")
    name = cli.output(*failing, "--detach").strip()
    why = "Chunk 0 waits to be tried again: failed: simulated failure of chunk 0 in attempt"
    eventually_sync(lambda: why in cli.output("jobs", "why", name), timeout=20)
    client.job(name).cancel()


def test_the_doctor_finds_nothing(cli: CommandLine) -> None:
    findings = json.loads(cli.output("doctor", "-o", "json"))["findings"]
    status = {one["check"]: one["status"] for one in findings}
    assert status.pop("dead letters") in ("ok", "warn")
    expected = "profile address edge TLS gateway versions clock store abacus workers library"
    assert status == dict.fromkeys(expected.split(), "ok"), findings


def test_a_detached_job_is_found_again(cli: CommandLine) -> None:
    label = f"run={uuid4().hex}"
    options = ("--chunks", "3", "--label", label, "--detach")
    name = cli.output("primes", "10^6", *options).strip()
    assert cli.output("jobs", "watch", name) == "78498\n"
    listed = [json.loads(line) for line in cli.output(
        "jobs", "list", "--label", label, "--state", "succeeded", "-o", "jsonl"
    ).splitlines()]  # fmt: skip
    assert [job["name"] for job in listed] == [name]
    assert name in cli.output("jobs", "list", "--label", label)
    page = cli.output("jobs", "get", name)
    assert "SUCCEEDED" in page
    assert "78498" in page
    chunks = json.loads(cli.output("jobs", "chunks", name, "-o", "json"))["chunks"]
    assert [chunk["state"] for chunk in chunks] == ["STATE_DONE"] * 3


def test_a_watch_is_json_line_by_line(cli: CommandLine) -> None:
    lines = cli.output("simulate", "--chunks", "2", "-o", "jsonl").splitlines()
    events = [json.loads(line) for line in lines]
    assert "snapshot" in events[0]
    assert events[-1]["ended"]["result"]["simulate"]["chunks"] == "2"


def test_an_abacus(cli: CommandLine) -> None:
    name = f"a{uuid4().hex}"
    assert cli.output("abacus", "get", name) == "0\n"
    assert cli.output("abacus", "add", name, "2**40") == "1099511627776\n"
    with running(cli.command("abacus", "watch", name)) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline() == "1099511627776\n"
        assert cli.output("abacus", "add", name, "-0.5") == "1099511627775.5\n"
        assert watch.stdout.readline() == "1099511627775.5\n"
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=10) == 0
    etag = json.loads(cli.output("abacus", "get", name, "-o", "json"))["etag"]
    assert "has changed" in cli.fail("abacus", "add", name, "1", "--expected-etag", "1-1", code=1)
    sold = cli.output("abacus", "reset", name, "--expected-etag", etag)
    assert sold == "1099511627775.5\n"
    assert cli.output("abacus", "get", name) == "0\n"


def test_many_numbers_lists_and_entries(cli: CommandLine) -> None:
    name = f"a{uuid4().hex}"
    assert cli.output("abacus", "add", name, "42", "0.1", "-7") == "35.1\n"
    lines = "\n".join(map(str, range(100_000)))
    command = cli.command("abacus", "add", name, "--stdin", "-o", "json")
    done = subprocess.run(command, input=lines, text=True, check=True, stdout=subprocess.PIPE)
    assert json.loads(done.stdout)["accepted_count"] == "100000"
    assert cli.output("abacus", "get", name) == "4999950035.1\n"
    listed = json.loads(cli.output("abacus", "list", "--limit", "1000", "-o", "json"))["abaci"]
    assert [one["add_count"] for one in listed if one["name"] == f"abaci/{name}"] == ["100003"]
    entries = json.loads(cli.output("abacus", "entries", name, "-o", "json"))["entries"]
    assert (entries[-1]["amount"], entries[-1]["kind"]) == ("35.1", "KIND_BATCH")
    assert cli.output("abacus", "delete", name) == "4999950035.1\n"
    assert cli.output("abacus", "get", name) == "0\n"


def test_a_total_lands_on_its_abacus_once(cli: CommandLine, client: Client) -> None:
    name = f"a{uuid4().hex}"
    for sum_after in ("78,498", "156,996"):
        ended = run(cli.command("primes", "1e6", "--chunks", "8", "--abacus", name))
        assert (ended.returncode, ended.stdout) == (0, "78498\n")
        assert f"abaci/{name} is now {sum_after}" in ended.stderr
    read = client.abacus(name).read()
    assert (read.value, read.add_count, read.answered_by) == ("156996", 2, "abacus-1")


def test_a_job_that_fails_fails_the_command(cli: CommandLine) -> None:
    failing = ("simulate", "--chunks", "1", "--max-attempts", "1")
    said = cli.fail(*failing, "--failure-rate", "1", code=1)
    assert "failed" in said
    assert "chunk 0" in said
    assert "failed" in cli.fail(*failing, "--crash-rate", "1", code=1)


def test_dead_letters_are_found_replayed_and_deleted(cli: CommandLine, client: Client) -> None:
    said = cli.fail("simulate", "--failure-rate", "1", "--max-attempts", "1", code=1)
    name = said.split("jobs replay ")[1].strip()

    shown = json.loads(cli.output("dlq", "show", "--job", name, "-o", "json"))
    (letter,) = shown["dead_letters"]
    assert (letter["job"], letter["reason"]) == (name, "ERROR_REASON_CHUNK_FAILED")
    assert (letter["replays"], letter["epoch"], letter["failed_attempts"]) == (0, "1", 1)
    groups = [json.loads(line) for line in cli.output("dlq", "list", "-o", "jsonl").splitlines()]
    (group,) = (group for group in groups if group["name"] == letter["group"])
    assert int(group["count"]) >= 1
    assert group["last_fail_time"] >= letter["fail_time"]
    kind = group["name"].removeprefix("deadLetterGroups/")
    assert letter["name"] in cli.output("dlq", "show", kind)

    chosen = ("--group", kind, "--job", name, "--reason", "chunk_failed")
    assert cli.output("dlq", "replay", *chosen, "--dry-run").startswith("1 dead letter would run")
    assert client.job(name).refresh().epoch == 1
    assert cli.output("dlq", "replay", letter["name"]) == f"1 dead letter runs again\n  {name}\n"
    with pytest.raises(JobFailed):
        client.job(name).result(timeout=30)
    (again,) = client.dead_letters.list(job=name)
    assert (again.replays, again.epoch) == (1, 2)
    assert "epoch 2, 1 chunk; had failed: simulated failure" in cli.output("jobs", "get", name)

    assert cli.output("dlq", "delete", *chosen) == "1 dead letter deleted\n"
    assert list(client.dead_letters.list(job=name)) == []
    assert cli.output("dlq", "replay", "--job", name) == "0 dead letters run again\n"


def test_a_failed_job_is_replayed(cli: CommandLine) -> None:
    limits = ("--max-attempts", "1", "--chunk-timeout", "30s", "--ttl", "1h")
    said = cli.fail("simulate", "--failure-rate", "1", *limits, code=1)
    name = said.split("jobs replay ")[1].strip()
    assert cli.output("jobs", "replay", name) == f"{name} runs again, epoch 2\n"
    assert "failed" in cli.fail("jobs", "watch", name, code=1)
    page = cli.output("jobs", "get", name)
    assert "1 attempt a chunk, 30.0 s an attempt, kept 1 h 00 min after its end" in page
    assert "expires " in page
    assert "FAILED" in cli.output("jobs", "chunks", name)
    done = cli.output("simulate", "--detach").strip()
    assert cli.output("jobs", "watch", done) == "1\n"
    assert "not failed" in cli.fail("jobs", "replay", done, code=1)


def test_a_wait_that_is_too_long_ends_the_command_but_not_the_job(
    cli: CommandLine, client: Client
) -> None:
    said = cli.fail("simulate", *ONE_HOUR, "--chunks", "1", "--timeout", "1s", code=4)
    job = client.job(said.split()[-1])
    state = job.refresh().state
    job.cancel()
    assert state in (Job.STATE_PENDING, Job.STATE_RUNNING)
    assert f"it goes on: tallymesh --address {client.address} jobs watch {job.name}\n" in said


def test_ctrl_c_detaches_and_a_second_one_cancels(cli: CommandLine, client: Client) -> None:
    label = uuid4().hex
    command = ("simulate", *ONE_HOUR, "--chunks", "1", "--label", f"run={label}")
    with running(cli.command(*command)) as watch:
        assert watch.stderr is not None
        (job,) = eventually_sync(lambda: list(client.jobs(labels={"run": label})), timeout=20)
        assert "1 chunk" in watch.stderr.readline()  # so that it watches by now
        watch.send_signal(signal.SIGINT)
        detaching = next(line for line in watch.stderr if "detaching" in line)
        assert "Ctrl-C again" in detaching
        assert client.job(job.name).refresh().state == Job.STATE_RUNNING
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=20) == 3
    assert client.job(job.name).refresh().state == Job.STATE_CANCELLED


def test_a_cancelled_job_ends_its_watch(cli: CommandLine, client: Client) -> None:
    work = Simulate()
    work.duration.FromSeconds(3600)
    job = client.submit(work, chunks=2)
    with running(cli.command("jobs", "watch", job.name)) as watch:
        assert watch.stderr is not None
        assert "2 chunks" in watch.stderr.readline()
        said = cli.output("jobs", "cancel", job.name)
        assert re.fullmatch(rf"{job.name} is cancelled, and stopped after \d+(\.\d+)? m?s\n", said)
        assert watch.wait(timeout=20) == 3
        assert "was cancelled" in watch.stderr.read()
    assert ", stopped after " in cli.output("jobs", "get", job.name)


def test_what_is_not_there(cli: CommandLine, client: Client) -> None:
    said = cli.fail("jobs", "get", "0" * 16, code=1)
    assert said.startswith(f"error: jobs/{'0' * 16} does not exist [reason=NOT_FOUND call=")
    with pytest.raises(NotFound):
        client.job("0" * 16).refresh()
