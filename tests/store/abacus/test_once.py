"""A change with an id counts once, and every repeat gets the first answer."""

import asyncio

import pytest

from tallymesh_core.domain.decimals import Exact
from tallymesh_core.domain.errors import RequestIdReused
from tallymesh_core.store.abaci import Abaci, Add, Added
from tallymesh_core.store.connection import Store
from tallymesh_core.store.once import Memory, Once
from tallymesh_core.store.sums import Abacus
from tests.harness.stores import client_of
from tests.store.abacus.conftest import ORIGIN, VISITORS


async def add(abaci: Abaci, amount: int, once: Once | None) -> Added:
    shard = abaci.shard_of(VISITORS)
    [answer] = await abaci.add(shard, [Add(VISITORS, Exact(amount), ORIGIN, once)])
    if not isinstance(answer, Added):
        raise answer
    return answer


async def total(abaci: Abaci) -> int:
    return (await abaci.get(VISITORS)).value.unscaled


@pytest.fixture(params=list(Memory))
def memory(request: pytest.FixtureRequest) -> Memory:
    chosen: Memory = request.param
    return chosen


async def test_a_repeat_gets_the_first_answer(abaci: Abaci, memory: Memory) -> None:
    once = Once("one", memory)
    first = await add(abaci, 5, once)
    await add(abaci, 100, None)
    again = await add(abaci, 5, once)
    assert not first.repeated
    assert again == Added(first.sum, repeated=True)
    assert await total(abaci) == 105


async def test_equal_amounts_are_the_same_request(abaci: Abaci) -> None:
    shard, once = abaci.shard_of(VISITORS), Once("one")
    adds = [Add(VISITORS, value, ORIGIN, once) for value in (Exact(5), Exact(500, 2))]
    first, again = await abaci.add(shard, adds)
    assert isinstance(first, Added)
    assert again == Added(first.sum, repeated=True)


async def test_repeats_at_the_same_time_count_once(abaci: Abaci) -> None:
    once = Once("one")
    answers = await asyncio.gather(*[add(abaci, 5, once) for _ in range(20)])
    assert sorted(answer.repeated for answer in answers) == [False] + [True] * 19
    assert {answer.sum for answer in answers} == {answers[0].sum}
    assert await total(abaci) == 5


async def test_another_request_under_the_same_id_is_refused(abaci: Abaci) -> None:
    once = Once("one")
    await add(abaci, 5, once)
    with pytest.raises(RequestIdReused):
        await add(abaci, 6, once)
    with pytest.raises(RequestIdReused):
        await abaci.reset(VISITORS, ORIGIN, once)
    assert await total(abaci) == 5


async def test_a_refused_add_leaves_the_others_of_its_batch_be(abaci: Abaci) -> None:
    await add(abaci, 5, Once("taken"))
    adds = [
        Add(VISITORS, Exact(1), ORIGIN, Once("new")),
        Add(VISITORS, Exact(6), ORIGIN, Once("taken")),
        Add(VISITORS, Exact(2), ORIGIN),
    ]
    answers = await abaci.add(abaci.shard_of(VISITORS), adds)
    assert [isinstance(answer, Added) for answer in answers] == [True, False, True]
    assert await total(abaci) == 8


async def test_ids_belong_to_their_abacus_and_memory(abaci: Abaci) -> None:
    await add(abaci, 5, Once("one", Memory.REQUESTS))
    assert not (await add(abaci, 5, Once("one", Memory.JOBS))).repeated
    other = Add(Abacus("other", "visitors"), Exact(5), ORIGIN, Once("one"))
    [answer] = await abaci.add(abaci.shard_of(other.abacus), [other])
    assert isinstance(answer, Added)
    assert not answer.repeated


async def test_a_reset_counts_once_and_keeps_the_memory(abaci: Abaci) -> None:
    await add(abaci, 5, Once("add"))
    first = await abaci.reset(VISITORS, ORIGIN, Once("reset"))
    assert (first.previous.value.unscaled, first.repeated) == (5, False)
    assert (await add(abaci, 5, Once("add"))).repeated
    await add(abaci, 7, None)
    again = await abaci.reset(VISITORS, ORIGIN, Once("reset"))
    assert (again.previous, again.sum, again.repeated) == (first.previous, first.sum, True)
    assert await total(abaci) == 7
    with pytest.raises(RequestIdReused):
        await add(abaci, 5, Once("reset"))


async def test_the_first_reset_of_all_can_be_repeated(abaci: Abaci) -> None:
    first = await abaci.reset(VISITORS, ORIGIN, Once("reset"))
    again = await abaci.reset(VISITORS, ORIGIN, Once("reset"))
    assert again.previous == first.previous
    assert again.previous.version == 0


#: Of 4,096 digits, none of them zero.
LONG = int("7" * 4096)


async def test_what_an_id_takes_is_bounded_whatever_the_digits(store: Store, abaci: Abaci) -> None:
    shard = abaci.shard_of(VISITORS)
    client = await client_of(store, shard)

    async def size() -> int:
        (bucket,) = await client.keys(f"{store.prefix(shard)}abacus:{VISITORS.path}:*:[1-9]*")
        return int(await client.memory_usage(bucket, samples=0))

    await add(abaci, 1, Once("first"))
    for number in range(200):
        await add(abaci, 1, Once(f"short-{number}"))
    short = await size()
    first = await add(abaci, LONG, Once("long"))
    for number in range(200):
        await add(abaci, 1, Once(f"long-{number}"))
    # As many ids of a sum of 4,096 digits take no more than those of a short one.
    assert await size() - short < 1.5 * short
    again = await add(abaci, LONG, Once("long"))
    assert again.repeated
    # Of a long sum the present one is told.
    assert again.sum == await abaci.get(VISITORS)
    assert again.sum.version == first.sum.version + 200
    short_again = await add(abaci, 1, Once("short-0"))
    assert short_again.sum.value == Exact(2)
