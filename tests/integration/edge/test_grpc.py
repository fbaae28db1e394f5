"""Native gRPC and grpc-web through the edge."""

import json

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status

from tallymesh.v1 import (
    abacus_service_pb2,
    abacus_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    mesh_service_pb2,
    mesh_service_pb2_grpc,
)
from tests.integration.edge.conftest import ORIGIN, Edge


def call(channel: grpc.Channel, method: str, request: bytes) -> bytes:
    """Calls a unary method by its path."""
    made = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
    return made(request)


def test_each_service_is_reached_where_it_is_served(channel: grpc.Channel) -> None:
    mesh = mesh_service_pb2_grpc.MeshServiceStub(channel)
    abacus = abacus_service_pb2_grpc.AbacusServiceStub(channel)

    who = mesh.WhoAmI(mesh_service_pb2.WhoAmIRequest())
    total = abacus.GetSum(abacus_service_pb2.GetSumRequest(name="abaci/a"))

    assert who.answered_by == "gateway-1"
    assert total.answered_by == "abacus-1"


def test_answers_name_the_node_and_the_request(channel: grpc.Channel) -> None:
    mesh = mesh_service_pb2_grpc.MeshServiceStub(channel)
    _, call = mesh.WhoAmI.with_call(mesh_service_pb2.WhoAmIRequest())
    metadata = dict(call.trailing_metadata())
    assert metadata["tallymesh-node"] == "gateway-1"
    assert metadata["tallymesh-request-id"]


def test_errors_arrive_whole(channel: grpc.Channel) -> None:
    jobs = job_service_pb2_grpc.JobServiceStub(channel)
    with pytest.raises(grpc.RpcError) as raised:
        jobs.CreateJob(job_service_pb2.CreateJobRequest(job=job_pb2.Job(chunk_count=10**9)))

    assert isinstance(raised.value, grpc.Call)
    status = rpc_status.from_call(raised.value)
    assert status is not None
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("tallymesh", "INVALID_FIELD")
    assert info.metadata["value"] == "1000000000"


def test_a_stream_flows_message_by_message(channel: grpc.Channel) -> None:
    jobs = job_service_pb2_grpc.JobServiceStub(channel)
    watch = jobs.WatchJob(job_service_pb2.WatchJobRequest(name="jobs/grpc"), timeout=20)

    assert next(watch).WhichOneof("event") == "snapshot"
    jobs.CancelJob(job_service_pb2.CancelJobRequest(name="jobs/grpc"))
    assert [event.WhichOneof("event") for event in watch] == ["ended"]


async def test_who_leaves_a_thousand_watches_early_keeps_the_connection(edge: Edge) -> None:
    async with grpc.aio.insecure_channel(edge.address) as channel:
        jobs = job_service_pb2_grpc.JobServiceStub(channel)
        mesh = mesh_service_pb2_grpc.MeshServiceStub(channel)
        kept = jobs.WatchJob(job_service_pb2.WatchJobRequest(name="jobs/kept"), timeout=60)
        assert await kept.read() is not grpc.aio.EOF
        for _ in range(20):
            request = job_service_pb2.WatchJobRequest(name="jobs/silent")
            watches = [jobs.WatchJob(request, timeout=60) for _ in range(50)]
            # One connection: what is sent after them arrives after them.
            await mesh.WhoAmI(mesh_service_pb2.WhoAmIRequest())
            for watch in watches:
                watch.cancel()
        await jobs.CancelJob(job_service_pb2.CancelJobRequest(name="jobs/kept"))
        ended = await kept.read()
        assert isinstance(ended, job_pb2.JobEvent)
        assert ended.HasField("ended")


def test_health_is_the_gateways(channel: grpc.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service="tallymesh.v1.JobService")
    answer = call(channel, "/grpc.health.v1.Health/Check", request.SerializeToString())
    assert (
        health_pb2.HealthCheckResponse.FromString(answer).status
        == health_pb2.HealthCheckResponse.SERVING
    )


@pytest.mark.parametrize(
    "method",
    [
        "/tallymesh.v1.JobService/Nope",
        "/tallymesh.v1.WorkerService/Describe",
        "/acme.v1.Nothing/Here",
    ],
)
def test_what_is_not_served_is_unimplemented(channel: grpc.Channel, method: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        call(channel, method, b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_over_the_limit_is_refused(channel: grpc.Channel) -> None:
    jobs = job_service_pb2_grpc.JobServiceStub(channel)
    with pytest.raises(grpc.RpcError) as raised:
        jobs.CreateJob(job_service_pb2.CreateJobRequest(job=job_pb2.Job(queue="q" * 10_485_760)))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "over the limit of 4194304 bytes" in str(raised.value)


def test_grpc_web_with_cors(edge: Edge) -> None:
    answer = edge.request(
        "POST",
        "/tallymesh.v1.MeshService/WhoAmI",
        body=b"\0\0\0\0\0",
        headers={
            "content-type": "application/grpc-web+proto",
            "origin": "http://localhost:5173",
        },
    )
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    assert b"gateway-1" in answer.body
    assert b"grpc-status:0" in answer.body
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"grpc-status", "grpc-message", "grpc-status-details-bin"} <= set(exposed)
    assert {"tallymesh-node", "tallymesh-request-id"} <= set(exposed)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:5173", True),
        ("http://127.0.0.1", True),
        (ORIGIN, True),
        (f"{ORIGIN}:444", False),
        (f"{ORIGIN}.evil.example", False),
        ("https://xapp.example", False),
        ("https://example.com", False),
        ("http://localhost.example.com", False),
    ],
)
def test_only_pages_of_allowed_origins_may_call(edge: Edge, origin: str, allowed: bool) -> None:
    answer = edge.request(
        "OPTIONS",
        "/tallymesh.v1.JobService/CreateJob",
        headers={"origin": origin, "access-control-request-method": "POST"},
    )
    assert (answer.headers["access-control-allow-origin"] == origin) is allowed


@pytest.mark.parametrize("origin", ["https://example.com", "http://localhost.example.com", "null"])
def test_foreign_pages_change_nothing(edge: Edge, origin: str) -> None:
    simple = {"origin": origin, "content-type": "text/plain"}
    answer = edge.request("POST", "/v1/abaci/a:add", body='{"number": 1}', headers=simple)
    assert answer.status == 403
    assert json.loads(answer.body)["message"] == "pages of other sites may not call this mesh"


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("127.0.0.1:1", 200), ("[::1]:8080", 200), ("evil.example:8080", 403)],
)
def test_only_known_names_are_answered(edge: Edge, host: str, status: int) -> None:
    assert edge.request("GET", "/v1/whoami", headers={"host": host}).status == status
