"""Tries the kernel alone, and on a real mesh."""

import pytest
from acme_kernels import collatz

from tallymesh import InvalidField, custom
from tallymesh.testing import RunningMesh
from tallymesh_kernels import Cancelled, Invalid
from tallymesh_kernels.testing import Recorder, compute


@pytest.fixture(scope="session")
def tallymesh_kernels() -> list[str]:
    """What the mesh of the fixture `tallymesh_mesh` loads."""
    return ["acme_kernels"]


@pytest.mark.parametrize("chunks", [1, 2, 7])
def test_it_counts_the_same_however_it_is_cut(chunks: int) -> None:
    assert compute(collatz, {"last": 10}, chunks=chunks) == 67


def test_it_refuses_what_it_cannot_compute() -> None:
    with pytest.raises(Invalid):
        compute(collatz, {"last": -1})


def test_it_tells_how_far_it_is_and_listens() -> None:
    context = Recorder()
    compute(collatz, {"last": 2000}, chunks=1, context=context)
    assert context.fractions == [0.5, 1.0]
    assert context.lines == ["2000 sequences, 134100 steps"]
    with pytest.raises(Cancelled):
        compute(collatz, {"last": 2000}, chunks=1, context=Recorder(cancel_at=1))


def test_it_runs_on_a_mesh(tallymesh_mesh: RunningMesh) -> None:
    with tallymesh_mesh.client() as client:
        job = client.submit(custom("acme.collatz", {"last": 10}), chunks=2)
        assert job.result(timeout=30) == 67
        with pytest.raises(InvalidField):
            client.run(custom("acme.collatz", {"last": 0}))
