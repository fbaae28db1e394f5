"""Lists of abaci and of their changes, deletion, and ids that are too old."""

import time
from typing import Any

import grpc
import pytest

from tallymesh.v1 import abacus_service_pb2 as pb
from tallymesh_core.rpc.channel import MAX_MESSAGE_BYTES
from tests.integration.abacus.conftest import Node, StartNode
from tests.integration.abacus.test_service import VISITORS, error_info
from tests.integration.abacus.test_watch import read, watch_sum

OLD_ID = "01930000-0000-7000-8000-000000000000"  # made in 2024


async def add(node: Node, name: str = VISITORS, **fields: object) -> pb.AddNumberResponse:
    request = pb.AddNumberRequest(name=name, **fields)  # type: ignore[arg-type]
    answer = await node.stub.AddNumber(request)
    assert isinstance(answer, pb.AddNumberResponse)
    return answer


async def test_abaci_are_listed_page_by_page(node: Node) -> None:
    sums = [(await add(node, f"abaci/a{number}", number=number)).sum for number in range(7)]
    listed: list[pb.Sum] = []
    request = pb.ListAbaciRequest(page_size=3)
    while True:
        page = await node.stub.ListAbaci(request)
        listed += page.abaci
        if not page.next_page_token:
            break
        assert len(page.abaci) == 3
        request.page_token = page.next_page_token
    assert listed == sums


async def test_entries_tell_who_when_and_how_much(start_node: StartNode, store_url: str) -> None:
    one, two = [await start_node(store_url, name) for name in ("abacus-1", "abacus-2")]
    before = time.time()
    added = await add(one, decimal="0.50", request_id="r")
    await add(two, number=3, job="jobs/abcd")
    message = pb.AddNumbersRequest(name=VISITORS, stream_id="s", sequence=1, numbers=[1, 2])
    await two.stub.AddNumbers(iter([message]))
    await one.stub.ResetSum(pb.ResetSumRequest(name=VISITORS, request_id="q"))
    page = await two.stub.ListEntries(pb.ListEntriesRequest(parent=VISITORS))
    assert not page.next_page_token
    kind = pb.LedgerEntry
    assert [
        (one.version, one.kind, one.amount, one.add_count, one.initiated_by) for one in page.entries
    ] == [
        (4, kind.KIND_RESET, "-6.5", 0, "abacus-1"),
        (3, kind.KIND_BATCH, "3", 2, "abacus-2"),
        (2, kind.KIND_JOB, "3", 1, "abacus-2"),
        (1, kind.KIND_ADD, "0.5", 1, "abacus-1"),
    ]
    reset, batch, job, single = page.entries
    assert (reset.request_id, single.request_id, job.job) == ("q", "r", "jobs/abcd")
    assert (batch.stream_id, batch.sequence, job.request_id) == ("s", 1, "")
    assert single.name == f"{VISITORS}/entries/1"
    assert single.create_time == added.sum.update_time
    assert (
        before - 1 < single.create_time.seconds + single.create_time.nanos / 1e9 < time.time() + 1
    )
    assert {entry.principal for entry in page.entries} == {"anonymous"}


async def test_pages_of_entries(node: Node) -> None:
    for number in range(5):
        await add(node, number=number)
    seen, request = [], pb.ListEntriesRequest(parent=VISITORS, page_size=2)
    while True:
        page = await node.stub.ListEntries(request)
        seen += [entry.amount for entry in page.entries]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == ["4", "3", "2", "1", "0"]


async def test_a_full_page_of_the_longest_fits_into_a_message(node: Node) -> None:
    await add(node, decimal="9" * 4096, request_id="i" * 128)
    await add(node, decimal="-0." + "7" * 1024)
    await node.stub.ResetSum(pb.ResetSumRequest(name=VISITORS))
    await add(node, decimal="9" * 4096)
    longest = (await add(node, decimal="0." + "7" * 1024)).sum
    page = await node.stub.ListEntries(pb.ListEntriesRequest(parent=VISITORS, page_size=500))
    size = max(longest.ByteSize(), *(entry.ByteSize() for entry in page.entries))
    assert size > 5_000
    assert 500 * (size + 10) < MAX_MESSAGE_BYTES


async def test_a_deleted_one_begins_anew_and_its_watchers_see_it(
    start_node: StartNode, store_url: str
) -> None:
    one, two = [await start_node(store_url, name) for name in ("abacus-1", "abacus-2")]
    first = await add(one, number=5, request_id="r")
    call = watch_sum(one)
    assert (await read(call)).value == "5"
    request = pb.DeleteAbacusRequest(name=VISITORS, request_id="d", expected_etag=first.sum.etag)
    deleted = await two.stub.DeleteAbacus(request)
    assert (deleted.previous.value, deleted.previous.etag) == ("5", first.sum.etag)
    told = await read(call)
    assert (told.value, told.version) == ("0", 0)
    assert (await one.stub.DeleteAbacus(request)).repeated
    assert (await add(two, number=5, request_id="r")).repeated
    assert (await add(two, number=2)).sum.version > first.sum.version
    assert (await read(call)).value == "2"
    request.request_id, request.expected_etag = "e", first.sum.etag
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await two.stub.DeleteAbacus(request)
    assert error_info(caught.value).reason == "ETAG_MISMATCH"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await two.stub.DeleteAbacus(pb.DeleteAbacusRequest(name="abaci/none"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_an_id_that_may_be_forgotten_is_refused(node: Node) -> None:
    calls: dict[str, list[Any]] = {
        "request_id": [
            add(node, number=1, request_id=OLD_ID),
            node.stub.ResetSum(pb.ResetSumRequest(name=VISITORS, request_id=OLD_ID)),
            node.stub.DeleteAbacus(pb.DeleteAbacusRequest(name=VISITORS, request_id=OLD_ID)),
        ],
        "stream_id": [
            node.stub.AddNumbers(
                iter(
                    [pb.AddNumbersRequest(name=VISITORS, stream_id=OLD_ID, sequence=1, numbers=[1])]
                )
            )
        ],
    }
    for field, waiting in calls.items():
        for call in waiting:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            info = error_info(caught.value)
            assert (info.reason, info.metadata["field"]) == ("REQUEST_ID_FORGOTTEN", field)
    assert (await node.stub.GetSum(pb.GetSumRequest(name=VISITORS))).version == 0


async def test_bad_pages_are_refused(node: Node) -> None:
    token = (await node.stub.ListAbaci(pb.ListAbaciRequest())).next_page_token
    assert token == ""
    bad = [
        ("page_size", pb.ListAbaciRequest(page_size=501)),
        ("page_size", pb.ListAbaciRequest(page_size=-1)),
        ("page_token", pb.ListAbaciRequest(page_token="x")),
        ("parent", pb.ListEntriesRequest(parent="visitors")),
        ("page_size", pb.ListEntriesRequest(parent=VISITORS, page_size=501)),
        ("page_token", pb.ListEntriesRequest(parent=VISITORS, page_token="x")),
    ]
    for field, request in bad:
        is_abaci = isinstance(request, pb.ListAbaciRequest)
        method = node.stub.ListAbaci if is_abaci else node.stub.ListEntries
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(request)  # type: ignore[arg-type]
        assert error_info(caught.value).metadata["field"] == field
