"""A store that is away for some seconds: whoever waits sees a slow answer, and no error."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from tallymesh import Client, Simulate
from tallymesh.v1.mesh_service_pb2 import GetHealthResponse
from tests.harness.local_mesh import LocalMesh
from tests.harness.polling import eventually_sync
from tests.harness.primes import PRIMES_UP_TO


def test_who_waits_does_not_see_an_outage_of_the_store(mesh: LocalMesh, client: Client) -> None:
    work = Simulate()
    work.duration.FromMilliseconds(300)
    ending = client.as_completed(client.submit_many([work] * 8, chunks=1))
    watch = client.submit(work, chunks=4).watch()
    assert next(ending).result() == 1
    next(watch)

    store = mesh.pids["valkey"]
    assert store is not None
    with ThreadPoolExecutor() as threads:
        os.kill(store, signal.SIGSTOP)
        try:
            counted = threads.submit(client.count_primes, 10**6)
            submitted = threads.submit(client.submit, work)
            collected = threads.submit(lambda: [handle.result() for handle in ending])
            watched = threads.submit(lambda: [seen.result for seen in watch][-1])
            # Until the mesh itself takes the store for lost.
            eventually_sync(
                lambda: client.health().status == GetHealthResponse.STATUS_UNHEALTHY,
                message="the outage being noticed",
            )
        finally:
            os.kill(store, signal.SIGCONT)
        assert counted.result(30) == PRIMES_UP_TO[10**6]
        assert submitted.result(30).result() == 1
        assert collected.result(30) == [1] * 7
        assert watched.result(30).simulate.chunks == 4
