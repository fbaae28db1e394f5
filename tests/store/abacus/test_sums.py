"""Sums are exact, whatever is added, in whatever order, by however many."""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallymesh_core.domain.decimals import Exact, as_int64, format_decimal, parse_decimal
from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.store.abaci import Abaci, Add, Added
from tallymesh_core.store.connection import Store
from tallymesh_core.store.events import Interrupted, abacus_changes
from tallymesh_core.store.sums import Abacus
from tests.harness.polling import eventually
from tests.harness.stores import client_of
from tests.harness.valkey import ValkeyServer
from tests.store.abacus.conftest import ORIGIN, VISITORS

LARGEST_LIMB = 10**9 - 1


async def add(abaci: Abaci, *amounts: Exact, abacus: Abacus = VISITORS) -> list[Added]:
    adds = [Add(abacus, amount, ORIGIN) for amount in amounts]
    answers = await abaci.add(abaci.shard_of(abacus), adds)
    return [answer for answer in answers if isinstance(answer, Added)]


def fraction(value: Exact) -> Fraction:
    return Fraction(value.unscaled, 10**value.scale)


async def test_an_abacus_never_used_is_zero(abaci: Abaci) -> None:
    never = await abaci.get(VISITORS)
    assert format_decimal(never.value) == "0"
    assert (never.add_count, never.version, never.update_ms) == (0, 0, 0)


async def test_a_tenth_ten_times_is_one(abaci: Abaci) -> None:
    sums = [added.sum for added in await add(abaci, *[parse_decimal("0.1", "decimal")] * 10)]
    tenths = [f"0.{tenth}" for tenth in range(1, 10)]
    assert [format_decimal(one.value) for one in sums] == [*tenths, "1"]
    assert as_int64(sums[-1].value) == 1
    assert await abaci.get(VISITORS) == sums[-1]


async def test_each_answer_is_the_state_just_after_its_add(abaci: Abaci) -> None:
    sums = [added.sum for added in await add(abaci, *map(Exact, (5, -7, 0, 10**40)))]
    assert [one.value.unscaled for one in sums] == [5, -2, -2, 10**40 - 2]
    assert [one.add_count for one in sums] == [1, 2, 3, 4]
    assert [one.version for one in sums] == [1, 2, 3, 4]
    assert 0 < sums[0].update_ms == sums[-1].update_ms


# Drawn by a seed, as Hypothesis shrinks numbers of this size too slowly.
wide_integers = st.integers(0, 2**32).map(
    lambda seed: random.Random(seed).randint(-(10**4000), 10**4000)
)
amounts = st.builds(
    Exact,
    st.integers(-(10**30), 10**30)
    | st.sampled_from([10**9, -(10**9), LARGEST_LIMB, -LARGEST_LIMB, 10**18 - 1, 1, -1])
    | wide_integers,
    st.sampled_from([0, 9, 10, 1024]) | st.integers(0, 40),
)


# On which shard the sum lives makes no difference here.
@pytest.mark.parametrize("layout", ["1 shard"], indirect=True)
@pytest.mark.parametrize("limb_limit", [10**9, 10**10 + 1, 2**50])
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.lists(amounts, min_size=1, max_size=12), min_size=1, max_size=5))
async def test_sums_equal_exact_arithmetic(
    store: Store, limb_limit: int, batches: Sequence[Sequence[Exact]]
) -> None:
    abaci = Abaci(store, limb_limit=limb_limit)
    await abaci.reset(VISITORS, ORIGIN)
    expected = Fraction(0)
    for batch in batches:
        answers = await add(abaci, *batch)
        for amount, answer in zip(batch, answers, strict=True):
            expected += fraction(amount)
            assert fraction(answer.sum.value) == expected
    now = await abaci.get(VISITORS)
    assert fraction(now.value) == expected
    assert now.add_count == sum(map(len, batches))
    shard = abaci.shard_of(VISITORS)
    key = f"{store.prefix(shard)}abacus:{VISITORS.path}"
    client = await client_of(store, shard)
    rods = await client.hgetall(key)
    assert all(0 < abs(int(rods[index])) < limb_limit for index in rods.keys() - {b"v", b"n", b"t"})


