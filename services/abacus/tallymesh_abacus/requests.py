"""Reads the parts of requests, and refuses what is out of bounds."""

import re

from tallymesh.v1 import abacus_service_pb2 as pb
from tallymesh_core.domain.decimals import Exact, parse_decimal, total
from tallymesh_core.domain.errors import InvalidField
from tallymesh_core.rpc.context import current_caller
from tallymesh_core.store.once import Memory, Once
from tallymesh_core.store.sums import Abacus

#: More in one message would hold up everyone else's calls for longer than a few milliseconds.
MAX_NUMBERS = 10_000

_NAME = re.compile(r"abaci/([a-z][a-z0-9-]{0,62})")
_ID = re.compile(r"[!-~]{1,128}")
_ETAG = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
_JOB = re.compile(r"jobs/[a-z0-9]{4,64}")


def abacus(name: str, field: str = "name") -> Abacus:
    """Returns the caller's abacus of a name `abaci/{abacus}`; InvalidField if it is none."""
    found = _NAME.fullmatch(name)
    if found is None:
        bound = "abaci/ and 1 to 63 characters of a-z, 0-9 and -, starting with a letter"
        raise InvalidField(field, name, bound)
    return Abacus(current_caller().tenant, found[1])


def amount(request: pb.AddNumberRequest) -> Exact:
    """Returns what is to be added; InvalidField if it is no decimal within bounds."""
    match request.WhichOneof("amount"):
        case "number":
            return Exact(request.number)
        case "decimal":
            return parse_decimal(request.decimal, "decimal")
        case _:
            raise InvalidField("amount", "", "given, by the field `number` or `decimal`")


def amounts(request: pb.AddNumbersRequest) -> tuple[Exact, int]:
    """Returns what the numbers of a message come to, and how many they are.

    Raises:
        InvalidField: One is no decimal within bounds, or they are too many or none.
    """
    count = len(request.numbers) + len(request.decimals)
    if not 1 <= count <= MAX_NUMBERS:
        raise InvalidField(
            "numbers", count, f"1 to {MAX_NUMBERS:,} in a message, `decimals` included"
        )
    decimals = (
        parse_decimal(text, f"decimals[{index}]") for index, text in enumerate(request.decimals)
    )
    return total((Exact(sum(request.numbers)), *decimals)), count


def etag(given: str) -> str:
    """Returns the etag that is expected, "" for any; InvalidField if it is none."""
    if given and not _ETAG.fullmatch(given):
        raise InvalidField("expected_etag", given, "the etag of a sum, or empty")
    return given


def once(request_id: str, job: str = "") -> Once | None:
    """Returns what makes a request count once, or None; InvalidField if it is malformed."""
    if job:
        if not _JOB.fullmatch(job):
            raise InvalidField("job", job, "jobs/ and 4 to 64 characters of a-z and 0-9")
        if request_id:
            raise InvalidField("request_id", request_id, "empty, as it must be where job is set")
        return Once(job, Memory.JOBS)
    return Once(_id(request_id, "request_id")) if request_id else None


def stream_id(given: str) -> str:
    """Returns the stream's id, or ""; InvalidField if it is malformed."""
    return _id(given, "stream_id") if given else ""


def sequence(given: int, stream: str) -> int:
    """Returns a message's number in its stream, 0 without one; InvalidField if it has none."""
    if stream and given < 1:
        raise InvalidField("sequence", given, "a number from 1 on, where there is a stream_id")
    if not stream and given:
        raise InvalidField("sequence", given, "0, as it must be where there is no stream_id")
    return given


def _id(given: str, field: str) -> str:
    if not _ID.fullmatch(given):
        raise InvalidField(field, given, "1 to 128 visible ASCII characters")
    return given
