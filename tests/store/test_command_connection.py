"""The connection of the scripts: every run ends, in order, whatever becomes of the connection."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

import pytest

from tallymesh_core.config.store_address import parse_address
from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.store.connection import Store
from tallymesh_core.store.scripts import Script
from tallymesh_core.store.server import Server
from tests.harness.valkey import ValkeyServer


def script(source: str) -> Script:
    return Script("test", source, hashlib.sha1(source.encode()).hexdigest())


ECHO = script("return ARGV[1]")


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    store = await Store.open(store_url)
    yield store
    await store.close()


async def test_answers_belong_to_their_runs_whatever_others_do(store: Store) -> None:
    failing = script("return redis.error_reply('ERR on purpose')")
    runs = [store.run(failing if i % 5 == 0 else ECHO, 0, str(i)) for i in range(500)]
    waiting = [asyncio.ensure_future(run) for run in runs]
    await asyncio.sleep(0)
    for cancelled in waiting[::7]:
        cancelled.cancel()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    for i, answer in enumerate(answers):
        if i % 7 == 0:
            assert isinstance(answer, asyncio.CancelledError)
        elif i % 5 == 0:
            assert "on purpose" in str(answer)
        else:
            assert answer == str(i).encode()


async def test_more_than_the_store_reads_at_once_is_held_back_and_sent(store: Store) -> None:
    texts = [str(i) * (4 << 20) for i in range(8)]
    answers = await asyncio.gather(*(store.run(ECHO, 0, text) for text in texts))
    assert [answer.decode() for answer in answers] == texts


async def test_flushed_scripts_are_loaded_again_in_order(
    store: Store, valkey_server: ValkeyServer
) -> None:
    append = script("return redis.call('RPUSH', KEYS[1] .. 'list', ARGV[1])")
    await store.run(append, 0, "0")
    valkey_server.execute("SCRIPT", "FLUSH")
    lengths = await asyncio.gather(*(store.run(append, 0, str(i)) for i in range(1, 50)))
    assert lengths == list(range(2, 51))
    async with store.at(0) as client:
        kept = await client.lrange(f"{store.prefix(0)}list", 0, -1)
    assert kept == [str(i).encode() for i in range(50)]


async def test_runs_on_a_connection_that_is_cut_end_and_the_next_connects_anew(
    store: Store, valkey_server: ValkeyServer
) -> None:
    for _ in range(3):
        assert await store.run(ECHO, 0, "before") == b"before"
        valkey_server.execute("CLIENT", "PAUSE", 60_000, "WRITE")
        runs = [asyncio.ensure_future(store.run(ECHO, 0, str(i))) for i in range(20)]
        await asyncio.sleep(0)
        valkey_server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        valkey_server.execute("CLIENT", "UNPAUSE")
        for answer in await asyncio.gather(*runs, return_exceptions=True):
            assert isinstance(answer, StoreUnavailable | bytes)
        assert await store.run(ECHO, 0, "after") == b"after"


@pytest.mark.parametrize("words", [b"", b"nonsense\r\n"], ids=["nothing", "nonsense"])
async def test_a_store_that_answers_nothing_or_nonsense_is_away(
    monkeypatch: pytest.MonkeyPatch, words: bytes
) -> None:
    monkeypatch.setattr("tallymesh_core.store.server._TIMEOUT_SECONDS", 0.3)
    connected = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                if any(word in line for word in (b"PING", b"SETINFO", b"SELECT")):
                    writer.write(b"+OK\r\n")
                elif b"EVALSHA" in line:
                    writer.write(words)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as fake:
        port = fake.sockets[0].getsockname()[1]
        address = parse_address(f"redis://127.0.0.1:{port}/0")
        server = Server(address, address.places[0])
        for attempt in (1, 2):
            runs = [server.run(ECHO, ("key", "x")) for _ in range(20)]
            answers = await asyncio.gather(*runs, return_exceptions=True)
            assert {type(answer) for answer in answers} == {StoreUnavailable}
            assert connected == attempt
        await server.close()
