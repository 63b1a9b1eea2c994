"""Compare: from what is there and what should be there to the steps in between. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloudburst.hosts.process import Process
from cloudburst.stack.facts import Facts
from cloudburst.stack.records import SERVICES
from cloudburst.stack.service import Service


@dataclass(frozen=True)
class Plan:
    """Steps of a start: strays go first, then services are stopped, then started."""

    strays: tuple[Process, ...]
    stop: tuple[str, ...]
    """Last to start, first to stop."""
    start: tuple[Service, ...]
    reasons: Mapping[str, str]
    """Why a service is stopped or started, unless it simply is not there yet."""
    headline: str = ""
    """What is the matter with the stack as a whole; "" when nothing is."""

    @property
    def empty(self) -> bool:
        return not (self.strays or self.stop or self.start)


def plan(facts: Facts, services: Sequence[Service]) -> Plan:
    """What it takes to make the stack that is there the one that should be."""
    reasons: dict[str, str] = {}
    start = []
    for service in services:
        there = facts.services[service.name]
        changed = _difference(there.record.settings, service.settings) if there.record else ""
        if there.state == "running" and not changed:
            continue
        start.append(service)
        # A service that listens elsewhere than it should cannot be asked: the change is the reason.
        reason = (changed if there.process else "") or there.detail
        if reason:
            reasons[service.name] = reason
    wanted = {service.name for service in services}
    for name in SERVICES:
        if name not in wanted and facts.services[name].process:
            reasons[name] = "no longer wanted"
    again = {service.name for service in start} | (set(SERVICES) - wanted)
    stop = tuple(name for name in reversed(SERVICES) if name in again and facts.services[name].process)
    return Plan(facts.strays, stop, tuple(start), reasons, _headline(facts, services))


def _headline(facts: Facts, services: Sequence[Service]) -> str:
    running = [there.name for there in facts.running()]
    missing = [service.name for service in services if facts.services[service.name].state == "absent"]
    if not running or not missing:
        return ""
    return f"half-started stack: {', '.join(running)} there; {', '.join(missing)} not"


def _difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """``slots 1 → 2, password changed``; digests are not shown."""
    changes = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key, ""), new.get(key, "")
        if before == after:
            continue
        plain = key in {"slots", "port", "version"}
        changes.append(f"{key} {before} → {after}" if plain else f"{key} changed")
    return ", ".join(changes)
