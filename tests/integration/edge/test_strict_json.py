"""REST bodies are read whole or refused: nothing that no field takes is passed over."""

from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

from tallymesh_edge.config import default_descriptor_set
from tests.integration.edge.conftest import Edge
from tests.integration.edge.test_rest import assert_error, call


def refused(edge: Edge, path: str, body: Any, *words: str, method: str = "POST") -> None:
    status, answer = call(edge, method, path, body)
    assert status == 400, answer
    assert_error(answer, 3, "MALFORMED_REQUEST", *words)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/jobs", {"queue": "q", "dry_run": True}, "dry_run: no such field; there are "),
        ("/v1/jobs", {"work": {"count_primes": {"stopp": 9}}}, "work.count_primes.stopp: no such"),
        ("/v1/jobs", {"\u0071ueue": "q", "prio": 1}, "prio: no such field"),
        ("/v1/jobs", '{"qu\\u0065ue": "q"}', "no such field"),
        ("/v1/jobs", {"queue": ["q"]}, "queue: must be a single value, not a list"),
        ("/v1/jobs", {"queue": {"name": "q"}}, "queue: must be a single value, not an object"),
        ("/v1/jobs", {"work": "add"}, "work: must be an object"),
        ("/v1/jobs", {"work": {"add": {"numbers": "1"}}}, "work.add.numbers: must be a list"),
        ("/v1/jobs", {"work": {"add": {"numbers": [[]]}}}, "work.add.numbers[0]: must be a single"),
        ("/v1/jobs", {"work": {"add": {"numbers": ["1", None]}}}, "numbers[1]: must not be null"),
        ("/v1/jobs", {"labels": [1]}, "labels: must be an object"),
        ("/v1/jobs", {"labels": {"a": {"b": 1}}}, "labels.a: must be a single value"),
        ("/v1/jobs", {"ttl": {"seconds": 5}}, "ttl: must be a single value"),
        ("/v1/jobs", [{}], "job: must be an object"),
        (
            "/v1/deadLetters:delete",
            {"filter": {"names": [[]]}},
            "filter.names[0]: must be a single value",
        ),
        ("/v1/abaci/a:addMany", [{"number": [1]}], "[0].number: no such field"),
        ("/v1/abaci/a:addMany", {"numbers": [1]}, "the body: must be a list"),
        ("/v1/abaci/a:add?x=1", {"number": 1}, "x"),
    ],
)
def test_what_no_field_takes_is_refused_by_name(
    edge: Edge, path: str, body: Any, words: str
) -> None:
    refused(edge, path, body, words)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"queue": None, "labels": {}, "work": None},
        {"chunkCount": 3, "work": {"countPrimes": {"stop": "10"}}},
        {"labels": {"anything at all": "x", "{[": '"]}'}},
        {"work": {"custom": {"kernel": "a.b", "json": {"any": [{"a": [None, [[1]]]}, '\\"]}']}}}},
        '  { "queue"\n:\t"q\\"}" , "priority" : 1e0 }  ',
    ],
)
def test_what_proto_json_allows_is_taken(edge: Edge, body: Any) -> None:
    assert call(edge, "POST", "/v1/jobs", body)[0] == 200


@pytest.mark.parametrize(
    "body", ["{", '{"queue"', '{"queue": "q}', '{"queue" "q"}', "{]", "nul", '{"a']
)
def test_what_is_no_json_is_told_as_such(edge: Edge, body: str) -> None:
    status, answer = call(edge, "POST", "/v1/jobs", body)
    assert status == 400
    assert_error(answer, 3, "MALFORMED_REQUEST")


def test_a_body_as_long_as_can_be_is_read(edge: Edge) -> None:
    numbers = ["12345678"] * 300_000
    assert call(edge, "POST", "/v1/jobs", {"work": {"add": {"numbers": numbers}}})[0] == 200
    refused(edge, "/v1/jobs", {"work": {"add": {"numbers": [*numbers, []]}}}, "numbers[300000]:")


def test_the_fields_of_every_body_are_held(edge: Edge) -> None:
    files = FileDescriptorSet.FromString(default_descriptor_set().read_bytes()).file
    (job,) = [m for file in files for m in file.message_type if m.name == "Job"]
    for field in job.field:
        is_single = (
            field.label != FieldDescriptorProto.LABEL_REPEATED
            and field.type != FieldDescriptorProto.TYPE_MESSAGE
        )
        wrong: Any = [] if is_single else 7
        if field.type_name in (".google.protobuf.Timestamp", ".google.protobuf.Duration"):
            wrong = []
        refused(edge, "/v1/jobs", {field.name: wrong}, f"{field.name}: must be")


@pytest.mark.parametrize("path", ["/v1/jobs/a:watch", "/v1/abaci/a:watch"])
def test_streams_of_lines_are_named_so(edge: Edge, path: str) -> None:
    with edge.open("GET", path) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
