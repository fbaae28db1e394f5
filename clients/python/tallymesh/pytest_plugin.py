"""The fixture `tallymesh_mesh`, for those who test with pytest what they run on a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tallymesh.testing import RunningMesh


@pytest.fixture(scope="session")
def tallymesh_kernels() -> list[str]:
    """The modules of kernels that `tallymesh_mesh` loads: none, unless a conftest says others."""
    return []


@pytest.fixture(scope="session")
def tallymesh_mesh(tallymesh_kernels: list[str]) -> Iterator[RunningMesh]:
    """A real mesh for the whole run; see tallymesh.testing."""
    from tallymesh.testing import mesh

    with mesh(kernels=tallymesh_kernels) as running:
        yield running
