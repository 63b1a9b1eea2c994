"""How many series of points each ensemble has: counted in Redis, for all workers together.

A series is known if its ensemble's set has it, a number of 40 bits made from its name: so a retry and other
workers know it, too, and the limit of the stack bounds the set (some 60 bytes each). When there are 100,000,
one in ten million new ones counts as known by mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.scripts import Asking, Scripts

Labels = tuple[tuple[str, str], ...]
"""What tells a series from others: its tags, each with its value; the measurement is that of the tag ""."""

TOGETHER = 1000
"""Series per script call: a millisecond or two of Redis' time."""

LOOKED_AT = 32
"""Values are counted for the first tags of a series, up to this number."""

MOST_TAGS = 16
"""Values are counted for this number of an ensemble's tags, so that the one with most can be named."""

TAG_CHARS = 100
"""Of a longer tag's name, the beginning counts."""


class Counted(NamedTuple):
    """What Redis says about some series of one ensemble."""

    refused: list[bool]
    """Of each, whether it would be one too many."""
    tag: str
    """The tag that has most values, if some are refused; "" is the measurement."""


class SeriesCounts:
    """The counts of all ensembles."""

    def __init__(self, client: Redis, limit: int) -> None:
        """``limit``: series that an ensemble may have."""
        self.limit = limit
        self._scripts = Scripts(client)

    def count(self, several: Mapping[str, Iterable[Labels]]) -> dict[str, Counted]:
        """Add series to their ensembles as far as there is room, in one round trip.

        Those of an ensemble that does not exist are neither counted nor refused. Raises what redis-py raises.
        """
        ensembles: list[str] = []
        asking = []
        for ensemble, series in several.items():
            rest = iter(series)
            while (question := self._question(ensemble, islice(rest, TOGETHER))) is not None:
                ensembles.append(ensemble)
                asking.append(_counting(*question))
        found = {ensemble: Counted([], "") for ensemble in several}
        for ensemble, answer in zip(ensembles, self._scripts.ask(*asking), strict=True):
            before = found[ensemble]
            found[ensemble] = Counted(before.refused + answer.refused, answer.tag or before.tag)
        return found

    def _question(self, ensemble: str, series: Iterable[Labels]) -> tuple[list[str | int], str] | None:
        """Arguments of the script, and the tag that has most values here; None if there are no series."""
        numbers: list[int] = []
        values: dict[str, set[int]] = {}
        for labels in series:  # one at a time: it may have thousands
            numbers.append(_number(repr(labels)))
            for name, value in labels[:LOOKED_AT]:
                values.setdefault(name[:TAG_CHARS], set()).add(_number(value))
        if not numbers:
            return None
        names = sorted(values, key=lambda name: (-len(values[name]), name))[:MOST_TAGS]
        args: list[str | int] = [ensemble, self.limit, MOST_TAGS, len(numbers), *numbers]
        for name in names:
            args += [name, len(values[name]), *values[name]]
        return args, names[0]


def _counting(args: list[str | int], tag: str) -> Asking[Counted]:
    may, known = yield "series", args
    if known is not None:
        tag = encoding.text(known)
    return Counted([mark == ord("0") for mark in may], tag if b"0" in may else "")


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=5).digest())
