"""Abaci are listed by name, each once, and deleted with all that they are but their memory."""

from contextlib import aclosing

import pytest

from tallymesh_core.domain.decimals import Exact
from tallymesh_core.domain.errors import EtagMismatch, NotFound, RequestIdReused
from tallymesh_core.store.abaci import Abaci, Add, Added, Batch
from tallymesh_core.store.connection import Store
from tallymesh_core.store.events import Interrupted, abacus_changes
from tallymesh_core.store.ledger import Ledger
from tallymesh_core.store.once import Once
from tallymesh_core.store.sums import Abacus, Sum
from tests.harness.stores import all_clients
from tests.store.abacus.conftest import ORIGIN, VISITORS


async def add(abaci: Abaci, abacus: Abacus, amount: int, once: Once | None = None) -> Added:
    adds = [Add(abacus, Exact(amount), ORIGIN, once)]
    [answer] = await abaci.add(abaci.shard_of(abacus), adds)
    assert isinstance(answer, Added)
    return answer


async def test_pages_hold_every_abacus_once_in_order(abaci: Abaci) -> None:
    names = [f"n{number:02}" for number in range(25)]
    sums = {
        name: (await add(abaci, Abacus("default", name), number)).sum
        for number, name in reversed(list(enumerate(names)))
    }
    await add(abaci, Abacus("other", "n99"), 1)
    listed: list[tuple[Abacus, Sum]] = []
    after = ""
    while True:
        page, after = await abaci.page("default", after, 10)
        listed += page
        if not after:
            break
        assert len(page) == 10
    assert listed == [(Abacus("default", name), sums[name]) for name in names]


async def test_whatever_is_first_makes_an_abacus(abaci: Abaci) -> None:
    await abaci.reset(Abacus("default", "a"), ORIGIN)
    await abaci.add_batch(Batch(Abacus("default", "b"), Exact(1), 1, ORIGIN))
    await abaci.get(Abacus("default", "c"))
    page, _ = await abaci.page("default", "", 10)
    assert [abacus.name for abacus, _ in page] == ["a", "b"]


async def test_a_deleted_one_is_gone(store: Store, abaci: Abaci) -> None:
    current = (await add(abaci, VISITORS, 5)).sum
    deleted = await abaci.delete(VISITORS)
    assert (deleted.previous, deleted.repeated) == (current, False)
    assert (await abaci.get(VISITORS)).version == 0
    assert await abaci.page("default", "", 10) == ([], "")
    assert await Ledger(store).page(VISITORS, None, 10) == ([], None)
    left = {key.decode() for client in await all_clients(store) for key in await client.keys("*")}
    kinds = {key.partition(":")[2].partition(":")[0] for key in left} - {"meta"}
    assert kinds == {"clock", "abacus-events", "abacus-versions"}
    with pytest.raises(NotFound):
        await abaci.delete(VISITORS)


async def test_one_that_comes_again_has_no_version_twice(store: Store, abaci: Abaci) -> None:
    etags, versions = set(), []
    for _ in range(3):
        for _ in range(2):
            current = (await add(abaci, VISITORS, 1)).sum
            etags.add(current.etag)
            versions.append(current.version)
        await abaci.delete(VISITORS)
    assert versions == sorted(set(versions))
    assert len(etags) == 6
    await add(abaci, VISITORS, 1)
    [entry], _ = await Ledger(store).page(VISITORS, None, 10)
    assert entry.version > versions[-1]


async def test_its_ids_stay_remembered(abaci: Abaci) -> None:
    first = await add(abaci, VISITORS, 5, Once("one"))
    await abaci.delete(VISITORS, Once("gone"))
    assert await add(abaci, VISITORS, 5, Once("one")) == Added(first.sum, repeated=True)
    assert (await abaci.get(VISITORS)).version == 0
    again = await abaci.delete(VISITORS, Once("gone"))
    assert (again.previous, again.repeated) == (first.sum, True)
    with pytest.raises(RequestIdReused):
        await abaci.delete(VISITORS, Once("one"))


async def test_only_what_was_read_is_deleted(abaci: Abaci) -> None:
    read = (await add(abaci, VISITORS, 5)).sum
    current = (await add(abaci, VISITORS, 5)).sum
    with pytest.raises(EtagMismatch):
        await abaci.delete(VISITORS, expected_etag=read.etag)
    assert (await abaci.delete(VISITORS, expected_etag=current.etag)).previous == current


async def test_its_watchers_are_told(store: Store, abaci: Abaci) -> None:
    await add(abaci, VISITORS, 5)
    async with aclosing(abacus_changes(store, abaci.shard_of(VISITORS))) as changes:
        assert isinstance(await anext(changes), Interrupted)
        await abaci.delete(VISITORS)
        assert await anext(changes) == {VISITORS.path}
