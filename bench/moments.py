"""A kernel whose chunks note when they end; `bench.notice` has the mesh load it."""

import os
import time
from typing import Any

from tallymesh_kernels import Chunk, Context, kernel

NAME = "bench.moment"


@kernel(NAME)
def moment(work: dict[str, Any], chunk: Chunk, context: Context) -> int:
    """Sleeps, then appends the time to a file, in ns since the epoch; counts 1."""
    descriptor = os.open(work["file"], os.O_WRONLY | os.O_APPEND)
    try:
        time.sleep(work["seconds"])
        os.write(descriptor, b"%d\n" % time.time_ns())
    finally:
        os.close(descriptor)
    return 1
