"""What this machine remembers of each service that was started: ``run/<service>.json``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from cloudburst.hosts.process import Process
from cloudburst.stack.paths import Paths, read_text, write_private

log = logging.getLogger(__name__)

SERVICES = ("queue", "filestore", "influx", "queue-dash", "worker")
"""In the order in which they start; they stop the other way round."""


@dataclass(frozen=True)
class Record:
    """One service as it was started."""

    service: str
    process: Process
    grace_s: float
    """How long it may take to stop."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What it was started with; secrets as digests."""


def read(paths: Paths) -> dict[str, Record]:
    """Records by service; one that cannot be understood is as good as none, as its process has a mark too."""
    found = {}
    for service in SERVICES:
        path = paths.record(service)
        text = read_text(path)
        record = _parse(service, text, str(path)) if text else None
        if record:
            found[service] = record
    return found


def write(paths: Paths, record: Record) -> None:
    write_private(paths.record(record.service), json.dumps(asdict(record), indent=2) + "\n")


def remove(paths: Paths, service: str) -> None:
    paths.record(service).unlink(missing_ok=True)


def _parse(service: str, text: str, source: str) -> Record | None:
    try:
        raw = json.loads(text)
        return Record(
            service=service,
            process=Process(
                pid=int(raw["process"]["pid"]),
                started_at=float(raw["process"]["started_at"]),
                born_s=float(raw["process"]["born_s"]),
            ),
            grace_s=float(raw["grace_s"]),
            settings={str(key): str(value) for key, value in raw["settings"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        log.warning("%s: broken pid file (%r)", source, error)
        return None
