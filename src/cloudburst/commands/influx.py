"""Command lines of the client that InfluxDB 2's image has, inside the container of its service.

https://docs.influxdata.com/influxdb/v2/reference/cli/influx/bucket/. The operator's token is a secret of that
container; it gets into no command line.
"""

from __future__ import annotations

from cloudburst.commands.command import Command

ORGANISATION = BUCKET = "cloudburst"
"""As the compose file has them set up."""

_AS_OPERATOR = 'INFLUX_TOKEN=$(cat /run/secrets/influx-token) exec influx bucket "$@"'


def buckets(container: str) -> Command:
    """Print a JSON list with the stack's bucket: ``id``, ``retentionRules`` with ``everySeconds``."""
    return _bucket(container, "list", "--org", ORGANISATION, "--name", BUCKET, "--json")


def keep(container: str, bucket: str, seconds: int) -> Command:
    """Keep points of the bucket with that ID for so long; 0: for ever. Older ones go, for good."""
    return _bucket(container, "update", "--id", bucket, "--retention", f"{seconds}s")


def _bucket(container: str, *words: str) -> Command:
    return Command(("docker", "exec", container, "sh", "-c", _AS_OPERATOR, "influx", *words))
