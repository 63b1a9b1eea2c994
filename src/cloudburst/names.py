"""Names and numbers that several parts agree on: ports, measurements, file names."""

VERSION = "0.1.0"

QUEUE = "default"
"""The RQ queue that workers serve unless told otherwise."""

PAYLOAD_NAME = "worker.zip"
"""The payload of stock RQ jobs: whatever stands in the file store under this name when the job starts."""

ORG = "cloudburst"
BUCKET = "cloudburst"
"""InfluxDB organisation and bucket of every stack."""

MEASUREMENT_RESULT = "result"
"""Measurement of returned values: tag ``ensemble``, fields ``index`` and the returned numbers."""

FINGERPRINT_ENSEMBLE = "ensemble"
"""Fingerprint of jobs that failed because none of their ensemble can run."""

PORT_QUEUE = 6379
PORT_FILESTORE = 25478
PORT_INFLUX = 8086
PORT_QUEUE_DASH = 9181

LOCAL_STACK = "local"
"""Name of the stack that ``./buildstack.sh --local`` makes unless it is given another."""

RESULT_LIMIT_BYTES = 64 * 1024
"""Largest JSON encoding of a value that a user's function may return."""

OUTPUT_LIMIT_BYTES = 64 * 1024
"""How much of the end of a job's stdout and stderr is kept."""

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
