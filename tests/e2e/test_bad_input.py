"""Bad input: one table, and each path that can say it refuses it by field, value and bound."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tallymesh import Client, InvalidField, Job, Simulate, UnknownKernel, Unreachable, Work
from tallymesh.v1 import abacus_service_pb2 as abacus
from tallymesh.v1 import dead_letter_service_pb2, fleet_service_pb2
from tallymesh.v1 import job_service_pb2 as jobs
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tallymesh.v1.job_service_pb2_grpc import JobServiceStub
from tests.e2e.conftest import CommandLine
from tests.harness.commands import run, tallymesh
from tests.harness.local_mesh import LocalMesh
from tests.harness.ports import free_port
from tests.harness.rest import Rest

MOST = str(2**64 - 1)
TO_100 = {"count_primes": {"stop": 100}}
PRIMES = ("primes", "100")


@dataclass(frozen=True)
class Bad:
    """A job that is refused.

    Attributes:
        job: As JSON.
        field: What is at fault.
        value: What was given there.
        bound: A word of what would have been taken.
        cli: The same on the command line, if it can be said there.
        untyped: The field's type cannot hold it: over REST it is refused by the edge, and gRPC
            cannot say it.
        reason: The reason given.
    """

    job: dict[str, Any]
    field: str
    value: str
    bound: str
    cli: tuple[str, ...] = ()
    untyped: bool = False
    reason: str = "INVALID_FIELD"


def primes(start: object = 0, stop: object = 100) -> dict[str, Any]:
    return {"work": {"count_primes": {"start": start, "stop": stop}}}


BAD_JOBS = {
    "negative stop": Bad(
        primes(stop=-1), "job.work.count_primes.stop", "-1", MOST, ("primes", "-1"), untyped=True
    ),
    "negative start": Bad(
        primes(start=-5),
        "job.work.count_primes.start",
        "-5",
        MOST,
        ("primes", "100", "--from", "-5"),
        untyped=True,
    ),
    "stop over 64 bits": Bad(
        primes(stop=str(2**64)),
        "job.work.count_primes.stop",
        str(2**64),
        MOST,
        ("primes", "2**64"),
        untyped=True,
    ),
    "start over 64 bits": Bad(
        primes(start=str(2**64)),
        "job.work.count_primes.start",
        str(2**64),
        MOST,
        ("primes", "2**64", "--from", "2**64"),
        untyped=True,
    ),
    "start after stop": Bad(
        primes(10, 5), "job.work.count_primes.stop", "5", "10", ("primes", "5", "--from", "10")
    ),
    "start just after stop": Bad(
        primes(MOST, str(2**64 - 2)),
        "job.work.count_primes.stop",
        str(2**64 - 2),
        MOST,
        ("primes", str(2**64 - 2), "--from", MOST),
    ),
    "no chunks": Bad(
        {"work": TO_100, "chunk_count": 0},
        "job.chunk_count",
        "0",
        "4194304",
        (*PRIMES, "--chunks", "0"),
    ),
    "a negative number of chunks": Bad(
        {"work": TO_100, "chunk_count": -1},
        "job.chunk_count",
        "-1",
        "4194304",
        (*PRIMES, "--chunks", "-1"),
    ),
    "a chunk too many": Bad(
        {"work": TO_100, "chunk_count": 2**22 + 1},
        "job.chunk_count",
        "4194305",
        "4194304",
        (*PRIMES, "--chunks", "4194305"),
    ),
    "10^9 chunks": Bad(
        {"work": TO_100, "chunk_count": 10**9},
        "job.chunk_count",
        "1000000000",
        "4194304",
        (*PRIMES, "--chunks", "10^9"),
    ),
    "too many chunks for a kernel that merges": Bad(
        {"work": {"add": {"numbers": ["1", "2"]}}, "chunk_count": 65_537},
        "job.chunk_count",
        "65537",
        "65536",
        ("add", "1", "2", "--chunks", "65537"),
    ),
    "no work": Bad({}, "job.work", "", "count_primes, add, simulate", reason="UNKNOWN_KERNEL"),
    "empty work": Bad(
        {"work": {}}, "job.work", "", "count_primes, add, simulate", reason="UNKNOWN_KERNEL"
    ),
    "nothing to add": Bad({"work": {"add": {}}}, "job.work.add.numbers", "0", "10,000", ("add",)),
    "too much to add": Bad(
        {"work": {"add": {"numbers": ["1"] * 10_001}}},
        "job.work.add.numbers",
        "10001",
        "10,000",
        ("add", *["1"] * 10_001),
    ),
    "what is no number": Bad(
        {"work": {"add": {"numbers": ["1", "NaN"]}}},
        "job.work.add.numbers[1]",
        "NaN",
        "decimal",
    ),
    "a chance over 1": Bad(
        {"work": {"simulate": {"crash_rate": 1.5}}},
        "job.work.simulate.crash_rate",
        "1.5",
        "0 to 1",
        ("simulate", "--crash-rate", "1.5"),
    ),
    "a chance that is no number": Bad(
        {"work": {"simulate": {"failure_rate": "NaN"}}},
        "job.work.simulate.failure_rate",
        "nan",
        "0 to 1",
        ("simulate", "--failure-rate", "nan"),
    ),
    "too long a chunk": Bad(
        {"work": {"simulate": {"duration": "7200s"}}},
        "job.work.simulate.duration",
        "7200s",
        "3600s",
        ("simulate", "--duration", "2h"),
    ),
    "bad queue": Bad(
        {"work": TO_100, "queue": "No Queue"},
        "job.queue",
        "No Queue",
        "63",
        (*PRIMES, "--queue", "No Queue"),
    ),
    "bad priority": Bad(
        {"work": TO_100, "priority": 10}, "job.priority", "10", "9", (*PRIMES, "--priority", "10")
    ),
    "bad label": Bad(
        {"work": TO_100, "labels": {"Team": "a"}},
        "job.labels",
        "Team",
        "63",
        (*PRIMES, "--label", "Team=a"),
    ),
    "bad abacus": Bad(
        {"work": TO_100, "abacus": "abaci/No_Name"},
        "job.abacus",
        "abaci/No_Name",
        "63",
        (*PRIMES, "--abacus", "No_Name"),
    ),
    "too many attempts": Bad(
        {"work": TO_100, "max_attempts": 101},
        "job.max_attempts",
        "101",
        "100",
        (*PRIMES, "--max-attempts", "101"),
    ),
    "no attempt": Bad(
        {"work": TO_100, "max_attempts": 0},
        "job.max_attempts",
        "0",
        "100",
        (*PRIMES, "--max-attempts", "0"),
    ),
    "fewer failures than none": Bad(
        {"work": TO_100, "tolerate_failures": -1},
        "job.tolerate_failures",
        "-1",
        "4194304",
        (*PRIMES, "--tolerate-failures", "-1"),
    ),
    "more failures than chunks": Bad(
        {"work": TO_100, "tolerate_failures": 2**22 + 1},
        "job.tolerate_failures",
        "4194305",
        "4194304",
        (*PRIMES, "--tolerate-failures", "4194305"),
    ),
    "no time for a chunk": Bad(
        {"work": TO_100, "chunk_timeout": "0s"},
        "job.chunk_timeout",
        "0 s",
        "from 1 ms to 7 days",
        (*PRIMES, "--chunk-timeout", "0"),
    ),
    "too much time for a chunk": Bad(
        {"work": TO_100, "chunk_timeout": "604801s"},
        "job.chunk_timeout",
        "604801 s",
        "7 days",
        (*PRIMES, "--chunk-timeout", "604801s"),
    ),
    "time before the beginning": Bad(
        {"work": TO_100, "timeout": "-1s"}, "job.timeout", "-1 s", "1 ms"
    ),
    "too much time for a job": Bad(
        {"work": TO_100, "timeout": "31622400s"},
        "job.timeout",
        "31622400 s",
        "365 days",
        (*PRIMES, "--job-timeout", "366d"),
    ),
    "too short to be read": Bad(
        {"work": TO_100, "ttl": "0.5s"},
        "job.ttl",
        "0.5 s",
        "from 1 s to 365 days",
        (*PRIMES, "--ttl", "500ms"),
    ),
}


@dataclass(frozen=True)
class Refused:
    """What a refusal says."""

    message: str
    reason: str
    metadata: dict[str, str]
    violation: str


def assert_refused(refused: Refused, bad: Bad) -> None:
    assert refused.reason == bad.reason
    assert refused.metadata["field"] == refused.violation == bad.field
    assert refused.metadata["value"] == bad.value
    assert bad.bound in refused.metadata["bound"]
    for word in (bad.field, bad.value, bad.bound):
        assert word in refused.message


def of_grpc(call: Callable[[], object], code: grpc.StatusCode) -> Refused:
    """The refusal of a gRPC call."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error = raised.value
    assert isinstance(error, grpc.Call)
    assert error.code() is code, error
    status = rpc_status.from_call(error)
    assert status is not None, error
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        assert detail.Unpack(info) or detail.Unpack(request)
    assert info.domain == "tallymesh"
    violations = [violation.field for violation in request.field_violations]
    return Refused(status.message, info.reason, dict(info.metadata), "".join(violations))


