"""What the documents name exists, and what has to be in them is."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallymesh.v1.errors_pb2 import ErrorReason

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links that lead to files of the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", page.read_text())):
        if not re.match(r"[a-z]+:|#", target):
            yield target


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = page.parent / name
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_reason_of_an_error_is_explained() -> None:
    page = (DOCS / "errors.md").read_text()
    explained = set(re.findall(r"^\| `([A-Z_]+)`", page, re.MULTILINE))
    sent = {name.removeprefix("ERROR_REASON_") for name, value in ErrorReason.items() if value}
    assert explained == sent


def test_every_setting_is_explained_with_its_default() -> None:
    example = (ROOT / ".env.example").read_text()
    settings = dict(re.findall(r"^#(TALLYMESH_\w+)=(.*)$", example, re.MULTILINE))
    page = (DOCS / "configuration.md").read_text()
    explained = dict(re.findall(r"^\| `(TALLYMESH_\w+)` \| (.+?) \|", page, re.MULTILINE))
    assert explained.keys() == settings.keys()
    stated = {name: default for name, default in settings.items() if default}
    assert {name: explained[name].strip("`") for name in stated} == stated


def test_every_promise_names_tests_that_exist() -> None:
    page = (DOCS / "guarantees.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert named
    for path, name in named:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), name


def test_every_key_of_the_store_is_explained() -> None:
    # A script writes a key as its shard's prefix and a name, such as P .. 'job:' .. ref.
    scripts = (ROOT / "services/core/tallymesh_core/store/lua").glob("*.lua")
    used = {key for path in scripts for key in re.findall(r"\bP \.\. '([a-z-]+)", path.read_text())}
    table = (DOCS / "architecture.md").read_text().partition("## Keys of the store")[2]
    first_cells = " ".join(
        re.findall(r"^\| (.+?) \|", table.partition("## Events")[0], re.MULTILINE)
    )
    assert used
    assert used <= set(re.findall(r"`([a-z-]+)", first_cells))
