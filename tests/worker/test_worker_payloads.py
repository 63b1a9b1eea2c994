"""Several payloads at once: what is not ready holds nothing up, and executors are not started per job."""

from __future__ import annotations

import itertools
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from cloudburst.model import EnsembleSpec
from cloudburst.rqwire.ledger import Ledger
from cloudburst.worker.spares import PER_SLOT, STAND_INS
from tests.wait import wait_until
from tests.worker import payload
from tests.worker.package_index import PackageIndex
from tests.worker.stalling import StallingRelay

MANY = 1000
"""More jobs than one claim looks at."""

VERSION = """
import os, time

def work(params):
    if params.get("file"):
        open(params["file"], "w").close()
    time.sleep(params.get("s", 0))
    return {"version": %r, "pid": os.getpid(), "started": time.time()}
"""


@pytest.fixture(scope="module")
def stack(stack):
    stack.worker_process = stack.worker(slots=2)
    return stack


@pytest.fixture
def version(stack, tmp_path):
    """Digests of payloads that return their name."""
    return lambda name: stack.upload(payload.write(tmp_path / name, {"version.py": VERSION % name}))


@pytest.fixture
def post(stack, tmp_path):
    """Puts worker.zip into the file store, as a stock client does."""

    def post(name: str) -> None:
        directory = payload.write(tmp_path / f"posted-{name}", {"version.py": VERSION % name})
        with zipfile.ZipFile(tmp_path / "worker.zip", "w") as archive:
            for path in directory.iterdir():
                archive.write(path, path.name)
        stack.store.put("worker.zip", tmp_path / "worker.zip")

    return post


@pytest.fixture
def index(tmp_path) -> Iterator[PackageIndex]:
    """A package index that does not answer before it is told to."""
    server = PackageIndex(tmp_path / "wheels")
    server.answering.clear()
    yield server
    server.close()


@pytest.fixture
def slow(stack, tmp_path, index) -> str:
    """The digest of a payload whose environment is not built before the index answers."""
    source = f'[[source]]\nname = "here"\nurl = "{index.url}"\nverify_ssl = false\n'
    directory = payload.write(
        tmp_path / "slow",
        {"Pipfile": source + '[packages]\nrainfall = "*"\n', "version.py": VERSION % "slow"},
    )
    return stack.upload(directory)


def interleaved(stack, digests: list[str], rounds: int, description: dict) -> list[str]:
    """Ensembles whose jobs lie in the queue in turns, in rounds of one job each."""
    ensembles = [stack.ensembles.create(EnsembleSpec("e", "version.work", digest)) for digest in digests]
    encoded = str(description).replace("'", '"').encode()
    for index in range(rounds):
        for ensemble in ensembles:
            stack.ensembles.append(ensemble, "version.work", index, [encoded])
    for ensemble in ensembles:
        stack.ensembles.seal(ensemble)
    return ensembles


def no_breach(stack) -> None:
    assert Ledger(stack.redis).everything().breach_count == 0


def stock_job(stack, description: dict, queue: str = "default"):
    queue = Queue(queue, connection=stack.redis, serializer=JSONSerializer)
    return queue.enqueue("version.work", description)


def value_of(job) -> dict:
    wait_until(lambda: job.get_status(refresh=True) == "finished", 60, "the job to finish")
    return job.return_value()


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("s", [0, 0.02])
def test_jobs_of_several_payloads_in_turns_do_not_start_an_executor_each(stack, version, count, s):
    digests = [version(f"v{number}") for number in range(count)]

    ensembles = interleaved(stack, digests, 40, {"s": s})

    pids = defaultdict(set)
    for ensemble, digest in zip(ensembles, digests, strict=True):
        records = stack.wait(ensemble)
        assert {record.payload for record in records} == {digest}
        assert {record.attempt for record in records} == {1}
        pids[ensemble] = {record.value["pid"] for record in records}
    # Two slots may want one payload at once, and another's executor may have been ended for it.
    assert all(len(found) <= 4 for found in pids.values()), pids
    no_breach(stack)


