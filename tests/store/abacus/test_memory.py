"""Ids are remembered for their window, or until very many came after them; then refused or new."""

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tallymesh_core.domain.decimals import Exact
from tallymesh_core.domain.errors import RequestIdForgotten
from tallymesh_core.store.abaci import Abaci, Add, Added, Batch
from tallymesh_core.store.connection import Store
from tallymesh_core.store.once import Memory, Once
from tests.harness.stores import client_of
from tests.store.abacus.conftest import ORIGIN, VISITORS

#: A time far from now, from which on the store's clock is set by hand.
START = 4_102_444_800_000
HOUR = 3_600_000


class Clock:
    """The store's clock on the abacus's shard."""

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key
        self.ms = START

    async def go(self, ms: int) -> None:
        self.ms += ms
        await self._client.set(self._key, self.ms)


@pytest_asyncio.fixture
async def clock(store: Store) -> AsyncIterator[Clock]:
    shard = store.shard_of(*VISITORS)
    clock = Clock(await client_of(store, shard), f"{store.prefix(shard)}clock")
    await clock.go(0)
    yield clock


@pytest.fixture(params=list(Memory))
def memory(request: pytest.FixtureRequest) -> Memory:
    chosen: Memory = request.param
    return chosen


def dated(ms: int, noise: int = 0) -> str:
    """A UUID of version 7 made at this time."""
    stamp = f"{ms:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7{noise >> 12 & 0xFFF:03x}-8{noise & 0xFFF:03x}-0123456789ab"


async def add(abaci: Abaci, once: Once | None) -> Added:
    [answer] = await abaci.add(abaci.shard_of(VISITORS), [Add(VISITORS, Exact(1), ORIGIN, once)])
    if not isinstance(answer, Added):
        raise answer
    return answer


def test_what_an_id_tells_of_its_time() -> None:
    assert Once(dated(START)).made_ms == START
    assert Once("01930000-0000-7000-8000-000000000000".upper()).made_ms == 0x019300000000
    for undated in (
        "",
        "one",
        "0193000000007000800000000000",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    ):
        assert Once(undated).made_ms == 0


async def test_an_id_is_remembered_for_its_window_and_not_for_ever(
    abaci: Abaci, clock: Clock, memory: Memory
) -> None:
    once = Once("one", memory)
    await add(abaci, Once("before", memory))
    await clock.go(memory.value)
    await add(abaci, once)
    await clock.go(memory.value)
    await add(abaci, Once("after", memory))
    assert (await add(abaci, once)).repeated
    for number in range(2):
        await clock.go(memory.value + 60_000)
        await add(abaci, Once(f"much-later-{number}", memory))
    assert not (await add(abaci, once)).repeated


async def test_an_id_that_tells_its_time_is_refused_once_it_may_be_forgotten(
    abaci: Abaci, clock: Clock, memory: Memory
) -> None:
    first, never_sent = Once(dated(clock.ms), memory), Once(dated(clock.ms, 1), memory)
    await add(abaci, first)
    await clock.go(memory.value)
    assert (await add(abaci, first)).repeated
    assert not (await add(abaci, never_sent)).repeated
    for step in range(3):
        await clock.go(memory.value)
        await add(abaci, Once(dated(clock.ms, step), memory))
    for forgotten in (first, Once(dated(START, 2), memory)):
        with pytest.raises(RequestIdForgotten):
            await add(abaci, forgotten)
    assert (await abaci.get(VISITORS)).value.unscaled == 5


async def test_so_is_one_that_very_many_came_after(
    store: Store, abaci: Abaci, clock: Clock
) -> None:
    small = Abaci(store, remembered=3)
    ids = []
    for step in range(12):
        await clock.go(1)
        ids.append(dated(clock.ms, step))
        await add(small, Once(ids[-1]))
    assert all([(await add(small, Once(id_))).repeated for id_ in ids[-3:]])
    for id_ in ids[:3]:
        with pytest.raises(RequestIdForgotten):
            await add(small, Once(id_))
    assert not (await add(small, Once(dated(clock.ms, 99)))).repeated


