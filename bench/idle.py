"""What a mesh costs that has nothing to do."""

import time
from collections.abc import Sequence

from bench.figures import Bound, Figure
from bench.mesh import BenchMesh


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    # What a start leaves to be done is not what being idle costs.
    time.sleep(2.0 if quick else 5.0)
    before, begun = mesh.cpu_seconds(), time.monotonic()
    time.sleep(5.0 if quick else 15.0)
    seconds = time.monotonic() - begun
    after = mesh.cpu_seconds()
    shares = {name: 100 * (after[name] - before[name]) / seconds for name in before}
    return [
        Figure(
            name="all processes",
            value=sum(shares.values()),
            unit="% of a core",
            bound=Bound(3, "<"),
        ),
        *(
            Figure(name=name, value=share, unit="% of a core")
            for name, share in sorted(shares.items(), key=lambda item: -item[1])
        ),
    ]
