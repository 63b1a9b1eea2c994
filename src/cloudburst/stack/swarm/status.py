"""How a stack on a swarm is: what runs, what is wrong, and what soon will be."""

from __future__ import annotations

import socket
import ssl
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import redis

from cloudburst import trust
from cloudburst.errors import QueueError
from cloudburst.model import Endpoints, EnsembleStatus, NodeReading, WorkerStatus
from cloudburst.rqwire import connection, ending, readings
from cloudburst.rqwire.ending import Announcement
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.readings import QueueReading, ServerReading
from cloudburst.rqwire.workers import points_sentence, workers
from cloudburst.stack.swarm.facts import MachineFacts, Node, Service

RECENT = 50
"""Ensembles looked at for those in progress: the latest so many."""

ASK_S = 5.0
DAY_S = 86400.0

DISK_LOW = 0.15
"""Part of a disk that should be free."""

MEMORY_HIGH = 0.80
"""Part of its memory that Redis may use without a warning."""

NODE_MEMORY_HIGH = 0.95
CERTIFICATE_DAYS = 30

State = Literal["stopped", "partial", "running"]


@dataclass(frozen=True)
class NodeStatus:
    """One node, as the swarm and its worker see it."""

    name: str
    address: str
    state: str
    """``ready``, ``down``, ``draining``...; ``no worker`` when a worker should be there and is not."""
    master: bool
    slots: int
    busy: int
    reading: NodeReading | None
    """None without a worker, until it has taken one, and of a node that is down."""


@dataclass(frozen=True)
class Insight:
    """What the stack itself answers. Where it does not, ``problem`` says why, and the rest is empty."""

    problem: str = ""
    workers: tuple[WorkerStatus, ...] = ()
    queue: QueueReading | None = None
    server: ServerReading | None = None
    ensembles: tuple[EnsembleStatus, ...] = ()
    """Those in progress among the latest, latest first."""
    ending: Announcement | None = None
    """What the keeper says of the stack's end; None without one."""


@dataclass(frozen=True)
class SwarmStatus:
    """A whole stack."""

    stack: str
    state: State
    """``partial``: something is wrong."""
    services: tuple[Service, ...]
    nodes: tuple[NodeStatus, ...]
    inside: Insight
    problems: tuple[str, ...]
    """What is wrong now."""
    warnings: tuple[str, ...]
    """What will be wrong if nobody does anything."""

    @property
    def deploy_again(self) -> bool:
        """Whether a deployment may help: it starts no machine that is down."""
        return len(self.problems) > sum(node.state == "down" for node in self.nodes)


def status(
    stack: str, master: MachineFacts | None, unreachable: str, endpoints: Endpoints | None, now: float
) -> SwarmStatus:
    """Look at the stack; changes nothing. ``now`` is Unix time in seconds.

    master: what the master says of itself and of the swarm; None if it cannot be reached, for which
    ``unreachable`` is the reason. endpoints: None when no deployment was completed.
    """
    inside, ends_at, certificate = Insight("no deployment was completed from here: deploy again"), None, ""
    services = tuple(master.services.values()) if master else ()
    if endpoints is not None and (services or master is None):
        inside = look(endpoints)
        try:
            ends_at = certificate_end(endpoints)
        except OSError as error:
            wrong = trust.distrust(error, endpoints.ca_file) or f"it does not answer as it should: {error}"
            certificate = f"the gateway, {endpoints.filestore_url}: {wrong}"
    if master is not None and not services:
        return SwarmStatus(stack, "stopped", (), (), inside, (), ())
    nodes = tuple(_nodes(master.nodes if master else (), inside))
    problems = [text for text in (unreachable, inside.problem, certificate) if text]
    problems += _service_problems(stack, services)
    problems += _node_problems(nodes)
    problems += _keeper_problems(stack, services, inside.ending, now)
    warnings = [
        *_certificate_warnings(ends_at, now),
        *_room_warnings(nodes, master),
        *_redis_warnings(inside),
    ]
    if text := points_sentence(inside.workers, now):
        problems.append(text)
    if inside.server and not inside.server.aof_ok:
        problems.append("Redis cannot write to its disk, and takes nothing until it can: is it full?")
    if inside.server and inside.server.memory_part >= 1:
        problems.append(
            "Redis has no memory left: no job is accepted until others have ended; deploy with a larger "
            "CLOUDBURST_QUEUE_MEMORY"
        )
    state: State = "partial" if problems else "running"
    return SwarmStatus(stack, state, services, nodes, inside, tuple(problems), tuple(warnings))


def look(endpoints: Endpoints) -> Insight:
    """Ask Redis."""
    try:
        with connection.connect(endpoints.redis_url, ca_file=endpoints.ca_file, timeout_s=ASK_S) as client:
            queue, server = readings.read(client, endpoints.queue)
            ensembles = Ensembles(client)
            statuses = ensembles.statuses(ensembles.ids(RECENT))
            going_on = tuple(one for one in statuses if not one.complete)
            return Insight("", tuple(workers(client)), queue, server, going_on, ending.read(client))
    except connection.Distrusted as error:
        return Insight(str(error))
    except (redis.RedisError, QueueError) as error:
        return Insight(
            f"Redis at {connection.shown(endpoints.redis_url)} does not answer ({error}): see --logs queue"
        )


