"""Leases on building: one worker has one, the others learn how it goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import redis as redis_module

from cloudburst.rqwire.builds import Builds, Elsewhere, Lease
from cloudburst.rqwire.connection import connect
from tests.conftest import RedisServer
from tests.wait import wait_until

LEASE_S = 0.9

BUILDER = """
import sys, threading, redis
from cloudburst.rqwire.builds import Builds, Lease
lease = Builds(redis.Redis(port=int(sys.argv[1])), "node-1", float(sys.argv[2])).take("x")
print("has it" if isinstance(lease, Lease) else "has it not", flush=True)
for line in sys.stdin:
    lease.failed("too late", "")
    print("lost" if lease.lost else "held", flush=True)
"""


@pytest.fixture
def builder(redis_server: RedisServer):
    """A process that has the lease on building x."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(redis_server.port), str(LEASE_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "has it\n"
    yield process
    process.kill()
    process.communicate()


def builds(server: RedisServer, node: str = "node-2") -> Builds:
    return Builds(connect(server.url), node, LEASE_S)


def taken(builds: Builds, what: str = "x") -> Lease:
    lease = builds.take(what)
    assert isinstance(lease, Lease)
    return lease


def test_one_has_the_lease_and_the_others_learn_who(redis_server):
    lease, other = taken(builds(redis_server, "node-1")), builds(redis_server)

    assert other.take("x") == Elsewhere("building", "node-1")
    assert other.look("x") == Elsewhere("building", "node-1")
    taken(other, "something else").release()
    lease.release()


def test_a_lease_that_was_released_is_free_at_once(redis_server):
    taken(builds(redis_server)).release()

    assert builds(redis_server).look("x") is None
    taken(builds(redis_server)).release()


def test_a_failure_is_told_in_its_own_words_and_expires(redis_server):
    taken(builds(redis_server, "node-1")).failed("no matching version", "the last\nlines")

    expected = Elsewhere("failed", "node-1", "no matching version", "the last\nlines")
    assert builds(redis_server).take("x") == expected
    assert builds(redis_server).look("x") == expected
    assert 0 < redis_server.client().pttl("cb:build:x") <= 30_000


def test_what_could_not_be_shared_is_told(redis_server):
    taken(builds(redis_server, "node-1")).unshared()

    assert builds(redis_server).take("x") == Elsewhere("unshared", "node-1")


def test_a_lease_lasts_as_long_as_its_builder_lives(redis_server, builder):
    client = redis_server.client()
    extended = [client.pttl("cb:build:x")]

    def was_extended_twice() -> bool:
        left = client.pttl("cb:build:x")
        if left > extended[-1]:
            extended.append(left)
        else:
            extended[-1] = left
        return len(extended) > 2

    wait_until(was_extended_twice, 10, "the lease to be extended twice")
    assert builds(redis_server).look("x") == Elsewhere("building", "node-1")


def test_another_takes_over_when_the_builder_is_killed(redis_server, builder):
    builder.kill()

    lease = wait_until(lambda: _lease(builds(redis_server)), 10, "the lease to be free")

    lease.release()


def test_a_builder_that_was_paused_loses_the_lease_and_cannot_speak_for_the_next_one(redis_server, builder):
    os.kill(builder.pid, signal.SIGSTOP)
    lease = wait_until(lambda: _lease(builds(redis_server)), 10, "the lease to be free")
    os.kill(builder.pid, signal.SIGCONT)
    builder.stdin.write("\n")
    builder.stdin.flush()
    builder.stdout.readline()

    assert builds(redis_server).look("x") == Elsewhere("building", "node-2")
    lease.release()


def test_who_has_lost_the_lease_learns_it(redis_server):
    lease = taken(builds(redis_server))
    redis_server.client().delete("cb:build:x")

    wait_until(lambda: lease.lost, 10, "the loss to be noticed")
    lease.release()


def test_while_redis_is_away_taking_fails_and_ending_does_not(redis_server):
    lease = taken(builds(redis_server))
    other = builds(redis_server)
    redis_server.kill()

    with pytest.raises(redis_module.RedisError):
        other.take("y")
    lease.release()


def _lease(builds: Builds) -> Lease | None:
    lease = builds.take("x")
    return lease if isinstance(lease, Lease) else None
