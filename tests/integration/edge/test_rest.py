"""REST through the edge: JSON in and out, errors in one shape, lines that flow."""

import json
import socket
from importlib.metadata import version
from typing import Any

import pytest

from tests.integration.edge.conftest import Edge

JSON = {"content-type": "application/json"}


def call(edge: Edge, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    text = body if body is None or isinstance(body, str) else json.dumps(body)
    answer = edge.request(method, path, text, JSON)
    assert answer.headers["content-type"] == "application/json"
    return answer.status, json.loads(answer.body)


def assert_error(answer: Any, code: int, reason: str, *words: str) -> None:
    assert set(answer) == {"code", "message", "details"}
    assert answer["code"] == code
    info = answer["details"][0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert (info["domain"], info["reason"]) == ("tallymesh", reason)
    for word in words:
        assert word in answer["message"]


def test_names_and_defaults_are_those_of_the_protos(edge: Edge) -> None:
    status, job = call(edge, "POST", "/v1/jobs", {"work": {"count_primes": {"stop": 1e10}}})
    assert status == 200
    assert job["work"]["count_primes"] == {
        "start": "0",
        "stop": "10000000000",
        "method": "METHOD_UNSPECIFIED",
        "kind": "KIND_UNSPECIFIED",
        "method_reason": "",
    }
    assert job["version"] == "0"


def test_the_rest_of_a_request_is_its_query(edge: Edge) -> None:
    status, job = call(edge, "POST", "/v1/jobs?request_id=r1", {"queue": "q"})
    assert (status, job["name"]) == (200, "jobs/r1")


def test_each_service_has_its_paths(edge: Edge) -> None:
    assert call(edge, "GET", "/v1/whoami")[1]["answered_by"] == "gateway-1"
    assert call(edge, "GET", "/v1/abaci/a")[1]["answered_by"] == "abacus-1"
    assert call(edge, "POST", "/v1/abaci/a:add", {"number": -3})[1]["added"] == "-3"
    assert call(edge, "DELETE", "/v1/abaci/a")[1]["previous"]["name"] == "abaci/a"
    assert call(edge, "GET", "/v1/abaci")[1]["abaci"] == []
    entries = call(edge, "GET", "/v1/abaci/a/entries?page_size=3")[1]["entries"]
    assert entries[0]["name"] == "abaci/a/entries/1"
    work = {"call_id": "c", "results": [{}, {}]}
    assert call(edge, "POST", "/v1/workers:synchronize", work)[1]["accepted"] == "2"


def test_a_stream_of_requests_is_an_array(edge: Edge) -> None:
    messages = [{"sequence": 1, "numbers": [1, "-2"]}, {"sequence": 2, "decimals": ["0.1"]}]
    status, answer = call(edge, "POST", "/v1/abaci/a:addMany", messages)
    assert status == 200
    assert (answer["sum"]["name"], answer["accepted_count"]) == ("abaci/a", "3")
    assert answer["sequence"] == "2"


def test_a_services_error_keeps_its_details(edge: Edge) -> None:
    status, answer = call(edge, "POST", "/v1/jobs", {"chunk_count": 10**9})
    assert status == 400
    assert_error(answer, 3, "INVALID_FIELD", "job.chunk_count", "1000000000", "4194304")
    assert answer["details"][0]["metadata"]["field"] == "job.chunk_count"

    status, answer = call(edge, "GET", "/v1/jobs/none")
    assert status == 404
    assert_error(answer, 5, "NOT_FOUND", "jobs/none")


def test_a_fault_tells_no_secret(edge: Edge) -> None:
    status, answer = call(edge, "GET", "/v1/jobs/crash")
    assert status == 500
    assert_error(answer, 13, "INTERNAL", "correlation id")
    assert "secret" not in json.dumps(answer)


@pytest.mark.parametrize("body", ["{bad", '{"work":', "[]", "nonsense"])
def test_malformed_json(edge: Edge, body: str) -> None:
    status, answer = call(edge, "POST", "/v1/jobs", body)
    assert status == 400
    assert_error(answer, 3, "MALFORMED_REQUEST")
    assert answer["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stop", "-1"),
        ("stop", '"18446744073709551616"'),
        ("start", "1.5"),
        ("stop", '"many"'),
        ("method", '"GUESS"'),
    ],
)
def test_a_value_that_does_not_fit_is_named(edge: Edge, field: str, value: str) -> None:
    body = f'{{"work": {{"count_primes": {{"{field}": {value}}}}}}}'
    status, answer = call(edge, "POST", "/v1/jobs", body)
    assert status == 400
    assert_error(answer, 3, "MALFORMED_REQUEST", f"job.work.count_primes.{field}", value)


