"""What a person sees while an ensemble runs: a bar on a terminal, one text in a notebook, lines in a log."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from cloudburst.console import Terminal
from cloudburst.ensemble.collecting import Collecting
from cloudburst.ensemble.ensemble import Ensemble
from cloudburst.errors import EnsembleError
from cloudburst.model import EnsembleStatus, FailureGroup
from cloudburst.pace import Pace, broken_off, sentence
from cloudburst.terminal import harmless

POLL_S = 0.25
LINE_S = 5.0
"""Plain lines come at most so often."""

QUIET_S = ((600.0, 60.0), (float("inf"), 600.0))
"""A line comes each minute in the first ten, then each ten, even if not one more percent is done."""

GROUPS_SHOWN = 10


def follow(
    ensemble: Ensemble, console: Console | None = None, *, collecting: Collecting | None = None
) -> EnsembleStatus:
    """Show on stderr how the ensemble goes until all its jobs have ended; returns the last status.

    On a terminal a bar with rate and time left; in a notebook one text that changes in its place; elsewhere
    a line at each further percent, and now and then when that takes long. Failed jobs are summed up at the
    end. Raises EnsembleError when no job of the ensemble could run. It may be interrupted at any time: the
    ensemble goes on. With ``collecting`` it also returns when the stack ends.
    """
    console = console or Terminal(stderr=True)
    pace, slots = Pace(), _Slots(ensemble)
    view: _View = _Bar(console) if console.is_terminal else _Cell() if console.is_jupyter else Lines(console)
    with view:
        while True:
            status = ensemble.status()
            pace.observe(status, time.time())
            view.show(status, sentence(status, pace, slots.now(status)))
            if status.complete or (collecting and collecting.ends):
                break
            time.sleep(POLL_S)
    if status.state == "failed":
        raise EnsembleError(f"{status.id}: no job of it can run: {status.error}")
    if not status.complete:
        left = f"the stack ends: {status.total - status.ended:,} jobs of {status.id} have not been run"
        console.print(left, markup=False, highlight=False, soft_wrap=True)
    _sum_up(ensemble, status, console)
    return status


def failure_lines(groups: list[FailureGroup]) -> list[str]:
    """One line per group: how many, what, and the job that is the example."""
    lines = []
    for group in groups[:GROUPS_SHOWN]:
        error = group.error.partition("\n")[0] or group.fingerprint
        lines.append(f"{group.count:>7,} × {harmless(error)} (such as job {group.index})")
    more = len(groups) - GROUPS_SHOWN
    return [*lines, f"        and {more} more kinds"] if more > 0 else lines


def _sum_up(ensemble: Ensemble, status: EnsembleStatus, console: Console) -> None:
    lines = [f"warning: {harmless(warning)}" for warning in status.warnings]
    if status.failed:
        lines += [f"{status.failed:,} of {status.total:,} jobs failed:", *failure_lines(ensemble.failures())]
        lines += [
            f"`cloudburst failures {status.id}` shows tracebacks and output, "
            f"`cloudburst retry {status.id}` runs them again"
        ]
    if lines:  # at once: a notebook makes a block of each print
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


class _Slots:
    """How many jobs can run at a time; asked for now and then while jobs run."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self._count = 0
        self._next = 0.0

    def now(self, status: EnsembleStatus) -> int:
        if status.running and time.monotonic() >= self._next:
            self._count = self._ensemble.slots()
            self._next = time.monotonic() + LINE_S
        return self._count


class _View(Protocol):
    def __enter__(self) -> object: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, status: EnsembleStatus, line: str) -> None: ...


class _Bar:
    """A bar that is redrawn in its place, with the note of the workers below it."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None, complete_style="green", finished_style="green"),
            TaskProgressColumn(),
            console=console,
            expand=True,
        )
        self._task = self._progress.add_task("", total=None)
        self._live = Live(console=console, refresh_per_second=8)

    def __enter__(self) -> _Bar:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, status: EnsembleStatus, line: str) -> None:
        self._progress.update(
            self._task, description=status.id, total=status.total or None, completed=status.ended
        )
        below = [Text(line, style="red" if status.failed else "")]
        if status.note:
            below.append(Text(harmless(status.note), style="yellow"))
        below += [Text(harmless(warning), style="yellow") for warning in status.warnings]
        if warning := broken_off(status, time.time()):
            below.append(Text(warning, style="yellow"))
        self._live.update(Group(self._progress, *below), refresh=True)


class _Open:
    """What needs neither a beginning nor an end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class _Cell(_Open):
    """One output of a notebook's cell, which changes in its place."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._last = ""

    def show(self, status: EnsembleStatus, line: str) -> None:
        notes = (status.note, *status.warnings, broken_off(status, time.time()))
        text = "\n".join([f"{status.id}: {line}", *(harmless(note) for note in notes if note)])
        if text == self._last:
            return
        self._last = text
        shown = {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"}
        if self._handle is None:
            from IPython.display import display  # is there wherever a notebook is

            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


class Lines(_Open):
    """Lines for a log: when the note changes, at each further percent or now and then, and at the end.

    ``clock`` gives seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._began = clock()
        self._last = ("", "")
        self._printed = float("-inf")
        self._percent = 0
        self._warned = False

    def show(self, status: EnsembleStatus, line: str) -> None:
        now = self._clock()
        if status.note and status.note != self._last[1]:
            self._print(f"{status.id}: {harmless(status.note)}")
            self._last = (self._last[0], status.note)
        warning = broken_off(status, time.time())
        if warning and not self._warned:
            self._print(warning)
        self._warned = bool(warning)
        percent = 100 * status.ended // max(status.total, 1)
        if line != self._last[0] and (status.complete or self._is_due(now, percent)):
            self._print(f"{status.id}: {line}")
            self._last = (line, status.note)
            self._printed, self._percent = now, percent

    def _is_due(self, now: float, percent: int) -> bool:
        quiet_s = next(wait for until, wait in QUIET_S if now - self._began < until)
        return now - self._printed >= (LINE_S if percent != self._percent else quiet_s)

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
