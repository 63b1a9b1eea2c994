"""The commands that act on ensembles: submit, watch, retry, cancel."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

import click
from rich.status import Status

from cloudburst.cli import dry_run as dry_runs
from cloudburst.cli import job_files
from cloudburst.cli.options import Duration, stack_option
from cloudburst.console import Terminal, echo
from cloudburst.ensemble import Ensemble, Stack, rules
from cloudburst.ensemble.progress import follow
from cloudburst.model import EnsembleSpec, JobDescription

EXIT_FAILURES = 1

ensemble_argument = click.argument("name", metavar="ENSEMBLE")


@click.command()
@click.argument("name")
@click.option(
    "-p", "--payload", required=True, metavar="DIR|ZIP|DIGEST", help="The code: see docs/payloads.md."
)
@click.option("-f", "--function", required=True, help="What to call for each job, such as worker.work.")
@click.option(
    "-j", "--jobs", metavar="FILE",
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
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1),
    help="Derive the random numbers of each job from this [default: a random one, which is recorded].",
)  # fmt: skip
@click.option(
    "--resume", is_flag=True, help="Append what is missing to the ensemble NAME whose submission broke off."
)
@click.option(
    "--dry-run", is_flag=True,
    help="Check everything, show how the job descriptions were understood, and send nothing.",
)  # fmt: skip
@click.option("-w", "--watch", "then_watch", is_flag=True, help="Watch it afterwards.")
@stack_option
def submit(
    name: str,
    *,
    payload: str,
    function: str,
    jobs: str | None,
    timeout: float | None,
    retries: int,
    max_attempts: int,
    seed: int | None,
    resume: bool,
    dry_run: bool,
    then_watch: bool,
    stack_name: str | None,
) -> None:
    """Submit an ensemble. Prints its id; it runs whether anybody watches or not.

    If this is killed, or Redis is away for too long, the same command with --resume (and the id or the name)
    goes on where it stopped. What is there is compared, not sent again; what is complete stays as it is.

    \b
    cloudburst submit floods --payload model/ --function worker.work --jobs jobs.jsonl
    cloudburst submit floods -p model/ -f worker.work --jobs scenarios.py:all_of_them --watch
    cloudburst submit floods -p model/ -f worker.work --jobs jobs.csv --dry-run
    cloudburst submit floods -p model/ -f worker.work --jobs jobs.jsonl --resume
    seq 100 | sed 's/.*/{"seed": &}/' | cloudburst submit floods -p model/ -f worker.work
    """
    if jobs is None and sys.stdin.isatty():
        raise click.UsageError("no job descriptions: give --jobs FILE, or pipe JSON Lines in")
    descriptions = job_files.read(jobs or "-")
    if dry_run:
        rules.check(EnsembleSpec(name, function, "", retries=retries, max_attempts=max_attempts))
        dry_runs.tell(payload, function, jobs or "-", descriptions)
        return
    stack = Stack.connect(stack_name)
    there = stack.ensemble(name, incomplete=True).status().total if resume else 0
    began = time.monotonic()
    with Terminal(stderr=True).status("submitting") as spinner:
        ensemble = stack.submit(
            name,
            payload=payload,
            function=function,
            jobs=_counted(descriptions, spinner),
            timeout_s=timeout,
            retries=retries,
            max_attempts=max_attempts,
            seed=seed,
            resume=resume,
        )
    total = ensemble.status().total
    if resume and there == total:
        echo(f"nothing was missing: all {total:,} jobs had been submitted", err=True)
    else:
        before = f"{there:,} jobs were there, " if resume else ""
        took = time.monotonic() - began
        echo(f"{before}{total - there:,} jobs submitted in {took:.1f} s", err=True)
    echo(ensemble.id)
    if then_watch:
        sys.stdout.flush()
        _watch(ensemble)
    else:
        echo(f"see how it goes: cloudburst watch {ensemble.id}", err=True)


def _counted(descriptions: Iterable[JobDescription], spinner: Status) -> Iterator[JobDescription]:
    """The descriptions as they are; on a terminal one sees how many there were so far."""
    for count, description in enumerate(descriptions, 1):
        if count % 1000 == 0:
            spinner.update(f"submitting: {count:,} jobs")
        yield description


@click.command()
@ensemble_argument
@stack_option
def watch(name: str, stack_name: str | None) -> None:
    """Show how an ensemble goes until it is done; interrupt it and come back as you like.

    Exits with 0 when all jobs finished, with 1 when some failed or were cancelled.

    \b
    cloudburst watch floods
    """
    _watch(Stack.connect(stack_name).ensemble(name))


def _watch(ensemble: Ensemble) -> None:
    try:
        last = follow(ensemble)
    except KeyboardInterrupt as error:
        error.add_note(f"{ensemble.id} goes on; see it again with: cloudburst watch {ensemble.id}")
        raise
    if last.finished < last.total:
        sys.exit(EXIT_FAILURES)


@click.command()
@ensemble_argument
@click.option("--fingerprint", help="Only failures of this kind (see `cloudburst failures`).")
@click.option("--cancelled", is_flag=True, help="Run the cancelled jobs instead.")
@stack_option
def retry(name: str, fingerprint: str | None, cancelled: bool, stack_name: str | None) -> None:
    """Run failed jobs again, all or those of one kind. Prints how many.

    \b
    cloudburst retry floods
    cloudburst retry floods --fingerprint 3f9a1c
    """
    ensemble = Stack.connect(stack_name).ensemble(name)
    count = ensemble.retry(fingerprint, cancelled=cancelled)
    echo(count)
    if count == 0:
        kind = "cancelled" if cancelled else "failed"
        echo(f"no {kind} jobs{' of that kind' if fingerprint else ''} in {ensemble.id}", err=True)


@click.command()
@ensemble_argument
@stack_option
def cancel(name: str, stack_name: str | None) -> None:
    """Cancel the jobs that wait and stop those that run. Prints how many; results that are there stay.

    \b
    cloudburst cancel floods
    """
    ensemble = Stack.connect(stack_name).ensemble(name)
    count = ensemble.cancel()
    echo(count)
    if count == 0:
        echo(f"{ensemble.id} is {ensemble.status().state}: no job of it was left to cancel", err=True)
