"""The static page, as the edge serves it."""

import pytest

from tests.integration.edge.conftest import PAGE, SCRIPT, Edge


@pytest.mark.parametrize("path", ["/", "/index.html"])
def test_the_page_is_asked_for_again_each_time(edge: Edge, path: str) -> None:
    answer = edge.request("GET", path, headers={"accept": "text/html,*/*;q=0.8"})
    assert (answer.status, answer.body.decode()) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_page_about_the_api(edge: Edge) -> None:
    answer = edge.request("GET", "/docs")
    assert (answer.status, answer.headers["location"]) == (301, "/docs/")
    answer = edge.request("GET", "/docs/")
    assert (answer.status, answer.body.decode()) == (200, PAGE)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-cache"


def test_assets_are_kept(edge: Edge) -> None:
    answer = edge.request("GET", "/assets/app-1a2b.js")
    assert (answer.status, answer.body.decode()) == (200, SCRIPT)
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    "path", ["/nothing", "/assets/nothing.js", "/../conftest.py", "/%2e%2e/x", "/assets"]
)
def test_what_is_not_there_is_not_kept(edge: Edge, path: str) -> None:
    answer = edge.request("GET", path)
    assert answer.status in {400, 403, 404}
    assert answer.headers["cache-control"] == "no-store"
