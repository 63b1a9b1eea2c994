"""What all benchmarks share: the ways to do a thing in turn, the document of a run, the machine and versions.

A benchmark measures its *ways* (``cloudburst`` and the peers) in turn in one run: the machine's mood changes
from minute to minute, so values of one round are compared with each other, and the ratios are what counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"

Values = Mapping[str, float]
"""What one round of one way gave: quantity to value, such as ``{"jobs/s": 1234.5}``."""
Runs = dict[str, dict[str, list[float]]]
"""Way to quantity to one value per round."""


@dataclass(frozen=True)
class Goal:
    """One line of the table: what ``ours`` should reach in one quantity."""

    row: str
    """What the line is called."""
    quantity: str
    must: float | None = None
    stretch: float | None = None
    ours: str = "cloudburst"
    """The way that is ours."""
    of: str = ""
    """``must`` and ``stretch`` are ratios to that way; "": they are values of the quantity itself."""
    higher: bool = True
    """Whether more is better."""
    peers: Sequence[str] | None = None
    """Ways that it is compared with; None: all others that have the quantity."""


def arguments(doc: str | None, *, jobs: int, repeats: int = 3) -> argparse.ArgumentParser:
    """A parser with what every benchmark understands; ``doc`` is its docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=jobs, help=f"per round of cloudburst ({jobs:,})")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"rounds ({repeats})")
    return parser


def interleave(ways: Mapping[str, Callable[[], Values]], repeats: int) -> Runs:
    """Measure every way once per round. Each round begins with another one, so none always comes after
    the same neighbour."""
    runs: Runs = {name: {} for name in ways}
    names = list(ways)
    for number in range(repeats):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            values = ways[name]()
            for quantity, value in values.items():
                runs[name].setdefault(quantity, []).append(value)
            shown = "  ".join(f"{value:,.4g} {quantity}" for quantity, value in values.items())
            print(f"round {number + 1}: {name:24} {shown}", file=sys.stderr, flush=True)
    return runs


def ratios(goal: Goal, runs: Runs) -> dict[str, float]:
    """Ours to each peer in the goal's quantity: medians of the ratios within each round."""
    ours = runs[goal.ours][goal.quantity]
    names = [n for n in runs if n != goal.ours] if goal.peers is None else list(goal.peers)
    return {
        name: statistics.median(a / b for a, b in zip(ours, runs[name][goal.quantity], strict=True) if b)
        for name in names
        if goal.quantity in runs.get(name, {})
    }


def report(
    name: str,
    goals: Sequence[Goal],
    runs: Runs,
    options: argparse.Namespace,
    *,
    versions: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write ``results/<name>.json`` and print its part of the table.

    ``versions`` are those of programs and of packages outside this environment; ``facts`` is what else was
    measured, such as a curve.
    """
    document = {
        "name": name,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": packages("cloudburst", "rq", "redis") | dict(versions or {}),
        "options": {key: value if _plain(value) else str(value) for key, value in vars(options).items()},
        "goals": [asdict(goal) for goal in goals],
        "runs": runs,
        "median": {way: {q: statistics.median(v) for q, v in values.items()} for way, values in runs.items()},
        "ratios": {f"{goal.row} [{goal.ours}]": ratios(goal, runs) for goal in goals},
        "facts": dict(facts or {}),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    print(table([document]))


def _plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def machine() -> dict[str, Any]:
    """What the numbers depend on: processors, memory, system, and what else was going on."""
    return {
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def packages(*names: str) -> dict[str, str]:
    """Versions of those that are installed here."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# -- the table -----------------------------------------------------------------------------------------

HEAD = ("", "ours", "must", "stretch", "", "peer", "its value", "ours / peer")


def table(documents: Iterable[Mapping[str, Any]]) -> str:
    """Goals of those documents, one line each, with a line more for each further peer."""
    rows = [HEAD]
    for document in documents:
        for raw in document["goals"]:
            rows += _lines(Goal(**raw), document["runs"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = []
    for row in rows:
        cells = [
            text.ljust(width) if column in {0, 4, 5} else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _lines(goal: Goal, runs: Runs) -> list[tuple[str, ...]]:
    if goal.quantity not in runs.get(goal.ours, {}):
        return []
    ours = statistics.median(runs[goal.ours][goal.quantity])
    compared = ratios(goal, runs)
    what = f"{goal.row} ({goal.ours})" if goal.ours != "cloudburst" else goal.row
    suffix = f" × {goal.of}" if goal.of else ""
    head = [f"{what}, {goal.quantity}", number(ours)]
    head += ["–" if bound is None else number(bound) + suffix for bound in (goal.must, goal.stretch)]
    head.append(verdict(goal, compared.get(goal.of, 0.0) if goal.of else ours))
    lines = []
    for peer, ratio in compared.items():
        value = statistics.median(runs[peer][goal.quantity])
        lines.append((*(head if not lines else [""] * 5), peer, number(value), f"{ratio:.3g}"))
    return lines or [(*head, "–", "", "")]


def verdict(goal: Goal, value: float) -> str:
    """Which of the two bounds the value reaches."""

    def reaches(bound: float | None) -> bool:
        return bound is not None and (value >= bound if goal.higher else value <= bound)

    if goal.must is None and goal.stretch is None:
        return ""
    return "stretch" if reaches(goal.stretch) else "must" if reaches(goal.must) else "MISSED"


def number(value: float) -> str:
    """Three or four digits that count: 0.0712, 13.9, 4,210."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
