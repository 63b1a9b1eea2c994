"""Each way of being hostile, once, among good jobs: it spoils its own record, and nothing else."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from rq import Callback, Queue
from rq.serializers import JSONSerializer

from cloudburst.rqwire.ledger import Ledger
from tests.chaos import hostile_hashes, hostile_jobs, ledger
from tests.chaos.world import Run, Worker, World, left_behind
from tests.wait import wait_until

pytestmark = pytest.mark.slow

TIMEOUT_S = 8
MARK = f"{95_000 + os.getpid()}.5"

DICE = random.Random(13)
ALL = [hostile_jobs.description(DICE, MARK, kind) for kind in sorted(hostile_jobs.KINDS)]
FORGED = [
    hostile_jobs.description(DICE, MARK, "forges_a_frame") | {"which": which}
    for which in range(len(hostile_jobs.FORGERIES))
]


def alive(workers: tuple[Worker, ...]) -> bool:
    return all(worker.alive for worker in workers)


def among_good_ones(world: World, hostile: list[dict[str, Any]], isolation: str) -> list[str]:
    """Run them with five times as many good jobs between them; all that is wrong afterwards."""
    workers = world.pair()
    good = [{} for _ in range(5 * len(hostile))]
    jobs = [*hostile, *good]
    random.Random(13).shuffle(jobs)
    digest = world.version(13, isolation)
    run = world.submit(
        len(jobs), "worker.mixed", points=1, each=jobs.__getitem__, digest=digest, timeout_s=TIMEOUT_S
    )
    other = world.submit(200, "worker.among_hostile_ones", points=1, digest=digest)
    wait_until(lambda: world.complete(run) and world.complete(other), 240, "both ensembles to end")

    found = [f"{what}; {before(run, what)}" for what in ledger.wrong(run.descriptions, world.records(run))]
    found += ledger.wrong(other.descriptions, world.records(other))
    found += [worker.node + " has ended" for worker in workers if not worker.alive]
    world.check(run, other)
    wait_until(lambda: not left_behind(MARK), 20, "what jobs have started to end")
    return found


def before(run: Run, wrong: str) -> str:
    """What ran in the same executor or worker right before the job that went wrong."""
    notes = run.notes()
    job = int(wrong.partition(" ")[0].rpartition("-")[2])
    starts = [place for place, note in enumerate(notes) if note.n == job]
    if not starts:
        return "it never started"
    pid, worker = notes[starts[-1]].pid, notes[starts[-1]].worker
    earlier = [note for note in notes[: starts[-1]] if pid == note.pid or worker == note.worker]
    return f"before it: {[run.descriptions[note.n].get('kind', 'good') for note in earlier[-3:]]}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("isolation", ["reuse", "fork"])
def test_a_hostile_job_of_any_kind_spoils_its_own_record_only(world: World, isolation: str):
    assert not (wrong := among_good_ones(world, ALL, isolation)), "\n".join(wrong)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("isolation", ["reuse", "fork"])
def test_whatever_a_job_writes_into_the_executors_socket_is_its_own_failure(world: World, isolation: str):
    assert not (wrong := among_good_ones(world, FORGED, isolation)), "\n".join(wrong)


@pytest.mark.timeout(300)
def test_a_stock_job_whose_hash_is_spoiled_ends_by_its_own_name(world: World):
    workers = world.pair()
    world.post_worker_zip()
    spoiled = {f"spoiled{n}": name for n, name in enumerate(hostile_hashes.SPOILED)}
    for job_id, name in spoiled.items():
        hostile_hashes.enqueue(world.redis, name, job_id)
    run = world.submit(300, "worker.among_hostile_ones", points=1)

    wait_until(lambda: world.complete(run), 120, "the ensemble to end")
    unfinished = hostile_hashes.unfinished
    wait_until(lambda: not unfinished(world.redis, set(spoiled)), 120, "stock jobs to end")

    assert ledger.wrong(run.descriptions, world.records(run)) == []
    assert ledger.breaches(world.redis, spoiled=spoiled) == []
    audit = Ledger(world.redis).everything()
    breaches = [b for account in (*audit.ensembles, *audit.queues) for b in account.breaches]
    assert [breach for breach in breaches if breach.job_id not in spoiled] == []
    assert alive(workers)


def test_a_module_that_is_imported_for_a_job_with_callbacks_keeps_no_handler(world: World):
    world.worker(slots=1)
    world.post_worker_zip()
    stock = Queue(connection=world.redis, serializer=JSONSerializer)
    job = stock.enqueue("worker.seen_by", {}, on_success=Callback("hostile.called_back"))
    wait_until(lambda: job.get_status() == "finished", 60, "the stock job to end")

    run = world.submit(3, "worker.among_hostile_ones")

    assert ledger.wrong(run.descriptions, world.finish(run)) == []
