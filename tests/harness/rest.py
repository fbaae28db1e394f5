"""REST as any HTTP client speaks it."""

import json
from contextlib import closing, suppress
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection
from typing import Any


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read whole."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        """What it says, which must be declared as JSON."""
        assert self.headers["content-type"] == "application/json", self.body
        return json.loads(self.body)


class Rest:
    """The REST API at an address."""

    def __init__(self, address: str) -> None:
        self._address = address

    def request(self, method: str, path: str, body: str | bytes | None = None) -> Answer:
        """Sends one request and reads the answer whole."""
        headers = {"content-type": "application/json"} if body is not None else {}
        with closing(HTTPConnection(self._address, timeout=30)) as connection:
            # A request that is too long is answered before all of it is read.
            with suppress(ConnectionError):
                connection.request(method, path, body, headers)
            with connection.getresponse() as response:
                return Answer(response.status, response.headers, response.read())

    def get(self, path: str) -> Any:
        """What a GET answers, which must go well."""
        return self._well(self.request("GET", path))

    def post(self, path: str, body: object = None) -> Any:
        """What a POST of a JSON body answers, which must go well."""
        return self._well(self.request("POST", path, json.dumps(body or {})))

    @staticmethod
    def _well(answer: Answer) -> Any:
        assert answer.status == 200, answer.body
        return answer.json
