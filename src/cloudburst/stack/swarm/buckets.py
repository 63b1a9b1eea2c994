"""The buckets of the stack's InfluxDB: made where one is missing, and mended where one is otherwise.

Jobs write at simulated times. One job with a century of daily values made a shard group for each week of it,
until InfluxDB had no file descriptors left. So these span years in the bucket of jobs, where no point is ever
too old. What the stack measures of itself has a bucket of its own, with the retention that a user chooses.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from cloudburst import names
from cloudburst.commands import influx
from cloudburst.commands import services_of_swarm as services
from cloudburst.commands.command import Command
from cloudburst.errors import CommandError, StackError
from cloudburst.points.retention import retention_s
from cloudburst.stack.swarm.runner import Runner

START_S = 120.0
"""How long InfluxDB may take to start."""

POLL_S = 1.0

DAY_S = 86400
SHARD_S = 3712 * DAY_S
"""Each shard group of jobs' points spans so much simulated time, ten years; InfluxDB can hold 58 of them.

They begin at multiples of this since the year 1 (``CreateShardGroup`` in v1/services/meta/data.go).
The first one has to begin at a time that fits into 64 bits, or its points are lost with the next start:
this one begins on 1677-11-30; one of 3650 days would begin in 1669.
"""


class _Bucket(NamedTuple):
    """A bucket as it is."""

    id: str
    keep_s: int
    """0: for ever."""
    shard_s: int


def ensure(runner: Runner, master: str, stack: str, wanted: str) -> bool:
    """Have both buckets as they should be; the stack's own measurements are kept for ``wanted``, as ``90d``;
    "": for ever. Whether that is a change.

    Raises StackError when that cannot be found out, or done. When nothing is wanted, an InfluxDB that cannot
    be asked is left alone: it may be another than InfluxDB 2, by an image of the user's.
    """
    keep_s = retention_s(wanted or "0")
    try:
        found = _found(runner, master, stack)
    except (CommandError, ValueError, LookupError, TypeError, AttributeError) as error:
        if not wanted:
            return False
        raise StackError(
            f"{master}: CLOUDBURST_RETENTION={wanted}: InfluxDB does not say how long it keeps points; "
            "this needs the image of an InfluxDB 2 and the operator's token that it was first started with "
            f"({error})"
        ) from error
    if found is None:  # a dry run of a first deployment
        return False
    container, there = found
    changes = list(_changes(container, there, keep_s))
    for what, command in changes:
        with runner.step(master, what):
            runner.do(master, command)
    return bool(changes)


def _changes(container: str, there: Mapping[str, _Bucket], keep_s: int) -> Iterator[tuple[str, Command]]:
    """What is to be done, and how."""
    how_long = f"keeping the stack's measurements for {keep_s / DAY_S:g} days" if keep_s else ""
    how_long = how_long or "keeping the stack's measurements for ever"
    own = there.get(names.BUCKET_STACK)
    if own is None:
        yield f"making a bucket for them, {how_long}", influx.make(container, names.BUCKET_STACK, keep_s)
    elif own.keep_s != keep_s:
        yield how_long, influx.change(container, own.id, keep_s, _shard_s(keep_s))
    # First there is another place for what has to go one day, then jobs' points are kept for ever.
    jobs = there[names.BUCKET]
    if jobs[1:] != (0, SHARD_S):
        what = "keeping jobs' points for ever, in shard groups of ten years"
        yield what, influx.change(container, jobs.id, 0, SHARD_S)


def _shard_s(keep_s: int) -> int:
    """What InfluxDB itself chooses for a new bucket with that retention.

    A change of the retention alone might leave shard groups that span more time than is kept, which InfluxDB
    refuses. https://docs.influxdata.com/influxdb/v2/reference/internals/shards/#shard-group-duration
    """
    if keep_s == 0 or keep_s > 182 * DAY_S:
        return 7 * DAY_S
    return DAY_S if keep_s >= 2 * DAY_S else 3600


def _found(runner: Runner, master: str, stack: str) -> tuple[str, dict[str, _Bucket]] | None:
    """Container, and its buckets by name; None when none runs in a dry run."""
    deadline = time.monotonic() + START_S
    while True:
        containers = runner.read(master, services.containers(f"{stack}_influx")).split()
        if runner.dry and not containers:
            return None
        try:
            listed = json.loads(runner.read(master, influx.buckets(containers[0])))
            there = {str(one["name"]): _bucket(one) for one in listed}
            if names.BUCKET not in there:
                raise LookupError(f"it has no bucket {names.BUCKET}")
            return containers[0], there
        except (CommandError, IndexError) as error:
            starting = isinstance(error, IndexError) or "connection refused" in error.stderr
            if not starting or time.monotonic() > deadline:
                raise
        time.sleep(POLL_S)


def _bucket(listed: Mapping[str, object]) -> _Bucket:
    """One of the list. A bucket without rules keeps its points for ever."""
    rules = listed.get("retentionRules")
    rule = rules[0] if isinstance(rules, list) and rules else {}
    keep_s, shard_s = rule.get("everySeconds", 0), rule.get("shardGroupDurationSeconds", 0)
    return _Bucket(str(listed["id"]), int(keep_s), int(shard_s))
