"""What is seen of a stack that is to grow and shrink: its machines, its workers, its queue."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Sequence

from cloudburst import names
from cloudburst.providers.provider import Node
from cloudburst.rqwire import nodes, work
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.held import held
from cloudburst.rqwire.workers import workers
from cloudburst.stack.cloud.elastic import NodeSeen, Seen

BOOT_S = 900.0
"""A machine whose worker has not come for so long does not count on with its slots: something is wrong."""

_CPUS = re.compile(r"[a-z0-9]+-(\d+)")


class Observer:
    """Remembers what one look does not show: since when nodes are idle, how many slots were busy."""

    def __init__(self, idle_s: float) -> None:
        """``idle_s``: over how long it looks back."""
        self._idle_s = idle_s
        self._idle_since: dict[str, float] = {}
        self._busy: deque[tuple[float, int]] = deque()
        self.changed_at = 0.0
        """Unix time in seconds when nodes were last added or taken away."""

    def look(self, queue: Redis, machines: Sequence[Node], size: str, now: float) -> Seen:
        """``machines``: the stack's, as the provider lists them; ``size``: of those to be added.

        ``now`` is Unix time in seconds. Raises what redis-py raises.
        """
        alive = {one.node: one for one in workers(queue)}
        by_name = {one.name: one.node for one in alive.values()}
        jobs = Counter(by_name.get(job.worker, "") for job in held(queue))
        wishes = nodes.read_all(queue)
        waiting = work.read(queue, names.QUEUE, now)
        slots = max((one.slots for one in alive.values()), default=0) or slots_of(size)
        seen = []
        for machine in machines:
            if machine.name == f"{machine.stack}-master":
                continue
            worker = alive.get(machine.name)
            busy = max(jobs[machine.name], worker.busy if worker else 0)
            if worker is None or busy:
                self._idle_since.pop(machine.name, None)
            booting = worker is None
            late = booting and now - machine.created_at > BOOT_S
            seen.append(
                NodeSeen(
                    name=machine.name,
                    slots=worker.slots if worker else 0 if late else slots,
                    busy=busy,
                    idle_since=now if booting or busy else self._idle_since.setdefault(machine.name, now),
                    draining=wishes.get(machine.name, nodes.Wishes()).draining,
                    booting=booting,
                )
            )
        return Seen(
            nodes=tuple(seen),
            waiting=waiting.waiting,
            work_s=waiting.work_s,
            slots_per_node=slots,
            changed_at=self.changed_at,
            busy_most=self._most(sum(one.busy for one in seen), now),
        )

    def _most(self, busy: int, now: float) -> int | None:
        """How many slots were busy at most; None while it has not looked for long enough."""
        self._busy.append((now, busy))
        while len(self._busy) > 1 and self._busy[1][0] <= now - self._idle_s:
            self._busy.popleft()
        long_enough = self._busy[0][0] <= now - self._idle_s
        return max(count for _, count in self._busy) if long_enough else None


def slots_of(size: str) -> int:
    """CPUs of a size, from its name: ``s-2vcpu-4gb``, ``c-8``; 1 if it does not say."""
    match = _CPUS.match(size)
    return int(match[1]) if match else 1
