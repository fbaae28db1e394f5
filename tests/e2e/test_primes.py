"""Primes are counted through the whole path, watched live, by each way that leads to the mesh."""

import json
import time
from collections.abc import Iterable

import pytest
from google.protobuf.json_format import ParseDict

from tallymesh import Client, CountPrimes, Job, JobEvent
from tests.e2e.conftest import CommandLine
from tests.harness.commands import json_objects, run, running
from tests.harness.local_mesh import LocalMesh
from tests.harness.primes import PRIMES_UP_TO
from tests.harness.tools import require

TO_10_10 = '{"work": {"count_primes": {"stop": "10000000000", "method": "METHOD_SIEVE"}}}'
TO_3_10_10 = '{"work": {"count_primes": {"stop": "30000000000", "method": "METHOD_SIEVE"}}}'

Watched = list[tuple[float, JobEvent]]


def watched(lines: Iterable[str]) -> Watched:
    """The events that a program prints as JSON while it runs, each with when it came."""
    return [(time.time(), ParseDict(event, JobEvent())) for event in json_objects(lines)]


def assert_live(events: Watched, stop: int) -> None:
    """A watch of the primes to `stop` told how far they were counted, and ended with the count."""
    kinds = [event.WhichOneof("event") for _, event in events]
    assert (kinds[0], kinds[-1]) == ("snapshot", "ended")
    job = events[-1][1].ended
    assert job.state == Job.STATE_SUCCEEDED
    assert job.result.count_primes.count == PRIMES_UP_TO[stop]
    ended_at = job.end_time.ToNanoseconds() / 1e9
    during = [event for at, event in events if at < ended_at]
    assert during[0].HasField("snapshot")
    shares = [event.delta.progress.fraction for event in during if event.HasField("delta")]
    assert shares == sorted(shares)
    assert any(0 < share < 1 for share in shares)


@pytest.mark.timeout(180)
def test_the_command_line_counts_to_10_11(cli: CommandLine) -> None:
    ended = run(cli.command("primes", "1e11", "--method", "sieve", "-o", "json"), timeout=170)

    assert ended.returncode == 0, ended.stderr
    job = json.loads(ended.stdout)
    assert job["state"] == "STATE_SUCCEEDED"
    assert job["result"]["count_primes"]["count"] == str(PRIMES_UP_TO[10**11])
    assert job["progress"]["running_total"] == str(PRIMES_UP_TO[10**11])
    assert job["progress"]["fraction"] == 1
    computed = {worker: int(chunks) for worker, chunks in job["handled_by"].items()}
    assert set(computed) == {"worker-1", "worker-2"}
    assert sum(computed.values()) == int(job["chunk_count"])
    assert (job["initiated_by"], job["checked_by"]) == ("gateway-1", "gateway-1")
    progress, summary = ended.stderr.split("\n", maxsplit=1)
    assert "chunks/s, ETA" in progress
    assert "4,118,054,813 primes from 0 to 100,000,000,000 in" in summary


@pytest.mark.timeout(180)
def test_grpcurl_runs_a_job_by_reflection_and_sees_it_run(mesh: LocalMesh) -> None:
    request = f'{{"job": {TO_3_10_10}}}'
    command = [str(require("grpcurl")), "-plaintext", "-d", request, mesh.address]
    with running([*command, "tallymesh.v1.JobService/RunJob"]) as grpcurl:
        assert grpcurl.stdout is not None
        assert_live(watched(grpcurl.stdout), 3 * 10**10)
        assert grpcurl.wait(timeout=10) == 0


def test_grpcurl_finds_the_services(mesh: LocalMesh) -> None:
    grpcurl = [str(require("grpcurl")), "-plaintext", mesh.address]
    listed = run([*grpcurl, "list"]).stdout.split()
    assert {f"tallymesh.v1.{name}Service" for name in ("Job", "Dispatch", "Mesh", "Abacus")} <= {
        *listed
    }
    # What is not exposed at the edge is not told of there.
    assert "tallymesh.v1.WorkerService" not in listed
    for service in ("Job", "Abacus"):
        described = run([*grpcurl, "describe", f"tallymesh.v1.{service}Service"])
        assert described.returncode == 0, described.stderr
        assert f"service {service}Service {{" in described.stdout


@pytest.mark.parametrize(
    ("symbol", "described"),
    [
        ("tallymesh.v1.MeshService.WhoAmI", "rpc WhoAmI ( .tallymesh.v1.WhoAmIRequest )"),
        ("tallymesh.v1.AbacusService.AddNumbers", "rpc AddNumbers ( stream"),
        ("tallymesh.v1.Job.State", "enum State"),
    ],
)
def test_grpcurl_describes_each_symbol(mesh: LocalMesh, symbol: str, described: str) -> None:
    grpcurl = [str(require("grpcurl")), "-plaintext", mesh.address]
    assert described in run([*grpcurl, "describe", symbol]).stdout


