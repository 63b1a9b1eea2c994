"""The commands for what jobs left behind: results, failures, logs."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator

import click
from rich.cells import cell_len

from cloudburst.cli import tables
from cloudburst.cli.options import stack_option
from cloudburst.console import document, echo
from cloudburst.ensemble import Ensemble, Stack
from cloudburst.errors import ConfigError
from cloudburst.model import FailureGroup
from cloudburst.pace import broken_off

LISTED = 20
CELL_WIDTH = 32

LESS_TELLING = frozenset({"node", "started_at", "attempt", "fingerprint"})
"""Columns that are left out of the table on the terminal, not of files."""


@click.command()
@click.argument("name", metavar="ENSEMBLE")
@click.option("--csv", "csv_file", metavar="FILE", help="Write CSV; - for stdout.")
@click.option(
    "--spreadsheet", is_flag=True,
    help="With --csv: put ' before texts that a spreadsheet would run (= + - @ first).",
)  # fmt: skip
@click.option("--parquet", "parquet_file", metavar="FILE", help="Write Parquet.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON Lines to stdout.")
@stack_option
def results(
    name: str,
    *,
    csv_file: str | None,
    spreadsheet: bool,
    parquet_file: str | None,
    as_json: bool,
    stack_name: str | None,
) -> None:
    """Show what the jobs returned beside their parameters: the first rows, or everything into a file.

    \b
    cloudburst results floods
    cloudburst results floods --parquet floods.parquet
    cloudburst results floods --json | jq .value.peak
    """
    ensemble = Stack.connect(stack_name).ensemble(name)
    found = ensemble.results()
    if parquet_file:
        with _written(parquet_file):
            echo(f"{parquet_file}: {found.to_parquet(parquet_file):,} rows", err=True)
    if csv_file == "-":
        found.to_csv(document(), spreadsheet=spreadsheet)
    elif csv_file:
        with _written(csv_file):
            count = found.to_csv(csv_file, spreadsheet=spreadsheet)
            echo(f"{csv_file}: {count:,} rows", err=True)
    if as_json:
        found.to_json_lines(document())
    status = ensemble.status()
    if not (parquet_file or csv_file or as_json):
        columns, rows = found.head(LISTED)
        _print_rows(columns, rows)
        echo(f"{len(rows):,} of {status.ended:,} results; all: --csv FILE, --parquet FILE, --json", err=True)
    _tell_mix(ensemble)
    for warning in status.warnings:
        echo(f"warning: {warning}", err=True)
    if status.state == "submitting":
        more = broken_off(status, time.time()) or f"{status.id} is still being submitted: more jobs will come"
        echo(more, err=True)


def _tell_mix(ensemble: Ensemble) -> None:
    """Say so if not all records come from the same payload."""
    counts = Counter[str]()
    for ran_on, by_state in ensemble.provenance():
        counts[ran_on.payload] += sum(by_state.values())
    if len(counts) > 1:
        parts = ", ".join(f"{count:,} from {payload[:12]}" for payload, count in counts.items())
        echo(f"results of {len(counts)} payloads ({parts}): see the column payload", err=True)


@contextlib.contextmanager
def _written(target: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written ({error.strerror})") from error


def _print_rows(columns: list[str], rows: list[list[object]]) -> None:
    cells = {
        name: [_cell(row[number]) for row in rows]
        for number, name in enumerate(columns)
        if name not in LESS_TELLING
    }
    told = [name for name, texts in cells.items() if any(texts)]
    console = tables.console()
    # Not console.is_terminal: that can be forced from outside, and a pipe is to get all.
    widest = CELL_WIDTH if sys.stdout.isatty() else tables.WIDE
    shown = _fitting(told, cells, console.width, widest)
    table = tables.table()
    for name in shown:
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=widest)
    for texts in zip(*(cells[name] for name in shown), strict=True):
        table.add_row(*texts)
    console.print(table)
    if len(shown) < len(told):
        echo(f"columns that did not fit: {', '.join(told[len(shown) :])}", err=True)


def _fitting(names: list[str], cells: dict[str, list[str]], width: int, widest: int) -> list[str]:
    """The first columns that fit side by side; at least one."""
    shown: list[str] = []
    used = 0
    for name in names:
        used += min(max(map(cell_len, [name, *cells[name]])), widest) + 2
        if shown and used - 1 > width:
            break
        shown.append(name)
    return shown


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).splitlines())


@click.command()
@click.argument("name", metavar="ENSEMBLE")
@stack_option
def failures(name: str, stack_name: str | None) -> None:
    """Show failed jobs by kind: how many, and for one of each the traceback and what it printed.

    \b
    cloudburst failures floods
    """
    ensemble = Stack.connect(stack_name).ensemble(name)
    groups = ensemble.failures()
    if not groups:
        echo(f"no failed jobs in {ensemble.id}", err=True)
        return
    for group in groups:
        _print_group(group)
    one_kind = f" [--fingerprint {groups[0].fingerprint}]" if len(groups) > 1 else ""
    echo(f"run them again: cloudburst retry {ensemble.id}{one_kind}", err=True)


def _print_group(group: FailureGroup) -> None:
    echo(f"{group.count:,} × {group.error}", bold=True)
    echo(f"fingerprint {group.fingerprint}, such as job {group.index} ({group.job_id})")
    echo(f"description {json.dumps(group.description)}")
    if group.traceback and group.traceback.strip() != group.error.strip():
        echo(f"\n{group.traceback.rstrip()}")
    if group.output.strip():
        echo(f"\nIt printed:\n{group.output.rstrip()}")
    echo()


@click.command()
@click.argument("job_id", metavar="JOB")
@stack_option
def logs(job_id: str, stack_name: str | None) -> None:
    """Show the end of what a job has printed, while it runs or after it failed.

    JOB is its id: the ensemble's id, a dash and the job's index.

    \b
    cloudburst logs floods-3k9x1c-17
    """
    text = Stack.connect(stack_name).output(job_id)
    if text:
        echo(text, nl=not text.endswith("\n"))
    else:
        echo(f"{job_id} has printed nothing so far, or it has finished: that output is not kept", err=True)
