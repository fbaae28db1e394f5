"""The stores on which what the store promises is proved."""

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Layout:
    """An empty store, and how many shards it is to get."""

    url: str
    shards: int


_LAYOUTS = {
    "1 shard": ("store_url", 1),
    "3 shards": ("store_url", 3),
    "cluster, 6 shards": ("cluster_url", 6),
}


@pytest.fixture(params=list(_LAYOUTS))
def layout(request: pytest.FixtureRequest) -> Layout:
    """One server, with one shard or several, and a cluster of three servers, in turn."""
    url, shards = _LAYOUTS[request.param]
    return Layout(request.getfixturevalue(url), shards)
