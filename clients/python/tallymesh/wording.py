"""Numbers and times as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration


def counted(value: int, thing: str) -> str:
    """Returns "1 chunk", "2 chunks"."""
    return f"{value:,} {thing}{'' if value == 1 else 's'}"


def grouped(decimal: str) -> str:
    """Returns a plain decimal with separators in its whole part."""
    sign = "-" if decimal.startswith("-") else ""
    whole, point, fraction = decimal.removeprefix("-").partition(".")
    groups = [whole[max(end - 3, 0) : end] for end in range(len(whole), 0, -3)]
    return f"{sign}{','.join(reversed(groups))}{point}{fraction}"


def duration(seconds: float) -> str:
    """Returns a time at the precision that a person wants: "0.4 ms", "12.3 s", "2 h 05 min"."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.{0 if seconds >= 0.00995 else 1}f} ms"
    if seconds < 59.95:
        return f"{seconds:.{1 if seconds >= 9.995 else 2}f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def seconds_of(value: Duration) -> float:
    """Returns a protobuf duration in seconds."""
    return value.seconds + value.nanos / 1e9
