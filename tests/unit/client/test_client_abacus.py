"""Abaci through the client: exact amounts of any size, and one count for each request."""

from decimal import Decimal

import pytest

from tallymesh import Client, DeadlineExceeded, InvalidField, Sum
from tests.unit.client.fake_mesh import Cut, FakeMesh


@pytest.mark.parametrize(
    ("amount", "member", "sent"),
    [
        (5, "number", 5),
        (-(2**63), "number", -(2**63)),
        (2**63, "decimal", str(2**63)),
        (10**400, "decimal", str(10**400)),
        (Decimal("-0.10"), "decimal", "-0.10"),
        (Decimal("1E+3"), "decimal", "1e3"),
        ("2**70", "decimal", str(2**70)),
    ],
)
def test_amounts_go_as_they_are(
    mesh: FakeMesh, client: Client, amount: int | Decimal | str, member: str, sent: object
) -> None:
    assert client.abacus("beans").add(amount) == Decimal(str(sent))
    [request] = mesh.asked("AddNumber")
    assert request.name == "abaci/beans"
    assert getattr(request, member) == sent
    assert request.WhichOneof("amount") == member
    assert len(request.request_id) == 36


def test_what_is_not_exact_is_not_sent(mesh: FakeMesh, client: Client) -> None:
    beans = client.abacus("abaci/beans")
    with pytest.raises(TypeError, match="float"):
        beans.add(0.1)  # type: ignore[arg-type]
    for amount in ("many", Decimal("inf"), 10**5000, "9^99999"):
        with pytest.raises(InvalidField, match="decimal"):
            beans.add(amount)
    assert not mesh.calls


def test_sum_and_reset(mesh: FakeMesh, client: Client) -> None:
    mesh.sums["abaci/beans"] = Sum(name="abaci/beans", value="1000000000000000000000.5")
    beans = client.abacus("beans")
    assert beans.sum == Decimal("1000000000000000000000.5")
    assert beans.reset(request_id="r") == Decimal("1000000000000000000000.5")
    assert mesh.asked("ResetSum")[0].request_id == "r"


def test_watch_yields_changes_only_and_survives_a_cut(mesh: FakeMesh, client: Client) -> None:
    first, second, third = (Sum(value=str(number), version=number) for number in (1, 2, 3))
    mesh.streams.extend([[first, first, second, Cut()], [second, third]])
    seen = []
    for current in client.abacus("beans").watch():
        seen.append(current.value)
        if current.value == "3":
            break
    assert seen == ["1", "2", "3"]


def test_watch_may_have_an_end(mesh: FakeMesh, client: Client) -> None:
    with pytest.raises(DeadlineExceeded):
        list(client.abacus("beans").watch(timeout=0.1))
