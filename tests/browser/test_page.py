"""The page as a person uses it: count and watch, cancel, err, find a job again, keep an abacus."""

import re
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, expect

from tallymesh import Client, JobFailed, Simulate
from tallymesh.v1.mesh_service_pb2 import GetHealthResponse, StoreHealth
from tests.harness.local_mesh import LocalMesh
from tests.harness.primes import PRIMES_UP_TO

expect.set_options(timeout=20_000)


def count(page: Page, to: str, chunks: str = "", start: str = "0") -> None:
    """Fills in the form and submits it."""
    page.get_by_test_id("from").fill(start)
    page.get_by_test_id("to").fill(to)
    page.get_by_test_id("chunks").fill(chunks)
    page.get_by_test_id("submit").click()


@pytest.mark.timeout(180)
def test_a_count_is_watched_live_to_its_end(page: Page) -> None:
    # Each bar and each number of done cells that is ever shown, in order.
    page.evaluate(
        """() => {
            window.shown = {bar: [], cells: [], state: []};
            const note = (list, value) => { if (list.at(-1) !== value) list.push(value); };
            const look = () => {
                const find = (id) => document.querySelector(`[data-testid=${id}]`);
                const bar = find("bar"), cells = find("cells");
                if (bar) {
                    note(shown.bar, Number(bar.ariaValueNow));
                    note(shown.state, bar.dataset.state);
                }
                if (cells) note(shown.cells, cells.querySelectorAll("[data-state=done]").length);
            };
            new MutationObserver(look).observe(document.body,
                {subtree: true, childList: true, attributes: true});
        }"""
    )
    count(page, "10^11", "64")

    state = page.get_by_test_id("state")
    expect(state).to_have_attribute("data-state", "RUNNING")
    expect(page.get_by_test_id("cells").locator("[data-state=running]").first).to_be_visible()
    expect(state).to_have_attribute("data-state", "SUCCEEDED", timeout=150_000)

    expect(page.get_by_test_id("total")).to_have_text("4,118,054,813")
    expect(page.get_by_test_id("result")).to_contain_text("4,118,054,813")
    expect(page.get_by_test_id("bar")).to_have_attribute("aria-valuenow", "100")
    expect(page.get_by_test_id("cells").locator("[data-state=done]")).to_have_count(64)
    expect(page.get_by_test_id("chunks-done")).to_have_text("64 / 64")
    expect(page.get_by_test_id("accepted-by")).to_have_text("gateway-1")
    expect(page.get_by_test_id("answered-by")).to_have_text("gateway-1")
    rows = page.get_by_test_id("computed-by").locator("tr[data-worker]")
    workers = {row.get_attribute("data-worker") for row in rows.all()}
    assert workers == {"worker-1", "worker-2"}
    assert sum(int(text) for text in rows.locator("td.count").all_inner_texts()) == 64

    shown = page.evaluate("window.shown")
    assert shown["state"][-2:] == ["RUNNING", "SUCCEEDED"]
    for values, last in ((shown["bar"], 100), (shown["cells"], 64)):
        assert values == sorted(values)
        assert values[-1] == last
        assert len(values) > 4


def test_twins_are_counted_and_the_method_told(page: Page) -> None:
    page.get_by_test_id("kind").select_option("twins")
    count(page, "100")
    expect(page.get_by_test_id("result")).to_contain_text("There are 8 twins from 0 to 100.")
    expect(page.get_by_test_id("job")).to_contain_text("sieve (tuplets are counted by sieve only)")


def test_a_long_count_is_cancelled(page: Page, mesh: LocalMesh) -> None:
    count(page, "10^15", "4000")
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "RUNNING")
    page.get_by_test_id("cancel").click()
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "CANCELLED")
    expect(page.get_by_test_id("cancelled")).to_contain_text("Cancelled.")
    expect(page.get_by_test_id("cancel")).to_be_hidden()
    name = page.get_by_test_id("job").get_attribute("data-name")
    assert name is not None
    with Client(mesh.address) as client:
        # Answers once none of its chunks is running any more.
        assert client.job(name).cancel().progress.chunks_running == 0


def test_a_job_is_found_again_by_its_link(page: Page) -> None:
    count(page, "1e9", "9")
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "SUCCEEDED")
    name = page.get_by_test_id("job").get_attribute("data-name")
    assert page.url.endswith(f"#/{name}")

    page.reload()
    expect(page.get_by_test_id("job")).to_have_attribute("data-name", str(name))
    expect(page.get_by_test_id("result")).to_contain_text("50,847,534")
    expect(page.get_by_test_id("chunks-done")).to_have_text("9 / 9")

    page.goto("/")
    expect(page.get_by_test_id("job")).to_have_count(0)
    page.get_by_test_id("jobs").locator(f"a[href='#/{name}']").click()
    expect(page.get_by_test_id("result")).to_contain_text("50,847,534")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("to", "-1", "18,446,744,073,709,551,615"),
        ("to", "2**64", "18,446,744,073,709,551,615"),
        ("to", "many", "a whole number"),
        ("from", "10^11", "100,000,000,000 or more"),
        ("chunks", "0", "4,194,304"),
        ("chunks", "10^9", "4,194,304"),
        ("abacus-for-job", "No Name", "starting with a letter"),
    ],
)
def test_bad_input_is_explained_beside_its_field(
    page: Page, field: str, value: str, said: str
) -> None:
    page.get_by_test_id(field).fill(value)
    page.get_by_test_id("submit").click()
    error = page.get_by_test_id("error")
    expect(error).to_contain_text(said)
    expect(error).to_have_attribute("data-reason", "INVALID_FIELD")
    faulty = page.locator("form [aria-invalid=true]")
    expect(faulty).to_have_count(1)
    expect(faulty).to_have_attribute("aria-describedby", str(error.get_attribute("id")))
    expect(page.get_by_test_id("job")).to_have_count(0)

    faulty.fill("1")
    expect(error).to_have_count(0)