def of_rest(rest: Rest, method: str, path: str, body: object = None, status: int = 400) -> Refused:
    """The refusal of a REST call."""
    sent = body if body is None or isinstance(body, str) else json.dumps(body)
    answer = rest.request(method, path, sent)
    assert answer.status == status, answer.body
    error = answer.json
    (info, *more) = error["details"]
    assert info["domain"] == "tallymesh"
    assert "Traceback" not in answer.body.decode()
    violations = [one["field"] for request in more for one in request["field_violations"]]
    return Refused(error["message"], info["reason"], info.get("metadata", {}), "".join(violations))


@pytest.fixture(scope="module")
def channel(mesh: LocalMesh) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(mesh.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> JobServiceStub:
    return JobServiceStub(channel)


def cases(*, typed: bool | None = None, cli: bool = False) -> pytest.MarkDecorator:
    chosen = {
        name: bad
        for name, bad in BAD_JOBS.items()
        if (typed is None or bad.untyped != typed) and (not cli or bad.cli)
    }
    return pytest.mark.parametrize("bad", chosen.values(), ids=chosen.keys())


@cases(typed=True)
def test_grpc_refuses_a_bad_job(stub: JobServiceStub, bad: Bad) -> None:
    job = ParseDict(bad.job, Job())
    good = jobs.CreateJobRequest(job=ParseDict({"work": TO_100}, Job()))
    batch = jobs.BatchCreateJobsRequest(requests=[good, jobs.CreateJobRequest(job=job)])
    for call, refused in (
        (lambda: stub.CreateJob(jobs.CreateJobRequest(job=job)), bad),
        (lambda: list(stub.RunJob(jobs.RunJobRequest(job=job))), bad),
        (lambda: stub.BatchCreateJobs(batch), replace(bad, field=f"requests[1].{bad.field}")),
    ):
        assert_refused(of_grpc(call, grpc.StatusCode.INVALID_ARGUMENT), refused)


@cases(typed=True)
def test_rest_refuses_a_bad_job(rest: Rest, bad: Bad) -> None:
    for path in ("/v1/jobs", "/v1/jobs:run"):
        assert_refused(of_rest(rest, "POST", path, bad.job), bad)


@cases(typed=False)
def test_rest_refuses_what_its_field_cannot_hold(rest: Rest, bad: Bad) -> None:
    refused = of_rest(rest, "POST", "/v1/jobs", bad.job)
    assert refused.reason == "MALFORMED_REQUEST"
    for word in (bad.field, bad.value, "UINT64"):
        assert word in refused.message


@cases(cli=True)
def test_the_command_line_refuses_a_bad_job(cli: CommandLine, bad: Bad) -> None:
    said = cli.fail(*bad.cli, code=2)
    if said.startswith("Usage:"):  # refused before it is a job: by the option's own name
        return
    assert len(said.splitlines()) == 1
    assert said.startswith(f"error: {bad.field}: '{bad.value}' is not ")
    assert bad.bound in said


def test_an_unknown_kernel(stub: JobServiceStub, rest: Rest, client: Client) -> None:
    unknown = Work.FromString(b"\xfa\x3e\x00")  # field 1007
    refused = of_grpc(
        lambda: stub.CreateJob(jobs.CreateJobRequest(job=Job(work=unknown))),
        grpc.StatusCode.INVALID_ARGUMENT,
    )
    assert (refused.reason, refused.metadata["field"]) == ("UNKNOWN_KERNEL", "job.work")
    assert "count_primes, add, simulate" in refused.message
    refused = of_rest(rest, "POST", "/v1/jobs", {"work": {"fly": {}}})
    assert refused.reason == "UNKNOWN_KERNEL"
    with pytest.raises(UnknownKernel):
        client.submit(unknown)


#: What is asked of one job by REST.
NAMED = (
    ("GET", ""), ("GET", ":watch"), ("POST", ":cancel"), ("POST", ":replay"), ("GET", "/chunks"),
)  # fmt: skip
BAD_NAMES = ["jobs/", "jobs/x", "jobs/no-such-name-here", "abaci/main", "jobs/../../etc/passwd"]


@pytest.mark.parametrize("name", ["", *BAD_NAMES])
def test_a_name_that_is_no_jobs(stub: JobServiceStub, name: str) -> None:
    for call, field in (
        (lambda: stub.GetJob(jobs.GetJobRequest(name=name)), "name"),
        (lambda: list(stub.WatchJob(jobs.WatchJobRequest(name=name))), "name"),
        (lambda: stub.CancelJob(jobs.CancelJobRequest(name=name)), "name"),
        (lambda: stub.ReplayJob(jobs.ReplayJobRequest(name=name)), "name"),
        (lambda: stub.BatchGetJobs(jobs.BatchGetJobsRequest(names=[name])), "names[0]"),
        (lambda: list(stub.CollectJobs(jobs.CollectJobsRequest(names=[name]))), "names[0]"),
        (lambda: stub.ListChunks(jobs.ListChunksRequest(parent=name)), "parent"),
    ):
        refused = of_grpc(call, grpc.StatusCode.INVALID_ARGUMENT)
        assert refused.metadata == {
            "field": field,
            "value": name,
            "bound": "a job's name: jobs/ and 16 characters of [a-z0-9]",
        }


def test_a_name_that_is_no_jobs_by_rest_and_command_line(rest: Rest, cli: CommandLine) -> None:
    for method, suffix in NAMED:
        body = "{}" if method == "POST" else None
        refused = of_rest(rest, method, f"/v1/jobs/x{suffix}", body)
        assert refused.reason == "INVALID_FIELD"
        assert refused.metadata["value"] == "jobs/x"
        assert "16 characters" in refused.metadata["bound"]
    for command in ("get", "watch", "cancel", "replay", "chunks"):
        said = cli.fail("jobs", command, "x", code=2)
        assert "'jobs/x' is not a job's name: jobs/ and 16 characters of [a-z0-9]" in said


def test_a_job_that_does_not_exist(stub: JobServiceStub, rest: Rest) -> None:
    name = f"jobs/{'0' * 16}"
    for call in (
        lambda: stub.GetJob(jobs.GetJobRequest(name=name)),
        lambda: list(stub.WatchJob(jobs.WatchJobRequest(name=name))),
        lambda: stub.CancelJob(jobs.CancelJobRequest(name=name)),
        lambda: stub.ReplayJob(jobs.ReplayJobRequest(name=name, epoch=1)),
        lambda: stub.BatchGetJobs(jobs.BatchGetJobsRequest(names=[name])),
        lambda: list(stub.CollectJobs(jobs.CollectJobsRequest(names=[name]))),
        lambda: stub.ListChunks(jobs.ListChunksRequest(parent=name)),
    ):
        refused = of_grpc(call, grpc.StatusCode.NOT_FOUND)
        assert (refused.reason, refused.metadata["name"]) == ("NOT_FOUND", name)
    for method, suffix in NAMED:
        body = "{}" if method == "POST" else None
        refused = of_rest(rest, method, f"/v1/{name}{suffix}", body, status=404)
        assert (refused.reason, refused.metadata["name"]) == ("NOT_FOUND", name)
    answer = rest.request("GET", f"/v1/{name}")
    assert answer.headers["tallymesh-node"] == "gateway-1"
    assert answer.headers["tallymesh-request-id"]


@dataclass(frozen=True)
class Unfit:
    """A request that is refused.

    Attributes:
        method: What is called.
        request: As JSON.
        field: What is at fault.
        value: What was given there.
        bound: A word of what would have been taken.
    """

    method: str
    request: dict[str, Any]
    field: str
    value: str
    bound: str


def unfit_letters(method: str) -> list[Unfit]:
    """What every call refuses that takes a filter of dead letters."""
    return [
        Unfit(method, {"filter": {given: value}}, f"filter.{field}", shown, bound)
        for given, value, field, shown, bound in (
            ("names", ["jobs/x/chunks/0"], "names[0]", "jobs/x/chunks/0", "a chunk's name"),
            ("names", [f"jobs/{'0' * 16}"], "names[0]", f"jobs/{'0' * 16}", "a chunk's name"),
            ("names", [f"jobs/{'0' * 16}/chunks/0"] * 1001, "names", "1001", "1000"),
            ("group", "deadLetterGroups/xyz", "group", "deadLetterGroups/xyz", "12 characters"),
            ("group", "0123456789ab", "group", "0123456789ab", "deadLetterGroups/"),
            ("job", "jobs/x", "job", "jobs/x", "16 characters"),
            ("kernel", "fly", "kernel", "fly", "count_primes, add, simulate"),
            ("reason", 999, "reason", "999", "reason"),
        )
    ]


UNFIT = [
    Unfit("JobService/BatchCreateJobs", {}, "requests", "0", "1 to 1000"),
    Unfit("JobService/BatchCreateJobs", {"requests": [{}] * 1001}, "requests", "1001", "1 to 1000"),
    Unfit(
        "JobService/BatchCreateJobs",
        {"requests": [{"job": {"work": TO_100}}, {"job": {"work": TO_100}, "request_id": "a b"}]},
        "requests[1].request_id",
        "a b",
        "visible ASCII",
    ),
    Unfit("JobService/BatchGetJobs", {}, "names", "0", "1 to 1000"),
    Unfit("JobService/BatchGetJobs", {"names": ["x"] * 1001}, "names", "1001", "1 to 1000"),
    Unfit("JobService/CollectJobs", {}, "names", "0", "1 to 10000"),
    Unfit("JobService/CollectJobs", {"names": ["x"] * 10_001}, "names", "10001", "1 to 10000"),
    Unfit(
        "JobService/ReplayJob", {"name": f"jobs/{'0' * 16}", "epoch": -1}, "epoch", "-1", "epoch"
    ),
    Unfit(
        "DeadLetterService/ListDeadLetterGroups", {"page_size": 1001}, "page_size", "1001", "1000"
    ),
    Unfit("DeadLetterService/ListDeadLetterGroups", {"page_token": "z"}, "page_token", "z", "list"),
    Unfit("DeadLetterService/ListDeadLetters", {"page_size": -1}, "page_size", "-1", "1000"),
    Unfit("DeadLetterService/ListDeadLetters", {"page_token": "z"}, "page_token", "z", "list"),
    *unfit_letters("DeadLetterService/ListDeadLetters"),
    Unfit("DeadLetterService/ReplayDeadLetters", {}, "filter", "", "at least one condition"),
    Unfit("DeadLetterService/ReplayDeadLetters", {"filter": {}}, "filter", "", "at least one"),
    *unfit_letters("DeadLetterService/ReplayDeadLetters"),
    Unfit("DeadLetterService/DeleteDeadLetters", {"filter": {}}, "filter", "", "at least one"),
    *unfit_letters("DeadLetterService/DeleteDeadLetters"),
    *(
        Unfit(f"FleetService/{method}Worker", {"name": name}, "name", name, "workers/")
        for method in ("Drain", "Delete")
        for name in ("", "workers/", "worker-1", "workers/No name")
    ),
]
#: Where REST takes the whole request as the body of a POST.
PATHS = {
    "JobService/BatchCreateJobs": "/v1/jobs:batchCreate",
    "JobService/CollectJobs": "/v1/jobs:collect",
    "DeadLetterService/ReplayDeadLetters": "/v1/deadLetters:replay",
    "DeadLetterService/DeleteDeadLetters": "/v1/deadLetters:delete",
}


SERVICES = {
    **jobs.DESCRIPTOR.services_by_name,
    **dead_letter_service_pb2.DESCRIPTOR.services_by_name,
    **fleet_service_pb2.DESCRIPTOR.services_by_name,
}


@pytest.mark.parametrize("unfit", UNFIT, ids=lambda unfit: f"{unfit.method} {unfit.field}")
def test_an_unfit_request(channel: grpc.Channel, rest: Rest, unfit: Unfit) -> None:
    service, _, name = unfit.method.partition("/")
    method = SERVICES[service].methods_by_name[name]
    request = ParseDict(unfit.request, GetMessageClass(method.input_type)())
    call = channel.unary_stream(
        f"/tallymesh.v1.{unfit.method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=bytes,
    )
    refusals = [of_grpc(lambda: list(call(request)), grpc.StatusCode.INVALID_ARGUMENT)]
    if path := PATHS.get(unfit.method):
        refusals.append(of_rest(rest, "POST", path, unfit.request))
    for refused in refusals:
        assert refused.reason == "INVALID_FIELD"
        assert refused.metadata["field"] == refused.violation == unfit.field
        assert refused.metadata["value"] == unfit.value
        assert unfit.bound in refused.metadata["bound"]


def test_rest_refuses_times_and_reasons_that_are_none(rest: Rest) -> None:
    for path, request in (
        ("/v1/deadLetters:delete", {"filter": {"fail_time_from": "soon"}}),
        ("/v1/deadLetters:replay", {"filter": {"reason": "BAD_LUCK"}}),
        ("/v1/jobs", {"work": TO_100, "ttl": "1 week"}),
        ("/v1/jobs:batchCreate", {"requests": {"job": []}}),
    ):
        assert of_rest(rest, "POST", path, request).reason == "MALFORMED_REQUEST"


def test_a_worker_that_does_not_exist(rest: Rest, cli: CommandLine) -> None:
    for method, suffix in (("POST", ":drain"), ("DELETE", "")):
        body = "{}" if suffix else None
        refused = of_rest(rest, method, f"/v1/workers/nobody{suffix}", body, status=404)
        assert (refused.reason, refused.metadata["name"]) == ("NOT_FOUND", "workers/nobody")
    assert cli.fail("drain", "nobody", code=1) == "error: workers/nobody does not exist\n"


def test_dead_letters_by_command_line(cli: CommandLine) -> None:
    said = cli.fail("dlq", "show", "xyz", code=2)
    assert said.startswith("error: filter.group: 'deadLetterGroups/xyz' is not a group's name")
    assert "'bad_luck' is not one of" in cli.fail("dlq", "delete", "--reason", "bad_luck", code=2)
    for command in ("replay", "delete"):
        assert "name letters, or give --group" in cli.fail("dlq", command, "--dry-run", code=2)


@pytest.mark.parametrize("name", ["abaci/", "abaci/No_Name", "abaci/1st", f"abaci/{'a' * 64}"])
def test_a_name_that_is_no_abacus(channel: grpc.Channel, rest: Rest, name: str) -> None:
    stub = AbacusServiceStub(channel)
    calls: tuple[Callable[[], Message | list[abacus.Sum]], ...] = (
        lambda: stub.GetSum(abacus.GetSumRequest(name=name)),
        lambda: stub.AddNumber(abacus.AddNumberRequest(name=name, number=1)),
        lambda: stub.ResetSum(abacus.ResetSumRequest(name=name)),
        lambda: stub.AddNumbers(iter([abacus.AddNumbersRequest(name=name, numbers=[1])])),
        lambda: stub.DeleteAbacus(abacus.DeleteAbacusRequest(name=name)),
        lambda: list(stub.WatchSum(abacus.WatchSumRequest(name=name))),
    )
    for call in calls:
        refused = of_grpc(call, grpc.StatusCode.INVALID_ARGUMENT)
        assert (refused.metadata["field"], refused.metadata["value"]) == ("name", name)
        assert "63" in refused.metadata["bound"]
    if name != "abaci/":
        assert of_rest(rest, "GET", f"/v1/{name}").metadata["value"] == name


def test_an_amount_that_is_none(rest: Rest, cli: CommandLine) -> None:
    path = "/v1/abaci/main:add"
    assert of_rest(rest, "POST", path, {}).metadata["field"] == "amount"
    for decimal in ("NaN", "Infinity", "1e5000", "1e999999", "many", "", "9" * 4097):
        refused = of_rest(rest, "POST", path, {"decimal": decimal})
        assert refused.metadata["field"] == "decimal"
        assert refused.metadata["value"] in (decimal, f"{decimal[:77]}...")
        assert "4,096 digits" in refused.metadata["bound"]
        refused = of_rest(rest, "POST", "/v1/abaci/main:addMany", [{"decimals": ["1", decimal]}])
        assert refused.metadata["field"] == "decimals[1]"
        assert "4,096 digits" in refused.metadata["bound"]
    refused = of_rest(rest, "POST", path, {"number": str(2**63)})
    assert refused.message.startswith(f'number: invalid value "{2**63}"')
    assert "'many' is not a number" in cli.fail("abacus", "add", "main", "many", code=2)


@pytest.mark.parametrize(
    ("query", "field", "value"),
    [
        ("page_token=zzz", "page_token", "zzz"),
        ("page_token=%00", "page_token", "\x00"),
        ("page_size=-1", "page_size", "-1"),
        ("page_size=1001", "page_size", "1001"),
        ("labels=nonsense", "labels", "nonsense"),
        ("queue=No_Queue", "queue", "No_Queue"),
        ("kernel=fly", "kernel", "fly"),
    ],
)
def test_a_bad_page_of_jobs(rest: Rest, query: str, field: str, value: str) -> None:
    refused = of_rest(rest, "GET", f"/v1/jobs?{query}")
    assert refused.reason in {"INVALID_FIELD", "UNKNOWN_KERNEL"}
    assert field in refused.metadata["field"]
    assert value in refused.metadata["value"]
    assert refused.metadata["bound"]


def test_a_bad_page_of_chunks(rest: Rest, client: Client) -> None:
    job = client.submit(Simulate(), chunks=1)
    for query, field in (("page_token=zzz", "page_token"), ("page_size=1001", "page_size")):
        refused = of_rest(rest, "GET", f"/v1/{job.name}/chunks?{query}")
        assert refused.metadata["field"] == field


@pytest.mark.parametrize("body", ["{bad", '{"work":', "[]", "nonsense", '"text"', "\x00\x01"])
def test_malformed_json(rest: Rest, body: str) -> None:
    refused = of_rest(rest, "POST", "/v1/jobs", body)
    assert refused.reason == "MALFORMED_REQUEST"
    assert refused.message


def test_a_text_that_is_not_utf_8(rest: Rest) -> None:
    for path in ("/v1/jobs?page_token=%ff", "/v1/abaci/%ff"):
        assert of_rest(rest, "GET", path).reason in {"MALFORMED_REQUEST", "INVALID_FIELD"}


def test_a_body_of_10_mib(rest: Rest, stub: JobServiceStub, client: Client) -> None:
    queue = "q" * 10 * 2**20
    refused = of_rest(rest, "POST", "/v1/jobs", {"queue": queue}, status=413)
    assert refused.reason == "MALFORMED_REQUEST"
    assert "4194304 bytes" in refused.message

    job = Job(queue=queue)
    for call in (
        lambda: stub.CreateJob(jobs.CreateJobRequest(job=job)),
        lambda: list(stub.RunJob(jobs.RunJobRequest(job=job))),
    ):
        refused = of_grpc(call, grpc.StatusCode.INVALID_ARGUMENT)
        assert refused.reason == "MALFORMED_REQUEST"
        assert refused.metadata["bound"] == "at most 4194304 bytes"
        assert int(refused.metadata["value"]) > 10 * 2**20
    with pytest.raises(InvalidField, match="over the limit of 4194304 bytes"):
        client.submit(Simulate(), queue=queue)


@pytest.mark.parametrize(
    "method",
    [
        "JobService/GetJob",
        "JobService/WatchJob",
        "JobService/BatchCreateJobs",
        "JobService/CollectJobs",
        "DeadLetterService/DeleteDeadLetters",
        "FleetService/DrainWorker",
        "MeshService/WhoAmI",
        "AbacusService/GetSum",
    ],
)
def test_bytes_that_are_no_message(channel: grpc.Channel, method: str) -> None:
    path = f"/tallymesh.v1.{method}"
    call = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
    refused = of_grpc(lambda: call(b"\xff\xff"), grpc.StatusCode.INVALID_ARGUMENT)
    assert refused.reason == "MALFORMED_REQUEST"
    assert refused.message == f"what was sent is not a request of {path}"


@pytest.mark.parametrize(
    "method",
    [
        "/tallymesh.v1.JobService/Fly",
        "/tallymesh.v1.AbacusService/Fly",
        "/tallymesh.v1.FlightService/Fly",
        "/tallymesh.v1.WorkerService/Describe",  # not exposed at the edge
    ],
)
def test_a_method_that_is_not_there(channel: grpc.Channel, method: str) -> None:
    call = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.RpcError) as raised:
        call(b"")
    assert isinstance(raised.value, grpc.Call)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_path_that_is_not_there(rest: Rest) -> None:
    for method, path in (("GET", "/v1/flights"), ("PUT", "/v1/jobs"), ("POST", "/v1/jobs/x:fly")):
        body = "{}" if method != "GET" else None
        refused = of_rest(rest, method, path, body, status=404)
        assert refused.reason == "MALFORMED_REQUEST"
        assert f"{method} {path}" in refused.message
    refused = of_rest(rest, "GET", "/v1/jobs?page_sice=3")
    assert "page_sice" in refused.message


def test_an_address_where_nobody_listens() -> None:
    address = f"127.0.0.1:{free_port()}"
    for words in (("whoami",), ("primes", "100")):
        ended = run(tallymesh(address, *words))
        assert (ended.returncode, ended.stdout) == (5, "")
        (line,) = ended.stderr.splitlines()
        assert f"no mesh answers at {address}" in line
        assert "tallymesh up" in line
    with Client(address, timeout=2) as client, pytest.raises(Unreachable):
        client.whoami()


def test_an_address_that_is_none() -> None:
    ended = run(tallymesh("nowhere:99999", "whoami"))
    assert ended.returncode == 2
    assert "'nowhere:99999' is not host:port" in ended.stderr
    with pytest.raises(InvalidField):
        Client("nowhere:99999")
