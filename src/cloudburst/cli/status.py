"""``cloudburst status``: all ensembles, or one of them; the queue and the workers."""

from __future__ import annotations

import time
from collections import Counter

import click
from rich.console import Console

from cloudburst.cli import tables
from cloudburst.cli.options import stack_option
from cloudburst.ensemble import Stack
from cloudburst.model import EnsembleStatus, JobState, Provenance, WorkerStatus
from cloudburst.pace import Pace, broken_off, sentence
from cloudburst.rqwire.workers import points_sentence

LISTED = 20


@click.command()
@click.argument("name", metavar="[ENSEMBLE]", required=False)
@stack_option
def status(name: str | None, stack_name: str | None) -> None:
    """Show all ensembles, or one in detail; the queue and the workers.

    \b
    cloudburst status
    cloudburst status floods
    """
    stack = Stack.connect(stack_name)
    console = tables.console()
    workers = stack.workers()
    slots = sum(worker.slots for worker in workers)
    if name is None:
        ensembles = stack.ensembles()
        _print_ensembles(console, [ensemble.status() for ensemble in ensembles[:LISTED]], slots)
        if len(ensembles) > LISTED:
            console.print(f"and {len(ensembles) - LISTED:,} older ones")
    else:
        ensemble = stack.ensemble(name)
        _print_one(console, ensemble.status(), ensemble.provenance(), slots)
    console.print()
    _print_queue(console, stack.queue_depth(), workers)


def _print_ensembles(console: Console, statuses: list[EnsembleStatus], slots: int) -> None:
    if not statuses:
        console.print("no ensembles yet: cloudburst submit makes one")
        return
    table = tables.table()
    for title in ("ensemble", "created", "state"):
        table.add_column(title, no_wrap=True)
    for title in ("jobs", "waiting", "running", "finished", "failed", "cancelled"):
        table.add_column(title, justify="right")
    for one in statuses:
        running = min(one.running, slots)  # workers hold jobs that they have not begun
        waiting = one.waiting + one.running - running
        counts = (one.total, waiting, running, one.finished, one.failed, one.cancelled)
        table.add_row(one.id, tables.moment(one.created_at), one.state, *(f"{count:,}" for count in counts))
    console.print(table)
    for one in statuses:
        if warning := broken_off(one, time.time()):
            console.print(warning, soft_wrap=True)


def _print_one(
    console: Console,
    one: EnsembleStatus,
    ran_on: list[tuple[Provenance, dict[JobState, int]]],
    slots: int,
) -> None:
    pace = Pace()
    pace.observe(one, time.time())
    console.print(f"{one.id}: {one.state}, created {tables.moment(one.created_at)}")
    console.print(f"function  {one.function}")
    console.print(f"payload   {one.payload or 'the current worker.zip'}")
    counts = Counter[str]()
    for provenance, by_state in ran_on:
        counts[provenance.payload] += sum(by_state.values())
    if counts.keys() - {one.payload} and one.payload:
        console.print(f"ran on    {', '.join(f'{n:,} jobs: {digest[:12]}' for digest, n in counts.items())}")
    console.print(f"jobs      {sentence(one, pace, slots)}")
    error = one.error if one.state == "failed" else broken_off(one, time.time())
    for title, text in (("now", one.note), ("error", error), *(("warning", one) for one in one.warnings)):
        if text:
            console.print(f"{title:<10}{text}")


def _print_queue(console: Console, depth: int, workers: list[WorkerStatus]) -> None:
    console.print(f"{depth:,} jobs wait in the queue")
    for worker in workers:
        console.print(f"worker {worker.name}: {worker.busy} of {worker.slots} slots busy, {worker.state}")
    if text := points_sentence(workers, time.time()):
        console.print(text, soft_wrap=True)
    if not workers:
        console.print("no worker is running: jobs wait until one is (./buildstack.sh --local)")
