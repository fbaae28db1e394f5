"""A change that expects an etag is made to the sum that was read, or not at all."""

import asyncio

import pytest

from tallymesh_core.domain.decimals import Exact
from tallymesh_core.domain.errors import EtagMismatch
from tallymesh_core.store.abaci import Abaci, Add, Added
from tallymesh_core.store.once import Once
from tallymesh_core.store.sums import Abacus
from tests.store.abacus.conftest import ORIGIN

SEATS = Abacus("default", "seats")


async def add(abaci: Abaci, amount: int, etag: str = "", once: Once | None = None) -> Added:
    adds = [Add(SEATS, Exact(amount), ORIGIN, once, etag)]
    [answer] = await abaci.add(abaci.shard_of(SEATS), adds)
    if not isinstance(answer, Added):
        raise answer
    return answer


async def test_add_to_what_was_read(abaci: Abaci) -> None:
    never = await abaci.get(SEATS)
    first = await add(abaci, 5, never.etag)
    second = await add(abaci, 2, first.sum.etag)
    assert second.sum == await abaci.get(SEATS)
    assert len({never.etag, first.sum.etag, second.sum.etag}) == 3


async def test_nothing_is_added_to_what_has_changed(abaci: Abaci) -> None:
    read = await abaci.get(SEATS)
    current = (await add(abaci, 5)).sum
    with pytest.raises(EtagMismatch) as caught:
        await add(abaci, 2, read.etag)
    assert caught.value.metadata["current"] == current.etag
    with pytest.raises(EtagMismatch):
        await abaci.reset(SEATS, ORIGIN, expected_etag=read.etag)
    assert await abaci.get(SEATS) == current


async def test_reset_of_what_was_read(abaci: Abaci) -> None:
    first = await add(abaci, 5)
    reset = await abaci.reset(SEATS, ORIGIN, expected_etag=first.sum.etag)
    assert reset.previous == first.sum
    with pytest.raises(EtagMismatch):
        await add(abaci, 1, first.sum.etag)


async def test_each_of_one_step_is_held_against_the_sum_before_it(abaci: Abaci) -> None:
    etag = (await abaci.get(SEATS)).etag
    adds = [Add(SEATS, Exact(1), ORIGIN, None, etag) for _ in range(3)]
    first, *others = await abaci.add(abaci.shard_of(SEATS), adds)
    assert isinstance(first, Added)
    assert [type(other) for other in others] == [EtagMismatch] * 2
    assert (await abaci.get(SEATS)).value.unscaled == 1


async def test_a_repeat_gets_its_first_answer_though_the_sum_has_changed(abaci: Abaci) -> None:
    etag = (await abaci.get(SEATS)).etag
    first = await add(abaci, 5, etag, Once("one"))
    await add(abaci, 7)
    assert await add(abaci, 5, etag, Once("one")) == Added(first.sum, repeated=True)


async def test_a_refused_request_may_be_made_again_under_its_id(abaci: Abaci) -> None:
    etag = (await abaci.get(SEATS)).etag
    current = (await add(abaci, 1)).sum
    with pytest.raises(EtagMismatch):
        await add(abaci, 5, etag, Once("one"))
    assert not (await add(abaci, 5, current.etag, Once("one"))).repeated


async def test_no_more_is_sold_than_there_is(abaci: Abaci) -> None:
    async def sell() -> bool:
        while (current := await abaci.get(SEATS)).value.unscaled < 10:
            try:
                await add(abaci, 1, current.etag)
            except EtagMismatch:
                continue
            return True
        return False

    sold = await asyncio.gather(*(sell() for _ in range(16)))
    assert sum(sold) == (await abaci.get(SEATS)).value.unscaled == 10
