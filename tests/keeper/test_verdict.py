"""When a stack ends, case by case."""

from __future__ import annotations

import pytest

from cloudburst.keeper.verdict import Life, Limits, decide

NOW = 1_700_000_000.0


def life(age_s: float = 3600, idle_s: float = 0, *, busy: bool = False) -> Life:
    return Life(begun_at=NOW - age_s, busy=busy, busy_at=NOW - idle_s)


CASES = {
    "no limits": (Limits(), life(1e9, 1e9), False, 0),
    "its time is not over": (Limits(ttl_s=3601), life(), False, NOW + 1),
    "its time is over": (Limits(ttl_s=3600), life(), True, NOW),
    "its time is over, and it works": (Limits(ttl_s=3600), life(busy=True), True, NOW),
    "idle for a while": (Limits(idle_s=600), life(idle_s=599), False, NOW + 1),
    "idle for long enough": (Limits(idle_s=600), life(idle_s=601), True, NOW - 1),
    "busy, and was idle before": (Limits(idle_s=600), life(idle_s=601, busy=True), False, 0),
    "the first counts: idle": (Limits(ttl_s=7200, idle_s=600), life(idle_s=600), True, NOW),
    "the first counts: ttl": (Limits(ttl_s=3700, idle_s=600), life(), False, NOW + 100),
    "the ttl counts while it works": (Limits(ttl_s=3700, idle_s=1), life(busy=True), False, NOW + 100),
}


@pytest.mark.parametrize(("limits", "seen", "ends", "deadline"), CASES.values(), ids=CASES)
def test_when_a_stack_ends(limits, seen, ends, deadline):
    verdict = decide(seen, limits, NOW)

    assert (verdict.ends, verdict.deadline) == (ends, deadline)
    assert verdict.reason


def test_the_reason_names_what_the_user_said():
    assert "--ttl" in decide(life(), Limits(ttl_s=60), NOW).reason
    idle = decide(life(idle_s=600), Limits(idle_s=600), NOW).reason
    assert idle == "it has had nothing to do since 22:03 UTC (--idle 10 min)"
