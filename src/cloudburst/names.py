"""Names and numbers that several parts agree on: ports, measurements, file names."""

import re

VERSION = "0.1.0"

NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
"""Names of ensembles and of stacks. They become parts of paths, keys and command lines, and RQ allows nothing
else in the ids of jobs; one that began with ``-`` would be an option."""

NAME_RULE = "use up to 80 letters, digits, '-' and '_', not '-' first"

QUEUE = "default"
"""The RQ queue that workers serve unless told otherwise."""

PAYLOAD_NAME = "worker.zip"
"""The payload of stock RQ jobs: whatever stands in the file store under this name when the job starts."""

ORG = "cloudburst"
BUCKET = "cloudburst"
"""InfluxDB organisation of every stack, and its bucket for the points of jobs."""

BUCKET_STACK = "cloudburst_stack"
"""The bucket for what a stack measures of itself: ``OBSERVED``."""

MEASUREMENT_RESULT = "result"
"""Measurement of returned values: tag ``ensemble``, fields ``index`` and the returned numbers."""

MEASUREMENT_NODE = "cloudburst_node"
"""A node as its worker sees it. These names have a prefix, because users write measurements of their own."""
MEASUREMENT_QUEUE = "cloudburst_queue"
MEASUREMENT_REDIS = "cloudburst_redis"
MEASUREMENT_DISK = "cloudburst_disk"
MEASUREMENT_BEGUN = "cloudburst_begun"
"""One point per ensemble, at the time at which it was created: the list of ensembles, cheap to read."""
MEASUREMENT_ENSEMBLE = "cloudburst_ensemble"
MEASUREMENT_FAILURE = "cloudburst_failure"

OBSERVED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    MEASUREMENT_NODE: (
        ("node",),
        (
            "cpu_percent",
            "memory_used_bytes",
            "memory_total_bytes",
            "disk_free_bytes",
            "disk_total_bytes",
            "environments_bytes",
            "slots",
            "slots_busy",
            "jobs_ended",
            "jobs_per_s",
        ),
    ),
    MEASUREMENT_QUEUE: (
        ("queue",),
        (
            "waiting",
            "oldest_s",
            "running",
            "workers",
            "slots",
            "slots_busy",
            "ensembles",
            "leases_lost",
            "jobs_set_aside",
        ),
    ),
    MEASUREMENT_REDIS: ((), ("memory_used_bytes", "memory_limit_bytes", "aof_bytes", "aof_ok")),
    MEASUREMENT_DISK: ((), ("free_bytes", "total_bytes")),
    MEASUREMENT_BEGUN: (("ensemble",), ("id", "function", "payload")),
    MEASUREMENT_ENSEMBLE: (
        ("ensemble",),
        (
            "state",
            "said",
            "state_said",
            "total",
            "waiting",
            "running",
            "finished",
            "failed",
            "cancelled",
            "ended",
            "progress_percent",
            "jobs_per_s",
            "left_s",
            "jobs_per_dot",
            "jobs_from",
            "jobs_to",
        ),
    ),
    MEASUREMENT_FAILURE: (("ensemble", "fingerprint"), ("jobs", "error")),
}
"""What a stack measures of itself: of each measurement the tags and the fields (docs/operating.md)."""

FINGERPRINT_ENSEMBLE = "ensemble"
"""Fingerprint of jobs that failed because none of their ensemble can run."""

PORT_QUEUE = 6379
PORT_FILESTORE = 25478
PORT_INFLUX = 8086
PORT_QUEUE_DASH = 9181

DIGITALOCEAN_END_POINT = "https://api.digitalocean.com/v2/"

LOCAL_STACK = "local"
"""Name of the stack that ``./buildstack.sh --local`` makes unless it is given another."""

OUTPUT_LIMIT_BYTES = 64 * 1024
"""Of what a job printed, this much is kept with its failure."""

DESCRIPTION_LIMIT_BYTES = 512 * 1024
"""Largest JSON encoding of one job description; larger inputs belong in the file store."""


def stored_payload(digest: str) -> str:
    """Name in the file store of the payload with that digest."""
    return f"payloads/{digest}.zip"


def stored_lock(digest: str) -> str:
    """Name in the file store of the Pipfile.lock that is used for that payload, if it brings none itself."""
    return f"payloads/{digest}.lock"


def stored_pipfile_lock(key: str) -> str:
    """Name in the file store of the lock that was made for all payloads with the same Pipfile and Python."""
    return f"locks/{key}.lock"


def stored_environment(digest: str) -> str:
    """Name in the file store of the packed environment with that digest; its description is beside it."""
    return f"environments/{digest}.tar.zst"


def stored_environment_record(digest: str) -> str:
    """Name in the file store of what describes that environment; there once its archive is."""
    return f"environments/{digest}.json"
