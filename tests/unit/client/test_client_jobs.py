"""Jobs through the client: what is sent, what comes back, and watches that survive cuts."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import grpc
import pytest

from tallymesh import (
    Add,
    ChunkTimedOut,
    Client,
    CountPrimes,
    DeadlineExceeded,
    InternalError,
    InvalidField,
    Job,
    JobCancelled,
    JobEnded,
    JobFailed,
    JobTimedOut,
    NotFound,
    Simulate,
    StopTimeout,
    TallymeshError,
    Unreachable,
    WaitTimeout,
    Work,
)
from tallymesh.v1 import errors_pb2
from tallymesh.v1.errors_pb2 import ErrorReason
from tallymesh.v1.job_pb2 import Chunk, Progress
from tallymesh.v1.job_service_pb2 import JOB_VIEW_FULL
from tallymesh.v1.work_pb2 import AddResult, Result, SimulateResult
from tallymesh_core.domain import errors as domain
from tests.unit.client.fake_mesh import (
    NAME,
    Act,
    Cut,
    FakeMesh,
    Silence,
    cancelled_job,
    delta,
    ended,
    failed_job,
    keepalive,
    running_job,
    snapshot,
    succeeded_job,
)


def job_with(result: Result) -> Job:
    job = succeeded_job()
    job.result.CopyFrom(result)
    return job


def test_count_primes_sends_the_work_and_returns_the_count(mesh: FakeMesh, client: Client) -> None:
    mesh.streams.append([snapshot(running_job()), ended(succeeded_job())])
    count = client.count_primes(
        10**10, 7, method="sieve", chunks=8, queue="q", priority=2, labels={"a": "b"}, abacus="x"
    )
    assert count == 455_052_511
    [request] = mesh.asked("RunJob")
    assert request.job == Job(
        work=Work(count_primes=CountPrimes(start=7, stop=10**10, method=CountPrimes.METHOD_SIEVE)),
        chunk_count=8,
        queue="q",
        priority=2,
        labels={"a": "b"},
        abacus="abaci/x",
    )
    assert len(request.request_id) == 36


def test_how_long_and_how_often_goes_with_the_job(mesh: FakeMesh, client: Client) -> None:
    client.submit(
        CountPrimes(stop=10),
        max_attempts=2,
        tolerate_failures=3,
        chunk_timeout=0.25,
        job_timeout=timedelta(minutes=2),
        ttl=86_400,
    )
    job = mesh.asked("CreateJob")[0].job
    assert (job.max_attempts, job.tolerate_failures) == (2, 3)
    spans = [span.ToTimedelta() for span in (job.chunk_timeout, job.timeout, job.ttl)]
    assert spans == [timedelta(seconds=0.25), timedelta(minutes=2), timedelta(days=1)]
    client.submit(CountPrimes(stop=10))
    assert not mesh.asked("CreateJob")[1].job.HasField("timeout")


def test_add_is_exact(mesh: FakeMesh, client: Client) -> None:
    mesh.streams.append([ended(job_with(Result(add=AddResult(sum="0.3"))))])
    assert client.add(2, Decimal("-0.10"), "2**40", "1e30") == Decimal("0.3")
    [request] = mesh.asked("RunJob")
    assert list(request.job.work.add.numbers) == ["2", "-0.10", "1099511627776", "1e30"]
    with pytest.raises(TypeError, match="float"):
        client.add(0.1)  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=r"numbers\[1\]"):
        client.add(1, "one")


def test_results_are_typed_by_kernel(mesh: FakeMesh, client: Client) -> None:
    mesh.streams.append([ended(job_with(Result(simulate=SimulateResult(chunks=8))))])
    assert client.run(Simulate(failure_rate=0.5), chunks=8) == 8
    mesh.streams.append([ended(job_with(Result()))])
    with pytest.raises(TallymeshError, match="does not know"):
        client.run(Work(add=Add(numbers=["1"])))


@pytest.mark.parametrize("stop", [-1, 2**64])
def test_bounds_over_64_bits_name_field_value_and_bound(client: Client, stop: int) -> None:
    with pytest.raises(InvalidField) as caught:
        client.count_primes(stop)
    error = caught.value
    assert (error.field, error.value) == ("job.work.count_primes.stop", str(stop))
    assert error.bound == "in 0 to 18446744073709551615"


def test_options_that_fit_no_field_are_refused(client: Client) -> None:
    work = CountPrimes(stop=10)
    with pytest.raises(InvalidField, match=r"job\.chunk_count: '4194305'"):
        client.submit(work, chunks=2**22 + 1)
    with pytest.raises(InvalidField, match=r"job\.priority"):
        client.submit(work, priority=10)
    with pytest.raises(InvalidField, match=r"job\.tolerate_failures: '-1'"):
        client.submit(work, tolerate_failures=-1)
    for endless in (float("nan"), float("inf"), 1e300):
        with pytest.raises(InvalidField, match=r"job\.ttl: '.+' is not a time in seconds"):
            client.submit(work, ttl=endless)
    with pytest.raises(TypeError, match=r"job_timeout: '5s' is of type str, not a number"):
        client.submit(work, job_timeout="5s")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="float"):
        client.count_primes(1e10)  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match="method"):
        client.count_primes(10, method="guess")  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=r'count_primes\.kind.*one of "primes", "twins"'):
        client.count_primes(10, kind="octuplets")  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=r"job\.work\.nth_prime\.n: '0' is not in 1 to"):
        client.nth_prime(0)
    with pytest.raises(TypeError, match=r"work: 'primes' is of type str, not a Work, a"):
        client.submit("primes")  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match="states"):
        list(client.jobs(states=["odd"]))


def test_submit_returns_a_handle_and_ids_differ(mesh: FakeMesh, client: Client) -> None:
    first = client.submit(CountPrimes(stop=10))
    client.submit(CountPrimes(stop=10), request_id="mine")
    assert first.name == NAME
    given = [request.request_id for request in mesh.asked("CreateJob")]
    assert len(given[0]) == 36
    assert given[1] == "mine"


def test_metadata_goes_with_every_call(mesh: FakeMesh) -> None:
    mesh.streams.append([ended(succeeded_job())])
    with Client(mesh.address, metadata={"x-team": "blue"}) as client:
        client.whoami()
        client.job("abc1").result()
    assert [metadata["x-team"] for metadata in mesh.metadata] == ["blue", "blue"]


def test_several_addresses_share_the_calls() -> None:
    meshes = [FakeMesh(), FakeMesh()]
    try:
        with Client(",".join(mesh.address for mesh in meshes)) as client:
            for _ in range(20):
                client.whoami()
            assert all(mesh.calls for mesh in meshes)
    finally:
        for mesh in meshes:
            mesh.close()


def test_the_address_comes_from_the_environment(
    mesh: FakeMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLYMESH_ADDRESS", mesh.address)
    with Client() as client:
        assert client.whoami().answered_by == "gateway-1"
    monkeypatch.delenv("TALLYMESH_ADDRESS")
    with Client() as client:
        assert client.address == "localhost:8080"


def test_watch_applies_deltas_and_ends_with_the_ended_job(mesh: FakeMesh, client: Client) -> None:
    waiting = running_job(state_reason="no live worker")
    mesh.streams.append(
        [
            snapshot(waiting),
            delta(
                4,
                state=Job.STATE_RUNNING,
                state_reason="no live worker",
                progress=Progress(chunks_done=3, chunks_total=8),
                handled_by={"worker-1": 3},
                failed_attempts=2,
                start_time=waiting.start_time,
            ),
            keepalive(4),
            delta(5, state=Job.STATE_PENDING, handled_by={"worker-2": 1}),
            ended(succeeded_job()),
        ]
    )
    seen = list(client.job(NAME).watch())
    assert [job.version for job in seen] == [3, 4, 5, 9]
    assert [job.progress.chunks_done for job in seen] == [2, 3, 0, 8]
    assert [dict(job.handled_by) for job in seen[:3]] == [{}, {"worker-1": 3}, {"worker-2": 1}]
    assert [job.state_reason for job in seen[:3]] == ["no live worker", "no live worker", ""]
    assert seen[1].progress.workers == 0, "a field of a delta replaces the job's field whole"
    assert [job.failed_attempts for job in seen[:3]] == [0, 2, 0], "also where it is empty"
    assert [job.HasField("start_time") for job in seen[:3]] == [True, True, False]
    assert [job.work for job in seen[:3]] == [waiting.work] * 3, "what it does not have stays"
    assert seen[0].progress.chunks_done == 2, "what was yielded stays as it was"


@pytest.mark.parametrize(
    "cut",
    [
        Cut(),
        Cut(grpc.StatusCode.INTERNAL),
        Cut(grpc.StatusCode.UNKNOWN),
        Cut(grpc.StatusCode.CANCELLED),
        domain.ShuttingDown("gateway-1"),
        domain.StoreUnavailable(),
        Silence(),
        None,
    ],
    ids=repr,
)
def test_a_watch_survives_every_way_of_being_cut(
    mesh: FakeMesh, client: Client, cut: Cut | Silence | domain.DomainError | None
) -> None:
    if isinstance(cut, domain.DomainError):
        cut.retry_after = 0.01
    broken: list[Act] = [snapshot(running_job()), *([cut] if cut else [])]
    mesh.streams.extend([broken, [snapshot(running_job()), ended(succeeded_job())]])
    cuts: list[TallymeshError] = []
    handle = client.job(NAME)
    states = [job.state for job in handle.watch(on_cut=cuts.append)]
    assert states == [Job.STATE_RUNNING, Job.STATE_RUNNING, Job.STATE_SUCCEEDED]
    assert len(cuts) == 1
    assert handle.ended


def test_a_run_that_is_cut_is_watched_on_and_not_run_again(mesh: FakeMesh, client: Client) -> None:
    mesh.streams.extend([[snapshot(running_job()), Cut()], [Cut()], [ended(succeeded_job())]])
    assert client.count_primes(10**10) == 455_052_511
    assert len(mesh.asked("RunJob")) == 1
    assert {request.name for request in mesh.asked("WatchJob")} == {NAME}


@pytest.mark.parametrize("early_headers", [False, True])
def test_a_cut_before_the_first_message_is_retried_under_the_same_request_id(
    mesh: FakeMesh, early_headers: bool
) -> None:
    mesh.early_headers = early_headers
    mesh.streams.extend([[Cut()], [Cut()], [ended(succeeded_job())]])
    with Client(mesh.address) as client:
        assert client.count_primes(10**10) == 455_052_511
    requests = mesh.asked("RunJob")
    assert len(requests) == 3
    assert len({request.request_id for request in requests}) == 1


def test_a_mesh_that_stays_away_is_unreachable_after_the_patience(
    mesh: FakeMesh, client: Client
) -> None:
    mesh.streams.append([snapshot(running_job())])
    watch = client.job(NAME).watch()
    assert next(watch).name == NAME
    mesh.close()
    with pytest.raises(Unreachable, match="1 s"):
        list(watch)


def test_a_mesh_that_answers_but_has_no_stream_is_given_up(mesh: FakeMesh, client: Client) -> None:
    mesh.early_headers = True
    mesh.streams.extend([[Cut()]] * 1000)
    with pytest.raises(Unreachable, match=r"0\.5 s"):
        list(client.job(NAME).watch())
    assert len(mesh.streams) > 900, "it backs off"


def test_the_meshs_own_word_ends_a_watch(mesh: FakeMesh, client: Client) -> None:
    mesh.streams.append([domain.NotFound("jobs/gone")])
    with pytest.raises(NotFound):
        client.job("gone").result()
    mesh.streams.append([snapshot(running_job()), domain.DomainError("internal error")])
    with pytest.raises(InternalError):
        client.job(NAME).result()
    assert len(mesh.asked("WatchJob")) == 2


def test_the_result_follows_how_the_job_ended(mesh: FakeMesh, client: Client) -> None:
    mesh.streams.append([ended(failed_job())])
    handle = client.job(NAME)
    for _ in range(2):
        with pytest.raises(JobFailed, match="no such luck") as failed:
            handle.result()
        assert failed.value.reason == "CHUNK_FAILED"
        assert failed.value.job.error.worker == "worker-2"
    assert len(mesh.asked("WatchJob")) == 1, "what is known is not asked for again"
    mesh.streams.append([ended(cancelled_job())])
    with pytest.raises(JobCancelled):
        client.job(NAME).result()


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (errors_pb2.ERROR_REASON_CHUNK_TIMED_OUT, ChunkTimedOut),
        (errors_pb2.ERROR_REASON_JOB_TIMED_OUT, JobTimedOut),
        (errors_pb2.ERROR_REASON_CHUNK_CRASHED, JobFailed),
    ],
)
def test_a_failure_has_the_type_of_its_reason(
    mesh: FakeMesh, client: Client, reason: ErrorReason.ValueType, kind: type[JobFailed]
) -> None:
    mesh.streams.append([ended(failed_job(reason))])
    with pytest.raises(JobFailed) as failed:
        client.job(NAME).result()
    assert type(failed.value) is kind


def test_waiting_has_a_timeout_and_the_job_goes_on(mesh: FakeMesh, client: Client) -> None:
    mesh.streams.append([snapshot(running_job()), Silence()])
    with pytest.raises(WaitTimeout) as caught:
        client.job(NAME).result(timeout=0.2)
    assert caught.value.job.progress.chunks_done == 2
    assert isinstance(caught.value, TimeoutError)
    assert not mesh.asked("CancelJob")


def test_a_run_of_unknown_fate_is_a_deadline_exceeded(mesh: FakeMesh, client: Client) -> None:
    mesh.streams.append([Silence()])
    with pytest.raises(DeadlineExceeded):
        client.count_primes(10, timeout=0.1)


def test_cancel_waits_until_nothing_of_the_job_computes(mesh: FakeMesh, client: Client) -> None:
    with pytest.raises(StopTimeout):
        client.job(NAME).cancel(timeout=0.1)
    assert mesh.asked("GetJob")
    assert client.job(NAME).cancel(wait=False).state == Job.STATE_CANCELLED
    mesh.job.cancellation.stop_time.FromMilliseconds(1_700_000_001_100)
    assert client.job(NAME).cancel().cancellation.HasField("stop_time")
    mesh.fail("CancelJob", domain.JobEnded(NAME, "SUCCEEDED"))
    with pytest.raises(JobEnded):
        client.job(NAME).cancel()


def test_replay_sends_the_epoch_that_was_seen(mesh: FakeMesh, client: Client) -> None:
    mesh.job = failed_job()
    mesh.job.epoch = 4
    handle = client.job(NAME)
    assert handle.replay().state == Job.STATE_PENDING
    assert not handle.ended
    assert handle.replay().epoch == 6
    assert [request.epoch for request in mesh.asked("ReplayJob")] == [4, 5]
    assert len(mesh.asked("GetJob")) == 1, "a handle that has not seen its job asks for it first"


def test_lists_run_over_all_pages(mesh: FakeMesh, client: Client) -> None:
    mesh.listed = [Job(name=f"jobs/j{index}") for index in range(5)]
    mesh.chunks = [Chunk(index=index) for index in range(5)]
    since = datetime(2030, 1, 1, tzinfo=UTC)
    names = [
        job.name
        for job in client.jobs(
            states=["Running"], labels={"a": "b"}, created_from=since, full=True, page_size=2
        )
    ]
    assert names == [f"jobs/j{index}" for index in range(5)]
    first = mesh.asked("ListJobs")[0]
    assert list(first.states) == [Job.STATE_RUNNING]
    assert list(first.labels) == ["a=b"]
    assert first.create_time_from.ToDatetime(UTC) == since
    assert first.view == JOB_VIEW_FULL
    assert len(mesh.asked("ListJobs")) == 3
    assert [chunk.index for chunk in client.job("abc1").chunks(page_size=2)] == list(range(5))
    assert mesh.asked("ListChunks")[0].parent == NAME
