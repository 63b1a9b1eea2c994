"""How long the stack's InfluxDB keeps points: set up at its first start, and changed here from then on."""

from __future__ import annotations

import json
import time

from cloudburst.commands import influx
from cloudburst.commands import services_of_swarm as services
from cloudburst.errors import CommandError, StackError
from cloudburst.points.retention import retention_s
from cloudburst.stack.swarm.runner import Runner

START_S = 120.0
"""How long InfluxDB may take to start."""

POLL_S = 1.0


def ensure(runner: Runner, master: str, stack: str, wanted: str) -> bool:
    """Have points kept for so long, as ``90d``; "": for ever. Whether that is a change.

    Raises StackError when that cannot be found out, or done. When nothing is wanted, an InfluxDB that cannot
    be asked is left alone: it may be another than InfluxDB 2, by an image of the user's.
    """
    seconds = retention_s(wanted or "0")
    try:
        found = _kept(runner, master, stack)
    except (CommandError, ValueError, LookupError, TypeError) as error:
        if not wanted:
            return False
        raise StackError(
            f"{master}: CLOUDBURST_RETENTION={wanted}: InfluxDB does not say how long it keeps points; "
            "this needs the image of an InfluxDB 2 and the operator's token that it was first started with "
            f"({error})"
        ) from error
    if found is None:  # a dry run of a first deployment
        return False
    container, bucket, now_s = found
    if now_s == seconds:
        return False
    with runner.step(master, f"keeping points for {wanted}" if seconds else "keeping points for ever"):
        runner.do(master, influx.keep(container, bucket, seconds))
    return True


def _kept(runner: Runner, master: str, stack: str) -> tuple[str, str, int] | None:
    """Container, bucket, and for how many seconds it keeps points; None when none runs in a dry run."""
    deadline = time.monotonic() + START_S
    while True:
        containers = runner.read(master, services.containers(f"{stack}_influx")).split()
        if runner.dry and not containers:
            return None
        try:
            (bucket,) = json.loads(runner.read(master, influx.buckets(containers[0])))
            rules = bucket.get("retentionRules") or [{"everySeconds": 0}]
            return containers[0], str(bucket["id"]), int(rules[0].get("everySeconds", 0))
        except (CommandError, IndexError) as error:
            starting = isinstance(error, IndexError) or "connection refused" in error.stderr
            if not starting or time.monotonic() > deadline:
                raise
        time.sleep(POLL_S)
