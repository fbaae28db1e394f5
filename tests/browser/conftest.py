"""The page in a real Chromium, on the shared mesh."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.harness.local_mesh import LocalMesh
from tests.harness.tools import require

_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


# One for each module, not for the session: while it is open, no test can run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, mesh: LocalMesh) -> Iterator[Page]:
    """The page, opened; it must get through the test without an error in its console."""
    errors: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    with browser.new_context(base_url=f"http://{mesh.address}") as context:
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/")
        yield page
        assert errors == []
