"""What a job is, to the code that keeps it. What it computes is opaque here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tallymesh_core.domain.states import ChunkState, JobState

#: Most chunks of a job.
MAX_CHUNKS = 1 << 22
#: How often a chunk may lose its worker before it fails its job.
LOSS_BUDGET = 10
#: How long a job is kept after its end, unless it says otherwise.
TTL_SECONDS = 7 * 24 * 3600
#: Most bytes of partial results that a job may keep.
MAX_PARTIAL_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What never changes of a job, but for its work.

    Attributes:
        queue: Where it waits.
        kernel: Name of what computes it.
        chunk_count: Into how many chunks it is cut.
        additive: Its chunks give numbers, which the store sums; otherwise partial results, which
            the last step merges.
        priority: Its share doubles with each step.
        max_attempts: How often a chunk may be tried.
        ttl_ms: How long it is kept after its end.
        initiated_by: The gateway that accepts it.
        abacus: Id of the abacus that gets its total, or "".
        labels: Marks to list it by.
        tolerate_failures: How many chunks may be given up without failing it.
        chunk_timeout_ms: How long an attempt at a chunk may take; 0 for any time.
        timeout_ms: How long it may take; 0 for any time.
    """

    queue: str
    kernel: str
    chunk_count: int
    additive: bool
    priority: int
    max_attempts: int
    ttl_ms: int = TTL_SECONDS * 1000
    initiated_by: str
    abacus: str
    labels: dict[str, str]
    tolerate_failures: int = 0
    chunk_timeout_ms: int = 0
    timeout_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob(JobSpec):
    """A job to be accepted.

    Attributes:
        tenant: Whose it is.
        work: What to compute, serialized.
    """

    tenant: str
    work: bytes


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job or a chunk failed; `chunk` is -1 where it was none."""

    reason: str
    message: str
    chunk: int
    worker: str


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay of a failed job: when, the epoch it began, how many chunks it revived, and why."""

    replayed_ms: int
    epoch: int
    chunks: int
    failure: JobFailure


@dataclass(frozen=True, slots=True)
class Posting:
    """The entry of a job's total into an abacus; `posted_ms` is 0 while it is to be."""

    posted_ms: int
    amount: str
    sum: str
    error: str


