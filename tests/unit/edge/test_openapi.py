"""What the edge says of its REST API is valid, whole and true to the protos."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV31SpecValidator

from tallymesh_edge.config import default_page
from tests.harness.entrances import METHODS


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads((default_page() / "openapi.json").read_text())


def operations(document: Any) -> list[Any]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def test_it_is_valid(document: Any) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_it_has_every_call_with_what_may_go_wrong(document: Any) -> None:
    named = {one["operationId"].replace("_", "/") for one in operations(document)}
    assert named == set(METHODS)
    for one in operations(document):
        assert one["summary"]
        assert "rror" in one["description"], one["operationId"]
        assert one["responses"]["default"] == {"$ref": "#/components/responses/Error"}


def test_streams_are_told_in_both_forms(document: Any) -> None:
    for one in operations(document):
        method = METHODS[one["operationId"].replace("_", "/")]
        forms = set(one["responses"]["200"]["content"])
        streamed = {"application/x-ndjson", "text/event-stream"}
        assert forms == (streamed if method.server_streaming else {"application/json"})


def test_everything_says_what_it_means(document: Any) -> None:
    silent = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, told in schema.get("properties", {}).items()
        if not told.get("description")
    ]
    assert silent == []


def test_every_body_has_an_example_of_its_kind(document: Any) -> None:
    for one in operations(document):
        for told in one.get("requestBody", {}).get("content", {}).values():
            schema = told["schema"] | {"components": document["components"]}
            Draft202012Validator(schema).validate(told["example"])
