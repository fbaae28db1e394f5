"""Kernels with bad habits harm nobody else, and their errors and logs say what they did."""

import json
import re
from typing import Any
from uuid import uuid4

import psutil
import pytest

from tallymesh import ChunkLog, Client, JobFailed, JobHandle, custom
from tests.e2e.conftest import CommandLine
from tests.harness.rest import Rest


def failure(client: Client, kernel: str, work: dict[str, Any], **options: Any) -> JobFailed:
    """How the first chunk of a job fails, in its one attempt."""
    with pytest.raises(JobFailed) as failed:
        client.run(custom(kernel, work), max_attempts=1, **options)
    return failed.value


def logs(client: Client, failed: JobFailed) -> list[ChunkLog]:
    return list(client.job(failed.job.name).logs())


@pytest.fixture
def printed(client: Client) -> JobHandle:
    handle = client.submit(custom("bad.prints"), chunks=3)
    assert handle.result() == 3
    return handle


def test_what_is_printed_stands_in_the_log(client: Client, printed: JobHandle) -> None:
    found = list(printed.logs())
    assert [log.chunk for log in found] == [0, 1, 2]
    for log in found:
        assert log.text.splitlines() == [
            f"[stdout] on stdout {log.chunk}",
            "[stderr] on stderr",
            "[stdout] as bytes \ufffd",
            "[stderr] as a warning",
            "[stderr] as a library warns",
            "a line",
            "and another",
            "[stdout] without an end",
        ]
        assert log.attempt == 1
        assert log.worker in printed.job.handled_by
        assert log.HasField("log_time")
    assert [log.chunk for log in printed.logs(chunk=1)] == [1]


def test_logs_are_shown_by_the_command_line_and_rest(
    cli: CommandLine, rest: Rest, printed: JobHandle
) -> None:
    text = cli.output("jobs", "logs", printed.name, "--chunk", "2")
    head, *lines = text.splitlines()
    assert re.fullmatch(r"chunk 2, attempt 1 on worker-\d, .+:", head)
    assert lines[:2] == ["  [stdout] on stdout 2", "  [stderr] on stderr"]
    page = rest.get(f"/v1/{printed.name}/chunkLogs?page_size=2")
    assert [log["name"] for log in page["chunk_logs"]] == [
        f"{printed.name}/chunkLogs/0",
        f"{printed.name}/chunkLogs/1",
    ]
    token = page["next_page_token"]
    rest_of = rest.get(f"/v1/{printed.name}/chunkLogs?page_size=2&page_token={token}")
    assert [log["chunk"] for log in rest_of["chunk_logs"]] == ["2"]
    assert rest_of["next_page_token"] == ""


def test_who_logs_nothing_has_no_log(client: Client, rest: Rest) -> None:
    handle = client.submit(custom("acme.squares", {"n": 10}), chunks=2)
    handle.result()
    assert list(handle.logs()) == []
    assert "jobs/0000000000000000 does not exist" in str(
        rest.request("GET", "/v1/jobs/0000000000000000/chunkLogs").body
    )


def test_logs_are_bounded(client: Client) -> None:
    handle = client.submit(custom("bad.chatters", {"lines": 2000}), chunks=80)
    handle.result()
    found = list(handle.logs())
    assert sum(len(log.text.encode()) for log in found) <= 512 * 1024
    assert 30 < len(found) < 80, "the rest is dropped, and said to be"
    assert all(len(log.text.encode()) <= 16 * 1024 for log in found)
    first, *_, last = found[0].text.splitlines()
    assert re.fullmatch(r"\(\d+ earlier lines are left out\)", first)
    assert last.startswith("[stdout] yyy")
    assert len(last) == 2000


def test_logs_of_failures_find_room_where_others_do_not(client: Client) -> None:
    work = custom("bad.chatters", {"lines": 2000, "fail": True})
    handle = client.submit(work, chunks=80, max_attempts=1, tolerate_failures=79)
    with pytest.raises(JobFailed, match="said enough"):
        handle.result()
    assert 50 < len(list(handle.logs())) < 80


