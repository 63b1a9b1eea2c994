"""How many lines go into one write, and how those are found that no database will take."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from cloudburst.errors import PointsError

BATCH_BYTES = 1 << 19
"""Bytes per write: about the 5,000 lines that InfluxDB likes best."""


class Malformed(PointsError):
    """The database will never take these lines; or, if ``partly``, not all of them: it has taken the rest."""

    @property
    def partly(self) -> bool:
        return bool(_PARTLY.search(str(self)))


_PARTLY = re.compile(r"\bpartial write\b|\bdropped[ =][0-9]+")
"""InfluxDB's words for types that conflict, and for times that are not kept."""


def sift(
    pieces: Sequence[bytes], write: Callable[[bytes], None], *, most: float = math.inf
) -> Iterator[tuple[range, str]]:
    """Write ``pieces`` in order, as many together as make a batch; what is malformed is found by halving.

    After ``most`` refusals, pieces of which the database has taken a part count as refused together.

    Yields which of them were taken, with "", or refused for good, with the database's reason; those before
    were yielded before. An Away that ``write`` raises passes through: what was not yielded is undecided.
    """
    begin, together, refusals = 0, len(pieces), 0
    while begin < len(pieces):
        batch = first_batch(islice(pieces, begin, begin + together))
        reason = ""
        try:
            write(b"".join(batch))
        except Malformed as error:
            refusals += 1
            if len(batch) > 1 and not (error.partly and refusals > most):
                together = len(batch) // 2
                continue
            reason = str(error)
        yield range(begin, begin + len(batch)), reason
        begin += len(batch)
        together = 2 * len(batch)


def first_batch(pieces: Iterable[bytes]) -> list[bytes]:
    """As many of ``pieces`` as go into one write; at least one, if there is one."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if batch and size > BATCH_BYTES:
            break
        batch.append(piece)
    return batch
