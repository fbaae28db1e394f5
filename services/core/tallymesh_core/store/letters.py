"""Dead letters in the store: chunks given up, by the kind of error that they died of."""

import asyncio
from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import groupby
from typing import NamedTuple

from tallymesh_core.domain.errors import JobNotReplayable, NotFound
from tallymesh_core.domain.ids import shard_of_job
from tallymesh_core.domain.jobs import DeadLetter, DeadLetterFilter, DeadLetterGroup, is_of_kernel
from tallymesh_core.domain.states import JobState
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import Died, JobStore
from tallymesh_core.store.scripts import Script

_REVIVE, _FORGET = Script.load("revive"), Script.load("forget_letter")
#: Letters looked at in one go.
_BATCH = 1000


class _Place(NamedTuple):
    """Where a letter stands; the newest is the greatest."""

    failed_ms: int
    job_id: str
    chunk: int


class Replayed(NamedTuple):
    """What became of a replay: letters that run again, those that stay, and the jobs that run."""

    replayed: int
    skipped: int
    jobs: tuple[str, ...]


class _Fate(Enum):
    """What a replay would do with the letters of a job."""

    REPLAY = "replay"
    REVIVE = "revive"
    SKIP = "skip"


class LetterStore:
    """The dead letters of a mesh."""

    def __init__(self, store: Store, jobs: JobStore) -> None:
        self._store = store
        self._jobs = jobs

    async def groups(
        self, tenant: str, *, before: str, limit: int
    ) -> tuple[list[DeadLetterGroup], str]:
        """Lists kinds of error, the one seen last first.

        Args:
            tenant: Whose letters.
            before: The cursor that the page before ended with; "" for the first page.
            limit: Most groups to return.

        Returns:
            The groups, and the cursor to go on from, or "" when there are no more.
        """
        found: dict[str, DeadLetterGroup] = {}
        for groups in await self._all_groups(tenant):
            for group in groups:
                known = found.get(group.id)
                found[group.id] = _joined(known, group) if known else group
        ordered = sorted(found.values(), key=lambda group: (group.last_ms, group.id), reverse=True)
        if before:
            ms, _, name = before.partition(":")
            ordered = [group for group in ordered if (group.last_ms, group.id) < (int(ms), name)]
        page = ordered[:limit]
        cursor = f"{page[-1].last_ms}:{page[-1].id}" if len(ordered) > limit else ""
        return page, cursor

    async def page(
        self, tenant: str, wanted: DeadLetterFilter, *, before: str, limit: int
    ) -> tuple[list[DeadLetter], str]:
        """Lists letters, the newest first; arguments and answer as for `groups`."""
        bound = None
        if before:
            ms, job_id, chunk = before.split(":")
            bound = _Place(int(ms), job_id, int(chunk))
        letters: list[DeadLetter] = []
        while True:
            places = await self._places(tenant, wanted, bound, limit + 1 - len(letters))
            letters += await self._read(tenant, places)
            if len(letters) > limit:
                last = letters[limit - 1]
                return letters[:limit], f"{last.failed_ms}:{last.job_id}:{last.chunk}"
            if not places:
                return letters, ""
            bound = places[-1]

    async def replay(
        self, tenant: str, wanted: DeadLetterFilter, *, only_count: bool = False
    ) -> Replayed:
        """Runs letters again: a failed job is replayed whole, a running one goes on with them.

        Raises:
            BacklogFull: The tenant has too many unfinished jobs; some may run again already.
        """
        replayed = skipped = 0
        jobs: dict[str, None] = {}
        bound: _Place | None = None
        while places := await self._places(tenant, wanted, bound, _BATCH):
            bound = places[-1]
            by_job = sorted(places, key=lambda place: place.job_id)
            for job_id, group in groupby(by_job, key=lambda place: place.job_id):
                chunks = [place.chunk for place in group]
                fate, count = await self._fate(tenant, job_id, len(chunks))
                if only_count and fate is _Fate.REPLAY and job_id in jobs:
                    continue  # with the letters before
                if not only_count:
                    count = await self._run_again(fate, tenant, job_id, chunks)
                if count:
                    replayed += count
                    jobs[job_id] = None
                else:
                    skipped += len(chunks)
        return Replayed(replayed, skipped, tuple(jobs))

    async def delete(
        self, tenant: str, wanted: DeadLetterFilter, *, only_count: bool = False
    ) -> int:
        """Forgets letters; returns how many."""
        deleted = 0
        bound: _Place | None = None
        while places := await self._places(tenant, wanted, bound, _BATCH):
            bound = places[-1]
            if only_count:
                deleted += len(places)
                continue
            by_job = sorted(places, key=lambda place: place.job_id)
            for job_id, group in groupby(by_job, key=lambda place: place.job_id):
                chunks = [place.chunk for place in group]
                deleted += await self._store.run(
                    _FORGET, shard_of_job(job_id) or 0, f"{tenant}/{job_id}", *chunks
                )
        return deleted

    async def _fate(self, tenant: str, job_id: str, count: int) -> tuple[_Fate, int]:
        """Tells what a replay would do with some letters of a job, and how many would run again."""
        shard = shard_of_job(job_id) or 0
        prefix, ref = self._store.prefix(shard), f"{tenant}/{job_id}"
        async with self._store.at(shard) as client:
            pipe = client.pipeline(transaction=True)
            pipe.hmget(f"{prefix}job:{ref}", ["state", "spoilt", "n", "done"])
            pipe.hlen(f"{prefix}dead:{ref}")
            (state, spoilt, n, done), dead = await pipe.execute()
        match state and state.decode():
            case JobState.FAILED if not spoilt:
                return _Fate.REPLAY, dead
            case JobState.PENDING | JobState.RUNNING if int(done) + dead < int(n):
                return _Fate.REVIVE, count
        return _Fate.SKIP, 0

    async def _run_again(self, fate: _Fate, tenant: str, job_id: str, chunks: list[int]) -> int:
        """Runs letters of a job again; returns how many do."""
        match fate:
            case _Fate.REPLAY:
                try:
                    return await self._jobs.replay(tenant, job_id)
                except (JobNotReplayable, NotFound):
                    return 0
            case _Fate.REVIVE:
                shard = shard_of_job(job_id) or 0
                return int(await self._store.run(_REVIVE, shard, f"{tenant}/{job_id}", *chunks))
        return 0

    async def _all_groups(self, tenant: str) -> list[list[DeadLetterGroup]]:
        """Returns the groups of each shard."""
        shards = range(self._store.shards)
        return await asyncio.gather(*(self._groups_of(shard, tenant) for shard in shards))

    async def _groups_of(self, shard: int, tenant: str) -> list[DeadLetterGroup]:
        prefix = self._store.prefix(shard)
        async with self._store.at(shard) as client:
            ids = [raw.decode() for raw in await client.zrange(f"{prefix}groups:{tenant}", 0, -1)]
            pipe = client.pipeline(transaction=True)
            for group in ids:
                letters = f"{prefix}letters:{tenant}/{group}"
                pipe.hmget(f"{prefix}group:{tenant}/{group}", ["kernel", "reason", "message"])
                pipe.zcard(letters)
                pipe.zrange(letters, 0, 0, withscores=True)
                pipe.zrange(letters, -1, -1, withscores=True)
            answers = await pipe.execute()
        found = []
        for at, group in enumerate(ids):
            (kernel, reason, message), count, first, last = answers[4 * at : 4 * at + 4]
            if count and kernel is not None:
                found.append(
                    DeadLetterGroup(
                        id=group,
                        kernel=kernel.decode(),
                        reason=reason.decode(),
                        message=message.decode(),
                        count=count,
                        first_ms=int(first[0][1]),
                        last_ms=int(last[0][1]),
                    )
                )
        return found

    async def _places(
        self, tenant: str, wanted: DeadLetterFilter, bound: _Place | None, limit: int
    ) -> list[_Place]:
        """Finds the newest letters before `bound`."""
        if wanted.job_id or wanted.chunks:
            found = await self._places_in_jobs(tenant, wanted, bound)
        else:
            found = []
            for shard, groups in enumerate(await self._all_groups(tenant)):
                for group in groups:
                    if _is_of(group.id, group.kernel, group.reason, wanted):
                        key = f"{self._store.prefix(shard)}letters:{tenant}/{group.id}"
                        found += await self._places_in_group(shard, key, wanted, bound, limit)
        return sorted(found, reverse=True)[:limit]

    async def _places_in_group(
        self, shard: int, key: str, wanted: DeadLetterFilter, bound: _Place | None, limit: int
    ) -> list[_Place]:
        highest = "+inf" if wanted.until_ms is None else f"({wanted.until_ms}"
        if bound and (wanted.until_ms is None or bound.failed_ms < wanted.until_ms):
            highest = str(bound.failed_ms)
        lowest = "-inf" if wanted.from_ms is None else str(wanted.from_ms)
        found: list[_Place] = []
        offset = 0
        while True:
            async with self._store.at(shard) as client:
                batch = await client.zrevrangebyscore(
                    key, highest, lowest, start=offset, num=_BATCH, withscores=True
                )
            offset += len(batch)
            for member, ms in batch:
                job_id, chunk = member.decode().split(" ")
                place = _Place(int(ms), job_id, int(chunk))
                if bound is None or place < bound:
                    found.append(place)
            # Those of one moment come in an order of their own, so all of them are needed.
            is_settled = len(found) >= limit and found[-1].failed_ms < found[limit - 1].failed_ms
            if len(batch) < _BATCH or is_settled:
                return found

    async def _places_in_jobs(
        self, tenant: str, wanted: DeadLetterFilter, bound: _Place | None
    ) -> list[_Place]:
        chunks: dict[str, set[int] | None] = {}
        for job_id, chunk in wanted.chunks:
            named = chunks.setdefault(job_id, set())
            if named is not None:
                named.add(chunk)
        if wanted.job_id:
            chunks = {wanted.job_id: chunks.get(wanted.job_id) if wanted.chunks else None}
            if wanted.chunks and chunks[wanted.job_id] is None:
                return []
        found = []
        by_shard: dict[int, dict[str, set[int] | None]] = {}
        for job_id, named in chunks.items():
            shard = shard_of_job(job_id)
            if shard is not None and shard < self._store.shards:
                by_shard.setdefault(shard, {})[job_id] = named
        for shard, some in by_shard.items():
            for letter in await self._letters_of(shard, tenant, some):
                place = _Place(letter.failed_ms, letter.job_id, letter.chunk)
                is_wanted = (
                    _is_of(letter.group, letter.kernel, letter.failure.reason, wanted)
                    and (wanted.from_ms is None or letter.failed_ms >= wanted.from_ms)
                    and (wanted.until_ms is None or letter.failed_ms < wanted.until_ms)
                )
                if is_wanted and (bound is None or place < bound):
                    found.append(place)
        return found

    async def _read(self, tenant: str, places: Sequence[_Place]) -> list[DeadLetter]:
        """Reads letters, in the order of their places; one that was found may be gone by now."""
        wanted: dict[int, dict[str, set[int] | None]] = {}
        for place in places:
            chunks = wanted.setdefault(shard_of_job(place.job_id) or 0, {})
            named = chunks.setdefault(place.job_id, set())
            assert named is not None
            named.add(place.chunk)
        found = await asyncio.gather(
            *(self._letters_of(shard, tenant, chunks) for shard, chunks in wanted.items())
        )
        letters = {(letter.job_id, letter.chunk): letter for some in found for letter in some}
        keys = ((place.job_id, place.chunk) for place in places)
        return [letters[key] for key in keys if key in letters]

    async def _letters_of(
        self, shard: int, tenant: str, wanted: Mapping[str, set[int] | None]
    ) -> list[DeadLetter]:
        """Reads the letters of jobs of a shard: those of some chunks of each, or all."""
        prefix = self._store.prefix(shard)
        async with self._store.at(shard) as client:
            pipe = client.pipeline(transaction=False)
            asked = {job_id: sorted(chunks or ()) for job_id, chunks in wanted.items()}
            for job_id, chunks in wanted.items():
                key = f"{prefix}dead:{tenant}/{job_id}"
                if chunks is None:
                    pipe.hgetall(key)
                else:
                    pipe.hmget(key, asked[job_id])
            died: dict[str, dict[int, Died]] = {}
            for (job_id, chunks), facts in zip(wanted.items(), await pipe.execute(), strict=True):
                kept = facts.items() if chunks is None else zip(asked[job_id], facts, strict=True)
                died[job_id] = {
                    int(chunk): Died.read(one, int(chunk)) for chunk, one in kept if one
                }
            died = {job_id: letters for job_id, letters in died.items() if letters}
            pipe = client.pipeline(transaction=False)
            for job_id, letters in died.items():
                ref = f"{tenant}/{job_id}"
                pipe.hmget(f"{prefix}job:{ref}", ["kernel", "queue"])
                pipe.hmget(f"{prefix}replayed:{ref}", list(letters))
                for chunk, one in letters.items():
                    pipe.zscore(f"{prefix}letters:{tenant}/{one.group}", f"{job_id} {chunk}")
            answers = iter(await pipe.execute())
        found = []
        for job_id, letters in died.items():
            (kernel, queue), replays = next(answers), next(answers)
            scores = [next(answers) for _ in letters]
            found += [
                DeadLetter(
                    job_id=job_id,
                    chunk=chunk,
                    group=one.group,
                    kernel=kernel.decode(),
                    queue=queue.decode(),
                    failure=one.failure,
                    failed=one.failed,
                    lost=one.lost,
                    failed_ms=one.failed_ms,
                    replays=int(times or 0),
                    epoch=one.epoch,
                )
                for (chunk, one), times, score in zip(letters.items(), replays, scores, strict=True)
                # Without its place in the group it was deleted.
                if score is not None and kernel is not None
            ]
        return found


def _is_of(group: str, kernel: str, reason: str, wanted: DeadLetterFilter) -> bool:
    return (
        wanted.group in ("", group)
        and (not wanted.kernel or is_of_kernel(kernel, wanted.kernel))
        and wanted.reason in ("", reason)
    )


def _joined(one: DeadLetterGroup, other: DeadLetterGroup) -> DeadLetterGroup:
    """Joins what two shards know of a kind of error."""
    newest = max(one, other, key=lambda group: group.last_ms)
    return DeadLetterGroup(
        id=one.id,
        kernel=one.kernel,
        reason=one.reason,
        message=newest.message,
        count=one.count + other.count,
        first_ms=min(one.first_ms, other.first_ms),
        last_ms=newest.last_ms,
    )
