"""Several abacus nodes behind the edge answer as one: whoever answers, the answer is right."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import grpc.aio
import pytest
import pytest_asyncio

from tallymesh.v1 import abacus_service_pb2 as pb
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tests.harness.local_mesh import LocalMesh, start_mesh
from tests.harness.processes import Processes

if TYPE_CHECKING:
    from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceAsyncStub

NODES = {"abacus-1", "abacus-2"}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    with Processes() as processes:
        folder = tmp_path_factory.mktemp("mesh")
        yield start_mesh(processes, folder, "--abaci", "2", "--workers", "1", "--slots", "1")


@pytest_asyncio.fixture
async def stub(mesh: LocalMesh) -> AsyncIterator["AbacusServiceAsyncStub"]:
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        yield AbacusServiceStub(channel)


@pytest.fixture
def name() -> str:
    return f"abaci/a{uuid4().hex}"


async def test_who_has_added_reads_it_at_any_node(
    stub: "AbacusServiceAsyncStub", name: str
) -> None:
    nodes: set[str] = set()

    async def add_and_read() -> None:
        for _ in range(25):
            added = await stub.AddNumber(pb.AddNumberRequest(name=name, number=1))
            read = await stub.GetSum(pb.GetSumRequest(name=name))
            assert read.version >= added.sum.version
            assert read.number >= added.sum.number
            nodes.update((added.sum.answered_by, read.answered_by))

    await asyncio.gather(*(add_and_read() for _ in range(8)))
    assert (await stub.GetSum(pb.GetSumRequest(name=name))).value == "200"
    assert nodes == NODES


async def test_a_repeat_gets_the_first_answer_from_any_node(
    stub: "AbacusServiceAsyncStub", name: str
) -> None:
    request = pb.AddNumberRequest(name=name, number=5, request_id="r")
    answers = await asyncio.gather(*(stub.AddNumber(request) for _ in range(40)))
    assert sorted(answer.repeated for answer in answers) == [False] + [True] * 39
    assert {(answer.sum.value, answer.sum.etag) for answer in answers} == {
        ("5", answers[0].sum.etag)
    }
    assert {answer.sum.answered_by for answer in answers} == NODES


async def test_a_stream_counts_once_at_all_nodes(stub: "AbacusServiceAsyncStub", name: str) -> None:
    messages = [
        pb.AddNumbersRequest(name=name, stream_id="s", sequence=number, numbers=range(1000))
        for number in range(1, 6)
    ]
    answers = await asyncio.gather(*(stub.AddNumbers(iter(messages)) for _ in range(8)))
    assert sum(answer.accepted_count for answer in answers) == 5_000
    assert sum(answer.repeated_count for answer in answers) == 35_000
    final = await stub.GetSum(pb.GetSumRequest(name=name))
    assert final.number == 5 * sum(range(1000))
    assert {answer.sum.answered_by for answer in answers} == NODES


async def test_each_etag_is_won_by_one_at_whichever_node(
    stub: "AbacusServiceAsyncStub", name: str
) -> None:
    async def add_once() -> None:
        while True:
            read = await stub.GetSum(pb.GetSumRequest(name=name))
            request = pb.AddNumberRequest(
                name=name, number=read.number + 1, expected_etag=read.etag
            )
            try:
                await stub.AddNumber(request)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.ABORTED:
                    raise
            else:
                return

    # Doubling and adding one, each exactly on the one before.
    await asyncio.gather(*(add_once() for _ in range(8)))
    assert (await stub.GetSum(pb.GetSumRequest(name=name))).number == 2**8 - 1
