"""Command lines of the client that InfluxDB 2's image has, inside the container of its service.

https://docs.influxdata.com/influxdb/v2/reference/cli/influx/bucket/. The operator's token is a secret of that
container; it gets into no command line.
"""

from __future__ import annotations

from cloudburst import names
from cloudburst.commands.command import Command

_AS_OPERATOR = (
    "INFLUX_HOST=http://localhost:8086 INFLUX_TOKEN=$(cat /run/secrets/influx-token) "
    'exec influx bucket "$@"'  # whatever server the set-up has left in its configuration
)


def buckets(container: str) -> Command:
    """Print a JSON list of all buckets: ``id``, ``name``, ``retentionRules`` with ``everySeconds`` and
    ``shardGroupDurationSeconds``."""
    return _bucket(container, "list", "--org", names.ORG, "--json")


def make(container: str, name: str, keep_s: int) -> Command:
    """Make a bucket whose points are kept for ``keep_s`` seconds; 0: for ever."""
    return _bucket(container, "create", "--org", names.ORG, "--name", name, "--retention", f"{keep_s}s")


def change(container: str, bucket: str, keep_s: int, shard_s: int) -> Command:
    """Keep points of the bucket with that ID for ``keep_s``, 0: for ever. Older ones go, for good.

    ``shard_s``: how much time each of its further shard groups spans.
    """
    words = ("--id", bucket, "--retention", f"{keep_s}s", "--shard-group-duration", f"{shard_s}s")
    return _bucket(container, "update", *words)


def _bucket(container: str, *words: str) -> Command:
    return Command(("docker", "exec", container, "sh", "-c", _AS_OPERATOR, "influx", *words))