@pytest.mark.parametrize("sign", [1, -1])
async def test_limbs_at_the_default_limit_stay_exact(store: Store, abaci: Abaci, sign: int) -> None:
    shard = abaci.shard_of(VISITORS)
    key = f"{store.prefix(shard)}abacus:{VISITORS.path}"
    client = await client_of(store, shard)
    await client.hset(key, mapping={"0": sign * (2**50 - 1), "1": sign * (2**50 - 1)})
    expected = sign * (2**50 - 1) * (1 + 10**9)
    for added in await add(abaci, *[Exact(sign * LARGEST_LIMB)] * 3, Exact(sign)):
        expected += sign * (1 if added.sum.add_count == 4 else LARGEST_LIMB)
        assert added.sum.value.unscaled == expected
    assert int(await client.hget(key, "2")) == sign * (2**50 // 10**9)


async def test_rods_that_come_to_zero_leave_nothing(store: Store, abaci: Abaci) -> None:
    wide = parse_decimal("1" * 3000 + "." + "7" * 1000, "decimal")
    await add(abaci, wide, Exact(-wide.unscaled, wide.scale))
    shard = abaci.shard_of(VISITORS)
    key = f"{store.prefix(shard)}abacus:{VISITORS.path}"
    client = await client_of(store, shard)
    assert await client.hlen(key) == 3


async def test_sixteen_at_once_are_exact(abaci: Abaci) -> None:
    dice = random.Random(7)
    shares = [[Exact(dice.randint(-(10**15), 10**15), 3) for _ in range(60)] for _ in range(16)]

    async def post(share: Sequence[Exact]) -> list[Added]:
        return [answer for amount in share for answer in await add(abaci, amount)]

    answers = list(itertools.chain(*await asyncio.gather(*map(post, shares))))
    final = await abaci.get(VISITORS)
    assert fraction(final.value) == sum(map(fraction, itertools.chain(*shares)))
    assert sorted(answer.sum.version for answer in answers) == list(range(1, 16 * 60 + 1))
    assert final.add_count == final.version == 16 * 60


async def test_tenants_and_names_are_apart(abaci: Abaci) -> None:
    names = [Abacus("default", "a"), Abacus("default", "b"), Abacus("other", "a")]
    for number, abacus in enumerate(names, start=1):
        await add(abaci, Exact(number), abacus=abacus)
    assert [(await abaci.get(abacus)).value.unscaled for abacus in names] == [1, 2, 3]


async def test_reset_returns_what_was_and_versions_go_on(abaci: Abaci) -> None:
    await add(abaci, Exact(42), Exact(-2))
    reset = await abaci.reset(VISITORS, ORIGIN)
    assert (reset.previous.value.unscaled, reset.previous.add_count) == (40, 2)
    assert (reset.sum.value.unscaled, reset.sum.add_count, reset.sum.version) == (0, 0, 3)
    assert reset.sum == await abaci.get(VISITORS)
    assert reset.sum.update_ms >= reset.previous.update_ms
    [added] = await add(abaci, Exact(5))
    assert (added.sum.value.unscaled, added.sum.version) == (5, 4)


async def test_time_never_goes_back(store: Store, abaci: Abaci) -> None:
    ahead = 4_102_444_800_000
    shard = abaci.shard_of(VISITORS)
    await (await client_of(store, shard)).set(f"{store.prefix(shard)}clock", ahead)
    [added] = await add(abaci, Exact(1))
    assert added.sum.update_ms == ahead


async def test_changes_come_once_a_call_and_only_those_from_now_on(
    store: Store, abaci: Abaci
) -> None:
    await add(abaci, Exact(1), abacus=Abacus("default", "earlier"))
    async with aclosing(abacus_changes(store, abaci.shard_of(VISITORS))) as changes:
        assert isinstance(await anext(changes), Interrupted)
        await add(abaci, Exact(1), Exact(2))
        assert await anext(changes) == {"default/visitors"}
        following = asyncio.ensure_future(anext(changes))
        await asyncio.wait([following], timeout=0.1)
        assert not following.done()
        await abaci.reset(VISITORS, ORIGIN)
        assert await following == {"default/visitors"}


async def test_the_event_stream_is_capped(store: Store, abaci: Abaci) -> None:
    shard = abaci.shard_of(VISITORS)
    events = f"{store.prefix(shard)}abacus-events"
    client = await client_of(store, shard)
    async with aclosing(abacus_changes(store, shard)) as changes:
        assert isinstance(await anext(changes), Interrupted)
        async with client.pipeline(transaction=False) as pipe:
            for _ in range(12_000):
                pipe.xadd(events, {"abacus": "default/other"})
            await pipe.execute()
        await add(abaci, Exact(1))
        assert await client.xlen(events) <= 10_200
        # Who reads too late is to look for itself.
        while not isinstance(await anext(changes), Interrupted):
            pass


async def test_without_its_store_it_says_so(new_valkey: Callable[..., ValkeyServer]) -> None:
    server = new_valkey()
    store = await Store.open(server.url)
    abaci = Abaci(store)
    await add(abaci, Exact(1))
    changes = abacus_changes(store, 0)
    assert isinstance(await anext(changes), Interrupted)
    server.kill()
    for attempt in (add(abaci, Exact(1)), abaci.get(VISITORS), abaci.reset(VISITORS, ORIGIN)):
        with pytest.raises(StoreUnavailable):
            await attempt
    server.restart()
    await eventually(lambda: add(abaci, Exact(1)))
    assert isinstance(await anext(changes), Interrupted)
    await changes.aclose()
    await store.close()
