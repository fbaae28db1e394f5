"""AbacusService: reads requests, has the store do it, writes answers."""

import contextlib
import re
from collections.abc import AsyncIterator
from typing import NamedTuple

from tallymesh.v1 import abacus_service_pb2 as pb
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceServicer
from tallymesh_abacus.adder import Adder
from tallymesh_abacus.watch import Watches
from tallymesh_core.domain.decimals import Exact, as_int64, format_decimal, parse_decimal
from tallymesh_core.domain.errors import InvalidField, StoreUnavailable
from tallymesh_core.rpc.context import current_caller
from tallymesh_core.store.abaci import Abaci, Abacus, Add, Memory, Once, Sum

_NAME = re.compile(r"abaci/([a-z][a-z0-9-]{0,62})")
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_ETAG = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
_JOB = re.compile(r"jobs/[a-z0-9]{4,64}")


class _Desk(NamedTuple):
    """What answers calls, once there is a store."""

    abaci: Abaci
    adder: Adder
    watches: Watches


class AbacusService(AbacusServiceServicer):
    """The handlers of one abacus node."""

    def __init__(self, node: str) -> None:
        """Makes handlers that answer UNAVAILABLE until `open`.

        Args:
            node: Name of this process, told in answers.
        """
        self._node = node
        self._opened: _Desk | None = None

    def open(self, abaci: Abaci) -> None:
        """Starts to serve the abaci of a store."""
        self._opened = _Desk(abaci, Adder(abaci), Watches(abaci, self._node))

    def close(self) -> None:
        """Ends the watches, which have no end of their own; other calls are answered on."""
        if self._opened:
            self._opened.watches.close()

    async def AddNumber(
        self, request: pb.AddNumberRequest, context: object
    ) -> pb.AddNumberResponse:
        """Adds a number."""
        abacus = _abacus(request.name)
        add = Add(
            abacus,
            _amount(request),
            _once(request.request_id, request.job),
            _etag(request.expected_etag),
        )
        added = await self._desk.adder.add(add)
        return pb.AddNumberResponse(
            added=format_decimal(add.amount),
            sum=self._told(abacus, added.sum),
            repeated=added.repeated,
        )

    async def GetSum(self, request: pb.GetSumRequest, context: object) -> pb.Sum:
        """Returns the sum."""
        abacus = _abacus(request.name)
        return self._told(abacus, await self._desk.abaci.get(abacus))

    async def ResetSum(self, request: pb.ResetSumRequest, context: object) -> pb.ResetSumResponse:
        """Sets the sum to 0."""
        abacus = _abacus(request.name)
        reset = await self._desk.abaci.reset(
            abacus, _once(request.request_id), _etag(request.expected_etag)
        )
        return pb.ResetSumResponse(
            previous=self._told(abacus, reset.previous),
            sum=self._told(abacus, reset.sum),
            repeated=reset.repeated,
        )

    async def WatchSum(self, request: pb.WatchSumRequest, context: object) -> AsyncIterator[pb.Sum]:
        """Streams the sum."""
        abacus = _abacus(request.name)
        async with contextlib.aclosing(self._desk.watches.watch(abacus)) as sums:
            async for one in sums:
                yield self._told(abacus, one)

    @property
    def _desk(self) -> _Desk:
        if self._opened is None:
            raise StoreUnavailable
        return self._opened

    def _told(self, abacus: Abacus, state: Sum) -> pb.Sum:
        told = pb.Sum(
            name=f"abaci/{abacus.name}",
            value=format_decimal(state.value),
            number=as_int64(state.value),
            add_count=state.add_count,
            version=state.version,
            answered_by=self._node,
            etag=state.etag,
        )
        if state.update_ms:
            told.update_time.FromMilliseconds(state.update_ms)
        return told


def _abacus(name: str) -> Abacus:
    found = _NAME.fullmatch(name)
    if found is None:
        bound = "abaci/ and 1 to 63 characters of a-z, 0-9 and -, starting with a letter"
        raise InvalidField("name", name, bound)
    return Abacus(current_caller().tenant, found[1])


def _amount(request: pb.AddNumberRequest) -> Exact:
    match request.WhichOneof("amount"):
        case "number":
            return Exact(request.number)
        case "decimal":
            return parse_decimal(request.decimal, "decimal")
        case _:
            raise InvalidField("amount", "", "given, by the field `number` or `decimal`")


def _etag(given: str) -> str:
    if given and not _ETAG.fullmatch(given):
        raise InvalidField("expected_etag", given, "the etag of a sum, or empty")
    return given


def _once(request_id: str, job: str = "") -> Once | None:
    if job:
        if not _JOB.fullmatch(job):
            raise InvalidField("job", job, "jobs/ and 4 to 64 characters of a-z and 0-9")
        if request_id:
            raise InvalidField("request_id", request_id, "empty, as it must be where job is set")
        return Once(job, Memory.JOBS)
    if not request_id:
        return None
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidField("request_id", request_id, "1 to 128 visible ASCII characters")
    return Once(request_id)