def test_jobs_of_several_payloads_start_in_the_order_of_the_queue(stack, version):
    digests = [version("one"), version("two"), version("three")]
    for ensemble in interleaved(stack, digests, 5, {"s": 0.05}):  # starts executors, which takes a while
        stack.wait(ensemble)
    ensembles = interleaved(stack, digests, 20, {"s": 0.05})

    records = [stack.wait(ensemble) for ensemble in ensembles]

    starts = [record.started_at for turn in zip(*records, strict=True) for record in turn]
    late = [earlier - later for earlier, later in itertools.pairwise(starts) if later < earlier - 0.5]
    assert late == []


def test_other_payloads_go_on_while_one_is_being_built_for_many_waiting_jobs(stack, index, slow, version):
    waiting = stack.submit("version.work", *({} for _ in range(MANY)), digest=slow)
    wait_until(lambda: index.requests, 60, "the build to begin")

    records = stack.wait(stack.submit("version.work", *({} for _ in range(60)), digest=version("quick")))

    assert [record.value["version"] for record in records] == ["quick"] * 60
    starts = [record.value["started"] for record in records]
    assert all(later > earlier - 0.5 for earlier, later in itertools.pairwise(starts))
    status = stack.ensembles.status(waiting)
    assert (status.running, status.waiting) == (0, MANY)
    no_breach(stack)
    index.answering.set()
    records = stack.wait(waiting)
    assert {(record.state, record.attempt, record.payload) for record in records} == {("finished", 1, slow)}
    no_breach(stack)
    assert stack.redis.llen("rq:queue:default") == 0


def test_the_next_payload_is_prepared_while_jobs_of_the_one_before_still_run(stack, version):
    first = stack.submit("version.work", {"s": 0}, {"s": 0}, digest=version("before"))
    stack.wait(first)
    first = stack.submit("version.work", *({"s": 1} for _ in range(10)), digest=version("before"))
    digest = version("after")

    stack.submit("version.work", {}, digest=digest)

    prepared = stack.directory / "state" / "payloads" / digest
    wait_until(prepared.exists, 10, "the payload to be fetched")
    assert stack.ensembles.status(first).waiting > 0
    stack.ensembles.cancel(first)


def test_a_job_that_was_enqueued_after_a_new_worker_zip_never_runs_the_old_code(stack, post):
    pid = stack.worker_process.pid
    post("old")
    assert value_of(stock_job(stack, {}))["version"] == "old"

    for round_ in range(5):
        before = [stock_job(stack, {"s": 0.1}) for _ in range(4)]
        name = f"new-{round_}"
        post(name)
        posted = time.time()
        after = [stock_job(stack, {}) for _ in range(4)]

        values = [value_of(job) for job in after]
        assert {value["version"] for value in values} == {name}
        assert values[0]["started"] - posted < 2 + 0.2
        value_of(before[-1])
    assert stack.worker_process.poll() is None
    assert stack.worker_process.pid == pid


def test_stock_jobs_run_where_the_file_store_takes_its_time_to_answer(stack, post):
    relay = StallingRelay(stack.filestore_port, delay_s=0.3)
    post("far-0")
    worker = stack.worker(state="far", CLOUDBURST_QUEUE="far", FILE_HOST_PORT=str(relay.port))
    try:
        for round_ in range(3):
            post(f"far-{round_}")
            jobs = [stock_job(stack, {}, "far") for _ in range(3)]
            assert {value_of(job)["version"] for job in jobs} == {f"far-{round_}"}
    finally:
        worker.terminate()
        worker.wait(10)
        relay.close()


def test_running_stock_jobs_are_not_disturbed_by_a_new_worker_zip(stack, post, tmp_path):
    post("disturbed-not")
    marks = [tmp_path / "one", tmp_path / "two"]
    running = [stock_job(stack, {"s": 3, "file": str(mark)}) for mark in marks]
    wait_until(lambda: all(mark.exists() for mark in marks), 20, "them to run")

    post("disturbing")
    after = stock_job(stack, {})

    assert [value_of(job)["version"] for job in running] == ["disturbed-not"] * 2
    assert value_of(after)["version"] == "disturbing"
    assert stack.redis.hget(after.key, "cb_attempt") == b"1"
    assert all(stack.redis.hget(job.key, "cb_attempt") == b"1" for job in running)
    digest = stack.redis.hget(after.key, "cb_payload").decode()
    assert stack.store.exists(f"payloads/{digest}.zip")


