"""What a job may say through its executor's sockets: it can spoil its own record, and nothing else."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudburst.worker import replies
from cloudburst.worker.inside import frames
from cloudburst.worker.process import ExecutorProcess
from tests.wait import wait_until
from tests.worker.playing import HEADER, LINES, Playing, ended


@pytest.fixture
def playing(tmp_path: Path) -> Iterator[Playing]:
    made = Playing(tmp_path)
    yield made
    made.slots.close()


def raw(kind: str, body: str, length: int | None = None) -> list[object]:
    """A frame whose head may announce something else than comes."""
    head = struct.pack(">IB", len(body) if length is None else length, ord(kind))
    return ["raw", head.decode("latin-1") + body]


NESTED = "[" * 100_000 + "]" * 100_000
A_DAY_AGO = 90_000

DISTURBED = {
    "an unknown kind": raw("X", "x"),
    "a length of 4 GiB": raw("D", "x", 2**32 - 1),
    "a length beyond the kind's": raw("P", "x", frames.POINTS_FRAME_LIMIT + 1),
    "no newline": raw("D", '{"order": @ORDER@}'),
    "no JSON": raw("D", "{\n"),
    "no object": raw("D", "[1]\nnull"),
    "no text": ["frame", "D", "\xff\xfe\nnull"],
    "nested deeply": ["frame", "D", NESTED + "\nnull"],
    "infinite duration": ended(duration=float("inf")),
    "duration that is no number": ended(duration=float("nan")),
    "huge duration": ["frame", "D", ended()[2].replace("0.001", "1e400")],
    "thousands of digits": ["frame", "D", ended()[2].replace("0.001", "9" * 5000)],
    "negative duration": ended(duration=-1),
    "duration as text": ended(duration="0.5"),
    "duration as a truth": ended(duration=True),
    "duration of years": ended(duration=1e9),
    "no duration": ended(duration=None),
    "no state": ended(state=None),
    "another state": ended(state="stopped"),
    "state as a list": ended(state=["finished"]),
    "no order": ended(order=None),
    "order of another job": ended(order=1),
    "negative order": ended(order=-1),
    "order with a fraction": ended(order=0.5),
    "began in 1970": ended(started=10.0),
    "began yesterday": ended(started=time.time() - A_DAY_AGO),
    "begins in the year 9999": ended(started=253402300799.0),
    "memory as a list": ended(rss_mb=[1]),
    "negative memory": ended(rss_mb=-5),
    "a fingerprint as a list": ended(state="failed", fingerprint=["x"]),
    "a fingerprint of blanks": ended(state="failed", fingerprint="a b"),
    "an error as a number": ended(state="failed", error=5),
    "a long error": ended(state="failed", error="x" * 5000),
    "a long traceback": ended(state="failed", traceback="x" * 70_000),
    "broken as text": ended(state="failed", broken="no"),
    "much output": ended("x" * 70_000, state="failed"),
    "renew as a number": ended(renew=1),
    "series as a list": ended(series=["m"]),
    "too many series": ended(series={str(i): [0, 1] for i in range(101)}),
    "series without times": ended(series={"m": 1}),
    "series that end before they begin": ended(series={"m": [2, 1]}),
    "series with times out of range": ended(series={"m": [0, 2**63]}),
    "series with times as truths": ended(series={"m": [True, True]}),
    "a key twice": ["frame", "D", ended()[2].replace('"duration"', '"rss_mb"')],
    "a value that is no JSON": ended("{"),
    "no value": ended(""),
    "a value and more": ended("1 2"),
    "a value that is no text": ended('"\xff"'),
    "a large value": ended(json.dumps("x" * 65_600)),
    "a deep value": ended("[" * 101 + "1" + "]" * 101),
    "a very deep value": ended("[" * 30_000 + "]" * 30_000),
    "a value with a huge number": ended("9" * 5000),
    "a value with half a letter": ended('"\\ud800"'),
    "a key with half a letter": ended('{"\\ud800": 1}'),
    "a value with a key twice": ended('{"a": 1, "a": 2}'),
    "no line protocol": ["frame", "P", "hello\n"],
    "no newline after a line": ["frame", "P", "m v=1 1"],
    "a line without time": ["frame", "P", "m v=1\n"],
    "a line that is no text": ["frame", "P", 'm v="\xff" 1\n'],
    "no lines": ["frame", "P", ""],
    "a long line": ["frame", "P", 'm v="' + "x" * 70_000 + '" 1\n'],
    "a line about results": ["frame", "P", "m v=1 1\nresult,ensemble=e v=1 1\n"],
    "another summary": ["frame", "S", "m v=1 1\n"],
    "two summaries in one": ["frame", "S", "result v=1 1\nresult v=1 1\n"],
}


@pytest.mark.parametrize("case", DISTURBED)
def test_an_executor_that_says_something_else_fails_its_job_alone(playing, case):
    good = playing.claim(ended("1"))
    playing.run(ended())
    bad, behind = playing.claim(DISTURBED[case])._replace(attempt=2), playing.claim(ended("2"))
    for claim in (bad, behind):
        playing.hand_over(claim)
    playing.hand_over(good, slot=1)

    outcome = playing.outcome(bad)

    assert (outcome.state, outcome.fingerprint) == ("failed", "protocol")
    assert outcome.error.startswith("stopped: its executor was disturbed: ")
    assert len(outcome.error) < 1000
    outcome.error.encode()
    assert playing.outcome(good).value == b"1"
    assert behind in playing.slots.waiting or playing.outcomes[behind.job_id].value == b"2"
    assert not playing.losses


def test_who_is_not_the_first_in_a_disturbed_executor_gets_another_attempt(playing):
    playing.run(ended())
    innocent = playing.claim(DISTURBED["an unknown kind"])
    playing.hand_over(innocent)

    playing.until(lambda: innocent.job_id in playing.losses)

    assert not playing.outcomes.get(innocent.job_id)


ALLOWED = {
    "half a letter in an error": (ended(state="failed", error="caf\udce9"), "error", "caf?"),
    "NUL in an error": (ended(state="failed", error="a\0b"), "error", "a\0b"),
    "not a number, in a value": (ended("[NaN, Infinity]"), "value", b"[NaN, Infinity]"),
    "a hundred levels": (ended("[" * 100 + "]" * 100), "value", b"[" * 100 + b"]" * 100),
    "output that is no text": (ended("\xff\0", state="failed"), "output", b"\xff\0"),
    "what another version says beside": (ended("1", more={"a": [1]}), "value", b"1"),
    "a whole number of seconds": (ended("1", duration=0), "duration_s", 0.0),
    "a pair of surrogates": (ended('"\\ud83d\\ude00"'), "value", b'"\\ud83d\\ude00"'),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_jobs_rightly_say_is_taken(playing, case):
    step, field, value = ALLOWED[case]

    assert getattr(playing.run(step), field) == value


def test_frames_come_in_any_pieces():
    parser = replies.Replies()
    (_, _, body) = ended("[1]", order=5)
    stream = frames.pack(frames.POINTS, b"m v=1 1\n") + frames.pack(frames.DONE, body.encode())

    said = [reply for i in range(len(stream)) for reply in parser.read(stream[i : i + 1])]

    assert said[0] == replies.Points(b"m v=1 1\n")
    assert (said[1].order, said[1].body) == (5, b"[1]")


def test_a_closed_socket_is_told_from_a_crash(playing):
    closed = playing.run(["close"])
    crashed = playing.claim(["print", "last words"], ["kill", signal.SIGSEGV])
    playing.hand_over(crashed)
    loss = playing.loss(crashed)

    assert closed.fingerprint == "protocol"
    assert "close its sockets" in closed.error
    assert loss.reason == "its executor was killed by SIGSEGV (a crash in native code)"
    assert loss.output == b"last words"


def test_an_executor_that_ends_because_its_socket_is_closed_says_so(playing):
    assert playing.run(["exit", os.EX_PROTOCOL]).fingerprint == "protocol"


def test_memory_is_blamed_only_when_the_kernel_has_ended_something_for_it(playing):
    killed = playing.claim(["kill", signal.SIGKILL])
    playing.hand_over(killed)

    reason = playing.loss(killed).reason

    assert reason == ("its executor was killed by SIGKILL (by the system for want of memory, or by somebody)")


def test_a_frame_that_does_not_end_is_noticed_when_the_worker_has_waited_long_enough(playing, monkeypatch):
    monkeypatch.setattr(replies, "TICKS", 2)

    outcome = playing.run(raw("D", "x" * 10, 1000))

    assert "a frame that does not end" in outcome.error


def test_one_that_never_stops_talking_keeps_no_other_waiting_and_fills_no_memory(playing):
    before = psutil.Process().memory_info().rss
    flood = playing.claim(["raw", "\0\x0f\xff\xffP"], ["flood"])
    playing.hand_over(flood)

    assert playing.run(ended("1"), slot=1).value == b"1"
    assert playing.outcome(flood).fingerprint == "protocol"
    assert psutil.Process().memory_info().rss - before < 64 << 20


def test_a_job_that_says_its_end_twice_has_ended_and_the_next_one_runs_elsewhere(playing):
    playing.run(ended())
    twice, innocent = playing.claim(ended("1"), ended("1")), playing.claim(["print", "x"])
    for claim in (twice, innocent):
        playing.hand_over(claim)

    assert playing.outcome(twice).value == b"1"
    playing.until(lambda: innocent in playing.slots.waiting)
    assert not playing.losses


def test_what_a_job_has_taken_from_the_queue_of_others_runs_elsewhere(playing):
    """A job may read the messages behind its own: they are not there any more when its executor is ended."""
    playing.run(ended())
    stolen = [playing.claim(ended(str(i))) for i in range(3)]
    thief = playing.claim(["print", "x"])
    playing.hand_over(thief)
    for claim in stolen:
        playing.hand_over(claim)
    (slot, _) = playing.slots
    assert slot.executor is not None
    slot.executor.call_back([])  # as if the job had read them

    playing.slots.give_back_running()
    playing.turn()

    assert set(playing.losses) == {claim.job_id for claim in (thief, *stolen)}
    assert playing.slots.claims() == []


def test_forgetting_a_job_that_has_just_ended_does_not_lose_the_next_one(playing):
    playing.run(ended())
    gone, following = playing.claim(ended("1")), playing.claim(["print", "begun"])
    for claim in (gone, following):
        playing.hand_over(claim)
    (slot, _) = playing.slots
    assert slot.executor is not None
    running = slot.executor
    wait_until(lambda: running.output_tail() == b"begun", what="the first to end, and the next to begin")

    playing.slots.forget([gone.job_id])
    playing.turn()

    assert playing.outcomes[gone.job_id].value == b"1"
    assert following in playing.slots.claims()


def test_a_job_whose_time_is_over_before_its_executor_has_taken_it_fails_and_the_worker_lives(playing):
    claim = playing.claim(ended(), timeout_s=1)
    playing.runtime.python.write_text("#!/bin/sh\nsleep 60\n")
    playing.hand_over(claim)

    assert playing.outcome(claim).error == "stopped: it ran longer than its timeout of 1 s"


def test_an_executor_that_dies_before_it_takes_its_job_costs_an_attempt(playing):
    """Else it would be started again and again, for ever."""
    claim = playing.claim(ended())
    playing.runtime.python.write_text("#!/bin/sh\nexit 3\n")
    playing.hand_over(claim)

    assert playing.loss(claim).reason == "its executor exited with status 3"


def test_an_idle_executor_that_says_something_is_ended(playing):
    playing.run(ended(), ["raw", "zzzzzz"])

    playing.until(lambda: next(iter(playing.slots)).executor is None)
    assert playing.run(ended("1")).value == b"1"


def test_an_executor_that_speaks_while_it_has_no_slot_is_not_used_again(playing, tmp_path):
    """A thread that a job has left behind must not cost a later job its record."""
    go = tmp_path / "go"
    playing.run(ended(), ["after", str(go), "zzzzzz"])
    (slot, _) = playing.slots
    first = slot.executor
    assert first is not None
    own, playing.runtime = playing.runtime, dataclasses.replace(playing.runtime, digest="another")
    playing.run(ended())
    go.touch()
    wait_until(lambda: not first.silent(), what="it to speak")
    playing.runtime = own

    assert playing.run(ended("1")).value == b"1"
    assert slot.executor is not first


# -- points -----------------------------------------------------------------------------------------------


def test_a_job_that_writes_more_points_than_a_job_may_fails_and_says_so(playing, monkeypatch):
    monkeypatch.setattr(frames, "POINTS_LIMIT", 2 << 20)

    outcome = playing.run(["points", 5])

    assert outcome.fingerprint == "points"
    assert outcome.error == "stopped: it wrote more than 2 MiB of points, the most that a job may"


def test_points_of_a_running_job_lie_on_disk_when_they_are_many(playing):
    claim = playing.claim(["points", 100])
    before = psutil.Process().memory_info().rss
    playing.hand_over(claim)
    (slot, _) = playing.slots
    playing.until(lambda: slot.points is not None and slot.points.size == 100 * len(LINES))

    # They are 78 MB; of what Python keeps for its next objects there may be some MB, too.
    assert psutil.Process().memory_info().rss - before < 32 << 20
    assert b"".join(slot.points.pieces()) == LINES * 100


def test_points_for_which_the_disk_has_no_room_cost_an_attempt(tmp_path, small_disk):
    playing = Playing(tmp_path, state=small_disk(8 << 20) / "state")
    claim = playing.claim(["points", 20])
    playing.hand_over(claim)

    assert "could not be kept on the node's disk (No space left on device)" in playing.loss(claim).reason
    playing.slots.close()


def test_jobs_that_overwrite_each_others_points_are_told_once(playing):
    def wrote(*series: tuple[str, int, int]) -> list[object]:
        return ended(series={name: [first, last] for name, first, last in series})

    playing.run(wrote(("p,zone=north", 0, 10), ("q", 0, 10)))
    playing.run(wrote(("p,zone=north", 11, 20), ("r", 5, 5)))
    assert not playing.recorder.warnings
    for _ in range(2):
        playing.run(wrote(("p,zone=north", 20, 30)))

    assert list(playing.recorder.warnings) == [
        (
            "e",
            "jobs 2 and 3 wrote the same series p,zone=north at the same times: only the later values are "
            "kept; give each job a tag of its own",
        )
    ]


# -- leaks ------------------------------------------------------------------------------------------------


def test_an_executor_that_cannot_be_started_leaves_nothing_behind(playing, monkeypatch):
    gc.collect()
    fds = len(os.listdir("/proc/self/fd"))
    missing = playing.runtime.python
    missing.unlink()

    for _ in range(10):
        claim = playing.claim(ended())
        playing.hand_over(claim)
        assert "could not be started" in playing.loss(claim).reason

    assert len(os.listdir("/proc/self/fd")) <= fds
    assert list((playing.runtime.payload_dir / "state" / "slots").iterdir()) == []


def test_large_messages_that_are_called_back_leave_no_file(playing):
    playing.run(ended())
    running, large = playing.claim(["sleep", 60]), playing.claim(["print", "y" * 100_000], ended())
    playing.hand_over(running)
    playing.hand_over(large)
    directory = playing.runtime.payload_dir / "state" / "slots"
    assert list(directory.glob("*/large-*"))

    playing.slots.call_back(next(iter(playing.slots)))

    assert large in playing.slots.waiting
    assert not list(directory.glob("*/large-*"))


def test_a_job_that_cannot_be_written_for_its_executor_is_lost_and_not_forgotten(playing, monkeypatch):
    def full(self: ExecutorProcess, number: int, message: bytes) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ExecutorProcess, "_written", full)
    large = playing.claim(["print", "y" * 100_000], ended())
    playing.hand_over(large)

    assert "No space left on device" in playing.loss(large).reason
    assert playing.slots.claims() == []


# -- anything at all --------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
fields = st.sampled_from([*HEADER, "error", "fingerprint", "traceback", "broken", "renew", "series", "other"])


@st.composite
def steps(draw: st.DrawFn) -> list[object]:
    """One frame that differs from a good one somewhere, or bytes."""
    match draw(st.integers(0, 4)):
        case 0:
            state = draw(st.sampled_from(["finished", "failed"]))
            return ended(**{"state": state, draw(fields): draw(anything)})
        case 1:
            return ended(draw(st.text(max_size=30, alphabet=st.characters(max_codepoint=255))))
        case 2:
            kind, text = draw(st.sampled_from("PSDTX")), draw(st.binary(max_size=40))
            return ["frame", kind, text.decode("latin-1")]
        case 3:
            return raw(draw(st.sampled_from("PSD")), "", draw(st.integers(0, 2**32 - 1)))
        case _:
            return ["raw", draw(st.binary(min_size=1, max_size=60)).decode("latin-1")]


def test_whatever_it_says_every_claim_ends_once_and_the_good_ones_well(tmp_path, monkeypatch):
    monkeypatch.setattr(replies, "TICKS", 0)
    monkeypatch.setattr("cloudburst.worker.slots.TICK_S", 0.02)
    playing = Playing(tmp_path)

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(steps(), min_size=1, max_size=3))
    def check(said: list[object]) -> None:
        bad = playing.claim(*said, ["exit", 0])  # so that it ends in any case
        good = [playing.claim(ended(str(i))) for i in range(2)]
        playing.hand_over(bad)
        for claim in good:
            playing.hand_over(claim, slot=1)

        playing.until(
            lambda: playing.hand_over_waiting() == 0 and bad.job_id in playing.outcomes | playing.losses
        )

        assert [playing.outcome(claim).value for claim in good] == [b"0", b"1"]
        assert playing.slots.claims() == []

    try:
        check()
    finally:
        playing.slots.close()
