"""Writes answers: sums and entries as the API tells them."""

from google.protobuf.timestamp_pb2 import Timestamp

from tallymesh.v1 import abacus_service_pb2 as pb
from tallymesh_core.domain.decimals import as_int64, format_decimal
from tallymesh_core.store.ledger import Entry, Kind
from tallymesh_core.store.sums import Abacus, Sum

_KINDS = {
    Kind.ADD: pb.LedgerEntry.KIND_ADD,
    Kind.BATCH: pb.LedgerEntry.KIND_BATCH,
    Kind.JOB: pb.LedgerEntry.KIND_JOB,
    Kind.RESET: pb.LedgerEntry.KIND_RESET,
}


def write_sum(abacus: Abacus, state: Sum, node: str) -> pb.Sum:
    """Writes the state of an abacus.

    Args:
        abacus: Which.
        state: Its state.
        node: Who answers.
    """
    return pb.Sum(
        name=f"abaci/{abacus.name}",
        value=format_decimal(state.value),
        number=as_int64(state.value),
        add_count=state.add_count,
        version=state.version,
        update_time=_time(state.update_ms) if state.update_ms else None,
        answered_by=node,
        etag=state.etag,
    )


def write_entry(abacus: Abacus, entry: Entry) -> pb.LedgerEntry:
    """Writes a change of an abacus."""
    written = pb.LedgerEntry(
        name=f"abaci/{abacus.name}/entries/{entry.version}",
        kind=_KINDS[entry.kind],
        amount=entry.amount,
        add_count=entry.add_count,
        version=entry.version,
        create_time=_time(entry.made_ms),
        principal=entry.origin.principal,
        initiated_by=entry.origin.node,
        sequence=entry.sequence,
    )
    match entry.kind:
        case Kind.ADD | Kind.RESET:
            written.request_id = entry.id
        case Kind.BATCH:
            written.stream_id = entry.id
        case Kind.JOB:
            written.job = entry.id
    return written


def _time(ms: int) -> Timestamp:
    time = Timestamp()
    time.FromMilliseconds(ms)
    return time