def test_an_exception_is_told_in_a_line_and_its_traceback_logged(client: Client) -> None:
    failed = failure(client, "bad.raises", {})
    assert (failed.reason, failed.job.error.message) == (
        "CHUNK_FAILED",
        "KeyError: 'no such\\nkey'",
    )
    (log,) = logs(client, failed)
    said, *trace = log.text.splitlines()
    assert said == "attempt 1"
    assert trace[0] == "Traceback (most recent call last):"
    assert "in raises" in trace[1]
    assert "in _deeper" in log.text
    assert trace[-1] == "KeyError: 'no such\\nkey'"
    assert "tallymesh_" not in log.text, "whose kernel it is has nothing to mend there"


def test_the_last_attempt_is_the_one_that_is_logged(client: Client) -> None:
    handle = client.submit(custom("bad.raises"), max_attempts=2)
    with pytest.raises(JobFailed):
        handle.result()
    (log,) = handle.logs()
    assert (log.attempt, log.text.splitlines()[0]) == (2, "attempt 2")


@pytest.mark.parametrize(
    ("kernel", "work", "reason", "message"),
    [
        ("bad.exits", {"code": 0}, "CHUNK_FAILED", "the kernel called sys.exit(0)"),
        ("bad.exits", {"code": "now"}, "CHUNK_FAILED", "the kernel called sys.exit('now')"),
        ("bad.quits", {}, "CHUNK_CRASHED", "process ended with exit code 7"),
        ("bad.refuses", {"n": 1}, "WORK_REFUSED", "n: '1' is not what it likes"),
        (
            "bad.returns",
            {"what": "set"},
            "CHUNK_FAILED",
            "kernel bad.returns returned set, which is not JSON",
        ),
        (
            "bad.returns",
            {"what": "bytes"},
            "CHUNK_FAILED",
            "kernel bad.returns returned bytes, which is not JSON",
        ),
        (
            "bad.returns",
            {"what": "nan"},
            "CHUNK_FAILED",
            "kernel bad.returns returned nan, which is not JSON",
        ),
        (
            "bad.returns",
            {"what": "deep"},
            "CHUNK_FAILED",
            "kernel bad.returns returned object at a[0], which is not JSON",
        ),
        *(
            (
                "bad.returns",
                {"what": "nested", "depth": depth},
                "CHUNK_FAILED",
                f"kernel bad.returns returned a list or object at {'[0]' * 30},"
                " which is more than 30 deep within others",
            )
            for depth in (31, 48, 49, 60, 500)
        ),
        (
            "bad.returns",
            {"what": "surrogate"},
            "CHUNK_FAILED",
            "kernel bad.returns returned '\\ud800', which is not Unicode text",
        ),
        ("bad.says", {"what": "surrogate"}, "CHUNK_FAILED", r"ValueError: half of \ud800 a pair"),
        (
            "bad.says",
            {"what": "nothing"},
            "CHUNK_FAILED",
            "_Unspeakable: (its text cannot be had: RuntimeError)",
        ),
        ("bad.says", {"what": "base"}, "CHUNK_FAILED", "BaseException: not even an Exception"),
        *(
            (
                "bad.progresses",
                {"fraction": fraction},
                "CHUNK_FAILED",
                f"ValueError: progress takes a fraction from 0 to 1, not {shown}",
            )
            for fraction, shown in (
                ("1e308", "1e+308"),
                ("nan", "nan"),
                ("-1", "-1.0"),
                ("50", "50.0"),
            )
        ),
        (
            "bad.returns",
            {"what": "iterator"},
            "CHUNK_FAILED",
            "kernel bad.returns returned list_iterator, which is not JSON",
        ),
        (
            "bad.returns",
            {"what": "huge"},
            "CHUNK_FAILED",
            "the number 18446744073709551616 of kernel bad.returns does not fit into 64 bits",
        ),
    ],
)
def test_a_bad_habit_fails_its_chunk_alone(
    client: Client, kernel: str, work: dict[str, Any], reason: str, message: str
) -> None:
    failed = failure(client, kernel, work)
    assert (failed.reason, failed.job.error.message) == (reason, message)
    assert client.run(custom("acme.squares", {"n": 10})) == 285


