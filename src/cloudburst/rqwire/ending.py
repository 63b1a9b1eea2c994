"""The end of a stack: what its keeper announces, and the clients for which it waits.

``cb:ending`` is a hash that the keeper writes in each round; clients read it. ``cb:watchers`` is one with
a field per client that collects results: when it was last heard of, and for which ending it has everything.
``cb:keeper`` is the keeper's own memory, which clients and workers may not change.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from cloudburst.pace import duration
from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.connection import Text as _Text

ENDING = "cb:ending"
WATCHERS = "cb:watchers"
KEEPER = "cb:keeper"

Stage = Literal["watching", "draining", "collecting", "removing"]
"""``draining``: no node takes new jobs. ``collecting``: no job runs any more, results may be fetched.
``removing``: the machines are taken away."""

SILENT_S = 90.0
"""A keeper or a watching client that was not heard of for so long is not there."""


@dataclass(frozen=True)
class Announcement:
    """What the keeper says."""

    stage: Stage = "watching"
    deadline: float = 0.0
    """Unix time in seconds at which the stack ends if nothing happens until then; 0: none is known."""
    reason: str = ""
    """Why then, in words."""
    problem: str = ""
    """Why the keeper could not take the stack away, as things are; "" if it could."""
    name: str = ""
    """Of this ending; "" while there is none."""
    since: float = 0.0
    """Unix time in seconds when its stage began."""
    said_at: float = 0.0
    """Unix time in seconds of the keeper's last round."""

    @property
    def collecting(self) -> bool:
        """All results are there, and it is time to fetch them."""
        return self.stage == "collecting"


@dataclass(frozen=True)
class Memory:
    """What the keeper has to know again when it starts again."""

    begun_at: float = 0.0
    """Unix time in seconds when the stack began; 0: not known."""
    busy_at: float = 0.0
    """Unix time in seconds when it last had something to do."""
    idle_s: float = 0.0
    """How long it might be idle when ``busy_at`` was written."""
    drained: tuple[str, ...] = ()
    """Nodes that take no new jobs because the keeper said so."""


@dataclass(frozen=True)
class Watcher:
    """A client that collects results."""

    heard_at: float
    """Unix time in seconds, of Redis' clock."""
    there: bool
    """Whether it was heard of lately."""
    collected: str = ""
    """Name of the ending for which it has everything."""


def read(client: Redis) -> Announcement | None:
    """What the keeper has last said; None if none ever did. Raises what redis-py raises."""
    raw = _hash(client, ENDING)
    if not raw:
        return None
    stage = raw.get("stage", "")
    return Announcement(
        stage=cast(Stage, stage if stage in get_args(Stage) else "watching"),
        deadline=_number(raw, "deadline"),
        reason=raw.get("reason", ""),
        problem=raw.get("problem", ""),
        name=raw.get("name", ""),
        since=_number(raw, "since"),
        said_at=_number(raw, "said_at"),
    )


def announce(client: Redis, announcement: Announcement) -> None:
    """Let everybody know. Raises what redis-py raises."""
    client.hset(ENDING, mapping=cast("Mapping[_Text, _Text]", vars(announcement)))


def remember(client: Redis, memory: Memory) -> None:
    """Keep it for the next start. Raises what redis-py raises."""
    fields = {**vars(memory), "drained": json.dumps(memory.drained)}
    client.hset(KEEPER, mapping=cast("Mapping[_Text, _Text]", fields))


def touch(client: Redis) -> None:
    """Count the time from now for which the stack has had nothing to do. Raises what redis-py raises."""
    client.hset(KEEPER, "busy_at", _now(client))


def recall(client: Redis) -> Memory:
    """What was kept. Raises what redis-py raises."""
    raw = _hash(client, KEEPER)
    drained = encoding.json_of(raw.get("drained", "[]").encode())
    return Memory(
        begun_at=_number(raw, "begun_at"),
        busy_at=_number(raw, "busy_at"),
        idle_s=_number(raw, "idle_s"),
        drained=tuple(map(str, drained)) if isinstance(drained, list) else (),
    )


def watchers(client: Redis) -> dict[str, Watcher]:
    """The clients that were ever there. Raises what redis-py raises."""
    now = _now(client)
    found = {}
    for name, text in cast("dict[bytes, bytes]", client.hgetall(WATCHERS)).items():
        heard, _, collected = encoding.text(text).partition(" ")
        if heard_at := encoding.number(heard):
            found[encoding.text(name)] = Watcher(heard_at, now - heard_at < SILENT_S, collected)
    return found


def new_watcher(host: str) -> str:
    """A name for a client, unlike any other."""
    return f"{host}-{secrets.token_hex(4)}"


def watch(client: Redis, name: str, collected: str = "") -> None:
    """Say that this client is there, and for which ending it has everything. Raises what redis-py raises."""
    client.hset(WATCHERS, name, f"{_now(client):.3f} {collected}".rstrip())


def leave(client: Redis, name: str) -> None:
    """Say that this client collects nothing any more. Raises what redis-py raises."""
    client.hdel(WATCHERS, name)


def sentence(announcement: Announcement, now: float) -> str:
    """What a person wants to know of it: ``ends in 25 min: had nothing to do for 5 min (--idle 30 min)``."""
    said = _stage(announcement, now)
    silent_s = now - announcement.said_at
    if silent_s > SILENT_S:
        said += f"; but the keeper was not heard of for {duration(silent_s)}"
    if announcement.problem:
        said += f"; but cannot: {announcement.problem}"
    return said


def _stage(announcement: Announcement, now: float) -> str:
    because = f": {announcement.reason}" if announcement.reason else ""
    match announcement.stage:
        case "watching" if not announcement.deadline:
            return f"does not end by itself{because}"
        case "watching":
            left_s = announcement.deadline - now
            return f"ends in {duration(left_s)}{because}" if left_s > 0 else f"ends now{because}"
        case "draining":
            return f"ends now{because}; no new jobs are started"
        case "collecting":
            return f"ends now{because}; waits for clients that collect results"
        case "removing":
            return f"ends now{because}; its machines are being removed"


def _number(raw: dict[str, str], name: str) -> float:
    return encoding.number(raw.get(name))


def _hash(client: Redis, key: str) -> dict[str, str]:
    raw = cast("dict[bytes, bytes]", client.hgetall(key))
    return {encoding.text(name): encoding.text(value) for name, value in raw.items()}


def _now(client: Redis) -> float:
    seconds, micros = client.time()
    return seconds + micros / 1e6
