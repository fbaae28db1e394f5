"""Everything by REST, a worker included; and the page."""

import json
import re
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.harness.local_mesh import LocalMesh
from tests.harness.polling import eventually_sync
from tests.harness.primes import PRIMES_UP_TO
from tests.harness.rest import Rest

TO_10_6 = {"count_primes": {"stop": 10**6}}


def submit(rest: Rest, work: object, **fields: object) -> str:
    """Submits a job and returns its name."""
    name: str = rest.post("/v1/jobs", {"work": work, **fields})["name"]
    return name


def ended(rest: Rest, name: str) -> Any:
    """The job, once it has ended."""

    def job() -> Any:
        answer = rest.get(f"/v1/{name}")
        return answer if "end_time" in answer else None

    return eventually_sync(job, timeout=30, message=f"{name} having ended")


def test_health_tells_of_workers_and_store(rest: Rest) -> None:
    health = rest.get("/v1/health")
    assert (health["status"], health["problems"]) == ("STATUS_HEALTHY", [])
    assert (health["worker_count"], health["answered_by"]) == (2, "gateway-1")
    assert sorted(one["worker"]["name"] for one in health["workers"]) == ["worker-1", "worker-2"]
    store = health["store"]
    assert store["connected"] is True
    assert store["server"].startswith(("valkey ", "redis "))
    assert store["durability"] == "none"
    assert int(store["memory_bytes"]) > 0


def test_who_am_i(rest: Rest) -> None:
    answer = rest.request("GET", "/v1/whoami")
    who = answer.json
    assert (who["tenant"], who["principal"]) == ("default", "anonymous")
    assert who["answered_by"] == answer.headers["tallymesh-node"] == "gateway-1"
    assert who["request_id"] == answer.headers["tallymesh-request-id"]


def test_the_store_is_checked(rest: Rest) -> None:
    checked = rest.post("/v1/store:check")
    assert float(checked["round_trip"].removesuffix("s")) > 0
    assert checked["store"]["connected"] is True


def test_answers_are_as_the_document_says(rest: Rest) -> None:
    document = rest.get("/openapi.json")
    name = submit(rest, TO_10_6, chunk_count=2, abacus="abaci/documented")
    ended(rest, name)
    answers = {
        "/v1/jobs?page_size=5": "ListJobsResponse",
        f"/v1/{name}": "Job",
        f"/v1/{name}/chunks": "ListChunksResponse",
        "/v1/abaci": "ListAbaciResponse",
        "/v1/health": "GetHealthResponse",
        "/v1/whoami": "WhoAmIResponse",
    }
    for path, kind in answers.items():
        schema = {"$ref": f"#/components/schemas/{kind}", "components": document["components"]}
        Draft202012Validator(schema).validate(rest.get(path))
    bodies = {
        path: operation["post"]["requestBody"]["required"]
        for path, operation in document["paths"].items()
        if "requestBody" in operation.get("post", {})
    }
    assert bodies["/v1/jobs"]
    assert not bodies["/v1/store:check"]
    assert not bodies["/v1/jobs/{job}:cancel"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/abaci/{abacus}:add",
        "/v1/abaci/{abacus}:addMany",
        "/v1/abaci/{abacus}:reset",
        "/v1/deadLetters:delete",
        "/v1/deadLetters:replay",
        "/v1/jobs",
        "/v1/jobs:batchCreate",
        "/v1/jobs:compute",
        "/v1/jobs:run",
        "/v1/store:check",
    ],
)
def test_the_documents_example_is_a_call_that_works(rest: Rest, path: str) -> None:
    body = rest.get("/openapi.json")["paths"][path]["post"]["requestBody"]
    example = body["content"]["application/json"]["example"]
    path = path.format(abacus=f"example-{uuid4().hex}")
    answer = rest.request("POST", path, json.dumps(example))
    assert answer.status == 200, answer.body


