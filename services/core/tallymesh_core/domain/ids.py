"""Ids of jobs: short, in order of time, and telling the shard on which the job lives."""

import secrets
import time

# Crockford's base 32: no letters that are taken for digits.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS, _RANDOM_DIGITS, _SHARD_DIGITS = 9, 5, 2
#: Length of an id.
LENGTH = _TIME_DIGITS + _RANDOM_DIGITS + _SHARD_DIGITS


def new_job_id(shard: int) -> str:
    """Makes an id for a job on a shard.

    Ids sort by the millisecond at which they were made, which is what makes lists of jobs cheap.
    """
    ms = time.time_ns() // 1_000_000
    noise = secrets.randbits(5 * _RANDOM_DIGITS)
    return (
        _encode(ms, _TIME_DIGITS) + _encode(noise, _RANDOM_DIGITS) + _encode(shard, _SHARD_DIGITS)
    )


def shard_of_job(job_id: str) -> int | None:
    """Returns the shard of a job, or None if that is no id that new_job_id makes."""
    if len(job_id) != LENGTH or any(digit not in _ALPHABET for digit in job_id):
        return None
    high, low = (_ALPHABET.index(digit) for digit in job_id[-_SHARD_DIGITS:])
    return high * 32 + low


def _encode(number: int, digits: int) -> str:
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(digits)))
