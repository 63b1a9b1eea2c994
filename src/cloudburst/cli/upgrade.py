"""``cloudburst upgrade``: another payload for an ensemble that is under way."""

from __future__ import annotations

import re
from pathlib import Path

import click

from cloudburst.cli.options import stack_option
from cloudburst.console import echo
from cloudburst.ensemble import Stack

_DIGEST = re.compile("[0-9a-f]{8,63}")
"""The beginning of one."""


@click.command()
@click.argument("name", metavar="ENSEMBLE")
@click.argument("payload", metavar="DIR|ZIP|DIGEST")
@click.option("--rerun-failed", is_flag=True, help="Run the jobs that failed again, too.")
@stack_option
def upgrade(name: str, payload: str, rerun_failed: bool, stack_name: str | None) -> None:
    """Let the jobs that have not started run on another payload. Prints how many.

    Running jobs finish on the old one; results that are there stay, and each says which payload produced it.
    An ensemble that failed as a whole, because its environment or its function was broken, goes on.

    \b
    cloudburst upgrade floods model/
    cloudburst upgrade floods model/ --rerun-failed
    """
    stack = Stack.connect(stack_name)
    ensemble = stack.ensemble(name)
    before = ensemble.status()
    if _DIGEST.fullmatch(payload) and not Path(payload).exists():
        payload = stack.payload(payload)
    count = ensemble.upgrade(payload, rerun_failed=rerun_failed)
    after = ensemble.status()
    echo(count)
    echo(f"{count:,} jobs of {ensemble.id} will run with payload {after.payload:.12}", err=True)
    stay = after.finished + after.failed + after.cancelled
    if stay:
        parts = [f"{after.finished:,} finished", f"{after.failed:,} failed", f"{after.cancelled:,} cancelled"]
        shown = ", ".join(part for part in parts if not part.startswith("0 "))
        echo(f"{stay:,} results stay: {shown}", err=True)
    if before.running:
        echo(f"{before.running:,} jobs ran at that moment: they finish as they began", err=True)
