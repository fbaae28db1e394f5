"""Adds the numbers of one AddNumbers call, message by message."""

from dataclasses import dataclass

from tallymesh.v1 import abacus_service_pb2 as pb
from tallymesh_abacus import requests
from tallymesh_core.domain.decimals import Exact, total
from tallymesh_core.domain.errors import InvalidField
from tallymesh_core.store.abaci import Abaci, Batch
from tallymesh_core.store.ledger import Origin
from tallymesh_core.store.sums import Abacus, Sum


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What a call has added.

    Attributes:
        abacus: To which.
        accepted: How many numbers were added.
        repeated: How many had been added before.
        added: What the accepted ones come to.
        sum: The sum just after the last message.
        sequence: The last message of the stream that is added; 0 without a stream.
    """

    abacus: Abacus
    accepted: int
    repeated: int
    added: Exact
    sum: Sum
    sequence: int


class Upload:
    """One call. The numbers of a message are added up here, and are one add to the store."""

    def __init__(self, abaci: Abaci, origin: Origin) -> None:
        self._abaci = abaci
        self._origin = origin
        self._name = ""
        self._stream_id = ""
        self._done: Uploaded | None = None

    async def add(self, message: pb.AddNumbersRequest) -> None:
        """Adds the numbers of a message.

        Raises:
            InvalidField: A field is out of its bounds, or not that of the first message.
            BatchesMissing: Messages of the stream are missing that come before it.
            RequestIdForgotten: The stream may be one of long ago.
            RequestIdReused: The message's number stands for one that came to something else.
            StoreUnavailable: The store gave no answer; with a stream_id it is safe to send again.
        """
        if self._done is None:
            self._name = message.name
            self._stream_id = requests.stream_id(message.stream_id)
        if message.name not in ("", self._name):
            raise InvalidField("name", message.name, f"{self._name}, as in the first message")
        if message.stream_id not in ("", self._stream_id):
            bound = f"{self._stream_id!r}, as in the first message"
            raise InvalidField("stream_id", message.stream_id, bound)
        abacus = requests.abacus(self._name)
        sequence = requests.sequence(message.sequence, self._stream_id)
        amount, count = requests.amounts(message)
        batch = Batch(abacus, amount, count, self._origin, self._stream_id, sequence)
        answer = await self._abaci.add_batch(batch)
        before = self._done or Uploaded(abacus, 0, 0, Exact(0), answer.sum, 0)
        self._done = Uploaded(
            abacus,
            before.accepted + (0 if answer.repeated else count),
            before.repeated + (count if answer.repeated else 0),
            before.added if answer.repeated else total((before.added, amount)),
            answer.sum,
            answer.last,
        )

    def end(self) -> Uploaded:
        """Returns what was added; InvalidField if there was no message."""
        if self._done is None:
            raise InvalidField("name", "", "given, in a first message")
        return self._done