def test_a_job_from_its_submission_to_its_chunks(rest: Rest) -> None:
    name = submit(rest, TO_10_6, chunk_count=7, labels={"by": "rest"})
    job = ended(rest, name)
    assert job["state"] == "STATE_SUCCEEDED"
    assert job["result"]["count_primes"]["count"] == str(PRIMES_UP_TO[10**6])
    assert (job["initiated_by"], job["checked_by"]) == ("gateway-1", "gateway-1")
    assert sum(int(chunks) for chunks in job["handled_by"].values()) == 7
    assert job["create_time"] <= job["start_time"] <= job["end_time"]

    listed, token = [], ""
    while True:
        page = rest.get(f"/v1/{name}/chunks?page_size=3&page_token={token}")
        listed += page["chunks"]
        token = page["next_page_token"]
        if not token:
            break
    assert [int(chunk["index"]) for chunk in listed] == list(range(7))
    assert {chunk["state"] for chunk in listed} == {"STATE_DONE"}
    assert {chunk["worker"] for chunk in listed} == set(job["handled_by"])


def test_jobs_are_listed_newest_first_by_filter_and_page(rest: Rest) -> None:
    label = f"list-{uuid4().hex}"
    names = [submit(rest, TO_10_6, labels={"run": label}) for _ in range(5)]
    for name in names:
        ended(rest, name)

    listed, token = [], ""
    for _ in range(3):
        query = f"labels=run={label}&states=STATE_SUCCEEDED&kernel=count_primes&page_size=2"
        page = rest.get(f"/v1/jobs?{query}&page_token={token}")
        assert len(page["jobs"]) <= 2
        listed += [job["name"] for job in page["jobs"]]
        token = page["next_page_token"]
    assert token == ""
    assert listed == names[::-1]
    assert rest.get(f"/v1/jobs?labels=run={label}&kernel=add")["jobs"] == []
    (full, *_) = rest.get(f"/v1/jobs?labels=run={label}&view=JOB_VIEW_FULL")["jobs"]
    assert full["result"]["count_primes"]["count"] == str(PRIMES_UP_TO[10**6])


def test_a_request_id_makes_a_submission_safe_to_repeat(rest: Rest) -> None:
    path = f"/v1/jobs?request_id={uuid4()}"
    first = rest.post(path, {"work": TO_10_6})
    assert rest.post(path, {"work": TO_10_6})["name"] == first["name"]
    other = rest.request("POST", path, json.dumps({"work": {"add": {"numbers": ["1"]}}}))
    assert other.status == 409
    assert other.json["details"][0]["reason"] == "REQUEST_ID_REUSED"


def test_a_job_is_cancelled(rest: Rest) -> None:
    name = submit(rest, {"simulate": {"duration": "3600s"}}, chunk_count=4)
    cancelled = rest.post(f"/v1/{name}:cancel")
    assert cancelled["state"] == "STATE_CANCELLED"
    assert rest.post(f"/v1/{name}:cancel")["state"] == "STATE_CANCELLED"
    late = submit(rest, TO_10_6)
    ended(rest, late)
    refused = rest.request("POST", f"/v1/{late}:cancel", "{}")
    assert refused.status == 400
    assert refused.json["details"][0]["reason"] == "JOB_ENDED"
    assert refused.json["details"][0]["metadata"]["state"] == "SUCCEEDED"


def test_jobs_go_in_batches_and_come_as_they_end(mesh: LocalMesh, rest: Rest) -> None:
    requests: list[Any] = [{"job": {"work": {"simulate": {}}, "chunk_count": n}} for n in (1, 2, 3)]
    names = [
        job["name"] for job in rest.post("/v1/jobs:batchCreate", {"requests": requests})["jobs"]
    ]
    query = "&".join(f"names={name}" for name in names)
    assert [job["name"] for job in rest.get(f"/v1/jobs:batchGet?{query}")["jobs"]] == names
    chunks = {}
    with closing(HTTPConnection(mesh.address, timeout=30)) as connection:
        body = json.dumps({"names": names})
        connection.request("POST", "/v1/jobs:collect", body, {"content-type": "application/json"})
        for line in connection.getresponse():
            for job in json.loads(line)["jobs"]:
                chunks[job["name"]] = job["result"]["simulate"]["chunks"]
    assert chunks == dict(zip(names, "123", strict=True))


