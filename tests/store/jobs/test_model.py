"""Transitions in any order, with everything late, lost or repeated.

After every step all that can be read of the store agrees with a program that keeps each chunk in
memory, and no key is left without an owner.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Coroutine, Iterable, Sequence
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tallymesh_core.domain.errors import JobEnded, JobNotReplayable, NotFound, RequestIdReused
from tallymesh_core.domain.jobs import (
    ChunkFailure,
    ChunkSpan,
    DeadLetterFilter,
    JobFilter,
    NewJob,
    SpanResults,
)
from tallymesh_core.domain.states import ChunkState, JobState
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import JobStore, Submission
from tallymesh_core.store.leases import LeaseStore
from tallymesh_core.store.letters import LetterStore
from tests.harness.valkey import ValkeyServer
from tests.store.jobs.conftest import ADDITIVE
from tests.store.jobs.oracle import (
    ALIVE_MS,
    LOSS_BUDGET,
    MAX_RETRY_MS,
    OUTAGE_MS,
    TRANSIT_MS,
    Job,
    Oracle,
    Place,
)

P = "{tm0}:"
LANES = ["a/simulate", "a/add", "b/simulate"]
WORKERS = 3
#: Far ahead of the server's clock, so that time goes by only when it is made to.
START_MS = 4 * 10**12

#: Every step draws from one of its own: Hypothesis finds the few steps that matter.
RANDOM = st.randoms(use_true_random=True)
MESSAGES = ["row 1 is bad", "row 22 is bad", "another"]

_Answer = TypeVar("_Answer")

#: Steps by name, as often as they are to come.
STEPS = {
    "work": 10,
    "come_late": 6,
    "commit_lapsed": 3,
    "speak": 3,
    "repeat_call": 1,
    "part": 3,
    "fall_silent": 1,
    "keep": 6,
    "pass_time": 2,
    "submit": 2,
    "cancel": 1,
    "replay_failed": 4,
    "replay_any": 1,
    "run_letters": 4,
    "look": 4,
}
#: What becomes of a chunk that a worker holds, as often as it is to be so.
FATES = [
    *["keep"] * 4,
    *["commit"] * 4,
    *["fail"] * 4,
    "commit twice",
    "return",
    "refuse",
]

#: Facts of a job that may change without a new version.
QUIET = ("shares", "refused")
# Kinds of keys that a job has, and those that it has only until it ends.
OF_JOBS = (
    "job",
    "spec",
    "work",
    "result",
    "bits",
    "records",
    "index",
    "by",
    "dead",
    "replayed",
    "replays",
    "logs",
)
OF_LIVE_JOBS = ("leases", "again", "later", "tries", "fractions")


class Model(RuleBasedStateMachine):
    """The store and the oracle, side by side."""

    server: ClassVar[ValkeyServer]

    @initialize(draw=RANDOM)
    def begin(self, draw: Random) -> None:
        self.server.execute("FLUSHALL")
        self.runner = asyncio.Runner()
        self.store = self.do(Store.open(self.server.url))
        self.jobs = JobStore(self.store)
        self.leases = LeaseStore(self.store)
        self.letters = LetterStore(self.store, self.jobs)
        self.oracle = Oracle(START_MS)
        self.set_clock()
        self.calls = self.born = 0
        self.uids = [self.new_uid() for _ in range(WORKERS)]
        #: What each worker was ever given, whether or not it has heard of it.
        self.given: dict[str, list[ChunkSpan]] = {}
        #: Of each job the version, and what it stood for.
        self.versions: dict[str, tuple[int, object]] = {}
        self.agrees = True
        self.submit(draw)

    def teardown(self) -> None:
        try:
            if self.agrees:
                self.finish_everything()
        finally:
            self.do(self.store.close())
            self.runner.close()

    @rule(draw=RANDOM)
    def step(self, draw: Random) -> None:
        """One of the steps that are possible now."""
        live = len(list(self.oracle.live()))
        possible = {
            # Few jobs at a time, so that much happens to each.
            "submit": live < 3,
            "cancel": bool(self.oracle.jobs),
            "replay_any": bool(self.oracle.jobs),
            "replay_failed": bool(self.failed()),
            "run_letters": any(self.oracle.letters()),
            "come_late": bool(self.given),
            "commit_lapsed": bool(self.lapsed()),
            "repeat_call": any(worker.calls for worker in self.oracle.workers.values()),
            "part": bool(self.oracle.workers),
            "fall_silent": bool(self.oracle.workers),
        }
        weights = {name: often for name, often in STEPS.items() if possible.get(name, True)}
        (name,) = draw.choices(list(weights), list(weights.values())) if live else ("submit",)
        note(f"step: {name}")
        getattr(self, name)(draw)

    # Jobs.

    def submit(self, draw: Random) -> None:
        batch = [(_job(draw), _unit(draw), _request(draw)) for _ in range(draw.randint(1, 2))]
        submissions = [Submission(job, *(request or ("", ""))) for job, _, request in batch]
        known: dict[tuple[str, str], tuple[str, str]] = dict(self.oracle.requests)
        #: The place of each repeat, and its job's ref, or place if it is one of this batch.
        repeats: dict[int, str] = {}
        error: type[Exception] | None = None
        for at, one in enumerate(submissions):
            before = known.get((one.job.queue, one.request_id)) if one.request_id else None
            if before is None:
                known[one.job.queue, one.request_id] = (one.request_hash, str(at))
                continue
            repeats[at] = before[1]
            if before[0] != one.request_hash:
                error = RequestIdReused
            elif error is None and before[1] not in (*self.oracle.jobs, *map(str, range(at))):
                error = NotFound
        if error:
            with pytest.raises(error):
                self.do(self.jobs.submit_all(submissions))
            return
        records = self.do(self.jobs.submit_all(submissions))
        refs = [f"default/{record.id}" for record in records]
        for at, (job, unit, request) in enumerate(batch):
            if at not in repeats:
                self.oracle.accept(refs[at], job, unit, request)
            else:
                first = repeats[at]
                assert refs[at] == (refs[int(first)] if first.isdigit() else first)

    def cancel(self, draw: Random) -> None:
        job = self.draw_job(draw)
        for _ in range(2):
            call = self.jobs.cancel(*job.ref.split("/"))
            if self.oracle.cancel(job):
                self.do(call)
            else:
                with pytest.raises(JobEnded):
                    self.do(call)

    def replay_failed(self, draw: Random) -> None:
        job = draw.choice(self.failed())
        self.replay(draw, job)

    def replay_any(self, draw: Random) -> None:
        self.replay(draw, self.draw_job(draw))

    def run_letters(self, draw: Random) -> None:
        """Replays or deletes some letters of a job, or counts what it would."""
        only_count = draw.random() < 0.25
        letters = list(self.oracle.letters())
        ref = draw.choice([job.ref for job, _, _ in letters])
        job, job_id = self.oracle.jobs[ref], ref.split("/")[1]
        indices = [index for one, index, _ in letters if one is job]
        chunks = draw.sample(indices, draw.randint(1, len(indices)))
        wanted = DeadLetterFilter(chunks=tuple((job_id, index) for index in chunks))
        if draw.random() < 0.25:
            deleted = self.do(self.letters.delete("default", wanted, only_count=only_count))
            assert deleted == len(chunks)
            if not only_count:
                assert self.oracle.delete_letters(job, chunks) == len(chunks)
            return
        counted = self.do(self.letters.replay("default", wanted, only_count=True))
        if not only_count:
            assert self.do(self.letters.replay("default", wanted)) == counted
            replayed, skipped = self.oracle.replay_letters(job, chunks)
            assert counted == (replayed, skipped, (job_id,) if replayed else ())

    def look(self, draw: Random) -> None:
        """What is not read after every step, as it takes long."""
        del draw
        self.compare_lists()
        self.compare_workers()
        self.compare_letters()

    # Workers.

    def work(self, draw: Random) -> None:
        """Beats and leases, maybe in a call that comes twice, and does as drawn with each chunk."""
        uid = self.draw_uid(draw)
        capacity = draw.randint(1, 8)
        lanes = draw.sample(LANES, draw.randint(1, len(LANES)))
        self.beat(uid, self.own(uid), self.calls_of(uid))
        self.calls += 1
        for _ in range(draw.randint(1, 2)):
            self.lease(uid, f"call-{self.calls}", capacity, sorted(lanes))
        for span in self.own(uid):
            self.act(draw, uid, span, draw.choice(FATES))

    def speak(self, draw: Random) -> None:
        """Lists what it holds, or anything that it was ever given; names some calls as open."""
        uid = self.draw_uid(draw)
        draining = draw.random() < 0.3
        held = self.own(uid)
        if draw.random() < 0.5:
            held = _some(draw, self.given.get(uid, []))
        fractions = [(replace(span, count=1), 0.25) for span in held[:1]]
        cancelled = [job.ref for job in self.oracle.jobs.values() if uid in job.halting]
        open_calls, stopping = _some(draw, self.calls_of(uid)), _some(draw, cancelled)
        self.beat(uid, held, open_calls, fractions, stopping, draining)

    def repeat_call(self, draw: Random) -> None:
        calls = [(uid, call) for uid in self.oracle.workers for call in self.calls_of(uid)]
        uid, call = draw.choice(calls)
        self.lease(uid, call, 8, LANES)

    def come_late(self, draw: Random) -> None:
        """Anything is told of anything that was ever given to a worker, maybe by another one."""
        given = [(uid, span) for uid, spans in self.given.items() for span in spans]
        alive = {job.ref for job in self.oracle.live()}
        if draw.random() < 0.75:
            given = [(uid, span) for uid, span in given if span.ref in alive] or given
        uid, span = draw.choice(given)
        first = draw.randrange(span.first, span.first + span.count)
        count = draw.randint(1, span.first + span.count - first)
        teller = draw.choice([uid, uid, *self.given])
        fate = draw.choice([fate for fate in FATES if fate != "keep"])
        self.act(draw, teller, replace(span, first=first, count=count), fate)

    def commit_lapsed(self, draw: Random) -> None:
        """Counts a chunk that a worker does not hold any more, but that is not counted either."""
        uid, span = draw.choice(self.lapsed())
        for _ in range(2):
            self.commit(uid, span)

    def part(self, draw: Random) -> None:
        uid = self.draw_uid(draw)
        fate = draw.choice(["give up", "give up", "leave", "drain"])
        if fate == "give up":
            self.give_up(uid)
        elif fate == "drain":
            self.do(self.leases.drain([uid]))
            self.oracle.drain(uid)
        else:
            has_left = self.oracle.leave(uid)
            assert self.do(self.leases.leave(uid)) == has_left
            if has_left:
                # A late call of its does not bring it back.
                self.beat(uid, self.given.get(uid, []), [])
                self.uids[self.uids.index(uid)] = self.new_uid()

    # Time.

    def pass_time(self, draw: Random) -> None:
        self.wait(draw.choice([1, 300, 300, 1000, TRANSIT_MS, 6000, 100_000]))

    def keep(self, draw: Random) -> None:
        """One of the tasks of the keeper."""
        tasks = ["reap", "promote", "promote", "time out", "expire", "post"]
        match draw.choice(tasks):
            case "reap":
                self.reap()
            case "promote":
                self.promote()
            case "time out":
                wait, due = self.do(self.jobs.time_out()), self.oracle.time_out()
                assert wait == (None if due is None else (due - self.oracle.now) / 1000)
            case "expire":
                self.do(self.jobs.expire())
                self.oracle.expire()
            case "post":
                self.post()

    def fall_silent(self, draw: Random) -> None:
        """So much time goes by, while the reaper runs, that who does not speak is lost."""
        for _ in range(ALIVE_MS // OUTAGE_MS + 1):
            self.reap()
            self.wait(OUTAGE_MS)
        self.reap()

    # What holds after each step.

    @invariant()
    def store_agrees(self) -> None:
        self.agrees = False
        self.compare_jobs()
        self.compare_chunks()
        self.compare_owners()
        self.agrees = True

    def compare_jobs(self) -> None:
        """What is read of a job is what holds, and whoever watches it is told of each change."""
        all_told = self.do(_all(self.jobs.get(*ref.split("/")) for ref in self.oracle.jobs))
        for (ref, job), told in zip(self.oracle.jobs.items(), all_told, strict=True):
            facts = {
                "state": (told.state, job.state),
                "epoch": (told.epoch, job.epoch),
                "done": (told.done, job.done),
                "dead": (told.dead, len(job.at(Place.DEAD))),
                "running": (told.running, len(job.at(Place.LEASED))),
                "retrying": (told.retrying, len(job.at(Place.LATER))),
                "retry": (
                    told.retry_ms,
                    min((job.chunks[i].due for i in job.at(Place.LATER)), default=0),
                ),
                "holders": (told.holders, len({c.lease.uid for c in job.chunks if c.lease})),
                "shares": (told.shares, sum(chunk.fraction or 0 for chunk in job.chunks)),
                "handled by": (
                    told.handled_by,
                    dict(Counter(chunk.record[0] for chunk in job.chunks if chunk.record)),
                ),
                "refused": (told.refused, job.refused),
                "failed": (told.failed, job.failed),
                "lost": (told.lost, job.lost),
                "created": (told.created_ms, job.created),
                "started": (told.started_ms, job.started or 0),
                "counted": (told.counted_ms, job.counted or 0),
                "ended": (told.ended_ms, job.ended or 0),
                "expires": (told.expires_ms, job.expires or 0),
                "acknowledged": (told.acknowledged_ms, job.acknowledged or 0),
                "stopped": (told.stopped_ms, job.stopped or 0),
                "posted": (told.posting.posted_ms if told.posting else 0, job.posted or 0),
                "failure": (told.failure and (told.failure.reason, told.failure.chunk), job.error),
                "replays": (
                    tuple((one.epoch, one.chunks) for one in told.replays),
                    tuple(job.replays),
                ),
            }
            wrong = {name: both for name, both in facts.items() if both[0] != both[1]}
            assert not wrong, (wrong, job.new, job.at(Place.DONE), job.replays)
            if not job.spoilt and job.new.additive:
                assert told.total == job.total == sum(map(job.value, job.at(Place.DONE)))
            shown = (
                {name: told for name, (told, _) in facts.items() if name not in QUIET},
                [chunk.place for chunk in job.chunks],
            )
            before, shown_before = self.versions.get(ref, (0, None))
            assert told.version > before or (told.version == before and shown == shown_before)
            self.versions[ref] = (told.version, shown)

    def compare_chunks(self) -> None:
        states = {
            Place.NEW: ChunkState.PENDING,
            Place.FREE: ChunkState.PENDING,
            Place.LEASED: ChunkState.RUNNING,
            Place.LATER: ChunkState.RETRYING,
            Place.DEAD: ChunkState.FAILED,
            Place.DONE: ChunkState.DONE,
        }
        jobs = self.oracle.jobs.values()
        all_told = self.do(
            _all(self.jobs.chunks("default", job.ref.split("/")[1], 0, job.n) for job in jobs)
        )
        for job, (chunks, total) in zip(jobs, all_told, strict=True):
            assert (len(chunks), total) == (job.n, job.n)
            for told, chunk in zip(chunks, job.chunks, strict=False):
                assert told.state is states[chunk.place]
                assert told.refused == chunk.refused
                if chunk.record:
                    assert (told.worker, told.attempt) == chunk.record
                    assert job.created <= (told.started_ms or 0) <= (told.committed_ms or 0)
                elif chunk.lease:
                    assert (told.attempt, told.leased_ms) == (
                        chunk.lease.attempt,
                        chunk.lease.since,
                    )
                elif chunk.death:
                    died = (told.worker, told.attempt, told.failure and told.failure.message)
                    attempts = chunk.death.failed + chunk.death.lost + chunk.death.before
                    assert died == (chunk.death.worker, attempts, chunk.death.message)

    def compare_lists(self) -> None:
        jobs = self.oracle.jobs.values()
        assert self.do(self.jobs.counts()) == {
            state: sum(job.state is state for job in jobs) for state in JobState
        }
        for state in JobState:
            held = sorted(
                (job.ref.split("/")[1] for job in jobs if job.state is state), reverse=True
            )
            assert self.listed(states=(state,)) == held
            for labels in ({"a": "1"}, {"b": "x=y"}, {"a": "1", "b": "x=y"}):
                assert self.listed(states=(state,), labels=labels) == [
                    job_id
                    for job_id in held
                    if labels.items() <= self.oracle.jobs[f"default/{job_id}"].new.labels.items()
                ]
        for queue, kernel in (lane.split("/") for lane in LANES):
            assert self.listed(queue=queue, kernel=kernel) == sorted(
                (job.ref.split("/")[1] for job in jobs if job.lane == f"{queue}/{kernel}"),
                reverse=True,
            )
        assert set(self.do(self.jobs.outbox(1000))) == {job.ref for job in jobs if job.owes_post}

    def compare_workers(self) -> None:
        told = self.do(self.leases.workers())
        assert {one.uid: (one.held, one.draining) for one in told} == {
            uid: (len(self.oracle.held(uid)), worker.draining)
            for uid, worker in self.oracle.workers.items()
        }

    def compare_letters(self) -> None:
        letters, _ = self.do(
            self.letters.page("default", DeadLetterFilter(), before="", limit=1000)
        )
        told = {
            (one.job_id, one.chunk): (
                (one.group, one.failed_ms, one.failed, one.lost, one.replays, one.epoch),
                (one.failure.reason, one.failure.worker, one.failure.message),
            )
            for one in letters
        }
        assert told == {
            (job.ref.split("/")[1], index): (
                (one.group, one.ms, one.failed, one.lost, job.chunks[index].replays, one.epoch),
                (one.reason, one.worker, one.message),
            )
            for job, index, one in self.oracle.letters()
        }
        groups, _ = self.do(self.letters.groups("default", before="", limit=1000))
        times: dict[str, list[int]] = {}
        for _, _, death in self.oracle.letters():
            times.setdefault(death.group, []).append(death.ms)
        assert {
            one.id: ((one.kernel, one.reason, one.message), one.count, one.last_ms)
            for one in groups
        } == {
            group: (facts, len(times[group]), max(times[group]))
            for group, facts in self.oracle.groups.items()
        }

    def compare_owners(self) -> None:
        """Every key belongs to something that there is, and whatever is to be found again stands
        where it is looked for."""
        oracle, jobs = self.oracle, self.oracle.jobs
        live = {job.ref: job for job in oracle.live()}
        groups = {death.group for _, _, death in oracle.letters()}
        owed = {uid for job in jobs.values() for uid in job.halting}
        owners: dict[str, Collection[str]] = {
            **dict.fromkeys(OF_JOBS, jobs),
            **dict.fromkeys(OF_LIVE_JOBS, live),
            "parts": {ref for ref in jobs if ref in live or jobs[ref].state is JobState.FAILED},
            "halting": {ref for ref, job in jobs.items() if job.halting},
            **dict.fromkeys(("owner", "held", "calls"), oracle.workers),
            "owing": owed,
            "left": oracle.left,
            "state": {f"default:{job.state}" for job in jobs.values()},
            "lane": {job.lane for job in live.values()},
            "request": {f"default/{queue}/{one}" for queue, one in oracle.requests},
            **{kind: {f"default/{group}" for group in groups} for kind in ("letters", "group")},
            "groups": {"default"} if groups else (),
            "expiring": {str(ttl) for ttl in oracle.lines},
            "label": {
                f"default:{job.state}:{name}={value}"
                for job in jobs.values()
                for name, value in job.new.labels.items()
            },
        }
        alone = {
            "clock": True,
            "vtime": True,
            "events": True,
            "tenants": True,
            "tick": oracle.tick,
            "owners": oracle.workers,
            "delayed": live,
            "deadlines": any(job.deadline for job in live.values()),
            "expiry": oracle.lines,
            "outbox": any(job.owes_post for job in jobs.values()),
        }
        keys = self.do(self.command("KEYS", f"{P}*"))
        for name in (raw.decode().removeprefix(P) for raw in keys):
            kind, _, owner = name.partition(":")
            assert owner in owners[kind] if owner else alone[kind], name
        for lane in LANES:
            found = self.members(f"lane:{lane}")
            mine = {ref: job for ref, job in live.items() if job.lane == lane}
            assert {ref for ref, job in mine.items() if job.leasable} <= found.keys() <= mine.keys()
        delayed = self.members("delayed")
        for job in live.values():
            if later := job.at(Place.LATER):
                assert delayed[job.ref] <= min(job.chunks[index].due for index in later)
        assert delayed.keys() <= live.keys()

    # How it ends.

    def finish_everything(self) -> None:
        """Whatever has happened, a worker that does its work leaves nothing undone behind."""
        for uid in self.uids:
            self.give_up(uid)
        last = self.new_uid()
        while list(self.oracle.live()):
            self.wait(MAX_RETRY_MS * 2)
            self.promote()
            self.beat(last, [], [])
            self.calls += 1
            spans = self.lease(last, f"call-{self.calls}", 100, LANES)
            assert spans
            for span in spans:
                self.commit(last, span)
            self.store_agrees()
        self.post()
        # Twice, as one whose total was not posted in time is looked at again later.
        for _ in range(2):
            self.wait(100_000)
            self.do(self.jobs.expire())
            self.oracle.expire()
        self.give_up(last)
        self.store_agrees()
        self.look(Random(0))
        keys = self.do(self.command("KEYS", f"{P}*"))
        kinds = {raw.decode().removeprefix(P).partition(":")[0] for raw in keys}
        assert kinds <= {"clock", "tick", "tenants", "vtime", "events", "left", "request"}

    # One step on both sides.

    def act(self, draw: Random, uid: str, span: ChunkSpan, fate: str) -> None:
        match fate:
            case "commit":
                self.commit(uid, span)
            case "commit twice":
                self.commit(uid, span)
                self.commit(uid, span)
            case "fail":
                reason = draw.choice(["CHUNK_FAILED", "CHUNK_CRASHED"])
                self.fail(uid, replace(span, count=1), reason, draw.choice(MESSAGES))
            case "refuse":
                for _ in range(2):
                    self.fail(uid, replace(span, count=1), "WORK_REFUSED", "no such work")
            case "return":
                for _ in range(2):
                    taken = self.do(self.leases.give_back(uid, [span]))
                    assert taken == self.oracle.give_back(uid, [span])

    def beat(
        self,
        uid: str,
        held: Sequence[ChunkSpan],
        open_calls: Sequence[str],
        fractions: Sequence[tuple[ChunkSpan, float]] = (),
        stopping: Sequence[str] = (),
        draining: bool = False,
    ) -> None:
        heard = self.do(
            self.leases.beat(
                uid,
                name=_name(uid),
                info=b"",
                slots=1,
                draining=draining,
                held=held,
                open_calls=open_calls,
                progress=fractions,
                stopping=stopping,
            )
        )
        told = self.oracle.beat(uid, held, open_calls, fractions, stopping, draining)
        assert (heard.drain, _chunks(heard.stop)) == told

    def lease(self, uid: str, call: str, capacity: int, lanes: list[str]) -> list[ChunkSpan]:
        spans = self.do(self.leases.lease(uid, call, capacity, lanes))
        self.oracle.lease(uid, call, capacity, lanes, spans)
        for span in spans:
            known = self.given.setdefault(uid, [])
            if span not in known:
                known.append(span)
        return spans

    def commit(self, uid: str, span: ChunkSpan) -> None:
        job = self.oracle.jobs.get(span.ref)
        indices = range(span.first, span.first + span.count)
        if job is None or job.new.additive:
            sums = tuple(job.value(index) if job else 0 for index in indices)
            result = SpanResults(span, sums=sums, micros=(1000,) * span.count)
        elif span.first == job.n or job.n == 1:
            result = SpanResults(span, result=b"merged" * (1 if span.attempt > 1 else 20))
        else:
            result = SpanResults(span, partials=tuple(b"part %d" % index for index in indices))
        committed = self.do(self.leases.commit(uid, _name(uid), [result]))
        expected = self.oracle.commit(_name(uid), span)
        assert (committed.accepted, committed.refused) == expected

    def fail(self, uid: str, span: ChunkSpan, reason: str, message: str) -> None:
        failure = ChunkFailure(span, reason, message)
        noted = self.do(self.leases.fail(uid, _name(uid), [failure]))
        score = self.do(self.command("ZSCORE", f"{P}later:{span.ref}", span.first))
        due = None if score is None else round(float(score))
        assert noted == self.oracle.fail(uid, _name(uid), span, reason, message, due)

    def replay(self, draw: Random, job: Job) -> None:
        back = draw.choice([job.epoch, 0, 1])
        epoch = max(0, job.epoch - back)
        for _ in range(draw.randint(1, 2)):
            revived = self.oracle.replay(job, epoch)
            call = self.jobs.replay(*job.ref.split("/"), epoch=epoch)
            if revived is None:
                with pytest.raises(JobNotReplayable):
                    self.do(call)
            else:
                assert self.do(call) == revived

    def give_up(self, uid: str) -> None:
        for _ in range(2):
            order = self.held_in_order(uid)
            self.do(self.leases.give_up([uid]))
            self.oracle.lose(uid, order)

    def reap(self) -> None:
        orders = {uid: self.held_in_order(uid) for uid in self.oracle.workers}
        gone = self.do(self.leases.reap())
        assert gone == self.oracle.silent()
        # The store goes through them in the order of their deadlines.
        for uid in sorted(gone, key=lambda uid: (self.oracle.workers[uid].deadline, uid)):
            self.oracle.lose(uid, orders[uid])

    def promote(self) -> None:
        wait, due = self.do(self.leases.promote()), self.oracle.promote()
        # A look too early costs nothing, one too late time.
        assert due is None or (wait is not None and wait * 1000 <= due - self.oracle.now)

    def post(self) -> None:
        for ref in self.do(self.jobs.outbox(10)):
            self.oracle.post(self.oracle.jobs[ref])
            for _ in range(2):
                self.do(self.jobs.note_posted(*ref.split("/"), amount="1", total="2"))

    # What steps are made of.

    def do(self, call: Coroutine[Any, Any, _Answer]) -> _Answer:
        return self.runner.run(call)

    async def command(self, *words: str | int) -> Any:
        async with self.store.at(0) as client:
            return await client.execute_command(*words)

    def wait(self, ms: int) -> None:
        self.oracle.now += ms
        self.set_clock()

    def set_clock(self) -> None:
        self.do(self.command("SET", f"{P}clock", self.oracle.now))

    def new_uid(self) -> str:
        self.born += 1
        return f"uid-{self.born}"

    def draw_uid(self, draw: Random) -> str:
        return draw.choice(self.uids)

    def failed(self) -> list[Job]:
        return [job for job in self.oracle.jobs.values() if job.state is JobState.FAILED]

    def draw_job(self, draw: Random) -> Job:
        return self.oracle.jobs[draw.choice(list(self.oracle.jobs))]

    def own(self, uid: str) -> list[ChunkSpan]:
        """What a worker holds, chunk by chunk."""
        return [
            ChunkSpan(job.ref, job.epoch, index, 1, lease.attempt)
            for job, index, _, lease in self.oracle.leases()
            if lease.uid == uid
        ]

    def calls_of(self, uid: str) -> list[str]:
        worker = self.oracle.workers.get(uid)
        return sorted(worker.calls) if worker else []

    def lapsed(self) -> list[tuple[str, ChunkSpan]]:
        """What was given to workers, is not theirs any more, and not counted."""
        return [
            (uid, replace(span, first=index, count=1))
            for uid, spans in self.given.items()
            for span in spans
            if (job := self.oracle.jobs.get(span.ref)) and job.epoch == span.epoch
            for index in range(span.first, span.first + span.count)
            if job.chunks[index].place in (Place.FREE, Place.LATER, Place.DEAD)
        ]

    def held_in_order(self, uid: str) -> list[tuple[str, int]]:
        """What a worker holds, in the order in which the store goes through it."""
        script = "return redis.call('SMEMBERS', KEYS[1])"
        members = self.do(self.command("EVAL", script, 1, f"{P}held:{uid}"))
        pairs = (member.decode().split(" ") for member in members)
        return [(ref, int(index)) for ref, index in pairs]

    def members(self, key: str) -> dict[str, int]:
        """The members of a sorted set, and their scores."""
        found = self.do(self.command("ZRANGE", f"{P}{key}", 0, -1, "WITHSCORES"))
        return {member.decode(): round(score) for member, score in found}

    def listed(self, **asked: Any) -> list[str]:
        """The ids of all jobs of a list, read page by page."""
        ids: list[str] = []
        before = ""
        while True:
            page, before = self.do(
                self.jobs.list_page(
                    "default",
                    JobFilter(**asked),
                    before=before,
                    limit=3,
                )
            )
            ids += [job.id for job in page]
            if not before:
                return ids


async def _all(calls: Iterable[Coroutine[Any, Any, _Answer]]) -> list[_Answer]:
    return list(await asyncio.gather(*calls))


def _job(draw: Random) -> NewJob:
    queue, _, kernel = draw.choice(LANES).partition("/")
    return replace(
        ADDITIVE,
        queue=queue,
        kernel=kernel,
        chunk_count=draw.choice([1, 2, 2, 3, 5]),
        additive=draw.random() < 0.5,
        max_attempts=draw.randint(1, 2),
        tolerate_failures=draw.choice([0, 1, 1, 4]),
        timeout_ms=draw.choice([0, 0, 0, 0, 20_000]),
        ttl_ms=draw.choice([1000, 100_000, 100_000]),
        abacus=draw.choice(["", "", "x"]),
        labels=draw.choice([{}, {"a": "1"}, {"a": "2", "b": "x=y"}, {"a": "1", "b": "x=y"}]),
        work=draw.choice([b"work", b"long work" * 10]),
    )


def _unit(draw: Random) -> int:
    # A small one, one that a double does not hold, and one that leaves the 64 bits.
    return draw.choice([3, -(2**55) - 1, 2**62])


def _request(draw: Random) -> tuple[str, str] | None:
    return (
        (draw.choice(["r1", "r2"]), draw.choice(["h1", "h1", "h2"]))
        if draw.random() < 0.3
        else None
    )


def _name(uid: str) -> str:
    # Two of three share one, as after a restart.
    return "blue" if int(uid.removeprefix("uid-")) % 3 == 0 else "red"


def _some(draw: Random, items: Sequence[_Answer]) -> list[_Answer]:
    return draw.sample(items, draw.randint(0, len(items)))


def _chunks(spans: Iterable[ChunkSpan]) -> set[tuple[str, int, int, int]]:
    return {
        (span.ref, span.epoch, index, span.attempt)
        for span in spans
        for index in range(span.first, span.first + span.count)
    }


def run(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch, examples: int, steps: int) -> None:
    monkeypatch.setattr("tallymesh_core.store.leases.LOSS_BUDGET", LOSS_BUDGET)
    monkeypatch.setattr(Model, "server", server, raising=False)
    # What is random here would make an example differ from its repeat.
    ids = count(1)
    monkeypatch.setattr("tallymesh_core.store.jobs.new_job_id", lambda _: f"{next(ids):014}00")
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(300)  # a machine may be many times slower than usual for a while
def test_store_agrees_with_the_oracle(
    valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(valkey_server, monkeypatch, examples=60, steps=50)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_store_agrees_with_the_oracle_at_length(
    valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(valkey_server, monkeypatch, examples=1000, steps=80)