def test_an_unknown_query_parameter_is_named(edge: Edge) -> None:
    status, answer = call(edge, "GET", "/v1/jobs?page_sice=3")
    assert status == 400
    assert_error(answer, 3, "MALFORMED_REQUEST", "page_sice")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/nothing"), ("DELETE", "/v1/jobs/abcd"), ("PUT", "/v1/jobs"), ("GET", "/v1/")],
)
def test_what_is_no_method_of_ours(edge: Edge, method: str, path: str) -> None:
    status, answer = call(edge, method, path)
    assert status == 404
    assert_error(answer, 5, "MALFORMED_REQUEST", method, path)


def test_a_body_over_the_limit(edge: Edge) -> None:
    queue = "q" * 10 * 1024 * 1024
    status, answer = call(edge, "POST", "/v1/jobs", {"queue": queue})
    assert status == 413
    assert_error(answer, 3, "MALFORMED_REQUEST", "4194304 bytes")


def test_a_body_just_under_the_limit(edge: Edge) -> None:
    queue = "q" * (4 * 1024 * 1024 - 1024)
    status, job = call(edge, "POST", "/v1/jobs", {"queue": queue})
    assert (status, len(job["queue"])) == (200, len(queue))


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_watch_is_lines_that_flow(edge: Edge, encoding: str) -> None:
    path = f"/v1/jobs/{encoding}"
    with edge.open("GET", f"{path}:watch", headers={"accept-encoding": encoding}) as watch:
        assert watch.status == 200
        assert "snapshot" in json.loads(watch.readline())

        call(edge, "POST", f"{path}:cancel", {})
        assert json.loads(watch.readline())["ended"]["state"] == "STATE_CANCELLED"
        assert watch.readline() == b""


def test_pages_of_this_machine_may_call(edge: Edge) -> None:
    origin = {"origin": "http://localhost:5173"}
    asked = edge.request(
        "OPTIONS", "/v1/jobs", headers=origin | {"access-control-request-method": "POST"}
    )
    answer = edge.request("GET", "/v1/whoami", headers=origin)
    assert asked.status == answer.status == 200
    assert asked.headers["access-control-allow-origin"] == origin["origin"]
    assert answer.headers["access-control-allow-origin"] == origin["origin"]


def test_a_stream_that_is_refused_has_the_status_of_its_error(edge: Edge) -> None:
    status, answer = call(edge, "GET", "/v1/jobs/none:watch")
    assert status == 404
    assert_error(answer, 5, "NOT_FOUND", "jobs/none")


@pytest.mark.parametrize("accept", ["text/event-stream", "text/event-stream, */*;q=0.1"])
def test_a_watch_may_be_events(edge: Edge, accept: str) -> None:
    path = f"/v1/jobs/events{len(accept)}"
    with edge.open("GET", f"{path}:watch", headers={"accept": accept}) as watch:
        assert watch.headers["content-type"] == "text/event-stream"
        assert "snapshot" in json.loads(watch.read1().removeprefix(b"data: "))
        call(edge, "POST", f"{path}:cancel", {})
        event = watch.read1()
        assert event.startswith(b"data: {")
        assert event.endswith(b"}\n\n")
        assert b'"ended"' in event


def test_events_that_are_refused_have_the_status_of_their_error(edge: Edge) -> None:
    answer = edge.request("GET", "/v1/jobs/none:watch", headers={"accept": "text/event-stream"})
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/json"
    assert_error(json.loads(answer.body), 5, "NOT_FOUND", "jobs/none")


@pytest.mark.parametrize("accept", [None, "*/*", "application/json"])
def test_a_client_is_told_what_is_here(edge: Edge, accept: str | None) -> None:
    answer = edge.request("GET", "/", headers={"accept": accept} if accept else {})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    here = json.loads(answer.body)
    assert (here["name"], here["version"]) == ("tallymesh", version("tallymesh"))
    assert here["apis"] == ["tallymesh.v1"]
    for path in (here["whoami"], here["openapi"]):
        assert edge.request("GET", path).status == 200


@pytest.mark.parametrize("host", ["", "Host: localhost\r\n"], ids=["no host", "a host"])
def test_health_checks_that_speak_http_1_0_are_answered(edge: Edge, host: str) -> None:
    with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as connection:
        connection.sendall(f"GET /v1/whoami HTTP/1.0\r\n{host}\r\n".encode())
        with connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    assert head.split()[1] == b"200", head
    assert json.loads(body)["answered_by"] == "gateway-1"
