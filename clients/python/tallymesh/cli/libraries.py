"""What the workers compute with, for `status` and `doctor`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tallymesh.wording import counted

if TYPE_CHECKING:
    from tallymesh.v1.mesh_service_pb2 import WorkerHealth


def libraries(workers: Sequence[WorkerHealth]) -> list[str]:
    """Returns what the workers compute with, a line each; of what not all have, which have it."""
    names: dict[str, list[str]] = defaultdict(list)
    for live in workers:
        for line in live.worker.libraries:
            names[line].append(live.worker.name)
    return [f"{line}{_where(having, len(workers))}" for line, having in names.items()]


def _where(having: list[str], count: int) -> str:
    if len(having) == count:
        return ""
    if len(having) == 1:
        return f" (on {having[0]})"
    return f" (on {len(having)} of {counted(count, 'worker')})"
