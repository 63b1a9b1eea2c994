"""How many nodes a stack should have: from what is seen of it to what is to be done. Runs nothing.

Growing looks at work, in seconds per slot; shrinking looks at idleness, in seconds per node. Between the two
lies room, so that what one has done the other does not undo: nodes that are being made count with the slots
that they will have, a node that has just come is not idle yet, and jobs that wait forbid to shrink.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cloudburst.errors import ConfigError
from cloudburst.pace import duration

ROOM = 0.7
"""Nodes that work little go, if those that stay would have no more than this part of their slots busy."""


@dataclass(frozen=True)
class Rules:
    """What the user wants. Raises ConfigError when it cannot be."""

    min: int
    """Fewer compute nodes than that there never are, unless one is lost; at least 1."""
    max: int
    """More compute nodes than that there never are, those that drain or are being made counted."""
    grow_s: float = 600.0
    """Nodes are added when there is more work than so many seconds for each slot."""
    idle_s: float = 900.0
    """A node that had nothing to do for so long goes."""
    step: int = 4
    """So many nodes come or go at a time, at most."""
    cool_down_s: float = 120.0
    """After nodes were added or taken away, nothing is decided for so long, but to keep to ``min``."""

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.max:
            raise ConfigError(
                f"--min {self.min} --max {self.max}: should be at least 1, and the first not above the second"
            )
        for name in ("grow_s", "idle_s", "step"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"elastic: {name} should be above 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class NodeSeen:
    """One compute node."""

    name: str
    slots: int
    """For one that has not started to work: how many it will have."""
    busy: int = 0
    """Jobs that it holds."""
    idle_since: float = 0.0
    """Unix time in seconds since when it has had none; it means something when ``busy`` is 0."""
    draining: bool = False
    """It takes no new jobs, by whoever's wish."""
    booting: bool = False
    """It is being made, or its worker has not reported yet (or not for a while)."""


@dataclass(frozen=True)
class Seen:
    """A stack at one moment."""

    nodes: tuple[NodeSeen, ...]
    waiting: int
    """Jobs in the queue."""
    work_s: float | None
    """How long one slot would take for all of them; None: nobody knows yet."""
    slots_per_node: int
    """Of a node to be added."""
    changed_at: float = 0.0
    """Unix time in seconds when nodes were last added or taken away."""
    busy_most: int | None = None
    """How many slots were busy at most over the last ``Rules.idle_s``; None while that is not known."""


@dataclass(frozen=True)
class Decision:
    """Nodes to add, or names of nodes to drain, or neither; and why, in words."""

    reason: str
    add: int = 0
    drain: tuple[str, ...] = ()

    @property
    def change(self) -> bool:
        return bool(self.add or self.drain)


def decide(seen: Seen, rules: Rules, now: float) -> Decision:
    """What is to be done now, Unix time in seconds. Never drains a node that holds a job."""
    there, serving = len(seen.nodes), [node for node in seen.nodes if not node.draining]
    if len(serving) < rules.min and there < rules.max:
        return Decision(
            f"{_count(len(serving))}, at least {rules.min} are wanted",
            add=min(rules.min - len(serving), rules.max - there),
        )
    idle = sorted(
        (node for node in serving if not node.busy and not node.booting),
        key=lambda node: (node.idle_since, node.name),
    )
    if len(serving) > rules.max:
        drain = tuple(node.name for node in idle[: min(len(serving) - rules.max, rules.step)])
        many = f"{_count(len(serving))}, at most {rules.max} are wanted"
        return Decision(many if drain else f"{many}; all of the others work", drain=drain)
    if now - seen.changed_at < rules.cool_down_s:
        return Decision(f"nodes came or went {duration(now - seen.changed_at)} ago: looks again later")
    if seen.waiting:
        return _grow(seen, rules, serving)
    return _shrink(seen, rules, serving, idle, now)


def _grow(seen: Seen, rules: Rules, serving: Sequence[NodeSeen]) -> Decision:
    if seen.work_s is None:
        return Decision(f"{_jobs(seen.waiting)} wait, and no job has shown yet how long they take")
    slots = sum(node.slots for node in serving)
    per_slot = seen.work_s / max(slots, 1)
    work = f"{_jobs(seen.waiting)} wait, {duration(per_slot)} of work for each of {slots} slots"
    if per_slot <= rules.grow_s:
        return Decision(f"{work}: no more than {duration(rules.grow_s)}")
    # More slots than jobs would help nobody: one job runs on one slot, however long it takes.
    busy = sum(node.busy for node in serving)
    wanted_slots = min(math.ceil(seen.work_s / rules.grow_s), seen.waiting + busy)
    missing = math.ceil((wanted_slots - slots) / seen.slots_per_node)
    if missing <= 0:
        return Decision(f"{work}, and a slot for each of them is there or will be")
    room = rules.max - len(seen.nodes)
    if room <= 0:
        return Decision(f"{work}; there are {rules.max} nodes, as many as may be")
    return Decision(f"{work}: more than {duration(rules.grow_s)}", add=min(missing, rules.step, room))


def _shrink(
    seen: Seen, rules: Rules, serving: Sequence[NodeSeen], idle: Sequence[NodeSeen], now: float
) -> Decision:
    spare = len(serving) - rules.min
    if spare <= 0:
        return Decision(f"no job waits; {_count(len(serving))}, no fewer are wanted")
    long = [node for node in idle if now - node.idle_since >= rules.idle_s]
    if long:
        gone = long[: min(spare, rules.step)]
        since = duration(now - max(node.idle_since for node in gone))
        return Decision(f"had nothing to do for {since}", drain=tuple(node.name for node in gone))
    # Jobs that trickle in reach every node now and then, so that none is ever idle for long.
    slots = sum(node.slots for node in serving)
    if seen.busy_most is not None:
        gone = []
        stay = slots
        for node in idle[: min(spare, rules.step)]:
            stay -= node.slots
            if seen.busy_most <= ROOM * stay:
                gone.append(node)
        if gone:
            return Decision(
                f"of {slots} slots {seen.busy_most} were busy at most over the last {duration(rules.idle_s)}",
                drain=tuple(node.name for node in gone),
            )
    return Decision("no job waits, and no node was idle for long enough")


def _count(nodes: int) -> str:
    return f"there is {nodes} node" if nodes == 1 else f"there are {nodes} nodes"


def _jobs(count: int) -> str:
    return f"{count:,} job" if count == 1 else f"{count:,} jobs"
