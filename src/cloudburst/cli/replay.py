"""``cloudburst replay``: one job again, here, in the foreground."""

from __future__ import annotations

import os
import sys

import click

from cloudburst import config, nested
from cloudburst.cli.options import is_verbose, stack_option
from cloudburst.console import echo
from cloudburst.ensemble import Stack
from cloudburst.worker import replay as replaying
from cloudburst.worker.reproduction import Reproduction, reproduce

EXIT_FAILED = 1


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option(
    "--pdb", "debug", is_flag=True,
    help="Stop at the first line of the function, and where it raises: step through it.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the directory that it ran in.")
@stack_option
def replay(job_id: str, debug: bool, keep: bool, stack_name: str | None) -> None:
    """Run one job again on this machine: the same payload, environment and description.

    JOB is its id: the ensemble's id, a dash and the job's index; or the id of a stock RQ job that was
    enqueued as JSON. It may have finished or failed, wait or run. Nothing is recorded, and no point is sent:
    they are counted (with -v: shown). What the job prints is printed; the last line on stdout is what it
    returned, as JSON. Exits with 1 when it failed.

    \b
    cloudburst replay floods-3k9x1c-17
    cloudburst replay floods-3k9x1c-17 --pdb
    """
    stack = Stack.connect(stack_name)
    job = stack.job(job_id)
    replaying.check(job)
    directory = config.stack_dir(os.environ, stack.endpoints.stack) / "replay"
    ran_on = stack.ran_on(job)
    made = reproduce(job.payload, ran_on, stack.files, directory, environ=os.environ, note=_say)
    _introduce(made)
    with replaying.scratch_directory(job, directory / "scratch", keep=keep) as scratch:
        if keep:
            _say(f"its directory, which is kept: {scratch}")
        here = replaying.replay(
            job,
            made.runtime,
            stack.endpoints,
            scratch=scratch,
            environ=os.environ,
            debug=debug,
            show_points=is_verbose(),
        )
    _tell_points(here)
    if here.state == "failed" and not here.fingerprint:
        _say(here.error)
    _say(replaying.compared(job.record, here))
    if here.state == "failed":
        sys.exit(EXIT_FAILED)
    echo(nested.dumps(here.value))


def _introduce(made: Reproduction) -> None:
    ran = made.runtime.provenance
    _say(f"payload {ran.payload:.12}, environment {ran.environment:.12} (Python {ran.python})")
    if made.differences:
        _say(f"not the environment that it ran in: {'; '.join(made.differences)}")


def _tell_points(here: replaying.Replayed) -> None:
    counts = dict(here.points)
    if here.client_points:
        counts["by an InfluxDB client"] = here.client_points
    if counts:
        _say("points, not sent: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))


def _say(text: str) -> None:
    echo(f"replay: {text}", err=True)
