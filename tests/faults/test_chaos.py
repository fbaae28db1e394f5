"""Everything goes wrong at once, and every sum is exact."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.chaos import Chaos


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of few characters, as a unix socket's path may have some 100 bytes."""
    made = Path(tempfile.mkdtemp(prefix="tm-chaos-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def seed() -> int:
    """TALLYMESH_CHAOS_SEED, else another one for each run."""
    chosen = int(os.environ.get("TALLYMESH_CHAOS_SEED") or random.randrange(1 << 32))
    print(f"TALLYMESH_CHAOS_SEED={chosen}")
    return chosen


async def test_sums_are_exact_for_a_while(folder: Path, seed: int) -> None:
    await Chaos(folder, seed, jobs=20, chunks=20, seconds=6, stalls=False).run()


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_sums_are_exact_whatever_goes_wrong(folder: Path, seed: int) -> None:
    chaos = Chaos(folder, seed, jobs=200, chunks=100, seconds=150, stalls=True)
    await chaos.run()
    for what, count in sorted(chaos.told.items()):
        print(f"{count:6} {what}")
