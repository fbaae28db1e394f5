"""Bad input: one table for every call, and every way in refuses it by code, reason and field."""

import re
from collections.abc import Iterator

import grpc
import pytest

from tallymesh import Client, InvalidField, Job, Simulate, UnknownKernel, Unreachable, Work
from tallymesh.v1 import job_service_pb2 as jobs
from tests.e2e.bad_requests import BAD, Bad
from tests.e2e.conftest import CommandLine
from tests.harness.commands import run, tallymesh
from tests.harness.entrances import METHODS, Entrance, Grpc, GrpcWeb, Refusal, RestEntrance
from tests.harness.local_mesh import LocalMesh
from tests.harness.ports import free_port
from tests.harness.rest import Rest

#: Calls that take nothing that could be wrong.
EMPTY = {"MeshService/GetHealth", "MeshService/WhoAmI", "MeshService/CheckStore"}


@pytest.fixture(scope="module")
def channel(mesh: LocalMesh) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(mesh.address) as channel:
        yield channel


@pytest.fixture(params=["gRPC", "grpc-web", "REST"])
def entrance(
    request: pytest.FixtureRequest, mesh: LocalMesh, channel: grpc.Channel, rest: Rest
) -> Entrance:
    match request.param:
        case "gRPC":
            return Grpc(channel)
        case "grpc-web":
            return GrpcWeb(mesh.address)
        case _:
            return RestEntrance(rest)


def assert_refused(refusal: Refusal, bad: Bad) -> None:
    assert (refusal.code, refusal.reason) == (bad.code, bad.reason), refusal
    if bad.reason == "NOT_FOUND":
        assert refusal.metadata["name"] == bad.value
        return
    assert refusal.fields == (bad.field,)
    assert refusal.metadata["field"] == bad.field
    assert bad.value in refusal.metadata["value"]
    assert bad.bound in refusal.metadata["bound"]
    for word in (bad.field, bad.bound):
        assert word in refusal.message


def test_the_table_has_every_call() -> None:
    assert {bad.method for bad in BAD} | EMPTY == set(METHODS)


@pytest.mark.parametrize("bad", [bad for bad in BAD if not bad.untyped], ids=str)
def test_a_bad_request(entrance: Entrance, bad: Bad) -> None:
    refusal = entrance.refusal(bad.method, bad.request)
    if refusal is None:  # REST has no path that could say it
        assert isinstance(entrance, RestEntrance)
        assert bad.field in ("name", "parent")
        return
    if bad.by_edge and isinstance(entrance, RestEntrance):
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
        assert refusal.message
        return
    assert_refused(refusal, bad)


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad.untyped], ids=str)
def test_rest_refuses_what_a_field_cannot_hold(rest: Rest, bad: Bad) -> None:
    refusal = RestEntrance(rest).refusal(bad.method, bad.request)
    assert refusal is not None
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
    leaf = bad.field.rpartition(".")[2]
    for word in (leaf, bad.value, "64"):
        assert word in refusal.message


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad.cli], ids=str)
def test_the_command_line_refuses_it(cli: CommandLine, bad: Bad) -> None:
    said = cli.fail(*bad.cli, code=2 if bad.code == "INVALID_ARGUMENT" else 1)
    if said.startswith("Usage:"):  # refused before it is a request: by the option's own name
        return
    (line,) = said.splitlines()
    if bad.reason == "NOT_FOUND":
        assert line.startswith(f"error: {bad.value} does not exist [reason=NOT_FOUND call=")
        return
    assert line.startswith(f"error: {bad.field}: '{bad.value}' is not ")
    assert bad.bound in line
    assert f"[reason={bad.reason} field={bad.field}" in line


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_are_no_message(mesh: LocalMesh, channel: grpc.Channel, method: str) -> None:
    for entrance in (Grpc(channel), GrpcWeb(mesh.address)):
        refusal = entrance.refusal_of_bytes(method, b"\xff\xff")
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
        assert refusal.message == f"what was sent is not a request of /tallymesh.v1.{method}"


