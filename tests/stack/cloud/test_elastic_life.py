"""An elastic stack over hours, simulated event by event: bursts, steady work, a trickle, nothing."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from cloudburst.stack.cloud.elastic import NodeSeen, Rules, Seen, decide

pytestmark = pytest.mark.slow

SLOTS = 2
BOOT_S = 240.0
ROUND_S = 15.0
HOUR = 3600.0
RULES = Rules(min=1, max=10)


@dataclass
class Node:
    name: str
    made_at: float
    ready_at: float
    busy: int = 0
    idle_since: float = 0.0
    draining: bool = False


@dataclass
class Life:
    """Jobs are (arrival, duration) in seconds; the stack begins with ``start`` nodes that work."""

    jobs: list[tuple[float, float]]
    rules: Rules | None
    start: int = 1
    nodes: list[Node] = field(default_factory=list)
    done: int = 0
    node_s: float = 0.0
    waited_s: float = 0.0
    changes: list[tuple[float, int]] = field(default_factory=list)
    most: int = 0

    def run(self, until: float = 0.0) -> Life:
        self.nodes = [Node(str(n), 0.0, 0.0) for n in range(self.start)]
        queue: deque[tuple[float, float]] = deque()
        ended: deque[float] = deque(maxlen=50)
        busy: deque[int] = deque(maxlen=int((self.rules.idle_s if self.rules else 60) / ROUND_S))
        events: list[tuple[float, int, str, object]] = []
        for number, (at, duration) in enumerate(sorted(self.jobs)):
            heapq.heappush(events, (at, number, "job", duration))
        number = len(events)
        heapq.heappush(events, (0.0, number, "round", None))
        made = self.start
        while events:
            now, _, what, about = heapq.heappop(events)
            if what == "job":
                queue.append((now, about))  # type: ignore[arg-type]
            elif what == "end":
                node, duration = about  # type: ignore[misc]
                node.busy -= 1
                node.idle_since = now
                self.done += 1
                ended.append(duration)
            elif self.rules:
                busy.append(sum(node.busy for node in self.nodes))
                decision = decide(self._seen(now, queue, ended, busy), self.rules, now)
                assert all(not node.busy for node in self.nodes if node.name in decision.drain)
                for node in [node for node in self.nodes if node.name in decision.drain]:
                    self._gone(node, now)
                for _ in range(decision.add):
                    self.nodes.append(Node(str(made), now, now + BOOT_S, idle_since=now + BOOT_S))
                    made += 1
                if decision.change:
                    self.changes.append((now, decision.add - len(decision.drain)))
                assert self.rules.min <= len(self.nodes) <= self.rules.max
            if what == "round" and (self.done < len(self.jobs) or now < until):
                number += 1
                heapq.heappush(events, (now + ROUND_S, number, "round", None))
            for node in sorted(self.nodes, key=lambda one: one.busy):
                while queue and node.busy < SLOTS and node.ready_at <= now:
                    arrived, duration = queue.popleft()
                    node.busy += 1
                    self.waited_s = max(self.waited_s, now - arrived)
                    number += 1
                    heapq.heappush(events, (now + duration, number, "end", (node, duration)))
            self.most = max(self.most, len(self.nodes))
        for node in list(self.nodes):
            self._gone(node, max(now, until))
        return self

    @property
    def node_hours(self) -> float:
        return self.node_s / HOUR

    @property
    def turns(self) -> int:
        """How often growing followed shrinking, or shrinking growing."""
        pairs = zip(self.changes, self.changes[1:], strict=False)
        return sum((one > 0) != (other > 0) for (_, one), (_, other) in pairs)

    def _gone(self, node: Node, now: float) -> None:
        self.nodes.remove(node)
        self.node_s += now - node.made_at

    def _seen(self, now, queue, ended, busy) -> Seen:
        return Seen(
            nodes=tuple(
                NodeSeen(one.name, SLOTS, one.busy, one.idle_since, booting=one.ready_at > now)
                for one in self.nodes
            ),
            waiting=len(queue),
            work_s=len(queue) * sum(ended) / len(ended) if ended else None,
            slots_per_node=SLOTS,
            changed_at=self.changes[-1][0] if self.changes else -HOUR,
            busy_most=max(busy) if len(busy) == busy.maxlen else None,
        )


def _burst(at: float, jobs: int, mean_s: float, seed: int) -> list[tuple[float, float]]:
    chance = random.Random(seed)
    return [(at, chance.expovariate(1 / mean_s)) for _ in range(jobs)]


def _stream(hours: float, per_hour: float, mean_s: float, seed: int) -> list[tuple[float, float]]:
    chance = random.Random(seed)
    at, jobs = 0.0, []
    while (at := at + chance.expovariate(per_hour / HOUR)) < hours * HOUR:
        jobs.append((at, chance.expovariate(1 / mean_s)))
    return jobs


LIVES = {
    "two bursts": (_burst(600, 3000, 60, 1) + _burst(5 * HOUR, 2000, 90, 2), 8 * HOUR, 3),
    "steady": (_stream(12, 400, 60, 3), 12 * HOUR, 0),
    "heavy and steady": (_stream(12, 800, 60, 4), 12 * HOUR, 0),
    "a trickle after a burst": (_burst(0, 2000, 60, 5) + _stream(10, 60, 30, 6), 10 * HOUR, 1),
    "few long jobs": (_burst(60, 12, 2 * HOUR, 7), 10 * HOUR, 1),
    "nothing": ([], 6 * HOUR, 0),
}


@pytest.mark.parametrize(("jobs", "until", "turns"), LIVES.values(), ids=LIVES)
def test_all_work_is_done_by_few_nodes_and_without_to_and_fro(jobs, until, turns, capsys):
    elastic = Life(jobs, RULES).run(until)
    largest = Life(jobs, None, start=RULES.max).run(until)
    smallest = Life(jobs, None, start=RULES.min).run(until)

    told = [f"{life.node_hours:.1f} ({life.waited_s / 60:.0f})" for life in (elastic, largest, smallest)]
    with capsys.disabled():
        print(  # noqa: T201 - the numbers are for people
            f"\n  node-hours (longest wait in min): {told[0]}, {RULES.max} nodes {told[1]}, {RULES.min} node"
            f" {told[2]}; {len(elastic.changes)} changes, {elastic.turns} turns",
            end=" ",
        )
    assert elastic.done == len(jobs)
    assert elastic.most <= RULES.max
    assert elastic.node_hours <= largest.node_hours
    assert elastic.waited_s <= max(smallest.waited_s, 1)
    assert elastic.turns == turns
    for (before, one), (after, other) in zip(elastic.changes, elastic.changes[1:], strict=False):
        assert after - before >= RULES.cool_down_s
        if one > 0 > other:
            assert after - before >= BOOT_S + RULES.idle_s, "what was just added was taken away again"


def test_a_burst_is_done_nearly_as_soon_as_by_the_largest_fleet():
    jobs = _burst(0, 3000, 60, 8)

    elastic, largest = Life(jobs, RULES).run(), Life(jobs, None, start=RULES.max).run()

    assert elastic.waited_s < largest.waited_s + 30 * 60
