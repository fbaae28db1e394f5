"""How the store keeps what never changes of a job: its spec, encoded once."""

from typing import Any

import msgpack

from tallymesh_core.domain.jobs import JobSpec, NewJob

# A spec is a list, whose order is told here and in lua/spec.lua. After the first so many, fields at
# its end may be left out that are as here: so most specs are so short that a job's hash holds them.
# Either belongs to the layout: specs that are kept mean what it was when they were.
_GIVEN = 8
_DEFAULTS: tuple[Any, ...] = (7 * 24 * 3600 * 1000, "", {}, 0, 0, 0)


def pack(job: NewJob) -> bytes:
    """Encodes what never changes of a job, but for its work, of which it tells the length."""
    spec: list[object] = [
        job.queue,
        job.kernel,
        job.chunk_count,
        int(job.additive),
        job.priority,
        job.max_attempts,
        job.initiated_by,
        len(job.work),
        job.ttl_ms,
        job.abacus,
        job.labels,
        job.tolerate_failures,
        job.chunk_timeout_ms,
        job.timeout_ms,
    ]
    while len(spec) > _GIVEN and spec[-1] == _DEFAULTS[len(spec) - _GIVEN - 1]:
        spec.pop()
    return bytes(msgpack.packb(spec))


def unpack(packed: bytes) -> tuple[JobSpec, int]:
    """Returns a job's spec, and the length of its work."""
    spec = msgpack.unpackb(packed)
    spec += _DEFAULTS[len(spec) - _GIVEN :]
    return (
        JobSpec(
            queue=spec[0],
            kernel=spec[1],
            chunk_count=spec[2],
            additive=bool(spec[3]),
            priority=spec[4],
            max_attempts=spec[5],
            initiated_by=spec[6],
            ttl_ms=spec[8],
            abacus=spec[9],
            labels=dict(spec[10]),
            tolerate_failures=spec[11],
            chunk_timeout_ms=spec[12],
            timeout_ms=spec[13],
        ),
        spec[7],
    )