async def test_every_change_refuses_a_forgotten_id(abaci: Abaci, clock: Clock) -> None:
    await add(abaci, None)
    old = dated(clock.ms - 25 * HOUR)
    with pytest.raises(RequestIdForgotten):
        await abaci.reset(VISITORS, ORIGIN, Once(old))
    with pytest.raises(RequestIdForgotten):
        await abaci.delete(VISITORS, Once(old))
    with pytest.raises(RequestIdForgotten) as caught:
        await abaci.add_batch(Batch(VISITORS, Exact(1), 1, ORIGIN, old, 1))
    assert caught.value.field == "stream_id"
    assert (await abaci.get(VISITORS)).version == 1


async def test_an_id_of_a_clock_that_is_ahead_is_like_one_without_a_time(
    abaci: Abaci, clock: Clock
) -> None:
    ahead = Once(dated(clock.ms + HOUR))
    await add(abaci, ahead)
    assert (await add(abaci, ahead)).repeated
    # Nor does it make those look old that tell the right time.
    small = Abaci(abaci._store, remembered=1)
    for step in range(4):
        await add(small, Once(dated(clock.ms + HOUR, step)))
    assert not (await add(small, Once(dated(clock.ms)))).repeated


# On which shard the abacus lives makes no difference here.
@pytest.mark.parametrize("layout", ["1 shard"], indirect=True)
@pytest.mark.parametrize("seed", range(5))
async def test_no_id_that_tells_its_time_counts_twice(
    store: Store, clock: Clock, seed: int
) -> None:
    dice, most = random.Random(seed), 6
    abaci = Abaci(store, remembered=most)
    counted: dict[str, tuple[int, int]] = {}
    for turn in range(400):
        # In some runs ids are forgotten as time goes by, in others as there are too many.
        await clock.go(dice.choice([0, 1, HOUR // 20, HOUR // 3, HOUR + 1] if seed % 2 else [0, 9]))
        if counted and dice.random() < 0.5:
            id_ = dice.choice(list(counted)[-3 * most :])
        else:
            skew = dice.choice([0, 0, 5_000, -HOUR // 2] if seed % 2 else [0, 0, 3, -3])
            id_ = dated(clock.ms + skew, turn)
        try:
            answer = await add(abaci, Once(id_))
        except RequestIdForgotten:
            answer = None
        if id_ in counted:
            made_at, number = counted[id_]
            assert answer is None or answer.repeated
            if clock.ms - made_at < HOUR and len(counted) - number < most:
                assert answer is not None
        elif answer:
            assert not answer.repeated
            counted[id_] = clock.ms, len(counted)
    assert (await abaci.get(VISITORS)).value.unscaled == len(counted)
    assert len(counted) > 100


@pytest.mark.parametrize("layout", ["1 shard"], indirect=True)
async def test_memory_is_bounded_however_many_ids_come(store: Store, memory: Memory) -> None:
    most = 50
    abaci = Abaci(store, remembered=most)
    shard = abaci.shard_of(VISITORS)
    client = await client_of(store, shard)
    adds = [Add(VISITORS, Exact(1), ORIGIN, Once(f"id-{n}", memory)) for n in range(10 * most)]
    answers = await abaci.add(shard, adds)
    assert not any(isinstance(answer, Added) and answer.repeated for answer in answers)
    buckets = [key async for key in client.scan_iter(match="*abacus:*:*:*")]
    sizes = [await client.hlen(key) for key in buckets]
    assert len(buckets) == 2
    assert most <= sum(sizes) <= 2 * most
    latest = await abaci.add(shard, adds[-most:])
    assert all(isinstance(answer, Added) and answer.repeated for answer in latest)


async def test_what_is_remembered_expires(store: Store, abaci: Abaci, memory: Memory) -> None:
    await add(abaci, Once("one", memory))
    await add(abaci, Once("two", memory))
    client = await client_of(store, abaci.shard_of(VISITORS))
    kept = [key async for key in client.scan_iter(match="*abacus:*:*")]
    assert len(kept) == 2
    for key in kept:
        assert memory.value < await client.pttl(key) <= 2 * memory.value + 60_000
