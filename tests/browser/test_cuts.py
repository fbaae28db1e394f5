"""The page while parts of the mesh die."""

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.harness.local_mesh import start_mesh
from tests.harness.processes import Processes


def test_a_watch_on_the_page_outlives_gateway_and_edge(
    browser: Browser, processes: Processes, folder: Path
) -> None:
    mesh = start_mesh(processes, folder, "--slots", "1")
    with browser.new_context(base_url=f"http://{mesh.address}") as context:
        page = context.new_page()
        page.goto("/")
        page.get_by_test_id("to").fill("30_000_000_000")
        page.get_by_test_id("submit").click()
        cells = page.get_by_test_id("cells").locator("[data-state=done]")
        expect(cells.first).to_be_visible(timeout=20_000)

        mesh.kill("gateway-1", "edge")

        expect(page.get_by_test_id("result")).to_contain_text("1,300,005,926", timeout=60_000)
        expect(page.get_by_test_id("link")).to_have_count(0)
        expect(page.get_by_test_id("health")).to_have_attribute(
            "data-status", "healthy", timeout=20_000
        )