def test_stock_jobs_under_a_stream_of_new_versions_run_what_was_current_or_newer(stack, post):
    """Versions are posted while jobs are enqueued: each job runs the version before it, or a later one."""
    versions = [f"stream-{number:02}" for number in range(6)]
    jobs, stop = [], threading.Event()

    def enqueue() -> None:
        while not stop.wait(0.02):
            current = versions_posted[-1]
            jobs.append((current, stock_job(stack, {"s": 0.01})))

    post(versions[0])
    versions_posted = [versions[0]]
    thread = threading.Thread(target=enqueue)
    thread.start()
    for number, name in enumerate(versions[1:], 1):
        wait_until(lambda number=number: len(jobs) > 10 * number, 20, "more jobs")
        post(name)
        versions_posted.append(name)
    wait_until(lambda: jobs[-1][0] == versions[-1], 20, "jobs behind the last version")
    stop.set()
    thread.join()

    found = [(current, value_of(job)["version"]) for current, job in jobs]
    assert [pair for pair in found if pair[1] < pair[0]] == []
    assert found[-1] == (versions[-1], versions[-1])


def test_an_ensemble_keeps_its_payload_when_another_worker_zip_is_posted(stack, post, version):
    digest = version("mine")
    ensemble = stack.submit("version.work", *({"s": 0.1} for _ in range(20)), digest=digest)
    wait_until(lambda: stack.ensembles.status(ensemble).finished > 2, 30, "some to finish")

    post("yours")

    records = stack.wait(ensemble)
    assert {(record.value["version"], record.payload) for record in records} == {("mine", digest)}


def test_jobs_that_have_not_started_run_on_the_upgrade_and_running_ones_are_left_alone(stack, version):
    old, new = version("old"), version("new")
    ensemble = stack.submit("version.work", *({"s": 0.3} for _ in range(20)), digest=old)
    wait_until(lambda: stack.ensembles.status(ensemble).finished >= 4, 30, "some to finish")

    left = stack.ensembles.upgrade(ensemble, new)

    records = stack.wait(ensemble)
    versions = [(record.value["version"], record.payload) for record in records]
    assert versions == [("old", old)] * (20 - left) + [("new", new)] * left or len(set(versions)) == 2
    assert sum(name == "new" for name, _ in versions) >= left > 0
    assert {record.attempt for record in records} == {1}
    counts = {ran.payload: by_state for ran, by_state in stack.ensembles.provenance(ensemble)}
    assert counts[old]["finished"] + counts[new]["finished"] == 20
    no_breach(stack)


def test_an_ensemble_that_failed_for_its_code_is_mended_by_an_upgrade(stack, tmp_path, version):
    broken = stack.upload(payload.write(tmp_path / "broken", {"version.py": "import six_of_one\n"}))
    ensemble = stack.submit("version.work", *({} for _ in range(50)), digest=broken)
    stack.wait(ensemble)
    wait_until(lambda: stack.ensembles.status(ensemble).state == "failed", 10, "the ensemble to fail")

    assert stack.ensembles.upgrade(ensemble, version("mended")) == 50

    assert {record.value["version"] for record in stack.wait(ensemble)} == {"mended"}
    status = stack.ensembles.status(ensemble)
    assert (status.state, status.finished, status.failed) == ("done", 50, 0)
    no_breach(stack)


def test_executors_of_payloads_that_nobody_wants_are_bounded(stack, version):
    most = 2 + 2 * PER_SLOT + STAND_INS  # in its two slots, beside them, and for the next of them
    for number in range(most + 3):
        stack.run("version.work", {}, digest=version(f"one-of-many-{number}"))

    directory = stack.directory / "state" / "slots"
    # Those that are asked to end take a moment.
    wait_until(lambda: len(list(directory.iterdir())) <= most, 10, "executors that end")
