"""Client of Tallymesh, a gRPC compute mesh.

    from tallymesh import Client

    with Client() as client:
        print(client.count_primes(10**10))

What is named in `__all__` is the public face; the modules beneath may change.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tallymesh.abacus import Abacus
    from tallymesh.aio.abacus import AsyncAbacus
    from tallymesh.aio.client import AsyncClient
    from tallymesh.aio.dead_letters import AsyncDeadLetters
    from tallymesh.aio.jobs import AsyncJobHandle
    from tallymesh.channel import Tls
    from tallymesh.client import Client
    from tallymesh.dead_letters import DeadLetters
    from tallymesh.errors import (
        Aborted,
        AlreadyExists,
        BacklogFull,
        BatchesMissing,
        ChunkTimedOut,
        ClientClosed,
        DeadlineExceeded,
        EtagMismatch,
        InternalError,
        InvalidField,
        JobCancelled,
        JobEnded,
        JobFailed,
        JobNotReplayable,
        JobTimedOut,
        NoFreeSlot,
        NotFound,
        NoWorker,
        RequestIdForgotten,
        RequestIdReused,
        StopTimeout,
        StoreFull,
        TallymeshError,
        UnknownKernel,
        Unreachable,
        WaitTimeout,
        WrongType,
    )
    from tallymesh.jobs import JobHandle
    from tallymesh.v1.abacus_service_pb2 import LedgerEntry, Sum
    from tallymesh.v1.dead_letter_service_pb2 import DeadLetter, DeadLetterGroup
    from tallymesh.v1.job_pb2 import Chunk, ChunkLog, Job, JobEvent
    from tallymesh.v1.work_pb2 import Add, CountPrimes, CustomWork, NthPrime, Simulate, Work
    from tallymesh.watching import Limits
    from tallymesh.works import custom

__all__ = [
    "Abacus",
    "Aborted",
    "Add",
    "AlreadyExists",
    "AsyncAbacus",
    "AsyncClient",
    "AsyncDeadLetters",
    "AsyncJobHandle",
    "BacklogFull",
    "BatchesMissing",
    "Chunk",
    "ChunkLog",
    "ChunkTimedOut",
    "Client",
    "ClientClosed",
    "CountPrimes",
    "CustomWork",
    "DeadLetter",
    "DeadLetterGroup",
    "DeadLetters",
    "DeadlineExceeded",
    "EtagMismatch",
    "InternalError",
    "InvalidField",
    "Job",
    "JobCancelled",
    "JobEnded",
    "JobEvent",
    "JobFailed",
    "JobHandle",
    "JobNotReplayable",
    "JobTimedOut",
    "LedgerEntry",
    "Limits",
    "NoFreeSlot",
    "NoWorker",
    "NotFound",
    "NthPrime",
    "RequestIdForgotten",
    "RequestIdReused",
    "Simulate",
    "StopTimeout",
    "StoreFull",
    "Sum",
    "TallymeshError",
    "Tls",
    "UnknownKernel",
    "Unreachable",
    "WaitTimeout",
    "Work",
    "WrongType",
    "custom",
]

_HOMES = {
    "aio.abacus": ("AsyncAbacus",),
    "aio.client": ("AsyncClient",),
    "aio.dead_letters": ("AsyncDeadLetters",),
    "aio.jobs": ("AsyncJobHandle",),
    "abacus": ("Abacus",),
    "channel": ("Tls",),
    "client": ("Client",),
    "dead_letters": ("DeadLetters",),
    "jobs": ("JobHandle",),
    "watching": ("Limits",),
    "v1.abacus_service_pb2": ("LedgerEntry", "Sum"),
    "v1.dead_letter_service_pb2": ("DeadLetter", "DeadLetterGroup"),
    "v1.job_pb2": ("Chunk", "ChunkLog", "Job", "JobEvent"),
    "v1.work_pb2": ("Add", "CountPrimes", "CustomWork", "NthPrime", "Simulate", "Work"),
    "works": ("custom",),
}


def __getattr__(name: str) -> object:
    # Names are loaded when first used: the command line and the services import this package, and
    # most of them need no client (nor the 0.2 s that loading gRPC takes).
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # What gRPC writes on stderr, of handshakes and of connections that are cut, errors tell too. It
    # looks at this when it is first imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    home = next((module for module, names in _HOMES.items() if name in names), "errors")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
