"""What jobs are made of, and what comes out of them, as this library's users write and read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Literal, TypedDict, cast, get_args

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message

from tallymesh.arguments import checking
from tallymesh.errors import (
    ChunkTimedOut,
    InvalidField,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    TallymeshError,
    WrongType,
)
from tallymesh.json_values import MAX_JSON_DEPTH, NotJson, TooDeep, from_value, to_struct
from tallymesh.quantities import exact_text
from tallymesh.v1.errors_pb2 import ErrorReason
from tallymesh.v1.job_pb2 import Job
from tallymesh.v1.work_pb2 import (
    Add,
    CountPrimes,
    CustomResult,
    CustomWork,
    NthPrime,
    Result,
    Simulate,
    Work,
)

#: Anything that a job can be made of.
AnyWork = Work | CountPrimes | NthPrime | Add | Simulate | CustomWork
#: What to count: primes, or tuplets of two to six primes that stand as close together as they can.
Kind = Literal["primes", "twins", "triplets", "quadruplets", "quintuplets", "sextuplets"]
#: How to count primes.
Method = Literal["auto", "sieve", "combinatorial"]

FINAL_STATES = (Job.STATE_SUCCEEDED, Job.STATE_FAILED, Job.STATE_CANCELLED)

_MAX_UINT64 = 2**64 - 1
_PRIMES_TO_2_63 = 216_289_611_853_439_384
_FAILURES = {"CHUNK_TIMED_OUT": ChunkTimedOut, "JOB_TIMED_OUT": JobTimedOut}


class JobOptions(TypedDict, total=False):
    """How a job is to be run; what is left out, or None, is as the mesh chooses.

    Attributes:
        chunks: Into how many chunks to cut the work, 1 to 4,194,304; default: its kernel plans.
        queue: The queue to wait in; default "default".
        priority: Share among the jobs of the queue, 0 to 9; each step doubles it.
        labels: Free marks to list by.
        abacus: The abacus to which the total is added once, with or without `abaci/`.
        max_attempts: How often a chunk may be tried before it is given up; default 4.
        tolerate_failures: How many chunks may be given up without failing the job; its result is
            then without them. Default 0.
        chunk_timeout: Seconds, or a timedelta, that an attempt at a chunk may take; what takes
            longer is stopped and counts as a failed attempt. Default: any time.
        job_timeout: Seconds, or a timedelta, from the job's acceptance to its end; a job that takes
            longer fails. (`timeout` is how long a caller waits, which changes nothing for the job.)
            Default: any time.
        ttl: Seconds, or a timedelta, that the job and its result are kept after its end; default
            7 days.
    """

    chunks: int | None
    queue: str | None
    priority: int | None
    labels: Mapping[str, str] | None
    abacus: str | None
    max_attempts: int | None
    tolerate_failures: int | None
    chunk_timeout: float | timedelta | None
    job_timeout: float | timedelta | None
    ttl: float | timedelta | None


def make_job(work: AnyWork, options: JobOptions) -> Job:
    """Returns the job to submit.

    Raises:
        InvalidField: A number does not fit its field. Everything else is for the mesh to judge.
        TypeError: The work is none, a number is no int, or there is no such option.
    """
    job = make_template(options)
    job.work.CopyFrom(wrap(work))
    return job


def make_template(options: JobOptions) -> Job:
    """Returns a job that has all but its work. Errors as of make_job()."""
    demand_known(options, JobOptions, "option of a job")
    options = cast("JobOptions", {key: one for key, one in options.items() if one is not None})
    job = Job(
        queue=options.get("queue") or "",
        priority=_fitting("job.priority", options.get("priority", 0), 0, 9),
        labels=options.get("labels"),
    )
    if "chunks" in options:
        job.chunk_count = _fitting("job.chunk_count", options["chunks"], 1, 2**22)
    if "max_attempts" in options:
        job.max_attempts = _fitting("job.max_attempts", options["max_attempts"], 1, 100)
    if "tolerate_failures" in options:
        job.tolerate_failures = _fitting(
            "job.tolerate_failures", options["tolerate_failures"], 0, 2**22
        )
    if "chunk_timeout" in options:
        job.chunk_timeout.CopyFrom(_span("job.chunk_timeout", options["chunk_timeout"]))
    if "job_timeout" in options:
        job.timeout.CopyFrom(_span("job.timeout", options["job_timeout"]))
    if "ttl" in options:
        job.ttl.CopyFrom(_span("job.ttl", options["ttl"]))
    if abacus := options.get("abacus"):
        job.abacus = resource_name("abaci", abacus)
    return job


def demand_known(given: Iterable[str], kind: type, thing: str) -> None:
    """Refuses keywords that the TypedDict `kind` does not have: Python itself lets them pass.

    Raises:
        TypeError: There is one; the message calls it a `thing`.
    """
    known = list(kind.__annotations__)
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
            raise TypeError(f"no {thing} {name!r}; {hint}")


def make_count_primes(
    start: int, stop: int, *, kind: Kind = "primes", method: Method = "auto"
) -> CountPrimes:
    """Returns the work that counts the primes, or tuplets of them, from start to stop.

    Raises:
        InvalidField: A bound is outside of 0 to 2^64 - 1, or the kind or the method is unknown.
        TypeError: A bound is no int.
    """
    if kind not in get_args(Kind):
        raise InvalidField.of("job.work.count_primes.kind", kind, f"one of {_listed(Kind)}")
    if method not in get_args(Method):
        raise InvalidField.of("job.work.count_primes.method", method, f"one of {_listed(Method)}")
    return CountPrimes(
        start=_fitting("job.work.count_primes.start", start, 0, _MAX_UINT64),
        stop=_fitting("job.work.count_primes.stop", stop, 0, _MAX_UINT64),
        kind=CountPrimes.KIND_UNSPECIFIED
        if kind == "primes"
        else CountPrimes.Kind.Value(f"KIND_{kind.upper()}"),
        method=CountPrimes.METHOD_UNSPECIFIED
        if method == "auto"
        else CountPrimes.Method.Value(f"METHOD_{method.upper()}"),
    )


def _listed(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in get_args(names))


def make_nth_prime(n: int) -> NthPrime:
    """Returns the work that finds the n-th prime.

    Raises:
        InvalidField: n is less than 1, or the prime more than 2^63.
        TypeError: It is no int.
    """
    return NthPrime(n=_fitting("job.work.nth_prime.n", n, 1, _PRIMES_TO_2_63))


def make_add(numbers: Iterable[int | Decimal | str]) -> Add:
    """Returns the work that adds numbers.

    Raises:
        InvalidField: One is no number.
        TypeError: One is a float.
    """
    texts = []
    for index, number in enumerate(numbers):
        try:
            texts.append(exact_text(number))
        except (TypeError, ValueError) as error:
            field = f"job.work.add.numbers[{index}]"
            raise unfit_number(field, number, error, "a number") from error
    return Add(numbers=texts)


def unfit_number(
    field: str, number: object, error: TypeError | ValueError, bound: str
) -> InvalidField:
    """Returns the error for what exact_text() does not take."""
    if isinstance(error, TypeError):
        why = "an int, a Decimal or a str, which hold decimals exactly"
        return WrongType.of(field, number, why)
    return InvalidField.of(field, number, bound)


def make_works(kernel: str | Callable[[Any], AnyWork], inputs: Iterable[Any]) -> Iterator[AnyWork]:
    """Yields the work for each input.

    Args:
        kernel: The name of a kernel of one's own, or what makes a work of an input.
        inputs: As the kernel, or that function, takes them.
    """
    for one in inputs:
        yield custom(kernel, one) if isinstance(kernel, str) else kernel(one)


@checking
def custom(kernel: str, work: Mapping[str, Any] | Message | bytes | None = None) -> CustomWork:
    """Returns work for a kernel of one's own.

    Args:
        kernel: Its name, such as "acme.score".
        work: What it is given: a JSON object, for a kernel that is a function; a message, or one
            that is serialized, for a kernel of the class form.

    Raises:
        TypeError: The work is none of these, or holds what JSON cannot say.
        InvalidField: It is nested more than 32 deep.
    """
    match work:
        case bytes():
            return CustomWork(kernel=kernel, data=work)
        case Message():
            return CustomWork(kernel=kernel, data=work.SerializeToString(deterministic=True))
    try:
        return CustomWork(kernel=kernel, json=to_struct({} if work is None else work))
    except TooDeep as error:
        bound = f"nested at most {MAX_JSON_DEPTH} deep"
        raise InvalidField.of("job.work.custom.json", work, bound) from error
    except NotJson as error:
        raise NotJson(f"the work of {kernel} is {error}") from None


def resource_name(collection: str, name: str) -> str:
    """Returns the full name of a resource that was named with or without its collection."""
    return name if name.startswith(f"{collection}/") else f"{collection}/{name}"


def parse_state(name: str) -> Job.State.ValueType:
    """Returns the state called `name`, in either case.

    Raises:
        InvalidField: There is none.
    """
    states = {key.removeprefix("STATE_"): value for key, value in Job.State.items() if value}
    if name.upper() not in states:
        raise InvalidField.of("states", name, f"one of {', '.join(states).lower()}")
    return states[name.upper()]


def parse_reason(name: str) -> ErrorReason.ValueType:
    """Returns the reason called `name`, such as "CHUNK_FAILED", in either case.

    Raises:
        InvalidField: There is none.
    """
    reasons = {reason_name(value): value for value in ErrorReason.values() if value}
    if name.upper() not in reasons:
        raise InvalidField.of("filter.reason", name, f"one of {', '.join(reasons)}")
    return reasons[name.upper()]


def reason_name(reason: ErrorReason.ValueType) -> str:
    """Returns the name of a reason without its prefix, such as "CHUNK_FAILED"."""
    return ErrorReason.Name(reason).removeprefix("ERROR_REASON_")


def state_name(state: Job.State.ValueType) -> str:
    """Returns the name of a state without its prefix, such as "RUNNING"."""
    return Job.State.Name(state).removeprefix("STATE_")


def outcome(job: Job) -> Any:
    """Returns the result of a job that has ended: an int, a Decimal, or what a custom kernel made.

    Raises:
        JobFailed: It failed.
        JobCancelled: It was cancelled.
    """
    if job.state == Job.STATE_FAILED:
        reason = reason_name(job.error.reason)
        raise _FAILURES.get(reason, JobFailed)(job, reason)
    if job.state == Job.STATE_CANCELLED:
        raise JobCancelled(job)
    return result_value(job.result)


def result_value(result: Result) -> Any:
    """Returns what a result says: a number, a sum as a Decimal, or what a custom kernel made."""
    match result.WhichOneof("kernel"):
        case "count_primes":
            return result.count_primes.count
        case "nth_prime":
            return result.nth_prime.prime
        case "add":
            return Decimal(result.add.sum)
        case "simulate":
            return result.simulate.chunks
        case "custom":
            return _custom_value(result.custom)
        case _:
            raise TallymeshError("the result is of a kind that this client does not know")


def _custom_value(result: CustomResult) -> Any:
    match result.WhichOneof("output"):
        case "data":
            return result.data
        case "number":
            return result.number
        case _:
            return from_value(result.json)


def wrap(work: AnyWork, argument: str = "work") -> Work:
    """Returns the work as jobs hold it.

    Args:
        work: What to compute.
        argument: Where it was given.

    Raises:
        WrongType: It is none.
        InvalidField: It is nested deeper than protobuf reads.
    """
    try:
        return _wrapped(work, argument)
    except DecodeError as error:  # it is copied by writing and reading it
        raise InvalidField.of(
            "job.work", work.DESCRIPTOR.name, f"nested at most {MAX_JSON_DEPTH} deep"
        ) from error


def _wrapped(work: AnyWork, argument: str) -> Work:
    match work:
        case Work():
            return work
        case CountPrimes():
            return Work(count_primes=work)
        case NthPrime():
            return Work(nth_prime=work)
        case Add():
            return Work(add=work)
        case Simulate():
            return Work(simulate=work)
        case CustomWork():
            return Work(custom=work)
        case _:
            bound = "a CountPrimes, NthPrime, Add, Simulate, custom() or Work"
            raise WrongType.of(argument, work, bound)


def _fitting(field: str, value: int | None, low: int, high: int) -> int:
    if value is None or isinstance(value, float) or not hasattr(value, "__index__"):
        raise WrongType.of(field, value, "an int")
    if not low <= value <= high:
        raise InvalidField.of(field, value, f"in {low} to {high}")
    return int(value)


def _span(field: str, value: float | timedelta | None) -> Duration:
    if not isinstance(value, int | float | timedelta):
        raise WrongType.of(field, value, "a number of seconds or a timedelta")
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    span = Duration()
    try:
        span.FromNanoseconds(round(seconds * 10**9))
    except (ValueError, OverflowError) as error:  # nan, infinite, or past what a Duration holds
        raise InvalidField.of(field, f"{value}", "a time in seconds") from error
    return span
