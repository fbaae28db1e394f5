"""A batch of a stream is one change, and counts once by its number in the stream."""

import asyncio

import pytest

from tallymesh_core.domain.decimals import Exact
from tallymesh_core.domain.errors import BatchesMissing, RequestIdReused
from tallymesh_core.store.abaci import Abaci, Add, Added, AddedBatch, Batch
from tallymesh_core.store.once import Once
from tallymesh_core.store.sums import Abacus
from tests.store.abacus.conftest import ORIGIN, VISITORS


async def add(abaci: Abaci, amount: Exact, sequence: int, stream: str = "s") -> AddedBatch:
    return await abaci.add_batch(Batch(VISITORS, amount, 10, ORIGIN, stream, sequence))


async def test_batches_count_in_order_and_once(abaci: Abaci) -> None:
    first = await add(abaci, Exact(10**20), 1)
    assert (first.sum.value.unscaled, first.sum.add_count, first.sum.version) == (10**20, 10, 1)
    second = await add(abaci, Exact(-5, 1), 2)
    assert second.sum.add_count == 20
    for sequence, amount in ((1, Exact(10**20)), (2, Exact(-50, 2))):
        again = await add(abaci, amount, sequence)
        assert again == AddedBatch(second.sum, True, 2)
    assert await abaci.get(VISITORS) == second.sum


async def test_a_number_stands_for_what_its_batch_came_to(abaci: Abaci) -> None:
    for sequence in range(1, 41):
        await add(abaci, Exact(sequence), sequence)
    before = await abaci.get(VISITORS)
    for sequence in range(1, 41):
        assert (await add(abaci, Exact(sequence), sequence)).repeated
        other = add(abaci, Exact(sequence + 1), sequence)
        if sequence <= 8:  # 32 have come after it
            assert (await other).repeated
            continue
        with pytest.raises(RequestIdReused, match=f"'s' .* message {sequence}"):
            await other
    with pytest.raises(RequestIdReused):
        await abaci.add_batch(Batch(VISITORS, Exact(40), 9, ORIGIN, "s", 40))
    assert await abaci.get(VISITORS) == before
    assert not (await add(abaci, Exact(1), 41)).repeated


async def test_a_batch_before_which_some_are_missing_is_refused(abaci: Abaci) -> None:
    for last in (0, 1):
        with pytest.raises(BatchesMissing) as caught:
            await add(abaci, Exact(1), last + 2)
        assert caught.value.metadata["last"] == str(last)
        await add(abaci, Exact(1), last + 1)
    assert (await abaci.get(VISITORS)).value.unscaled == 2


async def test_streams_and_requests_and_abaci_are_apart(abaci: Abaci) -> None:
    await add(abaci, Exact(1), 1, "one")
    assert not (await add(abaci, Exact(1), 1, "two")).repeated
    single = Add(VISITORS, Exact(1), ORIGIN, Once("one"))
    [answer] = await abaci.add(abaci.shard_of(VISITORS), [single])
    assert isinstance(answer, Added)
    assert not answer.repeated
    other = Batch(Abacus("default", "other"), Exact(1), 1, ORIGIN, "one", 1)
    assert not (await abaci.add_batch(other)).repeated


async def test_without_a_stream_each_counts(abaci: Abaci) -> None:
    for _ in range(2):
        assert not (await add(abaci, Exact(1), 0, "")).repeated
    assert (await abaci.get(VISITORS)).add_count == 20


async def test_the_same_stream_from_several_places_counts_once(abaci: Abaci) -> None:
    async def send() -> None:
        for sequence in range(1, 31):
            await add(abaci, Exact(sequence), sequence)

    await asyncio.gather(*(send() for _ in range(4)))
    assert (await abaci.get(VISITORS)).value.unscaled == 465


async def test_a_reset_does_not_forget_a_stream(abaci: Abaci) -> None:
    await add(abaci, Exact(1), 1)
    await abaci.reset(VISITORS, ORIGIN)
    assert (await add(abaci, Exact(1), 1)).repeated
    assert not (await add(abaci, Exact(2), 2)).repeated
    assert (await abaci.get(VISITORS)).value.unscaled == 2
