"""The jobs whose chunks a worker computes, as far as it has to know them."""

import itertools
import math
from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from tallymesh.v1 import dispatch_service_pb2, work_pb2
from tallymesh_worker.pacing import blended

# Jobs kept though none of their chunks is held, as more may come: few, as each is named in every
# call. What is forgotten too early is sent again.
RECENT_JOBS: Final = 32


@dataclass(slots=True, eq=False)
class Job:
    """A job.

    Attributes:
        name: As the gateway names it.
        key: A short name, unique in this worker.
        work: The Work, serialized.
        chunk_count: Into how many chunks it is cut.
        additive: Its chunks give numbers, not partial results.
        timeout: How long an attempt at a chunk may take, in seconds; infinite for any time.
        duration: Mean time that a chunk takes, in seconds; None while unknown.
        is_given_out: Its last chunk has been given to this worker.
    """

    name: str
    key: int
    work: bytes
    chunk_count: int
    additive: bool = False
    timeout: float = math.inf
    duration: float | None = None
    is_given_out: bool = False

    def measure(self, seconds: float) -> None:
        """Takes the time of a chunk, or the mean of a few, into the mean."""
        self.duration = blended(self.duration, seconds)


class Jobs:
    """All jobs known, the one used longest ago first."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._keys = itertools.count(1)

    def learn(self, told: dispatch_service_pb2.JobWork) -> None:
        """Remembers a job, unless it is known."""
        if told.job not in self._jobs:
            job = self.create(told.job, told.work, told.chunk_count)
            job.additive = told.additive
            if told.HasField("chunk_timeout"):
                job.timeout = told.chunk_timeout.ToMicroseconds() / 1e6
            self._jobs[told.job] = job

    def create(self, name: str, work: work_pb2.Work, chunk_count: int) -> Job:
        """Returns a job that is not remembered."""
        return Job(name, next(self._keys), work.SerializeToString(), chunk_count)

    def get(self, name: str) -> Job | None:
        """Returns a job, as used just now, if it is known."""
        if job := self._jobs.get(name):
            self._jobs.move_to_end(name)
        return job

    def names(self) -> list[str]:
        """Returns the names of all."""
        return list(self._jobs)

    def forget(self, held: Container[str]) -> list[Job]:
        """Forgets all but the recent ones and those held, and returns what was forgotten."""
        idle = [job for name, job in self._jobs.items() if name not in held]
        # The only chunk of a job does not come twice.
        lasting = [job for job in idle if job.chunk_count > 1]
        kept = {job.name for job in lasting[-RECENT_JOBS:]}
        gone = [job for job in idle if job.name not in kept]
        for job in gone:
            del self._jobs[job.name]
        return gone
