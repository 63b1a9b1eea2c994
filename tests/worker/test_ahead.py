"""How many jobs a worker holds, decided from how long jobs take."""

from __future__ import annotations

import pytest

from cloudburst.worker.ahead import MOST, Ahead


def after(*durations_s: float) -> Ahead:
    ahead = Ahead()
    for duration_s in durations_s:
        ahead.observe(duration_s)
    return ahead


@pytest.mark.parametrize(
    ("durations_s", "plenty", "held"),
    [
        ([], True, 0),  # nothing is known: it may take hours
        ([0.0], False, MOST),
        ([0.001] * 9, False, 18),
        ([0.009] * 9, False, 2),
        ([0.1] * 9, False, 0),
        ([0.1] * 9, True, 1),
        ([0.3] * 9, True, 0),
        ([0.001] * 9 + [10.0], True, 0),  # a long one counts at once
        ([10.0] + [0.001] * 9, True, 0),  # and is forgotten slowly
        ([10.0] + [0.001] * 99, True, 17),
    ],
)
def test_jobs_are_held_for_a_moment_or_one_while_the_queue_is_long(durations_s, plenty, held):
    assert after(*durations_s).per_slot(plenty=plenty) == held


def test_what_a_claim_takes_is_hidden_by_twice_as_much_work():
    ahead = after(*[0.02] * 9)
    for _ in range(50):
        ahead.waited(0.1)

    assert ahead.per_slot(plenty=False) == 10
    assert ahead.needed() == 10
    for _ in range(99):
        ahead.waited(60.0)
    assert ahead.moment_s == pytest.approx(1.02, rel=0.01)


def test_what_is_held_stays_though_one_job_in_between_took_longer():
    ahead = after(*[0.0001] * 99, 0.004)

    assert ahead.per_slot(plenty=False) < 10 < ahead.kept_per_slot(plenty=False)


def test_a_job_is_late_when_it_takes_much_longer_than_usual():
    assert after(0.0001).late_s() == 0.02
    assert after(0.1).late_s() == pytest.approx(0.2, rel=0.01)
    assert after(100.0).late_s() == 0.5
