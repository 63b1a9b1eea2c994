"""A network that swallows what is sent: nobody is told that a connection is gone."""

from __future__ import annotations

import math
import time

import pytest

from tests.chaos.proxy import ANY, BEFORE
from tests.chaos.world import LEASE_S, RESTART_S, World, alive
from tests.wait import wait_until

pytestmark = pytest.mark.slow

SILENT_S = 9
"""Longer than a lease, and than a worker waits for an answer."""


@pytest.mark.parametrize("job_s", [18, LEASE_S + 2], ids=["runs until after it", "ends meanwhile"])
def test_what_a_cut_off_worker_ran_counts_where_it_was_run_again(world: World, job_s: float):
    # given: a job on a node
    lossy = world.worker("lossy", slots=1)
    run = world.submit(1, s=job_s, points=2)
    wait_until(run.starts, 20, "the job to start")
    survivor = world.worker("survivor", slots=1)

    # when its network is lost: what it sends goes nowhere, and nothing is answered
    lost_at = time.time()
    lossy.proxy.hold(ANY, BEFORE, times=math.inf)

    # then the job runs again elsewhere
    wait_until(lambda: len(run.starts()) == 2, RESTART_S + 1, "the job to run again")
    first, second = run.starts()
    assert second.worker == survivor.pid
    assert second.at - lost_at < RESTART_S

    # and when the network is back, with all that was sent, the worker ends what is not its own any more
    time.sleep(max(SILENT_S - (time.time() - lost_at), 0))
    assert lossy.alive
    lossy.proxy.behave()
    if job_s > SILENT_S:
        assert alive(first.pid)
        wait_until(lambda: not alive(first.pid), 7, "the stale attempt to be ended")

    # and only the other attempt is recorded
    (record,) = world.finish(run, 40)
    assert (record.state, record.attempt, record.node) == ("finished", 2, "survivor")

    # and it works again, without having been started anew
    survivor.terminate()
    survivor.process.wait(20)
    again = world.submit(2)
    assert {record.node for record in world.finish(again, 20)} == {"lossy"}


def test_a_cut_off_worker_that_is_stopped_ends(world: World):
    lossy = world.worker("lossy-2", slots=1, CLOUDBURST_GRACE_S="1")
    run = world.submit(1, s=60)
    wait_until(run.starts, 20, "the job to start")
    lossy.proxy.hold(ANY, BEFORE, times=math.inf)

    lossy.terminate()

    wait_until(lambda: not lossy.alive, 30, "the worker to end")
    assert not alive(run.starts()[0].pid)
    world.stack.ensembles.cancel(run.ensemble)
