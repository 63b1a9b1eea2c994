"""The commands for ensembles: submit, status, watch, results, failures, retry, cancel, logs."""

from __future__ import annotations

import sys
import time
from datetime import datetime

import click
from rich.console import Console
from rich.table import Table

from cloudburst.cli import job_files
from cloudburst.cli.options import Duration, stack_option
from cloudburst.ensemble import Ensemble, Stack
from cloudburst.ensemble.pace import Pace, sentence
from cloudburst.ensemble.progress import follow
from cloudburst.model import EnsembleStatus, FailureGroup

EXIT_FAILURES = 1
LISTED = 20

ensemble_argument = click.argument("name", metavar="ENSEMBLE")


@click.command()
@click.argument("name")
@click.option(
    "-p", "--payload", required=True, metavar="DIR|ZIP|DIGEST", help="The code: see docs/payloads.md."
)
@click.option("-f", "--function", required=True, help="What to call for each job, such as worker.work.")
@click.option(
    "-j", "--jobs", default="-", metavar="FILE",
    help="Job descriptions: JSON Lines, .csv, module.py:name, or - for JSON Lines on stdin [default: -].",
)  # fmt: skip
@click.option(
    "--timeout", type=Duration(), metavar="TIME", help="Stop a job that runs longer: 90s, 15min, 2h."
)
@click.option(
    "--retries", type=click.IntRange(min=0), default=0, help="Run a job that failed again, so often."
)
@click.option(
    "--max-attempts", type=click.IntRange(min=1), default=3, show_default=True,
    help="Set a job aside that has taken its executor down so often.",
)  # fmt: skip
@click.option("-w", "--watch", "then_watch", is_flag=True, help="Watch it afterwards.")
@stack_option
def submit(
    name: str,
    *,
    payload: str,
    function: str,
    jobs: str,
    timeout: float | None,
    retries: int,
    max_attempts: int,
    then_watch: bool,
    stack_name: str | None,
) -> None:
    """Submit an ensemble. Prints its id; it runs whether anybody watches or not.

    \b
    cloudburst submit floods --payload model/ --function worker.work --jobs jobs.jsonl
    seq 100 | sed 's/.*/{"seed": &}/' | cloudburst submit floods -p model/ -f worker.work
    """
    began = time.monotonic()
    ensemble = Stack.connect(stack_name).submit(
        name,
        payload=payload,
        function=function,
        jobs=job_files.read(jobs),
        timeout_s=timeout,
        retries=retries,
        max_attempts=max_attempts,
    )
    total = ensemble.status().total
    click.echo(f"{total:,} jobs submitted in {time.monotonic() - began:.1f} s", err=True)
    click.echo(ensemble.id)
    if then_watch:
        _watch(ensemble)
    else:
        click.echo(f"see how it goes: cloudburst watch {ensemble.id}", err=True)


@click.command()
@click.argument("name", metavar="[ENSEMBLE]", required=False)
@stack_option
def status(name: str | None, stack_name: str | None) -> None:
    """Show all ensembles, or one in detail; the queue and the workers."""
    stack = Stack.connect(stack_name)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if name is None:
        ensembles = stack.ensembles()
        _print_ensembles(console, [ensemble.status() for ensemble in ensembles[:LISTED]])
        if len(ensembles) > LISTED:
            console.print(f"and {len(ensembles) - LISTED:,} older ones")
        console.print()
    else:
        _print_one(console, stack.ensemble(name).status())
    console.print(f"{stack.queue_depth():,} jobs wait in the queue")
    workers = stack.workers()
    for worker in workers:
        console.print(f"worker {worker.name}: {worker.busy} of {worker.slots} slots busy, {worker.state}")
    if not workers:
        console.print("no worker is running: jobs wait until one is (./buildstack.sh --local)")


def _print_ensembles(console: Console, statuses: list[EnsembleStatus]) -> None:
    if not statuses:
        console.print("no ensembles yet: cloudburst submit makes one")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("ensemble", "created", "state"):
        table.add_column(title, no_wrap=True, overflow="fold")
    for title in ("jobs", "waiting", "running", "finished", "failed", "cancelled"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in statuses:
        counts = (one.total, one.waiting, one.running, one.finished, one.failed, one.cancelled)
        table.add_row(one.id, _moment(one.created_at), _state(one), *(f"{count:,}" for count in counts))
    console.print(table)


def _print_one(console: Console, one: EnsembleStatus) -> None:
    pace = Pace()
    pace.observe(one, time.time())
    console.print(f"{one.id}: {_state(one)}, created {_moment(one.created_at)}")
    console.print(f"function  {one.function}")
    console.print(f"payload   {one.payload or 'the current worker.zip'}")
    console.print(f"jobs      {sentence(one, pace)}")
    for title, text in (("now", one.note), ("error", one.error)):
        if text:
            console.print(f"{title:<10}{text}")


def _state(one: EnsembleStatus) -> str:
    if one.state != "open":
        return one.state
    if one.complete:
        return "done"
    return "running" if one.running or one.ended else "waiting"


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s).astimezone().strftime("%m-%d %H:%M")