@pytest.mark.parametrize("method", METHODS)
def test_rest_that_is_no_request(rest: Rest, method: str) -> None:
    entrance = RestEntrance(rest)
    verb, template, body = entrance.binding(method)
    path = re.sub(r"\{\w+=(\w+)/\*\}", r"\1/0000000000000000", template)
    if body:
        for malformed in ("{bad", '{"work":', "nonsense", '"text"', "\x00\x01"):
            refusal = entrance.refusal_of(verb, path, malformed)
            assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
            assert refusal.message
    empty = "[]" if method == "AbacusService/AddNumbers" else "{}"
    refusal = entrance.refusal_of(verb, f"{path}?page_sice=3", empty if body else None)
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
    assert "page_sice" in refusal.message


def test_an_unknown_kernel(channel: grpc.Channel, rest: Rest, client: Client) -> None:
    unknown = Work.FromString(b"\xfa\x3e\x00")  # field 1007
    request = jobs.CreateJobRequest(job=Job(work=unknown)).SerializeToString()
    refusal = Grpc(channel).refusal_of_bytes("JobService/CreateJob", request)
    assert (refusal.reason, refusal.metadata["field"]) == ("UNKNOWN_KERNEL", "job.work")
    assert "count_primes, add, simulate" in refusal.message
    refusal = RestEntrance(rest).refusal_of("POST", "/v1/jobs", '{"work": {"fly": {}}}')
    assert refusal.reason == "MALFORMED_REQUEST"
    assert "job.work.fly: no such field; there are count_primes, add, simulate" in refusal.message
    with pytest.raises(UnknownKernel):
        client.submit(unknown)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/deadLetters:delete", '{"filter": {"fail_time_from": "soon"}}'),
        ("/v1/deadLetters:replay", '{"filter": {"reason": "BAD_LUCK"}}'),
        ("/v1/jobs", '{"work": {"add": {}}, "ttl": "1 week"}'),
        ("/v1/jobs:batchCreate", '{"requests": {"job": []}}'),
        ("/v1/jobs", "[]"),
    ],
)
def test_rest_refuses_what_is_of_another_type(rest: Rest, path: str, body: str) -> None:
    assert RestEntrance(rest).refusal_of("POST", path, body).reason == "MALFORMED_REQUEST"


def test_dead_letters_by_command_line(cli: CommandLine) -> None:
    said = cli.fail("dlq", "show", "xyz", code=2)
    assert said.startswith("error: filter.group: 'deadLetterGroups/xyz' is not a group's name")
    assert "'bad_luck' is not one of" in cli.fail("dlq", "delete", "--reason", "bad_luck", code=2)
    for command in ("replay", "delete"):
        assert "name letters, or give --group" in cli.fail("dlq", command, "--dry-run", code=2)
    assert "'many' is not a number" in cli.fail("abacus", "add", "main", "many", code=2)


@pytest.mark.parametrize("path", ["/v1/jobs?page_token=%ff", "/v1/abaci/%ff"])
def test_a_text_that_is_not_utf_8(rest: Rest, path: str) -> None:
    refusal = RestEntrance(rest).refusal_of("GET", path, None)
    assert refusal.reason in {"MALFORMED_REQUEST", "INVALID_FIELD"}


def test_a_body_of_10_mib(rest: Rest, channel: grpc.Channel, client: Client) -> None:
    queue = "q" * 10 * 2**20
    answer = rest.request("POST", "/v1/jobs", f'{{"queue": "{queue}"}}')
    assert answer.status == 413
    assert answer.json["details"][0]["reason"] == "MALFORMED_REQUEST"
    assert "4194304 bytes" in answer.json["message"]

    for method in ("JobService/CreateJob", "JobService/RunJob"):
        refusal = Grpc(channel).refusal(method, {"job": {"queue": queue}})
        assert refusal.reason == "MALFORMED_REQUEST"
        assert refusal.metadata["bound"] == "at most 4194304 bytes"
        assert int(refusal.metadata["value"]) > 10 * 2**20
    with pytest.raises(InvalidField, match="over the limit of 4194304 bytes"):
        client.submit(Simulate(), queue=queue)


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


@pytest.mark.parametrize(
    ("verb", "path"),
    [("GET", "/v1/flights"), ("PUT", "/v1/jobs"), ("POST", "/v1/jobs/x:fly")],
)
def test_a_path_that_is_not_there(rest: Rest, verb: str, path: str) -> None:
    refusal = RestEntrance(rest).refusal_of(verb, path, None if verb == "GET" else "{}")
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "MALFORMED_REQUEST")
    assert f"{verb} {path}" in refusal.message


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
