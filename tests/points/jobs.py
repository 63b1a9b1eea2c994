"""The points of numbered jobs; every 13th writes nonsense."""

from __future__ import annotations

POINTS_PER_JOB = 3


def is_bad(number: int) -> bool:
    return number % 13 == 5


def values_of(number: int) -> set[float]:
    return {float(number * POINTS_PER_JOB + i) for i in range(POINTS_PER_JOB)}


def lines_of(number: int) -> bytes:
    if is_bad(number):
        return b"this is no line protocol %d\n" % number
    return b"".join(b"m v=%d %d\n" % (value, value + 1) for value in sorted(map(int, values_of(number))))
