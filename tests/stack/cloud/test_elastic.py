"""What an elastic stack decides, case by case."""

from __future__ import annotations

import pytest

from cloudburst.errors import ConfigError
from cloudburst.stack.cloud.elastic import NodeSeen, Rules, Seen, decide

NOW = 100_000.0
RULES = Rules(min=1, max=6, grow_s=600, idle_s=900, step=3, cool_down_s=120)


def node(name: str, *, busy: int = 0, idle_s: float = 0, draining=False, booting=False) -> NodeSeen:
    return NodeSeen(name, 2, busy, NOW - idle_s, draining, booting)


def seen(*nodes: NodeSeen, waiting: int = 0, work_s: float | None = None, **more) -> Seen:
    return Seen(nodes, waiting, work_s, slots_per_node=2, **more)


BUSY = [node("1", busy=2), node("2", busy=2)]

CASES = {
    "fewer than the least": (seen(), 1, ()),
    "as few as the least, nothing to do": (seen(node("1", idle_s=9000)), 0, ()),
    "little work": (seen(*BUSY, waiting=10, work_s=2400), 0, ()),
    "a little more": (seen(*BUSY, waiting=10, work_s=2401), 1, ()),
    "much work: so many at a time": (seen(*BUSY, waiting=9999, work_s=1e6), 3, ()),
    "much work, and nearly as many as may be": (seen(*BUSY * 2, node("5"), waiting=9999, work_s=1e6), 1, ()),
    "much work, and as many as may be": (seen(*BUSY * 3, waiting=9999, work_s=1e6), 0, ()),
    "those that drain are still there": (
        seen(*BUSY * 2, node("5", draining=True), node("6", draining=True), waiting=9999, work_s=1e6),
        0,
        (),
    ),
    "those that are being made count": (
        seen(*BUSY, node("3", booting=True), node("4", booting=True), waiting=50, work_s=4800),
        0,
        (),
    ),
    "few long jobs: no more slots than jobs": (seen(*BUSY, waiting=1, work_s=50_000), 1, ()),
    "few long jobs, which will have slots": (
        seen(node("1", busy=2), node("2", booting=True), waiting=2, work_s=50_000),
        0,
        (),
    ),
    "nobody knows how long jobs take": (seen(*BUSY, waiting=9999), 0, ()),
    "one idle for long enough": (seen(*BUSY, node("3", idle_s=900)), 0, ("3",)),
    "one idle, but not for long enough": (seen(*BUSY, node("3", idle_s=899)), 0, ()),
    "those longest idle go first, down to the least": (
        seen(node("1", idle_s=1000), node("2", idle_s=3000), node("3", idle_s=2000)),
        0,
        ("2", "3"),
    ),
    "so many at a time": (seen(*(node(str(n), idle_s=1000) for n in range(6))), 0, ("0", "1", "2")),
    "idle while jobs wait": (seen(*BUSY, node("3", idle_s=9000), waiting=1, work_s=1), 0, ()),
    "idle, because it has only been made": (seen(*BUSY, node("3", idle_s=9000, booting=True)), 0, ()),
    "idle, and leaving already": (seen(*BUSY, node("3", idle_s=9000, draining=True)), 0, ()),
    "busy, though for long": (seen(node("1", busy=1, idle_s=9000), node("2", busy=1, idle_s=9000)), 0, ()),
    "a trickle of jobs on many nodes": (
        seen(node("1", busy=1), *(node(str(n), idle_s=20) for n in range(2, 5)), busy_most=2),
        0,
        ("2", "3"),
    ),
    "a trickle that fills the others": (
        seen(node("1", busy=1), node("2", busy=1), node("3", idle_s=20), busy_most=3),
        0,
        (),
    ),
    "a trickle, each node at work": (seen(node("1", busy=1), node("2", busy=1), busy_most=1), 0, ()),
    "a trickle, not yet seen for long": (seen(node("1", busy=1), node("2", idle_s=20)), 0, ()),
    "nodes came a minute ago, work": (
        seen(*BUSY, waiting=9999, work_s=1e6, changed_at=NOW - 60),
        0,
        (),
    ),
    "nodes came a minute ago, idle": (seen(*BUSY, node("3", idle_s=9000), changed_at=NOW - 60), 0, ()),
    "too few, whatever came a minute ago": (seen(changed_at=NOW - 60), 1, ()),
    "more than may be: those without a job go": (
        seen(*BUSY * 3, node("7"), node("8", idle_s=5), waiting=9, work_s=9e9),
        0,
        ("8", "7"),
    ),
    "more than may be, and all busy": (seen(*BUSY * 4, waiting=9, work_s=9e9), 0, ()),
}


@pytest.mark.parametrize(("situation", "add", "drain"), CASES.values(), ids=CASES)
def test_what_is_decided(situation, add, drain):
    decision = decide(situation, RULES, NOW)

    assert (decision.add, decision.drain) == (add, drain), decision.reason
    assert decision.reason


def test_the_reason_says_what_was_seen():
    grow = decide(seen(*BUSY, waiting=1200, work_s=7200), RULES, NOW)
    shrink = decide(seen(*BUSY, node("3", idle_s=1200)), RULES, NOW)

    assert grow.reason == "1,200 jobs wait, 30 min of work for each of 4 slots: more than 10 min"
    assert shrink.reason == "had nothing to do for 20 min"


@pytest.mark.parametrize("wrong", [{"min": 0}, {"min": 7}, {"grow_s": 0}, {"idle_s": -1}, {"step": 0}])
def test_rules_that_cannot_be(wrong):
    with pytest.raises(ConfigError):
        Rules(**{"min": 1, "max": 6} | wrong)