# Not frozen: thousands are made in a second, and that takes half as long.
@dataclass(slots=True)
class JobRecord:
    """A job as it stood at one moment. Times are milliseconds since 1970 by the store's clock.

    Its work, and a result that is not short, are read apart from it.

    Attributes:
        id: Its id within the tenant.
        tenant: Whose it is.
        spec: What never changes of it.
        work_bytes: How long its work is.
        work: Its work, if it was accepted just now, else nothing.
        version: Grows with every change.
        total: Sum of the counted chunks, for an additive job.
        result_bytes: How long its serialized result is, or 0: for a job that is not additive and
            has succeeded.
        result: That result, if it is short, else nothing.
        started_ms: When its first chunk was leased, or 0.
        counted_ms: When its last chunk was counted or given up, or 0.
        ended_ms: When it came to its final state, or 0.
        lay_ms: For how long, since it started, it lay failed until it was replayed.
        acknowledged_ms: When the workers of a cancelled job had heard of it, or 0.
        stopped_ms: When they had stopped, or 0.
        expires_ms: When it will be gone, or 0.
        refused: Results that came for a chunk already counted.
        failed: Attempts spent.
        lost: Leases whose worker was lost.
        compute_us: Processor time of the counted chunks, in microseconds.
        running: Chunks leased now.
        holders: Workers that hold one.
        dead: Chunks given up.
        replays: Its replays, oldest first.
        retrying: Chunks that wait to be tried again.
        retry_ms: When the soonest of them is due, or 0.
        shares: Sum of the parts done of running chunks.
        handled_by: Chunks counted, by worker.
        per_cell: Chunks a cell of the map stands for; 0 when the map was not asked for.
        cells: The map, as tallymesh.v1.ChunkMap.cells.
        now_ms: When this was read.
    """

    id: str
    tenant: str
    spec: JobSpec
    work_bytes: int
    state: JobState
    version: int
    epoch: int
    created_ms: int
    work: bytes = b""
    done: int = 0
    total: int = 0
    result_bytes: int = 0
    result: bytes = b""
    started_ms: int = 0
    counted_ms: int = 0
    ended_ms: int = 0
    lay_ms: int = 0
    acknowledged_ms: int = 0
    stopped_ms: int = 0
    expires_ms: int = 0
    refused: int = 0
    failed: int = 0
    lost: int = 0
    compute_us: int = 0
    failure: JobFailure | None = None
    posting: Posting | None = None
    dead: int = 0
    replays: tuple[Replay, ...] = ()
    running: int = 0
    holders: int = 0
    retrying: int = 0
    retry_ms: int = 0
    shares: float = 0.0
    handled_by: dict[str, int] = field(default_factory=dict)
    per_cell: int = 0
    cells: bytes = b""
    now_ms: int = 0

    @property
    def ref(self) -> str:
        """What the store knows it by."""
        return f"{self.tenant}/{self.id}"


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs; what is empty or None asks for nothing.

    Attributes:
        states: In one of these states.
        queue: Of this queue.
        kernel: Of this kernel, in the sense of is_of_kernel().
        labels: With all of these labels.
        from_ms: Created at or after this time.
        until_ms: Created before this time.
    """

    states: tuple[JobState, ...] = ()
    queue: str = ""
    kernel: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    from_ms: int = 0
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """A chunk as it stood at one moment. Times as in JobRecord, None where unknown."""

    index: int
    state: ChunkState
    worker: str = ""
    attempt: int = 0
    leased_ms: int | None = None
    started_ms: int | None = None
    committed_ms: int | None = None
    refused: int = 0
    failure: JobFailure | None = None


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """Consecutive chunks of a job under one lease.

    Attributes:
        ref: The job, as `<tenant>/<id>`.
        epoch: The job's epoch when it was leased.
        first: First index.
        count: How many.
        attempt: Which attempt, from 1.
    """

    ref: str
    epoch: int
    first: int
    count: int
    attempt: int


@dataclass(frozen=True, slots=True)
class SpanResults:
    """Results of consecutive chunks: `sums` of an additive job, else `partials` or the `result`.

    Attributes:
        micros: Processor time of each chunk in microseconds, or none where that is unknown.
        age_micros: How long ago the first was begun, or 0 where that is unknown.
        elapsed_micros: How long all of them took together.
    """

    span: ChunkSpan
    sums: tuple[int, ...] | None = None
    partials: tuple[bytes, ...] | None = None
    result: bytes | None = None
    micros: tuple[int, ...] = ()
    age_micros: int = 0
    elapsed_micros: int = 0


@dataclass(frozen=True, slots=True)
class ChunkFailure:
    """A failed attempt at a chunk (`span.count` is 1)."""

    span: ChunkSpan
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class LoggedChunk:
    """What an attempt at a chunk (`span.count` is 1) has logged, and whether it failed."""

    span: ChunkSpan
    text: str
    failed: bool


@dataclass(frozen=True, slots=True)
class ChunkLog:
    """The log of a chunk: of its last attempt that logged anything."""

    index: int
    attempt: int
    worker: str
    logged_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker that is alive: its description is opaque here."""

    uid: str
    name: str
    info: bytes
    held: int
    seen_ms: int
    draining: bool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A chunk that was given up.

    Attributes:
        job_id: Its job.
        chunk: Its index; that of a job's last step is the job's number of chunks.
        group: Id of its kind of error.
        kernel: The job's kernel.
        queue: The job's queue.
        failure: What it died of.
        failed: How many attempts failed.
        lost: How often its worker was lost.
        failed_ms: When it was given up.
        replays: How often it had been replayed before.
        epoch: The job's epoch in which it was given up.
    """

    job_id: str
    chunk: int
    group: str
    kernel: str
    queue: str
    failure: JobFailure
    failed: int
    lost: int
    failed_ms: int
    replays: int
    epoch: int


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters of one kind of error: kernel, reason and message, numbers left aside."""

    id: str
    kernel: str
    reason: str
    message: str
    count: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters; what is empty or None asks for nothing.

    Attributes:
        chunks: Of these chunks, each a job's id and an index.
        group: Of this kind of error.
        job_id: Of this job.
        kernel: Of this kernel, in the sense of is_of_kernel().
        reason: With this reason.
        from_ms: Given up at or after this time.
        until_ms: Given up before this time.
    """

    chunks: tuple[tuple[str, int], ...] = ()
    group: str = ""
    job_id: str = ""
    kernel: str = ""
    reason: str = ""
    from_ms: int | None = None
    until_ms: int | None = None


def is_of_kernel(name: str, wanted: str) -> bool:
    """Tells whether a kernel is the wanted one, or one of those named after it and a dot."""
    return name == wanted or name.startswith(f"{wanted}.")
