"""``cloudburst audit``: whether anything is lost or doubled, counted job by job."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from cloudburst.cli import tables
from cloudburst.cli.options import stack_option
from cloudburst.console import echo
from cloudburst.ensemble import Stack
from cloudburst.model import Account, Audit, Breach, QueueAccount

EXIT_BREACH = 1

SHOWN = 50
"""So many repairs are shown, the others counted."""

PLACES = ("waiting", "running", "scheduled", "deferred", "finished", "failed", "cancelled")
SELDOM = frozenset({"scheduled", "deferred"})
"""Columns that are left out while there is nothing in them."""


@click.command()
@click.argument("name", metavar="[ENSEMBLE]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--repair", "repairing", is_flag=True, help="Put right what can be derived; it asks first.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@stack_option
def audit(name: str | None, *, as_json: bool, repairing: bool, yes: bool, stack_name: str | None) -> None:
    """Count every job, one by one: is each in one place, or has it one record?

    Of one ensemble, or of all, with the queue as a whole and what stock RQ clients have in it. It may be done
    while jobs run, and changes nothing without --repair. Exits with 0 when all is well; with 1 when something
    is lost or doubled, which is then named.

    \b
    cloudburst audit
    cloudburst audit floods
    cloudburst audit --repair
    """
    stack = Stack.connect(stack_name)
    if repairing:
        _repair(stack, name, yes=yes)
    found = stack.audit() if name is None else Audit((stack.ensemble(name).audit(),), ())
    if as_json:
        echo(json.dumps(asdict(found), indent=2))
    else:
        _print_ensembles(found.ensembles)
        _print_queues(found.queues)
        for one in found.ensembles:
            _print_breaches(one.ensemble, one.breaches, one.breach_count)
        for queue in found.queues:
            _print_breaches(f"queue {queue.queue}", queue.breaches, queue.breach_count)
    if found.breach_count:
        breaches = "breach" if found.breach_count == 1 else "breaches"
        echo(f"{found.breach_count:,} {breaches}: see docs/troubleshooting.md", err=True)
        sys.exit(EXIT_BREACH)
    echo("nothing is lost, nothing is doubled", err=True)


def _repair(stack: Stack, name: str | None, *, yes: bool) -> None:
    """Show what would be put right, ask, and do it. On stderr: stdout has the audit afterwards."""
    wanted = stack.repair(name)
    if not wanted:
        click.echo("there is nothing to repair", err=True)
        return
    for one in wanted[:SHOWN]:
        click.echo(f"{one.where}: {one.what}", err=True)
    if len(wanted) > SHOWN:
        click.echo(f"and {len(wanted) - SHOWN:,} more", err=True)
    if not yes and not click.confirm(f"write these {len(wanted):,}?", err=True):
        return
    click.echo(f"{len(stack.repair(name, write=True)):,} put right", err=True)


def _print_ensembles(accounts: tuple[Account, ...]) -> None:
    if not accounts:
        return
    shown = [name for name in PLACES if name not in SELDOM or any(getattr(one, name) for one in accounts)]
    table = tables.table()
    for title in ("ensemble", "state"):
        table.add_column(title, no_wrap=True)
    for title in ("jobs", *shown, "breaches"):
        table.add_column(title, justify="right")
    for one in accounts:
        counts = (one.submitted, *(getattr(one, name) for name in shown), one.breach_count)
        table.add_row(one.ensemble, one.state, *(f"{count:,}" for count in counts))
    tables.console().print(table)


def _print_queues(queues: tuple[QueueAccount, ...]) -> None:
    for queue in queues:
        parts = [f"{queue.waiting:,} waiting", f"{queue.running:,} running"]
        parts += [f"{queue.scheduled:,} scheduled"] if queue.scheduled else []
        parts += [f"{queue.deferred:,} deferred"] if queue.deferred else []
        parts += [f"{queue.left_over:,} ids left over"] if queue.left_over else []
        echo(f"queue {queue.queue}: {', '.join(parts)}")


def _print_breaches(where: str, breaches: tuple[Breach, ...], count: int) -> None:
    for breach in breaches:
        echo(f"breach: {breach.job_id or where}: {breach.what}")
    if count > len(breaches):
        echo(f"breach: {where}: and {count - len(breaches):,} more")
