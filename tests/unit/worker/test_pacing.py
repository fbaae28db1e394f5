"""A worker's pacing, decided without a clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallymesh_worker import pacing

HORIZON = pacing.HORIZON_SECONDS


def test_a_mean_begins_with_the_first_measurement_and_follows_the_newest() -> None:
    assert pacing.blended(None, 3.0) == 3.0
    mean = 8.0
    for _ in range(20):
        mean = pacing.blended(mean, 2.0)
    assert mean == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize(
    ("duration", "elapsed", "seconds"),
    [
        (1.0, 0.2, 0.8),
        (1.0, 1.5, 0.0),  # a little late: about to end
        (1.0, 2.5, 2.5),  # unlike the others
        (None, HORIZON, 0.0),
        (None, 2 * HORIZON, math.inf),
    ],
)
def test_what_a_chunk_still_needs(duration: float | None, elapsed: float, seconds: float) -> None:
    assert pacing.remaining(duration, elapsed) == pytest.approx(seconds)


def test_a_result_without_company_in_sight_does_not_wait() -> None:
    assert pacing.patience(0.25, []) == 0
    # One slot: its next result comes a whole chunk later.
    for duration in (0.001, 0.02, 0.25, 60.0):
        assert pacing.patience(duration, [duration]) == 0


def test_a_result_waits_for_another_that_is_about_to_come() -> None:
    assert 0.002 <= pacing.patience(0.25, [3.0, 0.002]) <= pacing.BATCH_SECONDS
    assert pacing.patience(0.25, [pacing.BATCH_SECONDS * 1.01]) == 0


@given(st.floats(1e-7, 3600), st.lists(st.floats(0, 3600), max_size=8))
def test_no_result_waits_beyond_half_its_chunk_or_a_batch(
    duration: float, ends: list[float]
) -> None:
    waits = pacing.patience(duration, ends)
    assert waits <= max(pacing.TOGETHER_SECONDS, min(duration / 2, pacing.BATCH_SECONDS))
    # While it waits, something comes.
    assert waits == 0 or min(ends) <= waits


def test_batches_shrink_as_work_runs_out() -> None:
    sizes, waiting = [], 5000
    while waiting:
        sizes.append(min(waiting, pacing.batch_size(waiting, 2, duration=1e-5)))
        waiting -= sizes[-1]
    assert sizes[0] == pytest.approx(pacing.BATCH_SECONDS / 1e-5, abs=1)
    # But for the last, which is what is left.
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)
    assert min(sizes[:-1]) == pytest.approx(pacing.WORTHWHILE_SECONDS / 1e-5, abs=1)


@pytest.mark.parametrize("duration", [0.02, 5.0])
def test_long_chunks_are_sent_one_by_one(duration: float) -> None:
    assert pacing.batch_size(1000, 2, duration) == 1


def fit(
    *waiting: tuple[int, float | None],
    loads: tuple[float, ...] = (0.0, 0.0),
    horizon: float = HORIZON,
    unknown: int = 0,
    typical: float | None = None,
) -> tuple[list[int], int]:
    return pacing.fit(waiting, loads, horizon, unknown=unknown, typical=typical)


def test_room_is_one_chunk_a_slot_and_some_while_their_length_is_unknown() -> None:
    assert fit() == ([], 2 + pacing.UNKNOWN_CHUNKS)
    assert fit(unknown=16) == ([], 0)
    assert fit((6, None)) == ([6], 10)


def test_room_is_what_can_be_begun_within_the_horizon() -> None:
    assert fit(typical=10.0) == ([], 2)
    assert fit(typical=10.0, loads=(0.0, 8.0)) == ([], 1)
    assert fit(typical=10.0, loads=(7.0, 8.0)) == ([], 0)
    assert fit(typical=HORIZON / 5) == ([], 12)
    assert fit(typical=1e-9) == ([], pacing.MAX_ROOM)


def test_chunks_that_turn_out_too_long_are_not_kept() -> None:
    assert fit((5, 1.0)) == ([2], 0)
    assert fit((1, 1.0), (3, 1.0), (4, 0.001)) == ([1, 1, 0], 0)
    assert fit((5, 1.0), loads=(math.inf, 2.0)) == ([0], 0)


@given(
    st.lists(st.tuples(st.integers(1, 500), st.one_of(st.none(), st.floats(1e-6, 10)))),
    st.lists(st.floats(0, 1), max_size=6),
    st.floats(0.001, 0.2),
    st.integers(0, 30),
    st.one_of(st.none(), st.floats(1e-6, 10)),
)
def test_what_is_kept_is_a_beginning_of_what_waits(
    waiting: list[tuple[int, float | None]],
    loads: list[float],
    horizon: float,
    unknown: int,
    typical: float | None,
) -> None:
    sizes, room = pacing.fit(waiting, loads, horizon, unknown=unknown, typical=typical)
    cut = [size < count for size, (count, _) in zip(sizes, waiting, strict=True)]
    if True in cut:
        # More is asked for only by those who can begin all that they have.
        assert room == 0
        assert not any(sizes[cut.index(True) + 1 :])
    assert 0 <= room <= pacing.MAX_ROOM


def test_pauses_double_up_to_a_bound_that_a_store_that_is_back_can_bear() -> None:
    longest = [pacing.pause(attempt, 1.0) for attempt in range(12)]
    assert longest[:3] == [
        pacing.PAUSE_SECONDS,
        2 * pacing.PAUSE_SECONDS,
        4 * pacing.PAUSE_SECONDS,
    ]
    assert max(longest) == pacing.MAX_PAUSE_SECONDS
    assert pacing.pause(3, 0.0) == longest[3] / 2


def test_a_waiting_call_is_held_off_while_quick_results_are_on_their_way() -> None:
    lull = pacing.Lull()
    assert lull.end == 0
    lull.note_chunks(100.0)
    assert lull.end == 100.0 + pacing.LULL_SECONDS
    lull.note_nothing(100.5, waited=None)
    assert lull.end == 0


def test_a_gateway_that_does_not_let_calls_wait_is_called_less_often() -> None:
    lull = pacing.Lull()
    quick = pacing.QUICK_SECONDS / 2
    for _ in range(pacing.MAX_QUICK_ANSWERS):
        lull.note_nothing(7.0, waited=quick)
        assert lull.end == 0
    lull.note_nothing(7.0, waited=quick)
    assert lull.end == 7.0 + pacing.PAUSE_SECONDS
    # One that has waited after all makes up for it.
    lull.note_nothing(8.0, waited=1.0)
    assert lull.end == 0
    lull.note_nothing(9.0, waited=quick)
    assert lull.end == 0


def test_after_a_refusal_the_next_call_is_held_off() -> None:
    lull = pacing.Lull()
    lull.note_refusal(7.0)
    assert lull.end == 7.0 + pacing.PAUSE_SECONDS
