"""Submissions that break off: whatever kills the client, the ensemble is complete, or says that it is not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudburst import Stack, pace
from cloudburst.ensemble import submission
from cloudburst.ensemble.ensemble import Ensemble
from cloudburst.errors import EnsembleError, QueueError
from cloudburst.rqwire.appending import Accepted, Chunk, extended
from cloudburst.rqwire.ensembles import Ensembles, Identity
from tests.conftest import RedisServer
from tests.ensemble.parts import ScriptedWorker
from tests.wait import wait_until

TOTAL = 20_000


def seeds(count: int, first: int = 0) -> Iterator[dict[str, int]]:
    return ({"seed": seed} for seed in range(first, count))


def submit(stack: Stack, jobs: Any, name: str = "floods", **options: Any) -> Ensemble:
    return stack.submit(name, function="worker.work", jobs=jobs, **options)


def broken_off(stack: Stack, monkeypatch: pytest.MonkeyPatch, count: int, **options: Any) -> Ensemble:
    """An ensemble that has ``count`` jobs, whose client was killed before it could cancel anything."""

    def jobs() -> Iterator[dict[str, int]]:
        yield from seeds(count)
        wait_until(lambda: stack.queue_depth() >= count - submission.CHUNK_JOBS, 20, "the jobs before")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(submission, "_give_up", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            submit(stack, jobs(), **options)
    return stack.ensemble("floods")


CLIENT = textwrap.dedent(
    """
    import json, sys
    from cloudburst import Stack
    from cloudburst.model import Endpoints

    endpoints, total = Endpoints.from_json(sys.argv[1], "argv"), int(sys.argv[2])
    stack = Stack(endpoints)

    def jobs():
        for seed in range(total):
            if seed % 1000 == 0:
                print(seed, flush=True)
            yield {"seed": seed}

    stack.submit("floods", function="worker.work", jobs=jobs())
    print("done", flush=True)
    """
)


@pytest.mark.parametrize("kill_after_s", [None, 0.0, 0.002, 0.05, 0.12, 0.25])
def test_a_client_that_is_killed_leaves_an_ensemble_that_can_be_resumed(stack, kill_after_s):
    """Killed when so much time has passed since its first job was in the queue; None: before that."""
    command = [sys.executable, "-c", CLIENT, stack.endpoints.to_json(), str(TOTAL)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if kill_after_s is None:
        assert process.stdout.readline() == "0\n"
    else:
        wait_until(stack.queue_depth, 20, "the first jobs")
        time.sleep(kill_after_s)  # any moment will do
    process.send_signal(signal.SIGKILL)
    out = process.communicate()[0]

    if kill_after_s is None and not stack.ensembles():
        with pytest.raises(EnsembleError, match="no ensemble 'floods' here"):
            submit(stack, seeds(TOTAL), resume=True)
        return
    before = stack.ensemble("floods").status()
    assert before.total % submission.CHUNK_JOBS == 0
    assert ("done" in out) <= (before.state == "running")
    assert (before.state == "running") <= (before.total == TOTAL)
    account = stack.ensemble("floods").audit()
    assert (account.breaches, account.waiting) == ((), before.total)

    resumed = submit(stack, seeds(TOTAL), resume=True)

    account = resumed.audit()
    assert (account.breaches, account.waiting, account.state) == ((), TOTAL, "running")
    assert len(stack.ensembles()) == 1
    data = stack._queue.redis.hget(f"rq:job:{resumed.id}-{TOTAL - 1}", "data")
    assert json.loads(data)[2] == [{"seed": TOTAL - 1}]
    assert stack._queue.redis.lrange("rq:queue:default", 0, -1) == [
        f"{resumed.id}-{index}".encode() for index in range(TOTAL)
    ]


def test_jobs_that_have_ended_meanwhile_are_not_sent_again(stack, monkeypatch):
    floods = broken_off(stack, monkeypatch, 1_500)
    with ScriptedWorker(stack._queue.redis, lambda params: params["seed"]):
        wait_until(lambda: floods.status().finished == floods.status().total, 20, "all that were accepted")
        assert not floods.status().complete

        assert submit(stack, seeds(2_000), resume=True).id == floods.id

        records = list(floods.watch(timeout_s=30))
    assert sorted(record.value for record in records) == list(range(2_000))


def test_what_is_complete_already_stays_as_it_is(stack):
    floods = submit(stack, seeds(1_200))
    before = stack._queue.redis.hgetall(f"cb:ens:{floods.id}")

    assert submit(stack, seeds(1_200), resume=True).id == floods.id
    assert submit(stack, seeds(1_200), name=floods.id, resume=True).id == floods.id

    assert stack._queue.redis.hgetall(f"cb:ens:{floods.id}") == before
    assert stack.queue_depth() == 1_200


def test_of_several_with_one_name_the_incomplete_one_is_resumed(stack, monkeypatch):
    first = broken_off(stack, monkeypatch, 700)
    complete = submit(stack, seeds(10))

    assert stack.ensemble("floods").id == complete.id
    assert submit(stack, seeds(1_000), resume=True).id == first.id


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        (lambda: seeds(2_000, first=1), "has are not the first of these: give the job descriptions"),
        (
            lambda: (job | {"seed": job["seed"] + (job["seed"] == 499)} for job in seeds(2_000)),
            "not the first",
        ),
        (lambda: seeds(300), "has 1,500 jobs already, these are only 300"),
    ],
)
def test_other_jobs_are_refused_and_change_nothing(stack, monkeypatch, jobs, message):
    floods = broken_off(stack, monkeypatch, 1_501)
    before = floods.status()

    with pytest.raises(EnsembleError, match=message):
        submit(stack, jobs(), resume=True)

    assert floods.status() == before
    assert before.state == "submitting"


def test_more_or_fewer_jobs_than_a_complete_ensemble_has_are_refused(stack):
    floods = submit(stack, seeds(1_000))

    with pytest.raises(EnsembleError, match="is complete with 1,000 jobs, these are more"):
        submit(stack, seeds(1_001), resume=True)
    with pytest.raises(EnsembleError, match="has 1,000 jobs already, these are only 999"):
        submit(stack, seeds(999), resume=True)

    assert floods.status().total == stack.queue_depth() == 1_000


def test_other_settings_are_refused_by_name(stack, monkeypatch, model):
    floods = broken_off(stack, monkeypatch, 1_001, timeout_s=60)

    with pytest.raises(EnsembleError, match=r"with other settings: timeout: 60, not -1; retries: 0, not 2$"):
        submit(stack, seeds(2_000), resume=True, retries=2)
    with pytest.raises(EnsembleError, match=r"with other settings: payload: , not [0-9a-f]{64}$"):
        submit(stack, seeds(2_000), resume=True, payload=model, timeout_s=60)
    with pytest.raises(EnsembleError, match=r"with other settings: function: worker.work, not worker.play"):
        stack.submit("floods", function="worker.play", jobs=seeds(2_000), resume=True, timeout_s=60)

    assert floods.status().state == "submitting"


def test_a_seed_is_compared_if_it_is_given(stack, monkeypatch):
    floods = broken_off(stack, monkeypatch, 1_001, seed=7)

    with pytest.raises(EnsembleError, match=r"with other settings: seed: 7, not 8$"):
        submit(stack, seeds(2_000), resume=True, seed=8)
    submit(stack, seeds(2_000), resume=True)
    submit(stack, seeds(2_000), resume=True, seed=7)

    assert (floods.status().seed, floods.status().total) == (7, 2_000)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "7"])
def test_what_is_no_seed_is_refused(stack, seed):
    with pytest.raises(EnsembleError, match=r"^seed: should be a whole number from 0, below 2\*\*63, got "):
        submit(stack, seeds(10), seed=seed)


def test_a_cancelled_ensemble_is_not_resumed(stack, monkeypatch):
    floods = broken_off(stack, monkeypatch, 1_001)
    floods.cancel()

    with pytest.raises(EnsembleError, match="takes no jobs any more: it is cancelled"):
        submit(stack, seeds(2_000), resume=True)


def test_a_resumption_that_breaks_off_cancels_nothing_and_can_be_resumed(stack, monkeypatch):
    floods = broken_off(stack, monkeypatch, 1_001)

    with pytest.raises(EnsembleError, match="job 2000: a job description is a JSON object"):
        submit(stack, [*seeds(2_000), "seed"], resume=True)

    status = floods.status()
    assert (status.state, status.cancelled) == ("submitting", 0)
    assert submit(stack, seeds(2_001), resume=True).status().total == 2_001


def test_several_clients_may_resume_at_once_while_the_first_one_lives(stack, monkeypatch):
    """Each sees chunks of the others; all end with the same ensemble, no job doubled."""
    gate = threading.Event()
    ended: list[Any] = []

    def slowly(pause_s: float) -> Iterator[dict[str, int]]:
        for job in seeds(6_000):
            if job["seed"] == 1_100 and pause_s == 0:
                gate.set()
            if job["seed"] % 250 == 0:
                time.sleep(pause_s or 0.004)
            yield job

    def client(pause_s: float, **options: Any) -> None:
        try:
            ended.append(submit(Stack(stack.endpoints), slowly(pause_s), **options).id)
        except Exception as error:  # noqa: BLE001  shown by the assertion
            ended.append(error)

    threads = [threading.Thread(target=client, args=(0.0,))]
    threads[0].start()
    assert gate.wait(20)
    for number in range(3):
        threads.append(threading.Thread(target=client, args=(0.001 * (1 + number),), kwargs={"resume": True}))
        threads[-1].start()
    for thread in threads:
        thread.join(60)

    (floods,) = stack.ensembles()
    assert ended == [floods.id] * 4
    account = floods.audit()
    assert (account.breaches, account.waiting, account.state) == ((), 6_000, "running")


def test_a_client_with_other_jobs_is_refused_by_what_the_first_appends_meanwhile(stack, monkeypatch):
    floods = broken_off(stack, monkeypatch, 1_001)

    def others() -> Iterator[dict[str, int]]:
        yield from seeds(1_000)
        submit(Stack(stack.endpoints), seeds(3_000), resume=True)
        yield from seeds(3_000, first=1_001)

    with pytest.raises(EnsembleError, match=r"not the first of these|has 3,000 jobs already"):
        submit(stack, others(), resume=True)

    assert (floods.status().total, floods.audit().breaches) == (3_000, ())


def test_a_redis_that_is_away_too_long_leaves_an_ensemble_that_can_be_resumed(
    stack, redis_server: RedisServer, monkeypatch
):
    monkeypatch.setattr(stack._queue, "_patience_s", 0.2)

    def jobs() -> Iterator[dict[str, int]]:
        for job in seeds(2_000):
            if job["seed"] == 1_200:
                redis_server.kill()
            yield job

    with pytest.raises(QueueError, match=r"`cloudburst submit floods-\w{6} --resume` with the same options"):
        submit(stack, jobs())
    redis_server.start()

    floods = submit(stack, seeds(2_000), resume=True)

    assert (floods.audit().breaches, floods.status().total) == ((), 2_000)


def test_scripts_that_redis_forgets_are_given_again(stack, redis_server):
    def jobs() -> Iterator[dict[str, int]]:
        for job in seeds(5_000):
            if job["seed"] % 700 == 0:
                redis_server.client().script_flush()
            yield job

    floods = submit(stack, jobs())

    assert (floods.audit().breaches, floods.status().total) == ((), 5_000)


def test_creating_an_ensemble_twice_makes_one_and_forgets_nothing(stack):
    ensembles = Ensembles(stack._queue.redis)
    spec = submission.EnsembleSpec(name="e", function="worker.work", payload="")
    identity = Identity("e")

    ensemble = ensembles.create(spec, identity)
    ensembles.append(ensemble, "worker.work", 0, [b"{}"])

    assert ensembles.create(spec, identity) == ensemble
    assert (ensembles.ids(), ensembles.status(ensemble).total) == ([ensemble], 1)


def test_an_id_that_is_taken_is_not_shared(stack):
    ensembles = Ensembles(stack._queue.redis)
    spec = submission.EnsembleSpec(name="e", function="worker.work", payload="")
    mine, theirs = Identity("e"), Identity("e")
    theirs.ensemble = ensembles.create(spec, mine)

    assert ensembles.create(spec, theirs) != mine.ensemble
    assert len(ensembles.ids()) == 2


def test_the_digest_of_descriptions_does_not_depend_on_their_chunks():
    some, more = [b'{"a":1}', b'{"a":2}'], [b'{"a":3}']

    assert extended(extended(Accepted(), some), more) == extended(Accepted(), [*some, *more])
    assert extended(Accepted(), [b"ab", b"c"]) != extended(Accepted(), [b"a", b"bc"])
    rest = Chunk(Accepted(), [*some, *more]).behind(extended(Accepted(), some))
    assert rest is not None
    assert (rest.before.count, rest.descriptions) == (2, more)
    assert Chunk(Accepted(), more).behind(extended(Accepted(), some[:1])) is None


def test_status_says_when_a_client_may_be_gone(stack, monkeypatch):
    floods = broken_off(stack, monkeypatch, 1_001)
    status = floods.status()

    assert pace.broken_off(status, status.appended_at + 1) == ""
    text = pace.broken_off(status, status.appended_at + 90)
    assert "000 jobs, the last came 1 min 30 s ago" in text
    assert f"`cloudburst submit {floods.id} --resume`" in text
    assert pace.broken_off(submit(stack, seeds(1)).status(), time.time() + 90) == ""


def test_a_directory_of_the_payload_is_compared_by_its_digest(stack, model: Path, monkeypatch):
    floods = broken_off(stack, monkeypatch, 1_001, payload=model)
    (model / "more.py").write_text("x = 1\n")

    with pytest.raises(EnsembleError, match=r"with other settings: payload: [0-9a-f]{64}, not [0-9a-f]{64}$"):
        submit(stack, seeds(2_000), resume=True, payload=model)
    (model / "more.py").unlink()

    assert submit(stack, seeds(2_000), resume=True, payload=model).id == floods.id
