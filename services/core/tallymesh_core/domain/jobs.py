"""What a job is, to the code that keeps it. What it computes is opaque here."""

from dataclasses import dataclass, field

from tallymesh_core.domain.states import ChunkState, JobState

#: Most chunks of a job.
MAX_CHUNKS = 1 << 22
#: How often a chunk may lose its worker before it fails its job.
LOSS_BUDGET = 10
#: Most bytes of partial results that a job may keep.
MAX_PARTIAL_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be accepted.

    Attributes:
        tenant: Whose it is.
        queue: Where it waits.
        kernel: Name of what computes it.
        work: What to compute, serialized.
        chunk_count: Into how many chunks it is cut.
        additive: Its chunks give numbers, which the store sums; otherwise partial results, which
            the last step merges.
        priority: Its share doubles with each step.
        max_attempts: How often a chunk may be tried.
        abacus: Id of the abacus that gets its total, or "".
        labels: Marks to list it by.
        initiated_by: The gateway that accepts it.
    """

    tenant: str
    queue: str
    kernel: str
    work: bytes
    chunk_count: int
    additive: bool
    priority: int
    max_attempts: int
    abacus: str
    labels: dict[str, str]
    initiated_by: str


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job failed."""

    reason: str
    message: str
    chunk: int
    worker: str


@dataclass(frozen=True, slots=True)
class Posting:
    """The entry of a job's total into an abacus; `posted_ms` is 0 while it is to be."""

    posted_ms: int
    amount: str
    sum: str
    error: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stood at one moment. Times are milliseconds since 1970 by the store's clock.

    Attributes:
        id: Its id within the tenant.
        version: Grows with every change.
        total: Sum of the counted chunks, for an additive job.
        result: The serialized result, for a job that is not additive and has succeeded.
        started_ms: When its first chunk was leased, or 0.
        ended_ms: When it came to its final state, or 0.
        refused: Results that came for a chunk already counted.
        failed: Attempts spent.
        lost: Leases whose worker was lost.
        compute_us: Processor time of the counted chunks, in microseconds.
        running: Chunks leased now.
        holders: Workers that hold one.
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
    queue: str
    kernel: str
    work: bytes
    chunk_count: int
    additive: bool
    priority: int
    max_attempts: int
    abacus: str
    labels: dict[str, str]
    initiated_by: str
    state: JobState
    version: int
    epoch: int
    done: int
    total: int
    result: bytes
    created_ms: int
    started_ms: int
    ended_ms: int
    refused: int
    failed: int
    lost: int
    compute_us: int
    failure: JobFailure | None
    posting: Posting | None
    running: int = 0
    holders: int = 0
    retrying: int = 0
    retry_ms: int = 0
    shares: float = 0.0
    handled_by: dict[str, int] = field(default_factory=dict)
    per_cell: int = 0
    cells: bytes = b""
    now_ms: int = 0


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
    """Results of consecutive chunks: `sums` of an additive job, else `partials` or the `result`."""

    span: ChunkSpan
    sums: tuple[int, ...] | None = None
    partials: tuple[bytes, ...] | None = None
    result: bytes | None = None
    micros: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ChunkFailure:
    """A failed attempt at a chunk (`span.count` is 1)."""

    span: ChunkSpan
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker that is alive: its description is opaque here."""

    uid: str
    info: bytes
    held: int
    seen_ms: int
    draining: bool
