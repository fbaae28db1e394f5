"""A worker whose clock is wrong: no time of its enters anywhere."""

import json
import time
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from tallymesh import Client, Simulate
from tests.harness.processes import Processes
from tests.harness.roles import start_roles

#: What every Python of the worker runs first.
_A_DAY_AHEAD = """
import time
now, now_ns = time.time, time.time_ns
time.time, time.time_ns = lambda: now() + 86_400, lambda: now_ns() + 86_400 * 10**9
"""


def test_times_are_the_stores_whatever_a_workers_clock_says(
    processes: Processes, folder: Path, store_url: str
) -> None:
    (folder / "sitecustomize.py").write_text(_A_DAY_AHEAD)
    begun = time.time()
    ahead = {"PYTHONPATH": str(folder), "TALLYMESH_LOG_FORMAT": "json"}
    roles = start_roles(processes, folder, store_url, worker=ahead)
    said = json.loads(roles.processes["worker"].output().splitlines()[0])
    assert said["time"] > begun + 80_000
    work = Simulate()
    work.duration.FromMilliseconds(20)
    with Client(roles.gateway) as client:
        job = client.submit(work, chunks=10)
        assert job.result(timeout=30) == 10
        [worker] = client.health().workers
        told = [job.job.create_time, job.job.start_time, job.job.end_time, worker.last_call_time]
        chunks = list(job.chunks())
    for chunk in chunks:
        assert chunk.lease_time.ToNanoseconds() <= chunk.start_time.ToNanoseconds()
        assert chunk.start_time.ToNanoseconds() < chunk.commit_time.ToNanoseconds()
        told += [chunk.lease_time, chunk.start_time, chunk.commit_time]
    assert len(chunks) == 10
    assert all(begun - 1 < seconds(one) < time.time() + 1 for one in told)


def seconds(stamp: Timestamp) -> float:
    return stamp.ToNanoseconds() / 1e9
