"""Ids of jobs: short, in order of time, and telling the shard on which the job lives."""

import secrets
import time

# Crockford's base 32: no letters that are taken for digits.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {digit: value for value, digit in enumerate(_ALPHABET)}
_DIGITS = frozenset(_ALPHABET)
_TIME_DIGITS, _RANDOM_DIGITS, _SHARD_DIGITS = 9, 5, 2
#: Length of an id.
LENGTH = _TIME_DIGITS + _RANDOM_DIGITS + _SHARD_DIGITS


def new_job_id(shard: int) -> str:
    """Makes an id for a job on a shard.

    Ids sort by the millisecond at which they were made, which is what makes lists of jobs cheap.
    """
    ms = time.time_ns() // 1_000_000
    noise = secrets.randbits(5 * _RANDOM_DIGITS)
    return _encode((ms << 5 * _RANDOM_DIGITS | noise) << 5 * _SHARD_DIGITS | shard, LENGTH)


def first_id_of(ms: int) -> str:
    """Returns what sorts before all ids made at a time or later, and after all made earlier."""
    return _encode(max(0, ms) << 5 * (_RANDOM_DIGITS + _SHARD_DIGITS), LENGTH)


def shard_of_job(job_id: str) -> int | None:
    """Returns the shard of a job, or None if that is no id that new_job_id makes."""
    if len(job_id) != LENGTH or not _DIGITS.issuperset(job_id):
        return None
    return _VALUES[job_id[-2]] * 32 + _VALUES[job_id[-1]]


def _encode(number: int, digits: int) -> str:
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(digits)))
