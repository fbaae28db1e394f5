"""The ledger tells who changed an abacus, when and by how much; it holds about the last 1,000."""

from tallymesh_core.domain.decimals import Exact, format_decimal
from tallymesh_core.store.abaci import Abaci, Add, Added, Batch
from tallymesh_core.store.connection import Store
from tallymesh_core.store.ledger import KEPT, Entry, Kind, Ledger
from tallymesh_core.store.once import Memory, Once
from tests.harness.stores import client_of
from tests.store.abacus.conftest import ORIGIN, VISITORS


async def entries(store: Store) -> list[Entry]:
    found, following = await Ledger(store).page(VISITORS, None, 100)
    assert following is None
    return found


async def test_every_change_is_an_entry(store: Store, abaci: Abaci) -> None:
    shard = abaci.shard_of(VISITORS)
    adds = [
        Add(VISITORS, Exact(5, 1), ORIGIN, Once("r 1".replace(" ", "-"))),
        Add(VISITORS, Exact(-7), ORIGIN),
        Add(VISITORS, Exact(3), ORIGIN, Once("jobs/1", Memory.JOBS)),
    ]
    answers = await abaci.add(shard, adds)
    batch = await abaci.add_batch(Batch(VISITORS, Exact(10**30), 4, ORIGIN, "s", 1))
    reset = await abaci.reset(VISITORS, ORIGIN, Once("r-2"))

    def entry(version: int, ms: int, kind: Kind, amount: str, adds: int, id_: str) -> Entry:
        sequence = 1 if kind is Kind.BATCH else 0
        return Entry(version, ms, kind, amount, adds, ORIGIN, id_, sequence)

    ms = [answer.sum.update_ms for answer in answers if isinstance(answer, Added)]
    taken = format_decimal(Exact(-reset.previous.value.unscaled, reset.previous.value.scale))
    assert await entries(store) == [
        entry(5, reset.sum.update_ms, Kind.RESET, taken, 0, "r-2"),
        entry(4, batch.sum.update_ms, Kind.BATCH, str(10**30), 4, "s"),
        entry(3, ms[2], Kind.JOB, "3", 1, "jobs/1"),
        entry(2, ms[1], Kind.ADD, "-7", 1, ""),
        entry(1, ms[0], Kind.ADD, "0.5", 1, "r-1"),
    ]


async def test_what_was_not_done_is_no_entry(store: Store, abaci: Abaci) -> None:
    shard = abaci.shard_of(VISITORS)
    once = Once("one")
    await abaci.add(shard, [Add(VISITORS, Exact(1), ORIGIN, once)] * 2)
    await abaci.add(shard, [Add(VISITORS, Exact(2), ORIGIN, once)])
    await abaci.add(shard, [Add(VISITORS, Exact(2), ORIGIN, None, "7-7")])
    assert [entry.amount for entry in await entries(store)] == ["1"]


async def test_one_never_used_has_none(store: Store) -> None:
    assert await entries(store) == []


async def test_pages_go_back_to_the_first_and_lose_none(store: Store, abaci: Abaci) -> None:
    shard = abaci.shard_of(VISITORS)
    await abaci.add(shard, [Add(VISITORS, Exact(n), ORIGIN) for n in range(1, 8)])
    ledger, seen = Ledger(store), []
    page, before = await ledger.page(VISITORS, None, 3)
    while True:
        seen += [entry.version for entry in page]
        if before is None:
            break
        # What comes meanwhile moves no page.
        await abaci.add(shard, [Add(VISITORS, Exact(1), ORIGIN)])
        page, before = await ledger.page(VISITORS, before, 3)
    assert seen == [7, 6, 5, 4, 3, 2, 1]


async def test_it_is_capped(store: Store, abaci: Abaci) -> None:
    shard = abaci.shard_of(VISITORS)
    for _ in range(3):
        await abaci.add(shard, [Add(VISITORS, Exact(1), ORIGIN)] * KEPT)
    client = await client_of(store, shard)
    length = await client.xlen(f"{store.prefix(shard)}abacus-ledger:{VISITORS.path}")
    assert KEPT <= length <= KEPT + 200
