"""``cloudburst show``: one ensemble, what it is and what it ran on."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from cloudburst.cli import tables
from cloudburst.cli.options import stack_option
from cloudburst.console import echo
from cloudburst.ensemble import Stack
from cloudburst.model import EnsembleSpec, EnsembleStatus
from cloudburst.pace import Pace, broken_off, duration, sentence


@click.command()
@click.argument("name", metavar="ENSEMBLE")
@click.option(
    "--provenance", "as_json", is_flag=True, help="Print JSON: what its jobs ran on, see docs/payloads.md."
)
@stack_option
def show(name: str, as_json: bool, stack_name: str | None) -> None:
    """Show one ensemble: its function, payloads, limits, counters, and what its jobs ran on.

    \b
    cloudburst show floods
    cloudburst show floods --provenance > floods.provenance.json
    """
    stack = Stack.connect(stack_name)
    ensemble = stack.ensemble(name)
    document = stack.provenance_document(ensemble)
    if as_json:
        echo(json.dumps(document, indent=2))
        return
    console = tables.console()
    for title, text in _rows(ensemble.status(), ensemble.spec(), document, ensemble.slots()):
        console.print(f"{title:<12}{text}", soft_wrap=True)


def _rows(
    status: EnsembleStatus, spec: EnsembleSpec, document: dict[str, Any], slots: int
) -> list[tuple[str, str]]:
    pace = Pace()
    pace.observe(status, time.time())
    limits = [f"{duration(spec.timeout_s)} per job" if spec.timeout_s else "no timeout"]
    limits.append(f"{spec.retries} retries, {spec.max_attempts} attempts")
    rows = [
        ("ensemble", status.id),
        ("state", status.state),
        ("created", tables.moment(status.created_at)),
        ("submitted", tables.moment(status.appended_at)),
        ("function", spec.function),
        ("queue", spec.queue),
        ("limits", ", ".join(limits)),
        ("seed", str(status.seed)),
        ("jobs", sentence(status, pace, slots)),
        ("payload", status.payload or "whatever worker.zip is when a job starts"),
    ]
    rows += [("", text) for payload in document["payloads"] for text in _payload(payload)]
    error = status.error if status.state == "failed" else broken_off(status, time.time())
    told = (("now", status.note), ("error", error), *(("warning", text) for text in status.warnings))
    return rows + [(title, text) for title, text in told if text]


def _payload(payload: dict[str, Any]) -> list[str]:
    """What ran with it, a line per environment."""
    lines = []
    for ran in payload["ran_on"]:
        counts = ", ".join(f"{count:,} {state}" for state, count in ran["counts"].items() if count)
        on = f"environment {ran['environment']:.12}, Python {ran['python']}, CloudBurst {ran['cloudburst']}"
        lines.append(f"{counts} with {payload['payload']:.12} on {on}{_image(ran['image'])}")
    return lines


def _image(digest: str) -> str:
    return f", image {digest}" if digest else ""
