"""A custom kernel over a long list: how its chunks compare with those of a built-in kernel."""

from collections.abc import Sequence
from typing import Any

from bench.figures import Bound, Figure, of_samples, ratio
from bench.mesh import BenchMesh
from bench.sampling import interleaved, of_calls
from tallymesh import Client, Simulate, custom
from tallymesh_kernels import Chunk, Context, kernel

_ITEMS = 5_000
OPTIONS = ("--workers", "1", "--slots", "2", "--kernels", __name__)


@kernel("bench.nothing", validate=lambda work: None)
def nothing(work: dict[str, Any], chunk: Chunk, context: Context) -> int:
    """Looks at one item."""
    return int(work["specs"][chunk.index] >= 0)


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    with Client(mesh.edge) as client:
        work = custom("bench.nothing", {"specs": list(range(_ITEMS))})

        def run_custom() -> None:
            assert client.run(work, chunks=_ITEMS, timeout=120) == _ITEMS

        taken = interleaved(
            {
                "custom": of_calls(run_custom),
                "built in": of_calls(lambda: client.run(Simulate(), chunks=_ITEMS, timeout=120)),
            },
            rounds=5 if quick else 25,
            batch=1,
        )
    rates = {name: [_ITEMS / seconds for seconds in found] for name, found in taken.items()}
    return [
        of_samples(
            f"no-op chunks of a custom job over {_ITEMS:,} items",
            rates["custom"],
            "/s",
            bound=Bound(20_000, "≥"),
        ),
        of_samples(f"no-op chunks of `simulate`, {_ITEMS:,} a job", rates["built in"], "/s"),
        ratio("a custom job / one of `simulate`", taken["custom"], taken["built in"]),
    ]