@pytest.mark.timeout(180)
def test_curl_submits_a_job_and_sees_it_run(mesh: LocalMesh) -> None:
    curl = [str(require("curl")), "--silent", "--show-error", "--fail-with-body"]
    url = f"http://{mesh.address}/v1"
    created = run([*curl, "--json", TO_3_10_10, f"{url}/jobs"])
    assert created.returncode == 0, created.stdout
    name = json.loads(created.stdout)["name"]
    with running([*curl, "--no-buffer", f"{url}/{name}:watch"]) as watch:
        assert watch.stdout is not None
        lines = iter(watch.stdout.readline, "")
        assert_live(watched(lines), 3 * 10**10)
        assert watch.wait(timeout=10) == 0


def test_curl_runs_a_job_in_one_call(mesh: LocalMesh) -> None:
    curl = [str(require("curl")), "--silent", "--show-error", "--no-buffer", "--json", TO_10_10]
    with running([*curl, f"http://{mesh.address}/v1/jobs:run"]) as ran:
        assert ran.stdout is not None
        assert_live(watched(ran.stdout), 10**10)


def test_formulas_count_what_no_sieve_could(cli: CommandLine, client: Client) -> None:
    ended = run(cli.command("primes", "1e14"))
    assert (ended.returncode, ended.stdout) == (0, "3204941750802\n"), ended.stderr
    assert "3,204,941,750,802 primes from 0 to 100,000,000,000,000 in" in ended.stderr
    assert "method combinatorial (estimates: combinatorial 230 ms, sieve " in ended.stderr
    assert client.count_primes(10**14, 10**14 - 10**6, method="combinatorial") == (
        client.count_primes(10**14, 10**14 - 10**6, method="sieve")
    )


def test_twins_are_counted_in_many_chunks(cli: CommandLine) -> None:
    ended = run(cli.command("primes", "--kind", "twins", "1e10", "-o", "json"))
    assert ended.returncode == 0, ended.stderr
    job = json.loads(ended.stdout)
    assert job["result"]["count_primes"] == {
        "count": "27412679",
        "kind": "KIND_TWINS",
        "method": "METHOD_SIEVE",
        "method_reason": "tuplets are counted by sieve only",
    }
    assert int(job["chunk_count"]) > 10
    assert job["kernel"] == "count_primes.tuplets"
    assert "27,412,679 twins from 0 to 10,000,000,000 in" in ended.stderr


def test_the_nth_prime(cli: CommandLine, client: Client) -> None:
    assert cli.output("nth-prime", "1e10") == "252097800623\n"
    assert cli.output("compute", "nth-prime", "25") == "97\n"
    assert client.nth_prime(1) == 2


def test_the_python_client_counts_and_sees_it_run(client: Client) -> None:
    job = client.submit(CountPrimes(stop=10**10, method=CountPrimes.METHOD_SIEVE))
    assert_live([(time.time(), event) for event in job.events(timeout=60)], 10**10)
    assert job.result() == PRIMES_UP_TO[10**10]
    assert client.count_primes(10**9, timeout=60) == PRIMES_UP_TO[10**9]


def test_the_chunk_map_fills(client: Client) -> None:
    job = client.submit(CountPrimes(stop=10**9), chunks=1000)
    maps = [seen.progress.chunk_map for seen in job.watch(timeout=60)]
    for seen in maps:
        assert seen.chunks_per_cell == 4
        assert len(seen.cells) == 250
    assert set(maps[-1].cells) == {100}
    shares = [sum(cell & 0x7F for cell in seen.cells) for seen in maps]
    assert shares == sorted(shares)


def test_chunks_tell_who_computed_them(client: Client) -> None:
    job = client.submit(CountPrimes(stop=10**9), chunks=12)
    assert job.result(timeout=60) == PRIMES_UP_TO[10**9]
    chunks = list(job.chunks(page_size=5))
    assert [chunk.index for chunk in chunks] == list(range(12))
    by = [chunk.worker for chunk in chunks]
    assert {worker: by.count(worker) for worker in by} == dict(job.job.handled_by)
    for chunk in chunks:
        assert chunk.attempt == 1
        times = (chunk.lease_time, chunk.start_time, chunk.commit_time)
        assert sorted(time.ToNanoseconds() for time in times) == [t.ToNanoseconds() for t in times]
