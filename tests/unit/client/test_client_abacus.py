"""Abaci through the client: exact amounts of any size, and one count for each request."""

import itertools
import time
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import pytest

from tallymesh import (
    Client,
    DeadlineExceeded,
    InvalidField,
    LedgerEntry,
    Sum,
    Unreachable,
    many_numbers,
)
from tallymesh.calls import new_request_id
from tallymesh_core.domain.errors import ShuttingDown
from tests.unit.client.fake_mesh import Cut, FakeMesh, Reset


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
        with pytest.raises(InvalidField, match="amount"):
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


def test_ids_tell_their_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [UUID(new_request_id()) for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(ids)) == 1000
    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}
    assert all(before <= one.int >> 80 <= after for one in ids)


def test_many_numbers_go_in_few_messages(mesh: FakeMesh, client: Client) -> None:
    numbers = range(25_000)
    assert client.abacus("beans").add_many(numbers) == sum(numbers)
    [messages] = mesh.asked("AddNumbers")
    assert [len(one.numbers) for one in messages] == [10_000, 10_000, 5_000]
    assert [one.sequence for one in messages] == [1, 2, 3]
    assert {one.name for one in messages} == {"abaci/beans", ""}
    assert UUID(messages[0].stream_id).version == 7


def test_very_many_go_in_several_calls_of_one_stream(
    mesh: FakeMesh, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_numbers, "_BATCH_NUMBERS", 10)
    numbers = itertools.repeat(Decimal("0.1"), 331)
    answer = client.abacus("beans").post_many(numbers, stream_id="s")
    assert (answer.accepted_count, answer.added, answer.sequence) == (331, "33.1", 34)
    calls = mesh.asked("AddNumbers")
    assert [len(messages) for messages in calls] == [32, 2]
    assert [messages[0].stream_id for messages in calls] == ["s", "s"]
    again = client.abacus("beans").post_many(itertools.repeat("0.1", 331), stream_id="s")
    assert (again.repeated_count, again.added) == (331, "0")


def test_all_sorts_of_numbers_are_exact(mesh: FakeMesh, client: Client) -> None:
    amounts: list[int | Decimal | str] = [
        1,
        Decimal("-0.25"),
        "2**70",
        2**63,
        -(2**63),
        "1e30",
        True,
    ]
    assert str(client.abacus("beans").add_many(amounts)) == f"{2**70 + 10**30 + 1}.75"
    assert client.abacus("peas").add_many([]) == 0
    long = ["9" * 4000] * 600
    assert client.abacus("peas").add_many(long) == Decimal(600 * (10**4000 - 1))
    assert len(mesh.asked("AddNumbers")[-1]) == 3


def test_one_that_is_no_number_is_named(mesh: FakeMesh, client: Client) -> None:
    with pytest.raises(InvalidField) as caught:
        client.abacus("beans").add_many([*range(10_002), "many"])
    assert caught.value.field == "amounts[10002]"
    with pytest.raises(TypeError, match="float"):
        client.abacus("beans").add_many([1, 0.5])  # type: ignore[list-item]
    assert not mesh.calls


def test_a_stream_that_breaks_is_sent_again(mesh: FakeMesh, client: Client) -> None:
    mesh.early_headers = True
    mesh.fail("AddNumbers", Reset(), ShuttingDown("abacus-1"))
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(50_000):
            asked.append(number)
            yield number

    answer = client.abacus("beans").post_many(numbers())
    assert (answer.accepted_count, answer.repeated_count) == (50_000, 0)
    assert asked == list(range(50_000))
    first, second, third = mesh.asked("AddNumbers")
    assert first == second == third


def test_a_stream_that_breaks_for_good_says_so(mesh: FakeMesh, client: Client) -> None:
    mesh.early_headers = True
    mesh.fail("AddNumbers", *[Reset()] * 10)
    with pytest.raises(Unreachable):
        client.abacus("beans").add_many(range(50_000), timeout=0.5)


def test_abaci_and_entries_come_page_by_page(mesh: FakeMesh, client: Client) -> None:
    mesh.sums = {f"abaci/a{n}": Sum(name=f"abaci/a{n}", value=str(n)) for n in range(5)}
    assert [one.value for one in client.abaci(page_size=2)] == ["0", "1", "2", "3", "4"]
    assert len(mesh.asked("ListAbaci")) == 3
    mesh.entries = [LedgerEntry(version=n) for n in range(5)]
    beans = client.abacus("beans")
    assert [one.version for one in beans.entries(page_size=3)] == [0, 1, 2, 3, 4]
    assert {asked.parent for asked in mesh.asked("ListEntries")} == {"abaci/beans"}


def test_delete_returns_what_was(mesh: FakeMesh, client: Client) -> None:
    mesh.sums["abaci/beans"] = Sum(name="abaci/beans", value="5")
    assert client.abacus("beans").delete(expected_etag="3-4").value == "5"
    [request] = mesh.asked("DeleteAbacus")
    assert (request.name, request.expected_etag) == ("abaci/beans", "3-4")
    assert UUID(request.request_id).version == 7
