"""What ``submit --dry-run`` tells: what would be sent, and how the job descriptions were understood."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from cloudburst.cli import job_files
from cloudburst.console import echo
from cloudburst.ensemble import payloads
from cloudburst.errors import EnsembleError
from cloudburst.model import JobDescription
from cloudburst.rqwire.descriptions import encode_description

SHOWN = 3
LISTED = 100
"""Parameters that are told of."""

KINDS = {
    int: "whole numbers",
    float: "numbers",
    bool: "true or false",
    str: "text",
    list: "lists",
    dict: "objects",
    type(None): "null",
}


def tell(payload: str, function: str, source: str, descriptions: Iterable[JobDescription]) -> None:
    """Check payload and job descriptions, and say what was found; nothing is sent anywhere.

    Raises what submitting would raise for them.
    """
    if Path(payload).exists() or not payloads.is_digest(payload):
        with payloads.zipped(Path(payload), function) as (path, digest):
            echo(f"payload {digest:.12}, {path.stat().st_size:,} bytes, has {function}", err=True)
    first: list[str] = []
    kinds: dict[str, Counter[str]] = {}
    count = 0
    for index, description in enumerate(descriptions):
        plain = json.loads(encode_description(description, index))
        for name, value in plain.items():
            kinds.setdefault(name, Counter())[KINDS[type(value)]] += 1
        count += 1
        if count <= SHOWN:
            first.append(json.dumps(plain, ensure_ascii=False))
    if not count:
        raise EnsembleError(f"{source}: no job descriptions: an empty file, or an iterator used up?")
    echo(f"{count:,} jobs; their parameters:", err=True)
    for name, rule in (job_files.rules(source) or _found(kinds, count))[:LISTED]:
        echo(f"  {name}: {rule}" if name else f"  {rule}", err=True)
    echo(f"the first {len(first)} of them:" if count > 1 else "the job:", err=True)
    for line in first:
        echo(line)
    echo("nothing was sent", err=True)


def _found(kinds: dict[str, Counter[str]], count: int) -> list[tuple[str, str]]:
    """Each parameter with the kinds of its values, and how many jobs do not have it."""
    return [(name, _rule(seen, count - seen.total())) for name, seen in kinds.items()]


def _rule(seen: Counter[str], missing: int) -> str:
    parts = [kind if len(seen) == 1 else f"{number:,} {kind}" for kind, number in seen.most_common()]
    return ", ".join(parts) + (f"; {missing:,} without" if missing else "")