def certificate_end(endpoints: Endpoints) -> float:
    """When the gateway's certificate expires, in Unix time. Raises OSError if it is not valid already."""
    address = urllib.parse.urlsplit(endpoints.filestore_url)
    host = address.hostname or ""
    context = ssl.create_default_context(cafile=endpoints.ca_file or None)
    with (
        socket.create_connection((host, address.port or 443), timeout=ASK_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        certificate = secured.getpeercert() or {}
    return ssl.cert_time_to_seconds(str(certificate["notAfter"]))


def _nodes(nodes: Sequence[Node], inside: Insight) -> Iterator[NodeStatus]:
    """Each node with its worker; workers on nodes that the swarm does not name are listed, too."""
    by_node: dict[str, list[WorkerStatus]] = {}
    for worker in inside.workers:
        by_node.setdefault(worker.node, []).append(worker)
    for node in nodes:
        yield _node(node, by_node.pop(node.hostname, []), inside.queue is not None)
    for name, strangers in by_node.items():
        yield NodeStatus(name, "", strangers[0].state, master=False, **_sums(strangers))


def _node(node: Node, its: list[WorkerStatus], workers_known: bool) -> NodeStatus:
    works = workers_known and node.labels.get("cloudburst.worker") == "true"
    state = node.state
    if state == "ready" and node.availability != "active":
        state = {"drain": "drained", "pause": "paused"}.get(node.availability, node.availability)
    elif state == "ready" and works:
        state = (
            "no worker" if not its else its[0].state if its[0].state in {"draining", "stopping"} else state
        )
    master = node.labels.get("cloudburst.master") == "true"
    # What a node that is down has said last is not so any more.
    return NodeStatus(node.hostname, node.address, state, master=master, **_sums(its * (state != "down")))


def _sums(its: list[WorkerStatus]) -> dict[str, Any]:
    return {
        "slots": sum(worker.slots for worker in its),
        "busy": sum(worker.busy for worker in its),
        "reading": next((worker.reading for worker in its if worker.reading), None),
    }


def _service_problems(stack: str, services: Iterable[Service]) -> Iterator[str]:
    for one in services:
        name = one.name.removeprefix(f"{stack}_")
        if one.running < one.wanted:
            yield f"{name}: {one.running} of {one.wanted} run: see --logs {name}"
        elif one.update in {"paused", "rollback_completed", "rollback_paused"}:
            yield f"{name}: its last update did not work out ({one.update}): see --logs {name}, deploy again"


def _node_problems(nodes: Iterable[NodeStatus]) -> Iterator[str]:
    for node in nodes:
        if node.state == "down":
            yield (
                f"{node.name} ({node.address}) is down, its jobs run elsewhere: start it, or take it out: "
                f"--drain {node.name} --lost"
            )
        elif node.state == "no worker":
            yield f"{node.name} has no worker: it may be starting; see --logs worker"
        elif node.state == "unknown":
            yield f"{node.name} ({node.address}): the swarm does not know how it is; it may be starting"


def _keeper_problems(
    stack: str, services: Iterable[Service], said: Announcement | None, now: float
) -> Iterator[str]:
    """A stack that is to end itself, and could not."""
    wanted = any(one.name == f"{stack}_keeper" and one.wanted for one in services)
    if wanted and said is None:
        yield "the keeper, which is to end the stack, has not said anything yet: see --logs keeper"
    elif wanted and said and (said.problem or now - said.said_at > ending.SILENT_S):
        yield f"the stack {ending.sentence(said, now)}"


def _certificate_warnings(ends_at: float | None, now: float) -> Iterator[str]:
    if ends_at is not None and ends_at - now < CERTIFICATE_DAYS * DAY_S:
        days = max(int((ends_at - now) / DAY_S), 0)
        yield f"the gateway's certificate expires in {days} days: deploy again, which renews it"


def _room_warnings(nodes: Iterable[NodeStatus], master: MachineFacts | None) -> Iterator[str]:
    if master and master.disk_free_bytes < DISK_LOW * master.disk_bytes:
        yield (
            f"the master's disk has {size(master.disk_free_bytes)} of {size(master.disk_bytes)} left: queue, "
            "files and results are there; make room, or move its Docker volumes to a larger disk"
        )
    for node in nodes:
        reading = node.reading
        if reading is None:
            continue
        if not node.master and reading.disk_free_bytes < DISK_LOW * reading.disk_total_bytes:
            left = f"{size(reading.disk_free_bytes)} of {size(reading.disk_total_bytes)}"
            yield (
                f"{node.name}: its disk has {left} left, environments take "
                f"{size(reading.environments_bytes)}: make room, or lower CLOUDBURST_ENVIRONMENTS_GB"
            )
        if reading.memory_used_bytes > NODE_MEMORY_HIGH * reading.memory_total_bytes:
            yield f"{node.name}: its memory is full: give it fewer slots, or set max_rss_mb of payloads"


def _redis_warnings(inside: Insight) -> Iterator[str]:
    if inside.server and MEMORY_HIGH < inside.server.memory_part < 1:
        used = f"{size(inside.server.memory_used_bytes)} of {size(inside.server.memory_limit_bytes)}"
        yield (
            f"Redis uses {used}: when that is full, no job is accepted any more until others have ended; "
            "deploy with a larger CLOUDBURST_QUEUE_MEMORY"
        )


def size(count: int) -> str:
    """``3.2 GB``, ``120 MB``."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
