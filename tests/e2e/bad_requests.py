"""One table of what can be wrong with a request, for every call of the mesh."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

_MOST = str(2**64 - 1)
_TO_100 = {"count_primes": {"stop": 100}}
_PRIMES = ("primes", "100")


@dataclass(frozen=True)
class BadJob:
    """A job that is refused.

    Attributes:
        job: As JSON.
        field: What is at fault.
        value: What was given there.
        bound: A word of what would have been taken.
        cli: The same on the command line, if it can be said there.
        untyped: The field's type cannot hold it: over REST it is refused by the edge, and gRPC
            cannot say it.
        reason: The reason given.
    """

    job: dict[str, Any]
    field: str
    value: str
    bound: str
    cli: tuple[str, ...] = ()
    untyped: bool = False
    reason: str = "INVALID_FIELD"


@dataclass(frozen=True)
class Bad:
    """A request that is refused.

    Attributes:
        title: What is wrong with it.
        method: What is called, as `Service/Method`.
        request: As JSON.
        field: What is at fault, "" where it is not one field.
        value: What was given there.
        bound: A word of what would have been taken.
        cli: The same on the command line, if it can be said there.
        untyped: As of BadJob.
        by_edge: By REST the edge refuses it, before a service sees it and in its own words.
        reason: The reason given.
        code: The code given.
    """

    title: str
    method: str
    request: dict[str, Any]
    field: str
    value: str
    bound: str
    cli: tuple[str, ...] = ()
    untyped: bool = False
    by_edge: bool = False
    reason: str = "INVALID_FIELD"
    code: str = "INVALID_ARGUMENT"

    def __str__(self) -> str:
        return f"{self.method}: {self.title}"


def _combinatorial(**fields: object) -> dict[str, Any]:
    primes = {"stop": 100, "method": "METHOD_COMBINATORIAL", **fields}
    return {"work": {"count_primes": primes}}


def _primes(start: object = 0, stop: object = 100) -> dict[str, Any]:
    return {"work": {"count_primes": {"start": start, "stop": stop}}}


_BAD_JOBS = {
    "negative stop": BadJob(
        _primes(stop=-1), "job.work.count_primes.stop", "-1", _MOST, ("primes", "-1"), untyped=True
    ),
    "negative start": BadJob(
        _primes(start=-5),
        "job.work.count_primes.start",
        "-5",
        _MOST,
        ("primes", "100", "--from", "-5"),
        untyped=True,
    ),
    "stop over 64 bits": BadJob(
        _primes(stop=str(2**64)),
        "job.work.count_primes.stop",
        str(2**64),
        _MOST,
        ("primes", "2**64"),
        untyped=True,
    ),
    "start over 64 bits": BadJob(
        _primes(start=str(2**64)),
        "job.work.count_primes.start",
        str(2**64),
        _MOST,
        ("primes", "2**64", "--from", "2**64"),
        untyped=True,
    ),
    "start after stop": BadJob(
        _primes(10, 5), "job.work.count_primes.stop", "5", "10", ("primes", "5", "--from", "10")
    ),
    "start just after stop": BadJob(
        _primes(_MOST, str(2**64 - 2)),
        "job.work.count_primes.stop",
        str(2**64 - 2),
        _MOST,
        ("primes", str(2**64 - 2), "--from", _MOST),
    ),
    "a kind that formulas do not count": BadJob(
        _combinatorial(kind="KIND_TWINS"),
        "job.work.count_primes.kind",
        "KIND_TWINS",
        "KIND_PRIMES",
        ("primes", "100", "--kind", "twins", "--method", "combinatorial"),
    ),
    "more than formulas count": BadJob(
        _combinatorial(stop=str(2**63)),
        "job.work.count_primes.stop",
        str(2**63),
        str(2**63 - 1),
        ("primes", "2**63", "--method", "combinatorial"),
    ),
    "formulas in chunks": BadJob(
        {**_combinatorial(), "chunk_count": 2},
        "job.chunk_count",
        "2",
        "1, all that count_primes.combinatorial takes",
        (*_PRIMES, "--method", "combinatorial", "--chunks", "2"),
    ),
    "no prime before the first": BadJob(
        {"work": {"nth_prime": {"n": 0}}},
        "job.work.nth_prime.n",
        "0",
        "216289611853439384",
        ("nth-prime", "0"),
    ),
    "a prime too far": BadJob(
        {"work": {"nth_prime": {"n": "216289611853439385"}}},
        "job.work.nth_prime.n",
        "216289611853439385",
        "216289611853439384",
        ("nth-prime", "216289611853439385"),
    ),
    "no chunks": BadJob(
        {"work": _TO_100, "chunk_count": 0},
        "job.chunk_count",
        "0",
        "4194304",
        (*_PRIMES, "--chunks", "0"),
    ),
    "a negative number of chunks": BadJob(
        {"work": _TO_100, "chunk_count": -1},
        "job.chunk_count",
        "-1",
        "4194304",
        (*_PRIMES, "--chunks", "-1"),
    ),
    "a chunk too many": BadJob(
        {"work": _TO_100, "chunk_count": 2**22 + 1},
        "job.chunk_count",
        "4194305",
        "4194304",
        (*_PRIMES, "--chunks", "4194305"),
    ),
    "10^9 chunks": BadJob(
        {"work": _TO_100, "chunk_count": 10**9},
        "job.chunk_count",
        "1000000000",
        "4194304",
        (*_PRIMES, "--chunks", "10^9"),
    ),
    "too many chunks for a kernel that merges": BadJob(
        {"work": {"add": {"numbers": ["1", "2"]}}, "chunk_count": 65_537},
        "job.chunk_count",
        "65537",
        "65536",
        ("add", "1", "2", "--chunks", "65537"),
    ),
    "no work": BadJob({}, "job.work", "", "count_primes, add, simulate", reason="UNKNOWN_KERNEL"),
    "empty work": BadJob(
        {"work": {}}, "job.work", "", "count_primes, add, simulate", reason="UNKNOWN_KERNEL"
    ),
    "nothing to add": BadJob(
        {"work": {"add": {}}}, "job.work.add.numbers", "0", "10,000", ("add",)
    ),
    "too much to add": BadJob(
        {"work": {"add": {"numbers": ["1"] * 10_001}}},
        "job.work.add.numbers",
        "10001",
        "10,000",
        ("add", *["1"] * 10_001),
    ),
    "what is no number": BadJob(
        {"work": {"add": {"numbers": ["1", "NaN"]}}},
        "job.work.add.numbers[1]",
        "NaN",
        "decimal",
    ),
    "a chance over 1": BadJob(
        {"work": {"simulate": {"crash_rate": 1.5}}},
        "job.work.simulate.crash_rate",
        "1.5",
        "0 to 1",
        ("simulate", "--crash-rate", "1.5"),
    ),
    "a chance that is no number": BadJob(
        {"work": {"simulate": {"failure_rate": "NaN"}}},
        "job.work.simulate.failure_rate",
        "nan",
        "0 to 1",
        ("simulate", "--failure-rate", "nan"),
    ),
    "too long a chunk": BadJob(
        {"work": {"simulate": {"duration": "7200s"}}},
        "job.work.simulate.duration",
        "7200s",
        "3600s",
        ("simulate", "--duration", "2h"),
    ),
    "bad queue": BadJob(
        {"work": _TO_100, "queue": "No Queue"},
        "job.queue",
        "No Queue",
        "63",
        (*_PRIMES, "--queue", "No Queue"),
    ),
    "bad priority": BadJob(
        {"work": _TO_100, "priority": 10}, "job.priority", "10", "9", (*_PRIMES, "--priority", "10")
    ),
    "bad label": BadJob(
        {"work": _TO_100, "labels": {"Team": "a"}},
        "job.labels",
        "Team",
        "63",
        (*_PRIMES, "--label", "Team=a"),
    ),
    "bad abacus": BadJob(
        {"work": _TO_100, "abacus": "abaci/No_Name"},
        "job.abacus",
        "abaci/No_Name",
        "63",
        (*_PRIMES, "--abacus", "No_Name"),
    ),
    "too many attempts": BadJob(
        {"work": _TO_100, "max_attempts": 101},
        "job.max_attempts",
        "101",
        "100",
        (*_PRIMES, "--max-attempts", "101"),
    ),
    "no attempt": BadJob(
        {"work": _TO_100, "max_attempts": 0},
        "job.max_attempts",
        "0",
        "100",
        (*_PRIMES, "--max-attempts", "0"),
    ),
    "fewer failures than none": BadJob(
        {"work": _TO_100, "tolerate_failures": -1},
        "job.tolerate_failures",
        "-1",
        "4194304",
        (*_PRIMES, "--tolerate-failures", "-1"),
    ),
    "more failures than chunks": BadJob(
        {"work": _TO_100, "tolerate_failures": 2**22 + 1},
        "job.tolerate_failures",
        "4194305",
        "4194304",
        (*_PRIMES, "--tolerate-failures", "4194305"),
    ),
    "no time for a chunk": BadJob(
        {"work": _TO_100, "chunk_timeout": "0s"},
        "job.chunk_timeout",
        "0 s",
        "from 1 ms to 7 days",
        (*_PRIMES, "--chunk-timeout", "0"),
    ),
    "too much time for a chunk": BadJob(
        {"work": _TO_100, "chunk_timeout": "604801s"},
        "job.chunk_timeout",
        "604801 s",
        "7 days",
        (*_PRIMES, "--chunk-timeout", "604801s"),
    ),
    "time before the beginning": BadJob(
        {"work": _TO_100, "timeout": "-1s"}, "job.timeout", "-1 s", "1 ms"
    ),
    "too much time for a job": BadJob(
        {"work": _TO_100, "timeout": "31622400s"},
        "job.timeout",
        "31622400 s",
        "365 days",
        (*_PRIMES, "--job-timeout", "366d"),
    ),
    "too short to be read": BadJob(
        {"work": _TO_100, "ttl": "0.5s"},
        "job.ttl",
        "0.5 s",
        "from 1 s to 365 days",
        (*_PRIMES, "--ttl", "500ms"),
    ),
}


_NO_JOB = f"jobs/{'0' * 16}"
_NO_NAME = "a job's name: jobs/ and 16 characters of [a-z0-9]"


def _of_jobs() -> Iterator[Bad]:
    """Bad jobs, wherever a job is asked for."""
    for title, bad in _BAD_JOBS.items():
        single = Bad(
            title, "JobService/CreateJob", {"job": bad.job}, bad.field, bad.value, bad.bound,
            bad.cli, untyped=bad.untyped, reason=bad.reason,
        )  # fmt: skip
        yield single
        single = replace(single, cli=())
        yield replace(single, method="JobService/RunJob")
        within = {"requests": [{"job": {"work": _TO_100}}, {"job": bad.job}]}
        yield replace(
            single,
            method="JobService/BatchCreateJobs",
            request=within,
            field=f"requests[1].{bad.field}",
        )
        if bad.field.startswith("job.work."):
            yield replace(
                single,
                method="JobService/Compute",
                request={"work": bad.job["work"]},
                field=bad.field.removeprefix("job."),
            )


def _of_names() -> Iterator[Bad]:
    """What is no name of a job, and the name of no job, wherever one is asked for."""
    commands = {
        "GetJob": "get", "WatchJob": "watch", "CancelJob": "cancel", "ReplayJob": "replay",
        "ListChunks": "chunks", "ListChunkLogs": "logs",
    }  # fmt: skip
    for call, request, field in (
        ("GetJob", "name", "name"),
        ("WatchJob", "name", "name"),
        ("CancelJob", "name", "name"),
        ("ReplayJob", "name", "name"),
        ("ListChunks", "parent", "parent"),
        ("ListChunkLogs", "parent", "parent"),
        ("BatchGetJobs", "names", "names[0]"),
        ("CollectJobs", "names", "names[0]"),
    ):
        method = f"JobService/{call}"
        command = ("jobs", commands[call]) if call in commands else ()

        def said(name: str, key: str = request) -> dict[str, Any]:
            return {key: [name] if key == "names" else name}

        for name in (
            "",
            "jobs/",
            "jobs/x",
            "jobs/no-such-name-here",
            "abaci/main",
            "jobs/../../etc",
        ):
            cli = (*command, "x") if command and name == "jobs/x" else ()
            title = f"{name!r} is no name"
            yield Bad(title, method, said(name), field, name, _NO_NAME, cli)
        yield Bad(
            "no such job", method, said(_NO_JOB), "", _NO_JOB, "",
            (*command, _NO_JOB) if command else (),
            reason="NOT_FOUND", code="NOT_FOUND",
        )  # fmt: skip


def _of_letters(method: str) -> Iterator[Bad]:
    """What every call refuses that takes a filter of dead letters."""
    for given, value, field, shown, bound in (
        ("names", ["jobs/x/chunks/0"], "names[0]", "jobs/x/chunks/0", "a chunk's name"),
        ("names", [_NO_JOB], "names[0]", _NO_JOB, "a chunk's name"),
        ("names", [f"{_NO_JOB}/chunks/0"] * 1001, "names", "1001", "1000"),
        ("group", "deadLetterGroups/xyz", "group", "deadLetterGroups/xyz", "12 characters"),
        ("group", "0123456789ab", "group", "0123456789ab", "deadLetterGroups/"),
        ("job", "jobs/x", "job", "jobs/x", "16 characters"),
        ("kernel", "fly", "kernel", "fly", "count_primes, add, simulate"),
        ("reason", 999, "reason", "999", "reason"),
    ):
        title = f"{given} {shown}"
        # In a query, the transcoder takes no enum value that it does not know.
        by_edge = method.endswith("ListDeadLetters") and shown == "999"
        yield Bad(
            title, method, {"filter": {given: value}}, f"filter.{field}", shown, bound,
            by_edge=by_edge,
        )  # fmt: skip


def _of_abaci() -> Iterator[Bad]:
    """What is no name of an abacus, no amount, no id and no etag, wherever one is asked for."""
    name: dict[str, Any] = {"name": "abaci/main"}
    rest: dict[str, Any]
    for call, rest in (
        ("GetSum", {}),
        ("AddNumber", {"number": "1"}),
        ("AddNumbers", {"numbers": ["1"]}),
        ("ResetSum", {}),
        ("DeleteAbacus", {}),
        ("WatchSum", {}),
        ("ListEntries", {}),
    ):
        key = "parent" if call == "ListEntries" else "name"
        for bad in ("", "abaci/", "abaci/No_Name", "abaci/1st", f"abaci/{'a' * 64}"):
            method = f"AbacusService/{call}"
            yield Bad(f"{bad!r} is no name", method, {key: bad} | rest, key, bad, "63 characters")
    for call, one in (
        ("AddNumber", {"number": "1"}),
        ("ResetSum", {}),
        ("DeleteAbacus", {}),
    ):
        method = f"AbacusService/{call}"
        for bad in ("a b", "x" * 129, "\u00e9"):
            shown = f"{bad[:77]}..." if len(bad) > 80 else bad
            request = {**name, **one, "request_id": bad}
            yield Bad(f"request id {shown}", method, request, "request_id", shown, "128 visible")
        request = {**name, **one, "expected_etag": "today"}
        yield Bad("no etag", method, request, "expected_etag", "today", "etag")
    add, add_many = "AbacusService/AddNumber", "AbacusService/AddNumbers"
    yield Bad("no amount", add, name, "amount", "", "number")
    for bad in ("NaN", "Infinity", "1e5000", "1e999999", "many", "", "9" * 4097):
        shown = f"{bad[:77]}..." if len(bad) > 80 else bad
        yield Bad(f"{shown!r}", add, {**name, "decimal": bad}, "decimal", shown, "4,096 digits")
        request = {**name, "decimals": ["1", bad]}
        yield Bad(f"{shown!r}", add_many, request, "decimals[1]", shown, "4,096 digits")
    request = {**name, "number": str(2**63)}
    yield Bad("over 64 bits", add, request, "number", str(2**63), "", untyped=True)
    yield Bad("no numbers", add_many, name, "numbers", "0", "10,000")
    request = {**name, "numbers": ["1"] * 10_001}
    yield Bad("too many numbers", add_many, request, "numbers", "10001", "10,000")
    request = {**name, "numbers": ["1"], "sequence": "1"}
    yield Bad("a sequence of no stream", add_many, request, "sequence", "1", "stream_id")
    request = {**name, "numbers": ["1"], "stream_id": "s"}
    yield Bad("a stream without sequence", add_many, request, "sequence", "0", "from 1 on")


def _of_pages() -> Iterator[Bad]:
    """Sizes and tokens of pages, wherever there are pages."""
    for method, request, most in (
        ("JobService/ListJobs", {}, 1000),
        ("JobService/ListChunks", {"parent": _NO_JOB}, 1000),
        ("JobService/ListChunkLogs", {"parent": _NO_JOB}, 1000),
        ("DeadLetterService/ListDeadLetterGroups", {}, 1000),
        ("DeadLetterService/ListDeadLetters", {}, 1000),
        ("AbacusService/ListAbaci", {}, 500),
        ("AbacusService/ListEntries", {"parent": "abaci/main"}, 500),
    ):
        for size in (-1, most + 1):
            asked = {**request, "page_size": size}
            yield Bad(f"page of {size}", method, asked, "page_size", str(size), f"{most}")
        for token in ("zzz", "\0"):
            asked = {**request, "page_token": token}
            yield Bad(f"page token {token!r}", method, asked, "page_token", token, "list")


def _of_workers() -> Iterator[Bad]:
    """What a worker may not say, and what is no worker."""
    worker = {"name": "w", "uid": "12345678", "slots": 1, "kernels": ["add"]}
    call = {"call_id": "1", "worker": worker}
    chunk = {"job": f"default/{'0' * 16}", "epoch": 1, "first": 0, "count": 1, "attempt": 1}
    for title, said, field, value, bound in (
        ("no call id", {"call_id": ""}, "call_id", "", "64 visible"),
        ("no worker", {"worker": {}}, "worker.name", "", "63 characters"),
        ("a bad uid", {"worker": worker | {"uid": "1"}}, "worker.uid", "1", "8 to 64"),
        ("no slots", {"worker": worker | {"slots": 0}}, "worker.slots", "0", "1024"),
        ("no kernels", {"worker": worker | {"kernels": []}}, "worker.kernels", "0", "256"),
        ("a bad queue", {"worker": worker | {"queues": ["A"]}}, "worker.queues[0]", "A", "63"),
        ("no address", {"worker": worker | {"address": "x"}}, "worker.address", "x", "host:port"),
        (
            "too many libraries",
            {"worker": worker | {"libraries": ["x"] * 17}},
            "worker.libraries", "17", "16 lines",
        ),
        (
            "a library of two lines",
            {"worker": worker | {"libraries": ["x", "a\nb"]}},
            "worker.libraries[1]", "a\nb", "1 to 255 printable",
        ),
        (
            "a long library",
            {"worker": worker | {"libraries": ["x" * 256]}},
            "worker.libraries[0]", "xxx", "1 to 255 printable",
        ),
        ("too much capacity", {"capacity": 65_537}, "capacity", "65537", "65536"),
        ("too long a wait", {"wait": "31s"}, "wait", "31000", "30000"),
        ("a bad job", {"held": [chunk | {"job": "x"}]}, "held[0].job", "x", "a job as"),
        ("no chunks", {"returned": [chunk | {"count": 0}]}, "returned[0].count", "0", "1 to"),
        (
            "an odd failure",
            {"failures": [{"chunk": chunk, "reason": 1}]},
            "failures[0].reason", "1", "CHUNK_FAILED",
        ),
        ("no result", {"results": [{"chunks": chunk}]}, "results[0]", "0 sums", "1 sums"),
        (
            "over the whole",
            {"progress": [{"chunk": chunk, "fraction": 1.5}]},
            "progress[0].fraction", "1.5", "0 to 1",
        ),
    ):  # fmt: skip
        yield Bad(title, "DispatchService/Synchronize", call | said, field, value, bound)
    for call_name in ("Drain", "Delete"):
        method = f"FleetService/{call_name}Worker"
        for bad in ("", "workers/", "worker-1", "workers/No name"):
            yield Bad(f"{bad!r} is no name", method, {"name": bad}, "name", bad, "workers/")
        yield Bad(
            "no such worker", method, {"name": "workers/nobody"}, "", "workers/nobody", "",
            ("drain", "nobody") if call_name == "Drain" else (),
            reason="NOT_FOUND", code="NOT_FOUND",
        )  # fmt: skip


def _of_the_rest() -> Iterator[Bad]:
    batch, get_all, collect = (
        f"JobService/{call}" for call in ("BatchCreateJobs", "BatchGetJobs", "CollectJobs")
    )
    yield Bad("none", batch, {}, "requests", "0", "1 to 1000")
    yield Bad("too many", batch, {"requests": [{}] * 1001}, "requests", "1001", "1 to 1000")
    two = [{"job": {"work": _TO_100}}, {"job": {"work": _TO_100}, "request_id": "a b"}]
    yield Bad("a bad id", batch, {"requests": two}, "requests[1].request_id", "a b", "visible")
    for call in ("CreateJob", "RunJob"):
        asked = {"job": {"work": _TO_100}, "request_id": "a b"}
        yield Bad("a bad id", f"JobService/{call}", asked, "request_id", "a b", "visible ASCII")
    yield Bad("none", get_all, {}, "names", "0", "1 to 1000")
    yield Bad("too many", get_all, {"names": ["x"] * 1001}, "names", "1001", "1 to 1000")
    yield Bad("none", collect, {}, "names", "0", "1 to 10000")
    yield Bad("too many", collect, {"names": ["x"] * 10_001}, "names", "10001", "1 to 10000")
    replay = "JobService/ReplayJob"
    yield Bad("no epoch", replay, {"name": _NO_JOB, "epoch": "-1"}, "epoch", "-1", "epoch")
    compute = "JobService/Compute"
    asked = {"work": _TO_100, "queue": "No Queue"}
    yield Bad("a bad queue", compute, asked, "queue", "No Queue", "63")
    kernels = "count_primes, add, simulate"
    yield Bad("no work", compute, {}, "work", "", kernels, reason="UNKNOWN_KERNEL")
    listed = "JobService/ListJobs"
    yield Bad("a bad label", listed, {"labels": ["odd"]}, "labels[0]", "odd", "key=value")
    yield Bad("a bad queue", listed, {"queue": "No_Queue"}, "queue", "No_Queue", "63")
    yield Bad(
        "a bad kernel", listed, {"kernel": "fly"}, "kernel", "fly", kernels,
        ("jobs", "list", "--kernel", "fly"),
    )  # fmt: skip
    yield Bad("a bad state", listed, {"states": [99]}, "states[0]", "99", "a state", by_edge=True)
    for method in ("DeadLetterService/ReplayDeadLetters", "DeadLetterService/DeleteDeadLetters"):
        yield Bad("no filter", method, {}, "filter", "", "at least one condition")
        yield Bad("no condition", method, {"filter": {}}, "filter", "", "at least one condition")


BAD = (
    *_of_jobs(),
    *_of_names(),
    *_of_letters("DeadLetterService/ListDeadLetters"),
    *_of_letters("DeadLetterService/ReplayDeadLetters"),
    *_of_letters("DeadLetterService/DeleteDeadLetters"),
    *_of_abaci(),
    *_of_pages(),
    *_of_workers(),
    *_of_the_rest(),
)