def test_an_abacus_is_added_to_and_reset(page: Page, mesh: LocalMesh) -> None:
    name = f"a{uuid4().hex}"
    page.get_by_test_id("abacus-name").fill(name)
    total = page.get_by_test_id("abacus-sum")
    expect(total).to_have_text("0")

    page.get_by_test_id("abacus-amount").fill("2**40")
    page.get_by_test_id("abacus-add").click()
    expect(total).to_have_text("1,099,511,627,776")
    expect(page.get_by_test_id("abacus-said")).to_have_text("Added 1,099,511,627,776.")

    with Client(mesh.address) as client:  # somebody else
        client.abacus(name).add("-0.5")
    expect(total).to_have_text("1,099,511,627,775.5")

    page.get_by_test_id("abacus-amount").fill("many")
    page.get_by_test_id("abacus-add").click()
    expect(page.get_by_test_id("abacus-error")).to_contain_text("a decimal such as")

    page.get_by_test_id("abacus-reset").click()
    page.get_by_test_id("abacus-reset-confirm").click()
    expect(total).to_have_text("0")
    expect(page.get_by_test_id("abacus-said")).to_contain_text("it was 1,099,511,627,775.5")


def test_a_total_lands_on_its_abacus(page: Page) -> None:
    name = f"a{uuid4().hex}"
    page.get_by_test_id("abacus-for-job").fill(name)
    count(page, "1e6", "4")
    expect(page.get_by_test_id("result")).to_contain_text("78,498")
    expect(page.get_by_test_id("abacus-sum")).to_have_text("78,498")
    expect(page.get_by_test_id("job")).to_contain_text(f"{name}, then 78,498")


def test_the_health_of_the_mesh_shows(page: Page) -> None:
    health = page.get_by_test_id("health")
    expect(health).to_have_attribute("data-status", "healthy")
    expect(health).to_contain_text("2 workers")
    health.click()
    region = page.get_by_role("region", name="The mesh")
    expect(region).to_contain_text("worker-1")
    expect(region).to_contain_text(re.compile("valkey|redis"))


@pytest.mark.parametrize("width", [1200, 390])
def test_why_the_mesh_is_degraded_shows(page: Page, width: int) -> None:
    said = "the store is full (64.0 of 64.0 MiB): it takes no new jobs and adds; raise `maxmemory`"
    health = GetHealthResponse(
        status=GetHealthResponse.STATUS_DEGRADED,
        problems=[said],
        store=StoreHealth(connected=True, server="valkey 9.1.2", evicted_key_count=3),
    ).SerializeToString()
    # One message and its trailers, as grpc-web has them.
    trailers = b"grpc-status:0\r\n"
    body = b"".join(
        kind + len(part).to_bytes(4, "big") + part
        for kind, part in ((b"\0", health), (b"\x80", trailers))
    )
    page.set_viewport_size({"width": width, "height": 844})
    page.route(
        "**/tallymesh.v1.MeshService/GetHealth",
        lambda route: route.fulfill(body=body, content_type="application/grpc-web+proto"),
    )
    shown = page.get_by_test_id("health")
    expect(shown).to_have_attribute("data-status", "degraded")
    expect(shown).to_contain_text("the store is full")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown.click()
    region = page.get_by_role("region", name="The mesh")
    expect(region).to_contain_text("raise `maxmemory`.")
    expect(region).to_contain_text("3 keys")


def test_a_job_that_is_not_there(page: Page) -> None:
    page.goto(f"/#/jobs/{'0' * 16}")
    expect(page.get_by_test_id("job-problem")).to_contain_text("does not exist")


def test_the_page_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    count(page, "1e9", "200")
    expect(page.get_by_test_id("result")).to_contain_text(f"{PRIMES_UP_TO[10**9]:,}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_failed_chunk_is_marked(page: Page, mesh: LocalMesh) -> None:
    with Client(mesh.address) as client:
        job = client.submit(Simulate(failure_rate=1), chunks=20, max_attempts=1)
        with pytest.raises(JobFailed) as failed:
            job.result()
    page.evaluate("name => { location.hash = `#/${name}` }", job.name)
    marked = page.get_by_test_id("cells").locator("[data-state=failed]")
    expect(marked).to_have_count(1)
    expect(marked).to_have_attribute("title", f"chunk {failed.value.job.error.chunk} failed")


def test_a_list_that_cannot_be_read_says_so_and_comes_back(
    browser: Browser, mesh: LocalMesh
) -> None:
    with Client(mesh.address) as client:
        client.count_primes(100)
    # Not the page of the others, in whose console nothing may fail.
    with browser.new_context(base_url=f"http://{mesh.address}") as context:
        page = context.new_page()
        page.goto("/")
        expect(page.get_by_test_id("jobs").locator("li").first).to_be_visible()
        page.route("**/ListJobs", lambda route: route.abort())
        expect(page.get_by_test_id("jobs-problem")).to_contain_text("The mesh cannot be reached.")
        expect(page.get_by_test_id("jobs").locator("li").first).to_be_visible()
        page.unroute("**/ListJobs")
        expect(page.get_by_test_id("jobs-problem")).to_have_count(0)
