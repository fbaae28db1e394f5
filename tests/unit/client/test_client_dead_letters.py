"""Dead letters and the fleet through the client: what is asked for, page by page."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tallymesh import Client, DeadLetter, DeadLetterGroup, InvalidField
from tallymesh.v1.dead_letter_service_pb2 import DeadLetterFilter
from tallymesh.v1.errors_pb2 import ERROR_REASON_CHUNK_FAILED
from tests.unit.client.fake_mesh import NAME, FakeMesh


def test_groups_and_letters_run_over_all_pages(mesh: FakeMesh, client: Client) -> None:
    mesh.groups = [DeadLetterGroup(name=f"deadLetterGroups/{index}") for index in range(5)]
    mesh.dead_letters = [DeadLetter(name=f"{NAME}/chunks/{index}") for index in range(5)]
    groups = list(client.dead_letters.groups(page_size=2))
    assert [group.name for group in groups] == [f"deadLetterGroups/{index}" for index in range(5)]
    letters = list(client.dead_letters.list(page_size=2, job="abc1"))
    assert [letter.name for letter in letters] == [f"{NAME}/chunks/{index}" for index in range(5)]
    assert [request.filter.job for request in mesh.asked("ListDeadLetters")] == [NAME] * 3


def test_conditions_are_sent_whole(mesh: FakeMesh, client: Client) -> None:
    since = datetime(2030, 1, 1, tzinfo=UTC)
    answer = client.dead_letters.replay(
        names=["abc1/chunks/3", f"{NAME}/chunks/4"],
        group="0123456789ab",
        job="abc1",
        kernel="add",
        reason="chunk_failed",
        failed_from=since,
        failed_until=since,
        validate_only=True,
    )
    assert (answer.replayed, answer.skipped, list(answer.jobs)) == (3, 1, [NAME])
    expected = DeadLetterFilter(
        names=[f"{NAME}/chunks/3", f"{NAME}/chunks/4"],
        group="deadLetterGroups/0123456789ab",
        job=NAME,
        kernel="add",
        reason=ERROR_REASON_CHUNK_FAILED,
    )
    expected.fail_time_from.FromDatetime(since)
    expected.fail_time_until.FromDatetime(since)
    [request] = mesh.asked("ReplayDeadLetters")
    assert request.filter == expected
    assert request.validate_only
    assert client.dead_letters.delete(job="abc1").deleted == 4
    [deletion] = mesh.asked("DeleteDeadLetters")
    assert deletion.filter == DeadLetterFilter(job=NAME)
    assert not deletion.validate_only


def test_a_misspelt_condition_is_refused_and_does_not_widen_the_choice(
    mesh: FakeMesh, client: Client
) -> None:
    misspelt: dict[str, Any] = {"kernel": "add", "jobb": "abc1"}
    with pytest.raises(TypeError, match="did you mean 'job'"):
        client.dead_letters.delete(**misspelt)
    with pytest.raises(InvalidField, match=r"filter\.reason: 'bad luck' is not one of"):
        client.dead_letters.replay(reason="bad luck")
    assert not mesh.calls


def test_a_worker_is_drained_by_name(mesh: FakeMesh, client: Client) -> None:
    assert client.drain_worker("worker-1").uids == ["u1", "u2"]
    assert mesh.asked("DrainWorker")[0].name == "workers/worker-1"
