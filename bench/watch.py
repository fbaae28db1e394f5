"""How soon a watcher sees what was counted.

A delay is the time from the store's clock at a chunk's commit, as ListChunks tells it in whole
milliseconds (cut, so that the delay looks up to 1 ms longer than it was), until the first message
of WatchJob that counts so many chunks is in the hands of a client, not parsed yet. Both clocks are
this machine's. Of each job those chunks are looked at that were committed once all were watching.
"""

import time
from collections.abc import Sequence

from bench.figures import Bound, Figure, of_samples, of_seconds
from bench.mesh import BenchMesh
from bench.watchers import Seen, Watchers, running_watchers
from tallymesh import Client, JobHandle, Simulate

_SECONDS = 60.0
_MANY = 1_000
#: Two slots commit some 13 of them a second: fewer than are told one by one.
_SLOW = Simulate()
_SLOW.duration.FromMilliseconds(150)
#: So short that two slots commit some 10,000 a second.
_SHORT = Simulate()
_SHORT.duration.FromMicroseconds(60)


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    rounds = 1 if quick else 5
    with Client(mesh.edge) as client:
        with running_watchers(mesh.edge, 1) as one:
            idle = _watch_by_one(client, one, _SLOW, 40, rounds)
            busy = _watch_by_one(client, one, _SHORT, 25_000, rounds)
        with running_watchers(mesh.gateway, _MANY) as many:
            cores, crowd = _watch_by_many(mesh, client, many, 3 if quick else 5)
    return [
        of_seconds("from commit to watcher, idle mesh", idle.delays, bound=Bound(10, "<", "p99")),
        of_seconds("from commit to watcher, busy mesh", busy.delays, bound=Bound(120, "<", "p99")),
        of_samples("chunks committed meanwhile", busy.rates, "/s"),
        of_seconds(
            f"from commit to each of {_MANY:,} watchers", crowd, bound=Bound(500, "<", "p99")
        ),
        of_samples("gateway, while they watch", cores, "cores", bound=Bound(1, "<")),
    ]


class _Watched:
    """What was found out by watching jobs.

    Attributes:
        delays: Of every chunk looked at, for every watcher.
        rates: Chunks committed a second, of every job.
    """

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.rates: list[float] = []

    def add(self, job: JobHandle, since: float, watched: list[list[Seen]]) -> None:
        """Takes in a job that has ended.

        Args:
            job: The job.
            since: When the last of its watchers had begun.
            watched: What each of them saw.
        """
        commits = sorted(chunk.commit_time.ToNanoseconds() / 1e9 for chunk in job.chunks())
        self.rates.append(len(commits) / (commits[-1] - commits[0]))
        first = sum(commit < since for commit in commits)
        assert first < len(commits), "the job had ended before it was watched"
        for seen in watched:
            told = first
            for one in seen:
                self.delays += [one.at - commit for commit in commits[told : one.done]]
                told = max(told, one.done)
            assert told == len(commits), f"a watcher was told of {told} of {len(commits)} chunks"


def _watch_by_one(
    client: Client, watchers: Watchers, work: Simulate, chunks: int, rounds: int
) -> _Watched:
    found = _Watched()
    for _ in range(rounds):
        job = client.submit(work, chunks=chunks)
        since = watchers.attach(job.name)
        found.add(job, since, watchers.collect())
    return found


def _watch_by_many(
    mesh: BenchMesh, client: Client, watchers: Watchers, windows: int
) -> tuple[list[float], list[float]]:
    """Returns the cores that the gateway used in each of some windows, and all delays."""
    window, found = 2.0, _Watched()
    job = client.submit(_SLOW, chunks=round((windows * window + 4) * 2 / 0.15))
    since = watchers.attach(job.name)
    cores = []
    for _ in range(windows):
        before, begun = mesh.cpu_seconds()["gateway-1"], time.perf_counter()
        time.sleep(window)
        used = mesh.cpu_seconds()["gateway-1"] - before
        cores.append(used / (time.perf_counter() - begun))
    found.add(job, since, watchers.collect())
    return cores, found.delays
