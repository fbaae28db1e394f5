"""The calls of an abacus node: what they answer, and what they refuse."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from tallymesh.v1 import abacus_service_pb2 as pb
from tallymesh_core.rpc.channel import open_channel
from tallymesh_core.store.connection import SCHEMA_VERSION
from tests.harness.polling import eventually
from tests.harness.valkey import ValkeyServer
from tests.integration.abacus.conftest import SERVICE, Node, StartNode

VISITORS = "abaci/visitors"


Request = pb.AddNumberRequest | pb.GetSumRequest | pb.ResetSumRequest | pb.WatchSumRequest

BAD_FIELDS: list[tuple[str, Request]] = [
    ("name", pb.AddNumberRequest(number=1)),
    ("name", pb.AddNumberRequest(name="visitors", number=1)),
    ("name", pb.AddNumberRequest(name="abaci/", number=1)),
    ("name", pb.AddNumberRequest(name="abaci/Visitors", number=1)),
    ("name", pb.AddNumberRequest(name="abaci/1a", number=1)),
    ("name", pb.AddNumberRequest(name="abaci/a/b", number=1)),
    ("name", pb.AddNumberRequest(name="abaci/a\n", number=1)),
    ("name", pb.AddNumberRequest(name="abaci/" + "a" * 64, number=1)),
    ("amount", pb.AddNumberRequest(name=VISITORS)),
    ("decimal", pb.AddNumberRequest(name=VISITORS, decimal="")),
    ("decimal", pb.AddNumberRequest(name=VISITORS, decimal="NaN")),
    ("decimal", pb.AddNumberRequest(name=VISITORS, decimal="-inf")),
    ("decimal", pb.AddNumberRequest(name=VISITORS, decimal="1e999999")),
    ("decimal", pb.AddNumberRequest(name=VISITORS, decimal="1" * 1_000_000)),
    ("request_id", pb.AddNumberRequest(name=VISITORS, number=1, request_id="a b")),
    ("request_id", pb.AddNumberRequest(name=VISITORS, number=1, request_id="é")),
    ("request_id", pb.AddNumberRequest(name=VISITORS, number=1, request_id="a" * 129)),
    (
        "request_id",
        pb.AddNumberRequest(name=VISITORS, number=1, request_id="a", job="jobs/abcd"),
    ),
    ("job", pb.AddNumberRequest(name=VISITORS, number=1, job="abcd")),
    ("expected_etag", pb.AddNumberRequest(name=VISITORS, number=1, expected_etag="7")),
    ("expected_etag", pb.ResetSumRequest(name=VISITORS, expected_etag='W/"1-1"')),
    ("name", pb.GetSumRequest(name="abaci/é")),
    ("name", pb.ResetSumRequest(name="a")),
    ("request_id", pb.ResetSumRequest(name=VISITORS, request_id="\x7f")),
    ("name", pb.WatchSumRequest(name="")),
]


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    status = rpc_status.from_call(cast(grpc.Call, error))
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    return info


async def test_add_get_reset(node: Node) -> None:
    added = await node.stub.AddNumber(pb.AddNumberRequest(name=VISITORS, number=42))
    assert (added.added, added.sum.value, added.sum.number) == ("42", "42", 42)
    assert (added.sum.name, added.sum.answered_by) == (VISITORS, "abacus-1")
    added = await node.stub.AddNumber(pb.AddNumberRequest(name=VISITORS, decimal="-0.50"))
    assert (added.added, added.sum.value, added.sum.add_count) == ("-0.5", "41.5", 2)
    assert not added.sum.HasField("number")
    assert await node.stub.GetSum(pb.GetSumRequest(name=VISITORS)) == added.sum
    reset = await node.stub.ResetSum(pb.ResetSumRequest(name=VISITORS))
    assert reset.previous == added.sum
    assert (reset.sum.value, reset.sum.number, reset.sum.add_count) == ("0", 0, 0)
    assert reset.sum.HasField("number")
    assert reset.sum.version == 3


async def test_etag_is_that_of_any_answer_of_any_node(
    start_node: StartNode, store_url: str
) -> None:
    one, two = await start_node(store_url, "abacus-1"), await start_node(store_url, "abacus-2")
    added = await one.stub.AddNumber(pb.AddNumberRequest(name=VISITORS, number=1))
    etag = (await two.stub.GetSum(pb.GetSumRequest(name=VISITORS))).etag
    assert etag == added.sum.etag != ""
    expecting = pb.AddNumberRequest(name=VISITORS, number=1, expected_etag=etag)
    current = (await two.stub.AddNumber(expecting)).sum.etag
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await one.stub.AddNumber(expecting)
    assert caught.value.code() == grpc.StatusCode.ABORTED
    info = error_info(caught.value)
    assert (info.reason, info.metadata["current"]) == ("ETAG_MISMATCH", current)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await one.stub.ResetSum(pb.ResetSumRequest(name=VISITORS, expected_etag=etag))
    assert caught.value.code() == grpc.StatusCode.ABORTED


async def test_one_never_used_is_zero(node: Node) -> None:
    never = await node.stub.GetSum(pb.GetSumRequest(name=VISITORS))
    assert (never.value, never.number, never.version) == ("0", 0, 0)
    assert never.HasField("number")
    assert not never.HasField("update_time")


async def test_every_answer_names_the_node(node: Node) -> None:
    call = node.stub.GetSum(pb.GetSumRequest(name=VISITORS))
    metadata = dict(await call.trailing_metadata())
    assert metadata["tallymesh-node"] == "abacus-1"
    assert metadata["tallymesh-request-id"]


async def test_a_repeat_is_told_and_another_request_refused(node: Node) -> None:
    request = pb.AddNumberRequest(name=VISITORS, number=5, request_id="one")
    first = await node.stub.AddNumber(request)
    again = await node.stub.AddNumber(request)
    assert (first.repeated, again.repeated) == (False, True)
    assert (again.added, again.sum) == (first.added, first.sum)
    request.number = 6
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.stub.AddNumber(request)
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert error_info(caught.value).reason == "REQUEST_ID_REUSED"
    reset = pb.ResetSumRequest(name=VISITORS, request_id="two")
    answers = [await node.stub.ResetSum(reset) for _ in range(2)]
    assert [answer.repeated for answer in answers] == [False, True]
    assert answers[0].previous == answers[1].previous


async def test_a_job_counts_once(node: Node) -> None:
    request = pb.AddNumberRequest(name=VISITORS, number=5, job="jobs/abcd1")
    answers = [await node.stub.AddNumber(request) for _ in range(2)]
    assert [answer.repeated for answer in answers] == [False, True]
    assert answers[1].sum.value == "5"


async def test_bad_fields_are_refused_by_name(node: Node) -> None:
    calls: dict[type[Request], Any] = {
        pb.AddNumberRequest: node.stub.AddNumber,
        pb.GetSumRequest: node.stub.GetSum,
        pb.ResetSumRequest: node.stub.ResetSum,
        pb.WatchSumRequest: lambda request: node.stub.WatchSum(request).read(),
    }
    for field, request in BAD_FIELDS:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls[type(request)](request)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        info = error_info(caught.value)
        assert (info.domain, info.reason) == ("tallymesh", "INVALID_FIELD")
        assert info.metadata["field"] == field, request
        assert info.metadata["bound"]


async def test_wide_sums_travel_whole(node: Node) -> None:
    wide = "-" + "8" * 3072 + "." + "3" * 1024
    added = await node.stub.AddNumber(pb.AddNumberRequest(name=VISITORS, decimal=wide))
    assert added.sum.value == added.added == wide
    for _ in range(2):
        added = await node.stub.AddNumber(pb.AddNumberRequest(name=VISITORS, decimal="9" * 4096))
    assert len(added.sum.value) > 5000


async def test_callers_at_once_are_exact_and_each_answered_alone(node: Node) -> None:
    async def post(caller: int) -> list[pb.AddNumberResponse]:
        requests = [
            pb.AddNumberRequest(name=VISITORS, decimal=f"{caller}.{turn:02}", request_id=f"{turn}")
            if turn % 10 == 9
            else pb.AddNumberRequest(name=VISITORS, decimal=f"{caller}.{turn:02}")
            for turn in range(40)
        ]
        for request in requests:
            if request.request_id:
                request.request_id += f"-of-{caller}"
        return [await node.stub.AddNumber(request) for request in requests]

    answers = [one for share in await asyncio.gather(*map(post, range(16))) for one in share]
    final = await node.stub.GetSum(pb.GetSumRequest(name=VISITORS))
    # 40 × (0 + … + 15) + 16 × (0.00 + … + 0.39)
    assert final.value == "4924.8"
    assert sorted(one.sum.version for one in answers) == list(range(1, 641))


async def test_one_caller_leaving_disturbs_no_other(node: Node) -> None:
    calls = [node.stub.AddNumber(pb.AddNumberRequest(name=VISITORS, number=1)) for _ in range(50)]
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls[1::2])
    assert len({one.sum.version for one in answers}) == 25


async def test_several_nodes_share_their_abaci(start_node: StartNode, store_url: str) -> None:
    one = await start_node(store_url, "abacus-1")
    two = await start_node(store_url, "abacus-2")
    request = pb.AddNumberRequest(name=VISITORS, number=5, request_id="one")
    first = await one.stub.AddNumber(request)
    again = await two.stub.AddNumber(request)
    assert again.repeated
    assert again.sum.answered_by == "abacus-2"
    assert again.sum.version == first.sum.version


async def test_reflection_tells_of_the_service(node: Node) -> None:
    async with open_channel(node.address) as channel:
        stub_of: Any = reflection_pb2_grpc.ServerReflectionStub  # typed for blocking channels only
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = stub_of(channel).ServerReflectionInfo(iter([request]))
        async for answer in call:
            names = {service.name for service in answer.list_services_response.service}
            assert SERVICE in names


async def test_it_waits_for_its_store(
    start_node: StartNode, new_valkey: Callable[..., ValkeyServer]
) -> None:
    server = new_valkey()
    server.kill()
    node = await start_node(server.url, ready=False)
    assert not await node.serving()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.stub.GetSum(pb.GetSumRequest(name=VISITORS))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert error_info(caught.value).reason == "STORE_UNAVAILABLE"
    server.restart()
    await eventually(node.serving)
    added = await node.stub.AddNumber(pb.AddNumberRequest(name=VISITORS, number=1))
    assert added.sum.value == "1"


async def test_it_comes_back_with_a_store_that_lost_everything(
    start_node: StartNode, new_valkey: Callable[..., ValkeyServer]
) -> None:
    server = new_valkey()
    node = await start_node(server.url)
    await node.stub.AddNumber(pb.AddNumberRequest(name=VISITORS, number=1))
    server.kill()
    await eventually(lambda: not_serving(node))
    server.restart()
    await eventually(node.serving)
    added = await node.stub.AddNumber(pb.AddNumberRequest(name=VISITORS, number=7))
    assert added.sum.value == "7"
    assert server.execute("HGET", "tm:meta", "schema") == str(SCHEMA_VERSION)


async def not_serving(node: Node) -> bool:
    return not await node.serving()
