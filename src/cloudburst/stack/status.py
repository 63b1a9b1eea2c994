"""What a stack on this machine does, for whoever wants to look."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import redis

from cloudburst import config
from cloudburst.errors import EnsembleError
from cloudburst.hosts.process import Process
from cloudburst.model import Endpoints, EnsembleStatus, WorkerStatus
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.workers import queue_depth, workers
from cloudburst.stack import facts as state
from cloudburst.stack import probes, room
from cloudburst.stack.paths import Paths, read_text
from cloudburst.stack.settings import Settings

RECENT = 50
"""Ensembles looked at for those in progress: the latest so many."""


@dataclass(frozen=True)
class ServiceStatus:
    """One service."""

    name: str
    state: state.State
    detail: str
    """What is wrong with it; "" when nothing is."""
    port: int | None
    pid: int | None
    since: float | None
    """Unix time in seconds."""
    memory_bytes: int


@dataclass(frozen=True)
class QueueStatus:
    """What Redis says."""

    waiting: int
    workers: tuple[WorkerStatus, ...]
    ensembles: tuple[EnsembleStatus, ...]
    """Those in progress among the latest, latest first."""


@dataclass(frozen=True)
class StackStatus:
    """A whole stack."""

    stack: str
    state: Literal["absent", "stopped", "partial", "running"]
    """``partial``: some of it runs, or something is wrong with it; the next start repairs it."""
    services: tuple[ServiceStatus, ...]
    queue: QueueStatus | None
    """None when Redis does not answer."""
    endpoints: Endpoints | None
    notices: tuple[str, ...] = ()
    """What the next start does not repair: a disk that is full, points that wait."""


def status(environ: Mapping[str, str], stack: str) -> StackStatus:
    """Look at the stack; changes nothing (ConfigError for a name that cannot be one)."""
    paths = Paths(config.stack_dir(environ, stack))
    settings = Settings.load(paths.settings)
    if settings is None:
        return StackStatus(stack, "absent", (), None, None)
    text = read_text(paths.endpoints)
    endpoints = Endpoints.from_json(text, str(paths.endpoints)) if text else None
    there = state.read(paths, probes.of(endpoints) if endpoints else None)
    services = tuple(
        _service(facts, settings) for facts in there.services.values() if _wanted(facts, settings)
    )
    running = [service for service in services if service.pid]
    if not running and not there.strays:
        return StackStatus(stack, "stopped", services, None, endpoints)
    well = all(service.state == "running" for service in services) and not there.strays
    queue = _queue(endpoints) if endpoints else None
    notices = (*room.on_disk(paths.root), *room.in_redis(endpoints), *room.of_points(paths.root / "worker"))
    state_word: Literal["running", "partial"] = "running" if well and queue else "partial"
    return StackStatus(stack, state_word, services, queue, endpoints, notices)


def _wanted(facts: state.ServiceFacts, settings: Settings) -> bool:
    return facts.name != "influx" or settings.influx is None or facts.record is not None


def _service(facts: state.ServiceFacts, settings: Settings) -> ServiceStatus:
    process = facts.process
    return ServiceStatus(
        name=facts.name,
        state=facts.state,
        detail=facts.detail,
        port=settings.ports.get(facts.name),
        pid=process.pid if process else None,
        since=process.started_at if process else None,
        memory_bytes=process.memory_bytes() if process else 0,
    )


def _queue(endpoints: Endpoints) -> QueueStatus | None:
    with probes.client(endpoints.redis_url) as client:
        try:
            ensembles = Ensembles(client)
            found = [_ensemble(ensembles, name) for name in islice(ensembles.ids(), RECENT)]
            return QueueStatus(
                waiting=queue_depth(client, endpoints.queue),
                workers=tuple(worker for worker in workers(client) if not _is_ghost(worker)),
                ensembles=tuple(one for one in found if one and not one.complete),
            )
        except redis.RedisError:
            return None


def _is_ghost(worker: WorkerStatus) -> bool:
    """Killed on this machine; Redis forgets it within a minute."""
    return worker.node == os.uname().nodename and Process.of(worker.pid) is None


def _ensemble(ensembles: Ensembles, name: str) -> EnsembleStatus | None:
    try:
        return ensembles.status(name)
    except EnsembleError:
        return None  # removed meanwhile
