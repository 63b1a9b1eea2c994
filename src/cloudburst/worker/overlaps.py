"""Notices when jobs of one ensemble overwrite each other's points."""

from __future__ import annotations

from collections.abc import Mapping

MOST_ENSEMBLES = 100
MOST_SERIES = 1000
"""Of each ensemble; of further ones nothing is noticed."""


class Overlaps:
    """Remembers, of each series, which job of the ensemble wrote it last here, and for which times."""

    def __init__(self) -> None:
        self._ensembles: dict[str, dict[int, tuple[int, int, int]]] = {}
        """Index, first and last time (ns) by the hash of the series, whose name may be long."""

    def observe(self, ensemble: str, index: int, series: Mapping[str, tuple[int, int]]) -> str:
        """A job has written those series at those times; the warning that this calls for, or ""."""
        known = self._ensembles.pop(ensemble, {})
        if len(self._ensembles) >= MOST_ENSEMBLES:
            del self._ensembles[next(iter(self._ensembles))]
        self._ensembles[ensemble] = known
        warning = ""
        for name, (first, last) in series.items():
            key = hash(name)
            before = known.get(key)
            if before is not None and before[0] != index and first <= before[2] and before[1] <= last:
                warning = warning or _warning(name, *sorted((before[0], index)))
            if before is not None or len(known) < MOST_SERIES:
                known[key] = (index, first, last)
        return warning


def _warning(series: str, one: int, other: int) -> str:
    shown = series if len(series) <= 200 else series[:200] + "..."
    return (
        f"jobs {one} and {other} wrote the same series {shown} at the same times: "
        f"only the later values are kept; give each job a tag of its own"
    )
