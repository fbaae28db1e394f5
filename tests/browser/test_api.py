"""The API in a real Chromium: its page, and a watch as an EventSource."""

from urllib.parse import urlsplit

from playwright.sync_api import Page, Request, expect

from tallymesh import Client, Simulate
from tests.harness.local_mesh import LocalMesh


def test_the_page_about_the_api_tries_a_call(page: Page, mesh: LocalMesh) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(urlsplit(request.url).netloc)

    page.on("request", note)
    page.goto("/docs/")
    page.get_by_text("/v1/whoami").first.click()
    expect(page.get_by_text("Tells who answers and as whom").first).to_be_visible()
    page.get_by_role("button", name="Execute").first.click()
    expect(page.get_by_text("Response Status: OK (200)")).to_be_visible()
    expect(page.get_by_text('"gateway-1"').first).to_be_visible()
    assert set(asked) == {mesh.address}


def test_an_event_source_watches_a_job(page: Page, mesh: LocalMesh) -> None:
    with Client(mesh.address) as client:
        job = client.submit(Simulate(), chunks=3)
    events = page.evaluate(
        """name => new Promise((resolve, reject) => {
          const source = new EventSource(`/v1/${name}:watch`);
          const events = [];
          source.onerror = () => reject(new Error("the stream broke"));
          source.onmessage = ({ data }) => {
            events.push(JSON.parse(data));
            if (!events.at(-1).ended) return;
            source.close();
            resolve(events);
          };
        })""",
        job.name,
    )
    assert events[-1]["ended"]["result"]["simulate"]["chunks"] == "3"
