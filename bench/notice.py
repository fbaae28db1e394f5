"""How soon a client hears that a chunk has ended.

From the last line of a chunk's kernel to the first message of a watch that counts so many chunks,
in the hands of the Python client, through Envoy: the report of the compute process, the worker's
call, the commit and the watch lie between. Two workers compute one slow chunk each, so that no
result has others to wait for.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import moments
from bench.figures import Bound, Figure, of_seconds
from bench.mesh import BenchMesh
from tallymesh import Client, custom

_SECONDS = 60.0
_CHUNKS, _CHUNK_SECONDS = 16, 0.25
#: How the mesh is to be started: two workers that compute one chunk at a time.
OPTIONS = ("--workers", "2", "--slots", "1", "--kernels", moments.__name__)


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    jobs = 2 if quick else 20
    with Client(mesh.edge) as client:
        _watch(client)
        delays = [delay for _ in range(jobs) for delay in _watch(client)]
    name = f"from the end of a chunk of {_CHUNK_SECONDS} s to the client"
    told = of_seconds(name, delays, bound=Bound(4))
    assert told.p99 is not None
    return [told, Figure(name=f"{name}: p99", value=told.p99, unit="ms", bound=Bound(10))]


def _watch(client: Client) -> list[float]:
    """Runs and watches a job; returns how long each of its chunks took to be heard of."""
    with tempfile.NamedTemporaryFile(prefix="tm-bench-") as file:
        work = custom(moments.NAME, {"file": file.name, "seconds": _CHUNK_SECONDS})
        heard: list[float] = []
        for job in client.submit(work, chunks=_CHUNKS).watch(timeout=_SECONDS):
            now = time.time()
            heard += [now] * (job.progress.chunks_done - len(heard))
        ended = sorted(int(line) / 1e9 for line in Path(file.name).read_text().split())
    assert len(ended) == len(heard) == _CHUNKS, f"{len(heard)} of {len(ended)} chunks were heard of"
    return [at - end for at, end in zip(heard, ended, strict=True)]
