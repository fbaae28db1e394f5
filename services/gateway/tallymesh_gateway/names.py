"""Checks the parts of requests that name something."""

import re
from collections.abc import Sized

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from tallymesh.json_values import MAX_JSON_DEPTH, is_too_deep
from tallymesh_core.domain.errors import InvalidField
from tallymesh_core.domain.ids import shard_of_job
from tallymesh_core.domain.jobs import MAX_CHUNKS
from tallymesh_kernels import Foreign, Invalid, Registry

_QUEUE = re.compile(r"[a-z][a-z0-9-]{0,62}")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_MAX_LABELS, _MAX_LABEL_VALUE = 16, 255
# A worker's name, or the uid of its process.
_WORKER = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}|[A-Za-z0-9-]{8,64}")
_LETTER_GROUP = re.compile(r"deadLetterGroups/([0-9a-f]{12})")
_CHUNK = re.compile(r"jobs/([a-z0-9]+)/chunks/([0-9]{1,7})")


def job_id(name: str, field: str) -> str:
    """Returns the id in `jobs/{job}`.

    Raises:
        InvalidField: It is no such name.
    """
    kind, _, found = name.partition("/")
    if kind != "jobs" or shard_of_job(found) is None:
        raise InvalidField(field, name, "a job's name: jobs/ and 16 characters of [a-z0-9]")
    return found


def chunk(name: str, field: str) -> tuple[str, int]:
    """Returns the job's id and the index in `jobs/{job}/chunks/{chunk}`.

    Raises:
        InvalidField: It is no such name.
    """
    found = _CHUNK.fullmatch(name)
    if not found or shard_of_job(found[1]) is None or int(found[2]) > MAX_CHUNKS:
        raise InvalidField(field, name, "a chunk's name: a job's name, /chunks/ and its index")
    return found[1], int(found[2])


def letter_group(name: str, field: str) -> str:
    """Returns the id in `deadLetterGroups/{group}`; InvalidField if it is no such name."""
    found = _LETTER_GROUP.fullmatch(name)
    if not found:
        raise InvalidField(
            field, name, "a group's name: deadLetterGroups/ and 12 characters of [0-9a-f]"
        )
    return found[1]


def worker(name: str, field: str) -> str:
    """Returns the worker's name or uid in `workers/{worker}`; InvalidField if it is none."""
    kind, _, found = name.partition("/")
    if kind != "workers" or not _WORKER.fullmatch(found):
        raise InvalidField(field, name, "workers/ and a worker's name, or the uid of its process")
    return found


def json(given: Struct | Value, field: str) -> None:
    """Checks JSON that comes from outside; InvalidField if it is nested too deeply."""
    if is_too_deep(given):
        bound = f"lists and objects within each other at most {MAX_JSON_DEPTH} deep"
        raise InvalidField(field, "JSON that is nested deeper", bound)


def milliseconds(given: Duration, field: str, *, least_ms: int, most_days: int) -> int:
    """Returns a duration in milliseconds, rounded up; InvalidField if out of bounds."""
    nanos = given.seconds * 1_000_000_000 + given.nanos
    if not least_ms * 1_000_000 <= nanos <= most_days * 86_400 * 1_000_000_000:
        least = f"{least_ms} ms" if least_ms < 1000 else f"{least_ms // 1000} s"
        raise InvalidField(
            field, f"{nanos / 1e9:.15g} s", f"a duration from {least} to {most_days} days"
        )
    return -(-nanos // 1_000_000)


def moment(given: Timestamp, field: str) -> int:
    """Returns a time in milliseconds since 1970; InvalidField if there is no such time."""
    try:
        return given.ToMilliseconds()
    except ValueError:
        shown = f"{given.seconds} s and {given.nanos} ns"
        raise InvalidField(field, shown, "a time of the years 1 to 9999") from None


def abacus_id(name: str, field: str) -> str:
    """Returns the id in `abaci/{abacus}`, or "" for "".

    Raises:
        InvalidField: It is no such name.
    """
    if not name:
        return ""
    kind, _, found = name.partition("/")
    if kind != "abaci" or not _QUEUE.fullmatch(found):
        raise InvalidField(
            field,
            name,
            "an abacus's name: abaci/ and 1 to 63 characters of [a-z0-9-], starting with a letter",
        )
    return found


def queue(name: str, field: str) -> str:
    """Returns the queue's name, "default" for ""; InvalidField if it is none."""
    if name and not _QUEUE.fullmatch(name):
        raise InvalidField(field, name, "1 to 63 characters of [a-z0-9-], starting with a letter")
    return name or "default"


def kernel(name: str, field: str, known: Registry) -> None:
    """Checks the name of a kernel, of which those of one's own need not be known here.

    Raises:
        InvalidField: It is neither "" nor such a name.
    """
    if not name or name in known.names():
        return
    try:
        Foreign(name)
    except Invalid:
        bound = f"one of: {', '.join(known.names())}, or a name with a dot"
        raise InvalidField(field, name, bound) from None


def labels(marks: dict[str, str], field: str) -> dict[str, str]:
    """Returns the labels; InvalidField if there are too many, or one is malformed."""
    if len(marks) > _MAX_LABELS:
        raise InvalidField(field, len(marks), f"at most {_MAX_LABELS} labels")
    for key, value in marks.items():
        if not _LABEL_KEY.fullmatch(key):
            raise InvalidField(
                field, key, "a key of 1 to 63 characters of [a-z0-9_.-], starting with a letter"
            )
        text(value, f"{field}[{key}]", _MAX_LABEL_VALUE)
    return marks


def text(given: str, field: str, most: int) -> str:
    """Returns a text for people; InvalidField if it is too long or holds control characters."""
    if len(given) > most or _CONTROL.search(given):
        raise InvalidField(field, given, f"at most {most} characters, none a control character")
    return given


def without_controls(given: str) -> str:
    """Returns a sentence for people, with a space for whatever control characters it holds."""
    return _CONTROL.sub(" ", given)


def label_filters(pairs: list[str], field: str) -> dict[str, str]:
    """Returns the labels that `key=value` filters ask for; InvalidField if one is malformed."""
    found = {}
    for i, pair in enumerate(pairs):
        key, equals, value = pair.partition("=")
        if not equals or not _LABEL_KEY.fullmatch(key):
            raise InvalidField(f"{field}[{i}]", pair, "of the form key=value")
        found[key] = value
    return found


def request_id(given: str, field: str = "request_id") -> str:
    """Returns the request id; InvalidField if it is malformed."""
    if given and not _REQUEST_ID.fullmatch(given):
        raise InvalidField(field, given, "1 to 128 visible ASCII characters")
    return given


def several(given: Sized, field: str, most: int) -> None:
    """Raises InvalidField unless there are 1 to `most` items."""
    if not 1 <= len(given) <= most:
        raise InvalidField(field, len(given), f"1 to {most} of them")
