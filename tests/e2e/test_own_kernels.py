"""Kernels of one's own, from the command line and from Python, on a whole mesh."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from tallymesh import Client, InvalidField, JobFailed, custom
from tests.e2e.conftest import CommandLine
from tests.harness.commands import json_objects
from tests.harness.polling import eventually_sync
from tests.harness.ports import free_port
from tests.harness.processes import Processes
from tests.harness.rest import Rest
from tests.harness.roles import start_roles

KERNELS = "tests.harness.own_kernels"
TEXT = "to be or not to be that is the question to"


def test_a_function_is_summed_over_its_chunks(client: Client, cli: CommandLine) -> None:
    assert client.run(custom("acme.squares", {"n": 1000}), chunks=7) == 332_833_500
    planned = client.submit(custom("acme.squares", {"n": 1000}))
    assert (planned.result(), planned.job.chunk_count) == (332_833_500, 11)
    assert planned.job.progress.running_total == "332833500"
    assert cli.output("run", "acme.squares", "--json", '{"n": 1000}') == "332833500\n"
    assert [job.name for job in client.jobs(kernel="acme.squares", page_size=3)]


@pytest.mark.parametrize("chunks", [1, 4])
def test_a_function_with_a_merge_gives_json(client: Client, chunks: int) -> None:
    work = custom("acme.words", {"text": TEXT, "most": 2})
    assert client.run(work, chunks=chunks) == [["to", 3], ["be", 2]]


@pytest.mark.parametrize(
    "value", [None, True, 5, 0.5, "text", [], {}, {"a": [1, {"b": None}]}, -(2**53)]
)
def test_a_single_chunk_gives_any_json(client: Client, value: Any) -> None:
    given = client.run(custom("acme.echo", {"give": value}))
    assert given == value
    assert type(given) is type(value)


def test_the_command_line_takes_files_and_writes_json(cli: CommandLine, folder: Path) -> None:
    work = folder / "work.json"
    work.write_text(json.dumps({"text": TEXT, "most": 1}))
    assert cli.output("run", "acme.words", "--json", f"@{work}", "--chunks", "3") == '[["to", 3]]\n'
    message = folder / "work.binpb"
    message.write_bytes(StringValue(value="question").SerializeToString())
    told = json.loads(cli.output("run", "acme.spell", "--data", f"@{message}", "-o", "json"))
    assert told["result"]["custom"] == {"kernel": "acme.spell", "data": "CAg="}
    assert cli.output("run", "acme.spell", "--data", f"@{message}") == "CAg=\n"
    page = cli.output("jobs", "get", told["name"])
    assert "acme.spell of 10 bytes" in page


def test_a_class_computes_over_messages(client: Client) -> None:
    data = client.run(custom("acme.spell", StringValue(value="to be or not")))
    assert Int64Value.FromString(data).value == 12


def test_rest_takes_and_gives_json(rest: Rest) -> None:
    body = {
        "chunk_count": 3,
        "work": {"custom": {"kernel": "acme.words", "json": {"text": TEXT, "most": 1}}},
    }
    name = rest.post("/v1/jobs", body)["name"]
    ended = eventually_sync(lambda: _succeeded(rest.get(f"/v1/{name}")))
    assert ended["result"] == {"custom": {"kernel": "acme.words", "json": [["to", 3]]}}


def _succeeded(job: dict[str, Any]) -> dict[str, Any]:
    return job if job["state"] == "STATE_SUCCEEDED" else {}


def test_a_total_goes_onto_an_abacus_and_what_is_no_number_does_not(client: Client) -> None:
    name = f"own-{uuid4().hex}"
    client.run(custom("acme.squares", {"n": 4}), chunks=2, abacus=name)
    eventually_sync(lambda: client.abacus(name).read().value == "14")
    handle = client.submit(custom("acme.echo", {"give": "ten"}), abacus=name)
    eventually_sync(lambda: handle.refresh().abacus_posting.error)
    assert handle.job.abacus_posting.error == "the result of acme.echo is no number"
    assert client.abacus(name).read().value == "14"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("score",),
            "job.work.custom.kernel: 'score' is not 3 to 63 characters: parts of [a-z0-9_] that"
            " start with a letter, joined by dots, at least two",
        ),
        (("add.more",), "job.work.custom.kernel: 'add.more' is not free: add is built in"),
        (
            ("acme.nowhere",),
            "job.chunk_count: must be given, as this gateway does not have acme.nowhere to plan",
        ),
        (
            ("acme.squares", "--json", '{"n": "x"}'),
            "job.work.custom.json.n: 'x' is not a whole number",
        ),
        (
            ("acme.planless",),
            "job.chunk_count: must be given, as the plan of acme.planless fails"
            " (KeyError: 'missing')",
        ),
        (
            ("acme.hungry",),
            "job.chunk_count: must be given, as acme.hungry plans 1073741824 chunks, not 1 to"
            " 4194304",
        ),
        (
            ("acme.squares", "--data", f"@{__file__}", "--chunks", "1"),
            "bytes' is not what acme.squares takes: give json",
        ),
        (
            ("acme.spell", "--json", "{}"),
            "job.work.custom.json: 'an object' is not what acme.spell takes:"
            " give a google.protobuf.StringValue as data",
        ),
        (
            ("acme.spell", "--data", f"@{__file__}"),
            "bytes' is not a google.protobuf.StringValue",
        ),
    ],
)
def test_what_is_wrong_is_told_at_once(cli: CommandLine, words: tuple[str, ...], said: str) -> None:
    assert said in cli.fail("run", *words, code=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--json", "{"), "is not JSON: "),
        (("--json", "[]"), "is not a JSON object"),
        (("--json", "@nowhere"), "nowhere cannot be read: No such file or directory"),
        (("--data", "bytes"), "'bytes' is not @ and a file"),
        (("--json", "{}", "--data", "@x"), "--json and --data exclude each other"),
        (("--json", '{"n": 9007199254740993}'), "9007199254740993 at n, more than JSON holds"),
    ],
)
def test_the_command_line_refuses_what_is_no_work(
    cli: CommandLine, words: tuple[str, ...], said: str
) -> None:
    assert said in cli.fail("run", "acme.echo", *words, code=2)


def test_a_plan_that_differs_is_not_believed(client: Client) -> None:
    with pytest.raises(
        InvalidField, match=r"acme\.fickle plans \d+ chunks, then \d+, for one work"
    ):
        client.submit(custom("acme.fickle"))
    assert client.run(custom("acme.fickle"), chunks=3) == 3


def test_a_kernel_that_nobody_has_waits_and_says_so(client: Client) -> None:
    handle = client.submit(custom("acme.nowhere", {"n": 1}), chunks=2)
    assert handle.refresh().state_reason == (
        "no live worker serves kernel acme.nowhere on queue default"
    )
    handle.cancel()


def test_compute_takes_a_kernel_of_ones_own(rest: Rest) -> None:
    body = {"kernel": "acme.squares", "json": {"n": 10}}
    told = rest.request("POST", "/v1/jobs:compute", json.dumps({"custom": body})).body
    assert list(json_objects(told.decode().splitlines()))[-1]["result"] == {
        "custom": {"kernel": "acme.squares", "number": "285"}
    }


def test_a_gateway_need_not_have_what_a_worker_has(
    processes: Processes, folder: Path, store_url: str
) -> None:
    roles = start_roles(processes, folder, store_url, worker={"TALLYMESH_KERNELS": KERNELS})
    with Client(roles.gateway) as client:
        assert client.run(custom("acme.squares", {"n": 1000}), chunks=9) == 332_833_500
        assert client.run(custom("acme.words", {"text": TEXT, "most": 1}), chunks=4) == [["to", 3]]
        assert client.run(custom("acme.spell", StringValue(value="abc")), chunks=3) == b"\x08\x03"
        with pytest.raises(JobFailed, match=r"json\.n: 'x' is not a whole number") as failed:
            client.run(custom("acme.squares", {"n": "x"}), chunks=2)
        assert failed.value.reason == "WORK_REFUSED"
        assert failed.value.job.failed_attempts == 1


@pytest.mark.parametrize("role", ["worker", "gateway", "up"])
def test_a_kernel_that_cannot_be_imported_ends_the_start(folder: Path, role: str) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    port = ["--port", str(free_port())] if role == "up" else []
    ended = subprocess.run(
        [sys.executable, "-m", "tallymesh", role, "--kernels", "broken", *port],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    said = "kernels of broken cannot be imported: ZeroDivisionError: division by zero"
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
