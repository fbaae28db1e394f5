"""Every failure is one typed error, with what the mesh told of it."""

from typing import Any

import grpc
import pytest

import tallymesh
from tallymesh import Client, CountPrimes, errors
from tallymesh_core.domain import errors as domain
from tallymesh_core.domain.errors import DomainError
from tallymesh_core.rpc.interceptors import InternalError
from tests.unit.client.fake_mesh import REQUEST_ID, FakeMesh, Silence

BOUND = "in 0 to 100"


@pytest.mark.parametrize(
    ("told", "expected", "code"),
    [
        (domain.InvalidField("job.priority", 11, BOUND), errors.InvalidField, "INVALID_ARGUMENT"),
        (domain.UnknownKernel("job.work", "x", "add"), errors.UnknownKernel, "INVALID_ARGUMENT"),
        (domain.NotFound("jobs/x"), errors.NotFound, "NOT_FOUND"),
        (domain.RequestIdReused("r"), errors.RequestIdReused, "ALREADY_EXISTS"),
        (domain.RequestIdForgotten("r"), errors.RequestIdForgotten, "FAILED_PRECONDITION"),
        (domain.BatchesMissing("s", 5, 3), errors.BatchesMissing, "FAILED_PRECONDITION"),
        (domain.JobEnded("jobs/x", "FAILED"), errors.JobEnded, "FAILED_PRECONDITION"),
        (domain.BacklogFull("full", retry_after=2.5), errors.BacklogFull, "RESOURCE_EXHAUSTED"),
        (domain.EtagMismatch("abaci/a", "1-1", "2-2"), errors.EtagMismatch, "ABORTED"),
        (domain.ChunkFailed("no"), errors.Aborted, "ABORTED"),
        (InternalError("c0ffee"), errors.InternalError, "INTERNAL"),
    ],
)
def test_errors_have_the_type_of_their_reason(
    mesh: FakeMesh,
    client: Client,
    told: DomainError,
    expected: type[errors.TallymeshError],
    code: str,
) -> None:
    mesh.fail("GetJob", told)
    with pytest.raises(errors.TallymeshError) as caught:
        client.job("abc1").refresh()
    error = caught.value
    assert type(error) is expected
    assert (error.reason, error.code, error.message) == (told.reason, code, told.message)
    assert error.metadata == told.metadata
    assert error.retry_after == told.retry_after
    assert error.request_id == REQUEST_ID


def test_invalid_fields_name_field_value_and_bound(mesh: FakeMesh, client: Client) -> None:
    mesh.fail("GetJob", domain.InvalidField("job.priority", 11, BOUND))
    with pytest.raises(errors.InvalidField) as caught:
        client.job("abc1").refresh()
    error = caught.value
    assert (error.field, error.value, error.bound) == ("job.priority", "11", BOUND)
    assert isinstance(error, ValueError)


def test_internal_errors_carry_their_correlation_id(mesh: FakeMesh, client: Client) -> None:
    mesh.fail("GetJob", InternalError("c0ffee"))
    with pytest.raises(errors.InternalError) as caught:
        client.job("abc1").refresh()
    assert caught.value.correlation_id == "c0ffee"


def test_an_unhandled_error_of_another_server_is_internal(mesh: FakeMesh, client: Client) -> None:
    mesh.fail("WhoAmI", RuntimeError("boom"))
    with pytest.raises(errors.InternalError) as caught:
        client.whoami()
    assert (caught.value.reason, caught.value.code) == ("", "UNKNOWN")


def test_what_is_unavailable_is_asked_for_again(mesh: FakeMesh, client: Client) -> None:
    mesh.fail("WhoAmI", domain.ShuttingDown("gateway-1"), domain.ShuttingDown("gateway-1"))
    assert client.whoami().answered_by == "gateway-1"
    assert len(mesh.asked("WhoAmI")) == 3


def test_a_call_outlives_a_store_that_is_away_for_a_while(mesh: FakeMesh) -> None:
    away = domain.StoreUnavailable()
    away.retry_after = 0.01
    mesh.fail("CreateJob", *[away] * 12)
    with Client(mesh.address) as client:
        client.submit(CountPrimes(stop=10))
    requests = mesh.asked("CreateJob")
    assert len(requests) == 13
    assert len({request.request_id for request in requests}) == 1


@pytest.mark.parametrize("last", [domain.StoreUnavailable(), Silence()], ids=["told", "silent"])
def test_a_store_that_stays_away_ends_a_call_in_its_own_words(
    mesh: FakeMesh, last: DomainError | Silence
) -> None:
    away = domain.StoreUnavailable()
    away.retry_after = 0.01
    mesh.fail("CreateJob", *[away] * 5, *[last] * 5)
    with Client(mesh.address, timeout=0.5) as client, pytest.raises(errors.Unreachable) as caught:
        client.submit(CountPrimes(stop=10))
    assert (caught.value.reason, caught.value.code) == ("STORE_UNAVAILABLE", "UNAVAILABLE")


def test_an_address_where_nobody_listens_is_unreachable() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(errors.Unreachable) as caught:
        client.whoami()
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "")


def test_unary_calls_have_a_deadline(mesh: FakeMesh) -> None:
    mesh.fail("WhoAmI", Silence())
    with Client(mesh.address, timeout=0.1) as client, pytest.raises(errors.DeadlineExceeded):
        client.whoami()


@pytest.mark.parametrize(
    "address",
    [
        "ftp://a:1",
        "http://a/b",
        "a..b:1",
        "https://a:1,b:2",
        "a:b",
        "a:1:2",
        "a:99999",
        "a:0",
        " ",
        "a b",
        "unix:",
        ",",
    ],
)
def test_malformed_addresses_are_refused_before_any_call(address: str) -> None:
    with pytest.raises(errors.InvalidField, match="address"):
        Client(address)


def test_unknown_options_of_a_job_are_refused(mesh: FakeMesh) -> None:
    options: dict[str, Any] = {"prio": 3}
    with Client(mesh.address) as client, pytest.raises(TypeError, match="'priority'"):
        client.submit(CountPrimes(stop=10), **options)


def test_every_error_has_one_root() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(
        issubclass(kind, tallymesh.TallymeshError)
        for kind in kinds
        if issubclass(kind, BaseException)
    )


def test_the_public_face_is_whole() -> None:
    assert sorted(tallymesh.__all__) == list(tallymesh.__all__)
    for name in tallymesh.__all__:
        assert getattr(tallymesh, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        tallymesh.nothing  # noqa: B018


def test_grpc_errors_stay_the_cause(mesh: FakeMesh, client: Client) -> None:
    mesh.fail("GetJob", domain.NotFound("jobs/x"))
    with pytest.raises(errors.NotFound) as caught:
        client.job("x").refresh()
    assert isinstance(caught.value.__cause__, grpc.RpcError)