def test_a_failed_job_is_replayed_and_its_dead_letter_deleted(rest: Rest) -> None:
    failing = {"simulate": {"failure_rate": 1}}
    name = submit(rest, failing, max_attempts=1)
    failed = ended(rest, name)
    assert (failed["state"], failed["epoch"]) == ("STATE_FAILED", "1")
    query = f"/v1/deadLetters?filter.job={name}"
    (letter,) = rest.get(query)["dead_letters"]
    groups = rest.get("/v1/deadLetterGroups")["groups"]
    assert letter["group"] in [group["name"] for group in groups]
    assert rest.post(f"/v1/{name}:replay", {"epoch": 1})["epoch"] == "2"
    assert ended(rest, name)["state"] == "STATE_FAILED"
    chosen = {"filter": {"names": [letter["name"]]}}
    assert rest.post("/v1/deadLetters:replay", {**chosen, "validate_only": True})["replayed"] == "1"
    assert rest.post("/v1/deadLetters:delete", chosen)["deleted"] == "1"
    assert rest.get(query)["dead_letters"] == []
    late = submit(rest, TO_10_6)
    ended(rest, late)
    refused = rest.request("POST", f"/v1/{late}:replay", "{}")
    assert refused.status == 400
    assert refused.json["details"][0]["reason"] == "JOB_NOT_REPLAYABLE"
    assert refused.json["details"][0]["metadata"]["state"] == "SUCCEEDED"


def test_an_abacus_is_added_to_watched_and_reset(mesh: LocalMesh, rest: Rest) -> None:
    path = f"/v1/abaci/a{uuid4().hex}"
    assert rest.get(path)["value"] == "0"
    with closing(HTTPConnection(mesh.address, timeout=30)) as connection:
        connection.request("GET", f"{path}:watch")
        watch = connection.getresponse()
        assert watch.headers["tallymesh-node"] == "abacus-1"
        assert json.loads(watch.readline())["value"] == "0"

        added = rest.post(f"{path}:add", {"number": 5, "request_id": "one"})
        assert (added["added"], added["sum"]["value"], added["repeated"]) == ("5", "5", False)
        assert rest.post(f"{path}:add", {"number": 5, "request_id": "one"})["repeated"] is True
        assert json.loads(watch.readline())["value"] == "5"

        rest.post(f"{path}:add", {"decimal": "0.1"})
        assert json.loads(watch.readline())["value"] == "5.1"

        reset = rest.post(f"{path}:reset")
        assert (reset["previous"]["value"], reset["sum"]["value"]) == ("5.1", "0")
        assert json.loads(watch.readline())["value"] == "0"
    assert rest.get(path)["answered_by"] == "abacus-1"


def test_a_worker_needs_nothing_but_rest(rest: Rest) -> None:
    queue = f"q{uuid4().hex}"
    worker = {
        "name": "by-hand",
        "uid": str(uuid4()),
        "slots": 1,
        "kernels": ["simulate"],
        "queues": [queue],
    }

    def synchronize(**said: object) -> Any:
        call = {"call_id": str(uuid4()), "worker": worker, **said}
        return rest.post("/v1/workers:synchronize", call)

    name = submit(rest, {"simulate": {}}, chunk_count=3, queue=queue)
    done = 0
    while done < 3:  # the first call gets a part only, as other workers are alive
        answer = synchronize(capacity=3, wait="2s")
        assert answer["works"][0]["chunk_count"] == "3"
        chunks = answer["assignments"][0]["chunks"]
        count = int(chunks["count"])
        assert int(chunks["first"]) == done
        results = [{"chunks": chunks, "sums": [1] * count, "compute_micros": [10] * count}]
        counted = synchronize(results=results)
        assert (counted["accepted"], counted["refused"]) == (str(count), "0")
        done += count
    assert rest.post("/v1/workers/by-hand:drain")["uids"] == [worker["uid"]]
    assert synchronize()["drain"] is True
    synchronize(draining=True)
    job = ended(rest, name)
    assert job["result"]["simulate"]["chunks"] == "3"
    assert job["handled_by"] == {"by-hand": "3"}


def test_the_page_is_served_with_a_policy(rest: Rest) -> None:
    page = rest.request("GET", "/index.html")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    files = re.findall(r'"/?(assets/[^"]+)"', page.body.decode())
    assert {file.rpartition(".")[2] for file in files} >= {"js", "css"}
    for file in files:
        answer = rest.request("GET", f"/{file}")
        assert answer.status == 200
        assert "immutable" in answer.headers["cache-control"]


def test_a_computation_needs_no_job(rest: Rest) -> None:
    answer = rest.request("POST", "/v1/jobs:compute", '{"count_primes": {"stop": "1000000"}}')
    first, *_, last = map(json.loads, answer.body.splitlines())
    assert first["fraction"] == 0
    assert first["handled_by"].startswith("worker-")
    assert last["result"]["count_primes"]["count"] == "78498"
