"""Workers as stock RQ sees them: ``rq:workers``, one hash each, with a few fields of our own."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, cast

from redis import ResponseError

from cloudburst import names
from cloudburst.model import NodeReading, PointsWaiting, WorkerStatus
from cloudburst.rqwire import encoding, nodes
from cloudburst.rqwire.connection import Redis, found, out_of_memory
from cloudburst.rqwire.connection import Text as _Text
from cloudburst.rqwire.scripts import Asking, Scripts

ALIVE_S = 60
"""A worker's hash expires so long after its last heartbeat."""

POINTS_WAIT_S = 30.0
"""A database that is started again is away for less."""

SWEPT_S = 20
"""After one worker has looked for expired ones, no other does for so long."""


class Registration:
    """One worker's entry, from birth to death. Raises what redis-py raises."""

    def __init__(self, client: Redis, *, name: str, queue: str, node: str, slots: int) -> None:
        self._redis = client
        self._call = Scripts(client)
        self._name = name
        self._queue = queue
        self._node = node
        self._slots = slots
        self._birth = encoding.now()
        self._address = _address_towards(client)
        self.suspended = False
        """Whether ``rq suspend`` forbids to start jobs, as of the last heartbeat."""
        self.draining = False
        """Whether an operator wants the node to take no new jobs, as of the last heartbeat."""
        self.workers = 1
        """How many serve the queue, this one too, as of the last heartbeat; some may have died lately."""
        self.reading: NodeReading | None = None
        """What the worker has measured of its node, for the next heartbeat."""
        self.points_waiting: PointsWaiting | None = None
        """What its database does not take, for the next heartbeat."""

    def heartbeat(self, *, busy: int, current_job: str, stopping: bool = False) -> None:
        """Tell Redis that the worker lives; makes the entry if it is not there (any more)."""
        self._call.ask(self.living(busy=busy, current_job=current_job, stopping=stopping))

    def living(self, *, busy: int, current_job: str, stopping: bool = False) -> Asking[None]:
        """As ``heartbeat``, to be asked together with other things."""
        fields: Mapping[_Text, _Text] = {
            "birth": self._birth,
            "last_heartbeat": encoding.now(),
            "queues": self._queue,
            "pid": os.getpid(),
            "hostname": self._node,
            "ip_address": self._address,
            "version": f"cloudburst-{names.VERSION}",
            "python_version": platform.python_version(),
            "state": "busy" if busy else "suspended" if self.suspended else "idle",
            "current_job": current_job,
            "cb_slots": self._slots,
            "cb_busy": busy,
            "cb_stopping": int(stopping),
            "cb_draining": int(self.draining),
            "cb_points": self.points_waiting.to_json() if self.points_waiting else "",
        }
        if self.reading is not None:
            fields = {**fields, "cb_node": self.reading.to_json()}
        flat = chain.from_iterable(fields.items())
        suspended, self.workers, wishes = yield (
            "heartbeat",
            (self._name, self._queue, self._node, ALIVE_S, *flat),
        )
        self.suspended = bool(suspended)
        self.draining = nodes.wishes(self._node, wishes).draining

    def death(self, name: str | None = None) -> None:
        """Take the entry away, as a stock worker does; or that of a worker which is known to be dead."""
        self._call("death", name or self._name, self._queue, encoding.now(), ALIVE_S)

    def forget_expired(self) -> None:
        """Remove from RQ's sets the workers that have not reported for a minute.

        If no other worker has done so lately: 200 that each ask for 200 were 2,700 round trips per second.
        """
        try:
            if not self._redis.set(f"cb:swept:{self._queue}", self._name, nx=True, ex=SWEPT_S):
                return
        except ResponseError as error:
            if not out_of_memory(error):
                raise
            return  # they are of no harm until there is room
        for listed in ("rq:workers", f"rq:workers:{self._queue}"):
            keys = list(cast("set[bytes]", self._redis.smembers(listed)))
            with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.exists(key)
                alive = pipe.execute()
            gone = [key for key, there in zip(keys, alive, strict=True) if not there]
            if gone:
                self._redis.srem(listed, *gone)


def _address_towards(client: Redis) -> str:
    """This machine's address on the way to Redis; nothing is sent."""
    settings = client.connection_pool.connection_kwargs
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((settings.get("host", "127.0.0.1"), settings.get("port", names.PORT_QUEUE)))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def worker_name(node: str) -> str:
    """A new name, unlike any other: owners of leases begin with it."""
    host = (node or socket.gethostname()).partition(".")[0]
    return f"{host}-{os.getpid()}-{time.time_ns() // 1000 % 2**32:08x}"


def workers(client: Redis) -> list[WorkerStatus]:
    """Workers that have reported within the last minute, by name."""
    keys = sorted(cast("set[bytes]", client.smembers("rq:workers")))
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hgetall(key)
        rows = found(pipe, dict)
    names_ = [encoding.text(key.removeprefix(b"rq:worker:")) for key in keys]
    return [_status(name, row) for name, row in zip(names_, rows, strict=True) if row]


def _status(name: str, row: dict[bytes, bytes]) -> WorkerStatus:
    def text(field: str) -> str:
        return encoding.text(row.get(field.encode()))

    def whole(field: str, default: int) -> int:
        return encoding.whole(row.get(field.encode()), default)

    return WorkerStatus(
        name=name,
        node=text("hostname"),
        state=_state(text("cb_stopping"), text("cb_draining"), text("state")),
        slots=whole("cb_slots", 1),
        busy=whole("cb_busy", 1 if text("current_job") else 0),
        heartbeat_at=encoding.timestamp(text("last_heartbeat")),
        pid=whole("pid", 0),
        reading=NodeReading.from_json(text("cb_node")),
        points_waiting=PointsWaiting.from_json(text("cb_points")),
    )


def _state(stopping: str, draining: str, state: str) -> str:
    if stopping == "1":
        return "stopping"
    return "draining" if draining == "1" else state


def points_sentence(found: Iterable[WorkerStatus], now: float) -> str:
    """What is said of points that wait on nodes; "" if none do, or for a moment only. ``now``: Unix time."""
    its = [(worker.node, worker.points_waiting) for worker in found if worker.points_waiting]
    late = {node: one for node, one in its if now - one.since > POINTS_WAIT_S}
    if not late:
        return ""
    points = sum(one.points for one in late.values())
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(min(one.since for one in late.values())))
    nodes_ = ", ".join(sorted(late)[:5]) + (" and others" if len(late) > 5 else "")
    reason = next((one.reason for one in late.values() if one.reason), "it has not been asked yet")
    return (
        f"about {points:,} points of jobs wait since {since} on {nodes_}, which keep them until the database "
        f"takes them: {reason}"
    )


def queue_depth(client: Redis, queue: str = names.QUEUE) -> int:
    """Number of jobs that wait in the queue."""
    return int(cast("Any", client.llen(f"rq:queue:{queue}")))