def test_json_as_deep_as_can_be_goes_through_every_entrance(client: Client, rest: Rest) -> None:
    work: dict[str, Any] = {"what": "nested", "depth": 30}
    inner: Any = 1
    for _ in range(29):
        inner = {"a": inner}
    job = client.submit(custom("bad.returns", work | {"more": inner}))
    deep = job.result()
    for _ in range(30):
        (deep,) = deep
    assert deep == 1
    shown = rest.get(f"/v1/{job.name}")["work"]["custom"]["json"]["more"]
    assert shown == inner
    assert rest.get("/v1/jobs?view=JOB_VIEW_FULL")["jobs"]
    deeper = {"kernel": "bad.returns", "json": {"more": [[inner]]}}
    body = json.dumps({"job": {"work": {"custom": deeper}}})
    refused = rest.request("POST", "/v1/jobs", body)
    assert refused.status == 400, refused.body


def test_a_result_that_is_too_long(client: Client) -> None:
    message = failure(client, "bad.returns", {"what": "long"}).job.error.message
    assert re.fullmatch(r"the result has \d+ bytes, more than 1048576", message)


@pytest.mark.parametrize("what", ["float", "bool", "none"])
def test_what_cannot_be_summed(client: Client, what: str) -> None:
    kind = {"none": "NoneType"}.get(what, what)
    assert failure(client, "bad.sums", {"what": what}, chunks=2).job.error.message == (
        f"kernel bad.sums returned {kind} for one of 2 chunks, which are summed:"
        " return an int, or give the kernel a merge"
    )


def test_a_merge_that_gives_what_is_not_json(client: Client) -> None:
    failed = failure(client, "bad.merges", {}, chunks=2)
    assert failed.job.error.message == "kernel bad.merges merged into set, which is not JSON"
    assert failed.job.error.chunk == 2


def test_work_that_its_validation_fails_on_is_refused(cli: CommandLine) -> None:
    said = cli.fail("run", "bad.refuses", "--json", '{"n": 0}', code=2)
    assert (
        "job.work.custom.json: must be work that bad.refuses takes"
        " (ZeroDivisionError: division by zero)"
    ) in said


def test_a_validation_or_plan_that_exits_is_a_refusal(cli: CommandLine) -> None:
    said = cli.fail("run", "bad.validates", "--json", '{"where": "gateway"}', code=2)
    assert "job.work.custom.json: must be work that bad.validates takes (SystemExit: no)" in said
    said = cli.fail("run", "bad.plans", "--json", '{"code": 3}', code=2)
    assert "job.chunk_count" in said
    assert "the plan of bad.plans fails (SystemExit: 3)" in said


def test_a_validation_that_kills_its_process_is_charged_to_its_chunk(client: Client) -> None:
    failed = failure(client, "bad.validates", {"where": "dies"}, chunks=1)
    assert (failed.reason, failed.job.error.message) == (
        "CHUNK_CRASHED",
        "process ended with exit code 8",
    )
    (log,) = logs(client, failed)
    assert log.text == "[stdout] validating"


def test_a_validation_without_end_is_stopped(client: Client) -> None:
    failed = failure(client, "bad.validates", {"where": "loops"}, chunk_timeout=0.2)
    assert failed.reason == "CHUNK_TIMED_OUT"


def test_who_closes_its_output_leaves_it_to_the_next(client: Client) -> None:
    handle = client.submit(custom("bad.closes"), chunks=8)
    assert handle.result() == 8
    said = "[stdout] before\n[stdout] after"
    assert [log.text for log in handle.logs()] == [said] * 8


def test_a_crash_and_a_loop_leave_their_last_words(client: Client) -> None:
    (log,) = logs(client, failure(client, "bad.quits", {}))
    assert log.text == "about to quit"
    failed = failure(client, "bad.loops", {}, chunk_timeout=0.2)
    assert failed.reason == "CHUNK_TIMED_OUT"
    (log,) = logs(client, failed)
    assert log.text == "[stdout] for ever"


def test_what_forks_counts_once_and_takes_its_children_along(client: Client) -> None:
    mark = f"mark-{uuid4().hex}"
    handle = client.submit(custom("bad.forks", {"mark": mark}), chunks=6)
    assert handle.result() == 6
    assert list(handle.logs()) == []
    left = [process for process in psutil.process_iter() if mark in _command(process)]
    assert len(left) == 6
    while any(process.is_running() for process in left):
        # Whichever process of the mesh started them ends by this.
        failure(client, "bad.quits", {}, chunks=2)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
