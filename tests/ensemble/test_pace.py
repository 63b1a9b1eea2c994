"""How fast an ensemble goes: what is said of it, from observations at known times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloudburst.model import EnsembleStatus
from cloudburst.pace import Pace, duration, seconds, sentence

NEW = EnsembleStatus(
    id="floods-abc123",
    name="floods",
    state="running",
    payload="",
    function="worker.work",
    total=1_000,
    waiting=1_000,
    running=0,
    finished=0,
    failed=0,
    cancelled=0,
    created_at=0.0,
)


def at(finished: int, **fields: object) -> EnsembleStatus:
    return replace(NEW, finished=finished, waiting=NEW.total - finished, **fields)


def test_before_the_first_job_has_ended_nobody_can_know():
    pace = Pace()
    pace.observe(NEW, 100)

    assert pace.left_s(NEW) is None
    assert sentence(NEW, pace) == "0 of 1,000 done"


def test_the_rate_is_that_of_the_last_minute():
    pace = Pace()
    for second, finished in ((0, 0), (10, 500), (60, 510), (120, 520), (180, 530)):
        pace.observe(at(finished), second)

    assert pace.per_s == pytest.approx(10 / 60)
    assert pace.left_s(at(530)) == pytest.approx(470 * 6)


def test_the_time_in_which_the_environment_was_built_does_not_count():
    pace = Pace()
    pace.observe(NEW, 300)
    pace.observe(at(20), 310)

    assert pace.per_s == pytest.approx(2)


def test_whoever_comes_later_sees_the_rate_since_the_start_until_there_is_a_better_one():
    pace = Pace()
    pace.observe(at(100), 50)
    assert pace.per_s == pytest.approx(2)

    pace.observe(at(110), 51)
    assert pace.per_s == pytest.approx(10)


def test_retried_jobs_begin_a_new_observation():
    pace = Pace()
    pace.observe(at(900), 100)
    pace.observe(at(1_000), 110)
    pace.observe(at(980), 111)
    pace.observe(at(990), 121)

    assert pace.per_s == pytest.approx(1)


def test_a_sentence_says_all_that_matters_and_no_more():
    pace = Pace()
    pace.observe(NEW, 0)
    going = replace(NEW, finished=38, failed=2, cancelled=5, running=4)
    pace.observe(going, 10)

    assert sentence(going, pace) == (
        "45 of 1,000 done, 2 failed, 5 cancelled, 4 running, 4.5/s, about 3 min 32 s left"
    )
    assert sentence(at(1_000), pace) == "1,000 of 1,000 done"
    growing = replace(NEW, state="submitting")
    assert sentence(growing, pace) == "0 of 1,000 done (more are being submitted)"


def test_no_more_jobs_are_said_to_run_than_there_are_slots():
    pace = Pace()
    going = replace(NEW, finished=370, running=4)
    pace.observe(going, 10)

    assert "370 of 1,000 done, 2 running" in sentence(going, pace, 2)
    assert "4 running" in sentence(going, pace, 8)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3_600, "1 h"),
        (7_500, "2 h 5 min"),
        (86_399, "23 h 59 min"),
        (273_600, "3 d 4 h"),
        (-3, "0 s"),
    ],
)
def test_durations_have_two_parts_at_most(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("90s", 90), ("30min", 1800), ("30m", 1800), ("1h30m", 5400), ("1h30min", 5400), ("8h", 28800)),
        *(("2d", 172800), ("90", 90), ("0.5h", 1800), ("1d2h3m4.5s", 93784.5), ("0", 0)),
    ],
)
def test_spans_of_time_are_written_in_one_way_wherever_they_are_asked_for(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "-5s", "1h1h", "30m1h", "h", "8w", "1e3", "٣s", "nan", "5 s", " 5"]
)
def test_what_is_no_span_of_time(text):
    with pytest.raises(ValueError, match="is no time: use 90s, 15min or 2h"):
        seconds(text)
