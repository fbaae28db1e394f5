"""When watchers hear of a change, decided without a clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallymesh_gateway.pacing import BURST, RATE, WATCHERS_A_TOKEN, TokenBucket, WatchPace

START = 1000.0


def test_tokens_are_saved_up_to_the_burst() -> None:
    bucket = TokenBucket(20, 8, START)
    for _ in range(8):
        assert bucket.wait(START + 60) == 0
        bucket.take(START + 60)
    assert bucket.wait(START + 60) == pytest.approx(1 / 20)
    assert bucket.wait(START + 60 + 1 / 40) == pytest.approx(1 / 40)
    assert bucket.wait(START + 61) == 0


def test_whoever_takes_several_tokens_may_owe_some() -> None:
    bucket = TokenBucket(20, 8, START)
    bucket.take(START, 10)
    assert bucket.wait(START) == pytest.approx(3 / 20)


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=100))
def test_never_more_is_taken_than_the_rate_and_the_burst(pauses: list[float]) -> None:
    bucket, now, taken = TokenBucket(20, 8, START), START, 0
    for pause in pauses:
        now += pause
        if bucket.wait(now) == 0:
            bucket.take(now)
            taken += 1
        assert taken <= 8 + 20 * (now - START) + 1e-6


def tell(pace: WatchPace, kind: str, now: float, watchers: int = 1) -> float:
    """Notes a change and reads the job when that is due; returns when that was."""
    pace.note(kind, now, watchers)
    due = pace.due
    pace.begin(max(now, due), watchers)
    assert pace.due == math.inf
    return due


def test_commits_are_due_at_once_while_there_are_tokens_and_then_at_the_rate() -> None:
    pace, now = WatchPace(START), START
    for _ in range(int(BURST)):
        assert tell(pace, "committed", now) == now
    for _ in range(5):
        assert not pace.is_free(now)
        due = tell(pace, "committed", now)
        assert due == pytest.approx(now + 1 / RATE)
        now = due


@pytest.mark.parametrize("kind", ["ready", "leased", "progressed"])
def test_minor_changes_take_no_token_from_commits(kind: str) -> None:
    pace, now = WatchPace(START), START
    for _ in range(100):
        due = tell(pace, kind, now)
        # By itself, such a change waits for what may come after it.
        assert due == now + 1 / RATE
    for _ in range(int(BURST)):
        assert tell(pace, "committed", now) == now


def test_a_minor_change_rides_along_with_a_commit() -> None:
    pace = WatchPace(START)
    pace.note("leased", START, 1)
    assert pace.note("committed", START + 0.01, 1)
    assert pace.due == START + 0.01
    assert not pace.note("progressed", START + 0.01, 1)
    pace.begin(START + 0.01, 1)
    assert pace.due == math.inf


def test_the_end_is_due_at_once_whatever_there_is() -> None:
    pace = WatchPace(START)
    for _ in range(int(BURST)):
        tell(pace, "committed", START)
    pace.note("committed", START, 1)
    assert pace.due > START
    pace.note("ended", START, 1)
    assert pace.due == START


def test_a_reading_that_goes_along_with_a_commit_takes_its_token() -> None:
    pace = WatchPace(START)
    for _ in range(int(BURST)):
        assert pace.is_free(START)
        pace.begin(START, 1, commit=True)
    assert not pace.is_free(START)


@pytest.mark.parametrize("tokens", [1, 4, 40])
def test_messages_to_very_many_come_more_slowly(tokens: int) -> None:
    watchers = WATCHERS_A_TOKEN * tokens
    pace, now, told = WatchPace(START), START, 0
    while now < START + 100:
        now = max(now, tell(pace, "committed", now, watchers))
        told += 1
    assert told * watchers == pytest.approx(100 * RATE * WATCHERS_A_TOKEN, rel=0.05)
    assert tell(pace, "leased", now, watchers) == now + tokens / RATE
