"""The scheduler as a plain program in memory, one chunk at a time: the store has to agree."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from tallymesh_core.domain.jobs import ChunkSpan, NewJob
from tallymesh_core.domain.states import JobState

ALIVE_MS, OUTAGE_MS, TRANSIT_MS = 5000, 2000, 2000
RETRY_MS, MAX_RETRY_MS = 250, 30_000
LOSS_BUDGET = 1


class Place(Enum):
    """Where a chunk is: always in one place."""

    NEW = auto()  # never given out
    FREE = auto()  # to be leased again
    LEASED = auto()
    LATER = auto()  # waits for a retry
    DEAD = auto()
    DONE = auto()


@dataclass
class Lease:
    uid: str
    call: str
    attempt: int
    since: int


@dataclass
class Death:
    group: str
    ms: int
    failed: int
    lost: int
    before: int
    epoch: int
    reason: str
    worker: str
    message: str
    listed: bool = True


@dataclass
class Tries:
    failed: int = 0
    lost: int = 0
    before: int = 0

    @property
    def attempts(self) -> int:
        return self.failed + self.lost + self.before


@dataclass
class Chunk:
    place: Place = Place.NEW
    lease: Lease | None = None
    due: int = 0
    tries: Tries | None = None
    death: Death | None = None
    replays: int = 0
    #: Name of the worker that counted it, and by which attempt.
    record: tuple[str, int] | None = None
    refused: int = 0
    has_part: bool = False
    fraction: float | None = None


@dataclass
class Job:
    ref: str
    new: NewJob
    created: int
    #: What its first chunk counts; each further one counts one more.
    unit: int
    state: JobState = JobState.PENDING
    epoch: int = 1
    total: int = 0
    refused: int = 0
    failed: int = 0
    lost: int = 0
    started: int | None = None
    counted: int | None = None
    ended: int | None = None
    expires: int | None = None
    deadline: int | None = None
    error: tuple[str, int] | None = None
    spoilt: bool = False
    acknowledged: int | None = None
    stopped: int | None = None
    #: Worker → whether it has heard of the cancel, and the calls by which it was given chunks.
    halting: dict[str, tuple[bool, frozenset[str]]] = field(default_factory=dict)
    last_step: tuple[str, int] | None = None
    owes_post: bool = False
    posted: int | None = None
    replays: list[tuple[int, int]] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    def __post_init__(self) -> None:
        # The last step, which merges the others, is a chunk too.
        self.chunks = [Chunk() for _ in range(self.n + 1)]

    @property
    def n(self) -> int:
        return self.new.chunk_count

    @property
    def lane(self) -> str:
        return f"{self.new.queue}/{self.new.kernel}"

    @property
    def is_over(self) -> bool:
        """Every chunk is counted or given up; it has ended, or its last step can be leased."""
        return self.done + len(self.at(Place.DEAD)) == self.n

    @property
    def done(self) -> int:
        return len(self.at(Place.DONE))

    @property
    def next(self) -> int:
        """The first chunk that was never given out."""
        new = self.at(Place.NEW)
        return new[0] if new else self.n + 1

    @property
    def leasable(self) -> list[int]:
        """The chunks that can be leased, in the order in which they are."""
        if self.state.is_final:
            return []
        return self.at(Place.FREE) + list(range(self.next, self.n + 1 if self.is_over else self.n))

    def value(self, index: int) -> int:
        return self.unit + index

    def at(self, place: Place) -> list[int]:
        return [i for i, chunk in enumerate(self.chunks) if chunk.place is place]


@dataclass
class Worker:
    deadline: int
    draining: bool = False
    drain: bool = False
    calls: set[str] = field(default_factory=set)


@dataclass
class Line:
    """Jobs that are to be forgotten, each with the epoch that ended, and when the first is due."""

    due: int
    places: list[tuple[str, int]] = field(default_factory=list)


class Oracle:
    """All jobs and workers, and the transitions. Each takes what the store takes.

    Where the store may choose, the oracle is told what it chose and says whether it might.
    """

    def __init__(self, now: int) -> None:
        self.now = now
        self.tick = 0
        self.jobs: dict[str, Job] = {}
        self.workers: dict[str, Worker] = {}
        self.left: set[str] = set()
        #: Group → kernel, reason and the last message.
        self.groups: dict[str, tuple[str, str, str]] = {}
        #: Queue and request id → hash of the request and job.
        self.requests: dict[tuple[str, str], tuple[str, str]] = {}
        #: Time for which jobs are kept → those that have ended, in order.
        self.lines: dict[int, Line] = {}

    def live(self) -> Iterator[Job]:
        return (job for job in self.jobs.values() if not job.state.is_final)

    def leases(self) -> Iterator[tuple[Job, int, Chunk, Lease]]:
        for job in self.jobs.values():
            for index, chunk in enumerate(job.chunks):
                if chunk.lease:
                    yield job, index, chunk, chunk.lease

    def held(self, uid: str) -> set[tuple[str, int]]:
        return {(job.ref, index) for job, index, _, lease in self.leases() if lease.uid == uid}

    def letters(self) -> Iterator[tuple[Job, int, Death]]:
        for job in self.jobs.values():
            for index, chunk in enumerate(job.chunks):
                if chunk.death and chunk.death.listed:
                    yield job, index, chunk.death

    def accept(self, ref: str, new: NewJob, unit: int, request: tuple[str, str] | None) -> None:
        job = self.jobs[ref] = Job(ref, new, self.now, unit)
        if new.timeout_ms:
            job.deadline = self.now + new.timeout_ms
        if request:
            self.requests[new.queue, request[0]] = (request[1], ref)

    def lease(
        self, uid: str, call: str, capacity: int, lanes: Sequence[str], given: Sequence[ChunkSpan]
    ) -> None:
        chunks = [
            (span, index) for span in given for index in range(span.first, span.first + span.count)
        ]
        worker = self.workers.get(uid)
        if worker is None:
            assert not chunks
            return
        if call in worker.calls:
            again = {
                (job.ref, job.epoch, index, lease.attempt)
                for job, index, _, lease in self.leases()
                if (lease.uid, lease.call) == (uid, call)
            }
            assert {(one.ref, one.epoch, index, one.attempt) for one, index in chunks} == again
            return
        # Of a job of which nothing is known each call gets an equal part at most.
        parts = {
            job.ref: math.ceil(job.n / len(self.workers)) for job in self.live() if not job.done
        }
        taken = Counter(span.ref for span, _ in chunks)
        assert all(taken[ref] <= part for ref, part in parts.items())
        for span, index in chunks:
            job = self.jobs[span.ref]
            chunk = job.chunks[index]
            assert job.lane in lanes
            assert span.epoch == job.epoch
            assert index == job.leasable[0]
            assert span.attempt == (chunk.tries or Tries()).attempts + 1
            chunk.place, chunk.lease = Place.LEASED, Lease(uid, call, span.attempt, self.now)
            job.state = JobState.RUNNING
            job.started = job.started or self.now
            worker.calls.add(call)
        assert len(chunks) <= capacity
        if len(chunks) < capacity:
            # Nothing is stuck: there was no more to give.
            left = [job.ref for job in self.live() if job.lane in lanes and job.leasable]
            assert all(taken[ref] == parts.get(ref) for ref in left)

    def beat(
        self,
        uid: str,
        held: Sequence[ChunkSpan],
        open_calls: Sequence[str],
        fractions: Sequence[tuple[ChunkSpan, float]],
        stopping: Sequence[str],
        draining: bool,
    ) -> tuple[bool, set[tuple[str, int, int, int]]]:
        """Returns whether it is to drain, and what of what it lists it does not hold."""
        listed = {
            (span.ref, span.epoch, index, span.attempt)
            for span in held
            for index in range(span.first, span.first + span.count)
        }
        if uid in self.left:
            return False, listed
        worker = self.workers.setdefault(uid, Worker(0))
        worker.deadline, worker.draining = self.now + ALIVE_MS, draining
        mine = self.held(uid)
        stop = {
            (ref, epoch, index, attempt)
            for ref, epoch, index, attempt in listed
            if (ref, index) not in mine or self.jobs[ref].epoch != epoch
        }
        known = {(ref, index) for ref, _, index, _ in listed - stop}
        worker.calls &= set(open_calls)
        for ref, index in mine - known:
            chunk = self.jobs[ref].chunks[index]
            assert chunk.lease
            is_old = self.now - chunk.lease.since >= TRANSIT_MS
            if chunk.lease.call not in open_calls and (draining or is_old):
                self._free(chunk)
        for span, fraction in fractions:
            if (span.ref, span.first) in mine & known:
                self.jobs[span.ref].chunks[span.first].fraction = fraction
        for job in self.jobs.values():
            if uid not in job.halting:
                continue
            _, calls = job.halting[uid]
            if job.ref in stopping:
                job.halting[uid] = (True, calls)
                self._note_halt(job)
            elif job.ref not in {span.ref for span in held} and not calls & set(open_calls):
                del job.halting[uid]
                self._note_halt(job)
        return worker.drain, stop

    def commit(self, name: str, span: ChunkSpan) -> tuple[int, int]:
        """Counts results of the form that the job wants; returns how many counted, how many not.

        A repeat of one that has counted counts among the first.
        """
        job = self.jobs.get(span.ref)
        over = span.first + span.count
        if job is None or span.epoch != job.epoch or over > job.next:
            return 0, span.count
        author = (name, span.attempt)
        if span.first == job.n and span.count == 1 and job.is_over:
            accepted = int(job.last_step == author)
            if not job.state.is_final:
                accepted, job.last_step = 1, author
                self._finish(job, JobState.SUCCEEDED)
            return accepted, 1 - accepted
        if over > job.n:
            return 0, span.count
        repeats = 0
        counted: list[int] = []
        was_over = job.is_over
        for index in range(span.first, over):
            chunk = job.chunks[index]
            if chunk.place is Place.DONE:
                if chunk.record == author:
                    repeats += 1
                else:
                    job.refused += 1
                    chunk.refused += 1
            elif job.state.is_final:
                continue
            elif chunk.place is Place.DEAD and was_over:
                job.refused += 1
            else:
                counted.append(index)
                self._bury_letter(chunk)
                chunk.place, chunk.record = Place.DONE, author
                chunk.lease = chunk.tries = chunk.death = chunk.fraction = None
                chunk.has_part = not job.new.additive and job.n > 1
        if counted:
            job.total += sum(map(job.value, counted)) if job.new.additive else 0
            if not -(2**63) <= job.total < 2**63:
                job.spoilt = True
                self._fail(job, "CHUNK_FAILED", span.first)
            elif job.is_over:
                job.counted = self.now
                if job.new.additive or job.n == 1:
                    self._finish(job, JobState.SUCCEEDED)
        accepted = repeats + len(counted)
        return accepted, span.count - accepted

    def fail(
        self, uid: str, name: str, span: ChunkSpan, reason: str, message: str, due: int | None
    ) -> int:
        """Fails a chunk; `due` is when the store lets it be tried again, if it does."""
        job = self.jobs.get(span.ref)
        chunk = job.chunks[span.first] if job else Chunk()
        lease = chunk.lease
        if not job or not lease or (lease.uid, lease.attempt) != (uid, span.attempt):
            return 0
        if job.epoch != span.epoch:
            return 0
        tries = chunk.tries = chunk.tries or Tries()
        tries.failed += 1
        job.failed += 1
        self._free(chunk)
        if reason == "WORK_REFUSED" or tries.failed >= job.new.max_attempts:
            self._give_up(job, span.first, reason, name, message)
        else:
            delay = min(MAX_RETRY_MS, RETRY_MS * 2 ** (tries.failed - 1))
            assert due is not None
            assert 0.5 * delay - 1 <= due - self.now <= 1.5 * delay
            chunk.place, chunk.due = Place.LATER, due
        return 1

    def give_back(self, uid: str, spans: Iterable[ChunkSpan]) -> int:
        taken = 0
        for span in spans:
            job = self.jobs.get(span.ref)
            for index in range(span.first, span.first + span.count):
                chunk = job.chunks[index] if job else Chunk()
                if job and chunk.lease and chunk.lease.uid == uid and job.epoch == span.epoch:
                    self._free(chunk)
                    taken += 1
        return taken

    def promote(self) -> int | None:
        """Returns when the next chunk is due."""
        later = [c for job in self.jobs.values() for c in job.chunks if c.place is Place.LATER]
        for chunk in later:
            if chunk.due <= self.now:
                chunk.place = Place.FREE
        return min((chunk.due for chunk in later if chunk.place is Place.LATER), default=None)

    def silent(self) -> list[str]:
        """Notes that the reaper runs; returns whom it finds silent."""
        last, self.tick = self.tick, self.now
        if self.now - last > OUTAGE_MS:
            for worker in self.workers.values():
                worker.deadline = self.now + ALIVE_MS
            return []
        return sorted(uid for uid, one in self.workers.items() if one.deadline < self.now)

    def lose(self, uid: str, held: Sequence[tuple[str, int]]) -> None:
        """Gives up a worker, whose chunks the store goes through in this order."""
        if uid not in self.workers:
            return
        assert set(held) == self.held(uid)
        for ref, index in held:
            job = self.jobs[ref]
            chunk = job.chunks[index]
            if not chunk.lease:
                continue  # the loss of another one has ended the job
            tries = chunk.tries = chunk.tries or Tries()
            tries.lost += 1
            job.lost += 1
            self._free(chunk)
            if tries.lost > LOSS_BUDGET:
                message = f"the worker computing the chunk was lost more than {LOSS_BUDGET} times"
                self._give_up(job, index, "WORKERS_LOST", "", message)
        self._forget(uid)

    def leave(self, uid: str) -> bool:
        if self.held(uid):
            return False
        self._forget(uid)
        self.left.add(uid)
        return True

    def drain(self, uid: str) -> None:
        if uid in self.workers:
            self.workers[uid].drain = True

    def cancel(self, job: Job) -> bool:
        """Returns whether the job is cancelled now or was before."""
        if job.state.is_final:
            return job.state is JobState.CANCELLED
        calls: dict[str, set[str]] = {}
        for chunk in job.chunks:
            if chunk.lease:
                calls.setdefault(chunk.lease.uid, set()).add(chunk.lease.call)
        self._finish(job, JobState.CANCELLED)
        job.halting = {uid: (False, frozenset(some)) for uid, some in calls.items()}
        self._note_halt(job)
        return True

    def replay(self, job: Job, epoch: int) -> int | None:
        """Returns how many dead chunks run again, or None where it is refused."""
        if epoch and job.epoch == epoch + 1:
            return 0
        if job.state is not JobState.FAILED or job.spoilt or (epoch and job.epoch != epoch):
            return None
        dead = job.at(Place.DEAD)
        self._revive(job, dead)
        # The last step is not leasable before the others are over.
        job.chunks[job.n].place = Place.NEW
        job.epoch += 1
        job.replays = [*job.replays, (job.epoch, len(dead))][-16:]
        job.state, job.error = JobState.PENDING, None
        job.ended = job.expires = job.counted = None
        if job.new.timeout_ms:
            job.deadline = self.now + job.new.timeout_ms
        return len(dead)

    def replay_letters(self, job: Job, chunks: Sequence[int]) -> tuple[int, int]:
        """Returns how many letters run again, and how many do not."""
        if job.state is JobState.FAILED:
            revived = self.replay(job, 0)
            return (0, len(chunks)) if revived is None else (revived, 0)
        if job.state.is_final or job.is_over:
            return 0, len(chunks)
        self._revive(job, chunks)
        return len(chunks), 0

    def delete_letters(self, job: Job, chunks: Sequence[int]) -> int:
        return sum([self._bury_letter(job.chunks[index]) for index in chunks])

    def time_out(self) -> int | None:
        """Returns when the next job's time is over."""
        for job in self.live():
            if job.deadline is not None and job.deadline <= self.now:
                self._fail(job, "JOB_TIMED_OUT", -1)
        return min((job.deadline for job in self.live() if job.deadline), default=None)

    def expire(self) -> None:
        for ttl, line in list(self.lines.items()):
            while line.due <= self.now and line.places:
                ref, epoch = line.places[0]
                job = self.jobs.get(ref)
                if job and job.epoch == epoch and job.ended is not None:
                    line.due = job.ended + ttl
                    if line.due > self.now:
                        break
                    for chunk in job.chunks:
                        self._bury_letter(chunk)
                    del self.jobs[ref]
                line.places.pop(0)
            if not line.places:
                del self.lines[ttl]

    def post(self, job: Job) -> None:
        job.owes_post, job.posted = False, self.now
        self._forget_later(job)

    def _free(self, chunk: Chunk) -> None:
        chunk.place, chunk.lease, chunk.fraction = Place.FREE, None, None

    def _give_up(self, job: Job, index: int, reason: str, worker: str, message: str) -> None:
        chunk = job.chunks[index]
        tries = chunk.tries or Tries()
        kind = re.sub(r"[0-9]+", "#", message)
        signature = f"{job.new.kernel}\n{reason}\n{kind}".encode()
        group = hashlib.sha1(signature).hexdigest()[:12]
        self.groups[group] = (job.new.kernel, reason, message)
        chunk.place, chunk.tries = Place.DEAD, None
        chunk.death = Death(
            group,
            self.now,
            tries.failed,
            tries.lost,
            tries.before,
            job.epoch,
            reason,
            worker,
            message,
        )
        dead = len(job.at(Place.DEAD))
        is_hopeless = dead > job.new.tolerate_failures or dead == job.n
        if reason == "WORK_REFUSED" or index == job.n or is_hopeless:
            self._fail(job, reason, index)
        elif job.is_over:
            job.counted = self.now
            if job.new.additive:
                self._finish(job, JobState.SUCCEEDED)

    def _revive(self, job: Job, chunks: Sequence[int]) -> None:
        for index in chunks:
            chunk = job.chunks[index]
            death = chunk.death
            assert death
            self._bury_letter(chunk)
            chunk.place, chunk.death = Place.FREE, None
            chunk.tries = Tries(before=death.failed + death.lost + death.before)
            chunk.replays += 1

    def _bury_letter(self, chunk: Chunk) -> bool:
        if not chunk.death or not chunk.death.listed:
            return False
        chunk.death.listed = False
        if chunk.death.group not in {death.group for _, _, death in self.letters()}:
            del self.groups[chunk.death.group]
        return True

    def _fail(self, job: Job, reason: str, chunk: int) -> None:
        job.error = (reason, chunk)
        self._finish(job, JobState.FAILED)

    def _finish(self, job: Job, state: JobState) -> None:
        job.state, job.ended, job.deadline = state, self.now, None
        job.expires = self.now + job.new.ttl_ms
        job.owes_post = state is JobState.SUCCEEDED and bool(job.new.abacus)
        if not job.owes_post:
            self._forget_later(job)
        for chunk in job.chunks:
            chunk.lease = chunk.tries = chunk.fraction = None
            if chunk.place in (Place.LEASED, Place.LATER):
                chunk.place = Place.FREE
            if state is not JobState.FAILED:
                chunk.has_part = False

    def _forget_later(self, job: Job) -> None:
        ttl = job.new.ttl_ms
        line = self.lines.setdefault(ttl, Line(self.now + ttl))
        line.places.append((job.ref, job.epoch))

    def _note_halt(self, job: Job) -> None:
        if all(heard for heard, _ in job.halting.values()):
            job.acknowledged = job.acknowledged or self.now
        if not job.halting:
            job.stopped = job.stopped or self.now

    def _forget(self, uid: str) -> None:
        for job in self.jobs.values():
            if job.halting.pop(uid, None):
                self._note_halt(job)
        self.workers.pop(uid, None)
