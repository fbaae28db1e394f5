"""How a client reaches a mesh: TLS, tokens, several addresses."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from tallymesh import AsyncClient, Client, ClientClosed, InvalidField, TallymeshError, Tls
from tests.harness.certificates import Certificates, make_certificates
from tests.harness.polling import eventually, eventually_sync
from tests.unit.client.fake_mesh import FakeMesh


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[FakeMesh]:
    """A mesh that speaks TLS, and asks clients for a certificate."""
    pair = (certificates.key.read_bytes(), certificates.certificate.read_bytes())
    authority = certificates.authority.read_bytes()
    credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=True)
    fake = FakeMesh(credentials)
    yield fake
    fake.close()


def whoami(face: type, *args: Any, **options: Any) -> Any:
    """Asks who answers, by either face."""
    if face is Client:
        with Client(*args, **options) as client:
            return client.whoami()

    async def ask() -> Any:
        async with AsyncClient(*args, **options) as client:
            return await client.whoami()

    return asyncio.run(ask())


@pytest.mark.parametrize("face", [Client, AsyncClient])
def test_tls_with_a_certificate_of_ones_own(
    secure: FakeMesh, certificates: Certificates, face: type
) -> None:
    tls = Tls(certificates.authority, certificates.certificate, certificates.key)
    assert whoami(face, secure.address, tls=tls, token="secret")
    assert secure.metadata[-1]["authorization"] == "Bearer secret"
    with pytest.raises(TallymeshError):
        whoami(face, secure.address, tls=Tls(certificates.authority), timeout=1)
    with pytest.raises(TallymeshError):
        whoami(face, secure.address, tls=True, timeout=1)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"token": "a\nb"}, "token"),
        ({"metadata": {"Upper": "x"}}, "metadata"),
        ({"metadata": {"trace-bin": "x"}}, "metadata"),
        ({"metadata": {"team": "a\nb"}}, "metadata.team"),
        ({"timeout": float("nan")}, "timeout"),
    ],
    ids=str,
)
def test_what_grpc_would_not_take_is_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        Client("localhost:1", **options)
    assert refused.value.field == field


@pytest.mark.parametrize("face", [Client, AsyncClient])
def test_no_timeout_is_too_long(face: type) -> None:
    with closing(FakeMesh()) as mesh:
        assert whoami(face, mesh.address, timeout=float("inf"))
        assert whoami(face, mesh.address, timeout=1e18)


def test_who_waits_as_the_client_is_closed_is_told_so() -> None:
    told: list[BaseException] = []

    def wait(client: Client) -> None:
        try:
            client.job("abc1").result()
        except BaseException as error:
            told.append(error)

    with closing(FakeMesh()) as mesh:
        client = Client(mesh.address)
        waiting = threading.Thread(target=wait, args=(client,))
        waiting.start()
        eventually_sync(lambda: mesh.asked("WatchJob"))
        client.close()
        waiting.join(10)
        with pytest.raises(ClientClosed, match="the client is closed"):
            client.whoami()
    assert [(type(one), str(one)) for one in told] == [(ClientClosed, "the client is closed")]


async def test_what_waits_as_the_client_is_closed_is_told_so() -> None:
    with closing(FakeMesh()) as mesh:
        client = AsyncClient(mesh.address)
        waiting = asyncio.create_task(client.job("abc1").result())
        await eventually(lambda: mesh.asked("WatchJob"))
        await client.close()
        for late in (waiting, client.whoami()):
            with pytest.raises(ClientClosed, match="the client is closed"):
                await asyncio.wait_for(late, 10)


@pytest.mark.parametrize("face", [Client, AsyncClient])
def test_several_addresses_share_the_calls(face: type) -> None:
    meshes = [FakeMesh(), FakeMesh()]

    def ask_until_both_were() -> None:
        with Client([mesh.address for mesh in meshes]) as client:
            for _ in range(200):
                client.whoami()
                if all(mesh.calls for mesh in meshes):
                    return
        raise AssertionError("one of them answered all calls")

    async def ask_until_both_were_async() -> None:
        async with AsyncClient([mesh.address for mesh in meshes]) as client:
            for _ in range(200):
                await client.whoami()
                if all(mesh.calls for mesh in meshes):
                    return
        raise AssertionError("one of them answered all calls")

    try:
        if face is Client:
            ask_until_both_were()
        else:
            asyncio.run(ask_until_both_were_async())
    finally:
        for mesh in meshes:
            mesh.close()


def test_a_token_goes_along_on_this_machine(mesh: FakeMesh) -> None:
    with Client(mesh.address, token="secret", metadata={"of": "mine"}) as client:
        client.whoami()
    sent = mesh.metadata[-1]
    assert (sent["authorization"], sent["of"]) == ("Bearer secret", "mine")


def test_a_token_is_not_sent_in_the_open() -> None:
    with pytest.raises(InvalidField, match="token") as caught:
        Client("mesh.example:8080", token="hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("tls", "field"),
    [
        (Tls(ca="/no/such/file"), "tls.ca"),
        (Tls(certificate=Path("/no/such/file")), "tls.key"),
        (Tls(certificate="/no/such/file", key="/no/such/file"), "tls.key"),
    ],
)
def test_files_that_are_not_there_are_named(tls: Tls, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        Client("localhost:1", tls=tls)
    assert caught.value.field == field