@click.command()
@ensemble_argument
@stack_option
def watch(name: str, stack_name: str | None) -> None:
    """Show how an ensemble goes until it is done; interrupt it and come back as you like.

    Exits with 0 when all jobs finished, with 1 when some failed or were cancelled.
    """
    _watch(Stack.connect(stack_name).ensemble(name))


def _watch(ensemble: Ensemble) -> None:
    try:
        last = follow(ensemble)
    except KeyboardInterrupt:
        click.echo(f"{ensemble.id} goes on; see it again with: cloudburst watch {ensemble.id}", err=True)
        raise
    if last.finished < last.total:
        sys.exit(EXIT_FAILURES)


@click.command()
@ensemble_argument
@click.option("--csv", "csv_file", metavar="FILE", help="Write CSV; - for stdout.")
@click.option("--parquet", "parquet_file", metavar="FILE", help="Write Parquet.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON Lines to stdout.")
@stack_option
def results(
    name: str, csv_file: str | None, parquet_file: str | None, as_json: bool, stack_name: str | None
) -> None:
    """Show what the jobs returned beside their parameters: the first rows, or everything into a file."""
    found = Stack.connect(stack_name).ensemble(name).results()
    if parquet_file:
        click.echo(f"{parquet_file}: {found.to_parquet(parquet_file):,} rows", err=True)
    if csv_file:
        rows = found.to_csv(sys.stdout if csv_file == "-" else csv_file)
        click.echo(f"{'stdout' if csv_file == '-' else csv_file}: {rows:,} rows", err=True)
    if as_json:
        found.to_json_lines(sys.stdout)
    if not (parquet_file or csv_file or as_json):
        status = Stack.connect(stack_name).ensemble(name).status()
        columns, rows_ = found.head(LISTED)
        _print_rows(columns, rows_)
        click.echo(
            f"{len(rows_):,} of {status.ended:,} results; all: --csv FILE, --parquet FILE or --json", err=True
        )


def _print_rows(columns: list[str], rows: list[list[object]]) -> None:
    empty = {name for number, name in enumerate(columns) if all(row[number] in (None, "") for row in rows)}
    hidden = {"node", "started_at", "attempt"} | empty
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [number for number, column in enumerate(columns) if column not in hidden]
    for number in shown:
        table.add_column(columns[number], no_wrap=True, overflow="ellipsis", max_width=32)
    for row in rows:
        table.add_row(*(_cell(row[number]) for number in shown))
    width = None if sys.stdout.isatty() else 4000
    Console(highlight=False, markup=False, width=width).print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@click.command()
@ensemble_argument
@stack_option
def failures(name: str, stack_name: str | None) -> None:
    """Show failed jobs by kind: how many, and for one of each the traceback and what it printed."""
    ensemble = Stack.connect(stack_name).ensemble(name)
    groups = ensemble.failures()
    if not groups:
        click.echo(f"no failed jobs in {ensemble.id}", err=True)
    for group in groups:
        _print_group(group)
    if groups:
        click.echo(
            f"run them again: cloudburst retry {ensemble.id} [--fingerprint {groups[0].fingerprint}]",
            err=True,
        )


def _print_group(group: FailureGroup) -> None:
    click.secho(f"{group.count:,} × {group.error}", bold=True)
    click.echo(f"fingerprint {group.fingerprint}, such as job {group.index} ({group.job_id})")
    click.echo(f"description {group.description}")
    if group.traceback and group.traceback.strip() != group.error.strip():
        click.echo(f"\n{group.traceback.rstrip()}")
    if group.output.strip():
        click.echo(f"\nIt printed:\n{group.output.rstrip()}")
    click.echo()


@click.command()
@ensemble_argument
@click.option("--fingerprint", help="Only failures of this kind (see `cloudburst failures`).")
@click.option("--cancelled", is_flag=True, help="Run the cancelled jobs instead.")
@stack_option
def retry(name: str, fingerprint: str | None, cancelled: bool, stack_name: str | None) -> None:
    """Run failed jobs again, all or those of one kind. Prints how many."""
    ensemble = Stack.connect(stack_name).ensemble(name)
    click.echo(ensemble.retry(fingerprint, cancelled=cancelled))


@click.command()
@ensemble_argument
@stack_option
def cancel(name: str, stack_name: str | None) -> None:
    """Cancel the jobs that wait and stop those that run. Prints how many; results that are there stay."""
    click.echo(Stack.connect(stack_name).ensemble(name).cancel())


@click.command()
@click.argument("job_id", metavar="JOB")
@stack_option
def logs(job_id: str, stack_name: str | None) -> None:
    """Show the end of what a job has printed, while it runs or after it failed.

    JOB is its id: the ensemble's id, a dash and the job's index, such as floods-3k9x1c-17.
    """
    text = Stack.connect(stack_name).output(job_id)
    click.echo(text, nl=not text.endswith("\n")) if text else click.echo("nothing yet", err=True)
