"""The keeper as a process: with a real queue, and a provider that checks each of its calls."""

from __future__ import annotations

import re
import time

import pytest
import redis

from cloudburst.config import KeeperConfig
from cloudburst.errors import ConfigError
from cloudburst.rqwire import ending, nodes
from tests.keeper.conftest import STACK, WAIT_S, Kept
from tests.wait import wait_until

ALL = [f"{STACK}-1", f"{STACK}-2", f"{STACK}-master"]


def removals(kept: Kept) -> list[str]:
    """What was removed, in that order; a machine by its name."""
    named = {f"droplets/{one.id}": one.name for one in kept.fake.account.all_droplets.values()}
    paths = [
        call.path.removeprefix("/v2/")
        for call in kept.fake.calls
        if call.method == "DELETE" and call.status in {0, 204}
    ]
    return [named.get(path) or path.rpartition("/")[0] for path in paths]


def ended(kept: Kept) -> None:
    wait_until(lambda: not kept.fake.account.left(), WAIT_S, f"nothing to be left; {kept.log}")


def test_an_idle_stack_ends_with_its_master_last(kept):
    kept.start(IDLE_S="1")

    ended(kept)

    assert removals(kept)[:5] == [
        f"{STACK}-1",
        f"{STACK}-2",
        "firewalls",
        "account/keys",
        f"{STACK}-master",
    ]
    assert set(removals(kept)[5:]) <= {"vpcs", "tags"}
    assert kept.redis_server.refused() == set()
    assert kept.token not in kept.log


def test_at_most_a_vpc_is_left_when_the_machine_of_the_keeper_is_gone_at_once(kept):
    kept.dies_with_the_master()
    kept.start(TTL_S="1")

    kept.process.wait(WAIT_S)

    assert kept.fake.account.left() == [f"VPC cloudburst-{STACK}"]


def test_a_stack_with_work_stays_until_it_has_been_idle(kept):
    kept.submit(3)
    claims = kept.leases.claim(1)
    kept.start(IDLE_S="2", GRACE_S="60")
    wait_until(lambda: kept.said.said_at, WAIT_S, "a first round")
    time.sleep(2.5)  # longer than it might be idle
    assert kept.said.deadline == 0
    assert "work" in kept.said.reason
    kept.finish([*claims, *kept.leases.claim(2)])
    done_at = time.time()

    ended(kept)

    first = min(one.deleted_at for one in kept.fake.account.all_droplets.values())
    assert first - done_at >= 1.9


def test_what_happened_while_the_keeper_was_away_counts(kept):
    """Its own last look was long ago; a job has ended since, which only the queue knows."""
    ending.remember(kept.redis, ending.Memory(busy_at=time.time() - 5000, idle_s=1000))
    kept.submit(1)
    kept.finish(kept.leases.claim(1))
    kept.start(IDLE_S="1000")

    said = wait_until(lambda: kept.said if kept.said.deadline else None, WAIT_S, f"a deadline; {kept.log}")

    assert said.deadline - time.time() > 900
    assert kept.machines == ALL


def test_jobs_of_stock_clients_count(kept):
    ending.remember(kept.redis, ending.Memory(busy_at=time.time() - 5000, idle_s=1000))
    kept.redis.hset("rq:job:a", "ended_at", "2026-11-21T14:00:00.000000Z")
    kept.redis.zadd("rq:finished:default", {"a": time.time() + 500})
    kept.redis.zadd("rq:scheduled:default", {"b": time.time() + 500})
    kept.start(IDLE_S="1000")

    wait_until(lambda: kept.said.said_at, WAIT_S, "a first round")

    assert kept.said.deadline == 0
    kept.redis.delete("rq:scheduled:default")
    wait_until(lambda: kept.said.deadline > time.time() + 900, WAIT_S, "it to be idle from now on")


def test_time_goes_on_while_the_keeper_is_killed_again_and_again(kept):
    kept.start(IDLE_S="1000")
    first = wait_until(lambda: kept.said.deadline, WAIT_S, "a deadline")
    for _ in range(2):
        kept.kill()
        before = kept.said.said_at
        kept.start(IDLE_S="1000")
        wait_until(lambda before=before: kept.said.said_at > before, WAIT_S, "another round")

    assert kept.said.deadline == first
    kept.kill()
    kept.start(IDLE_S="2000")
    wait_until(lambda: kept.said.deadline > first + 1000, WAIT_S, "another wish to begin anew")


def test_a_new_deployment_counts_as_something_to_do(kept):
    kept.start(IDLE_S="1000")
    first = wait_until(lambda: kept.said.deadline, WAIT_S, "a deadline")

    ending.touch(kept.redis)

    wait_until(lambda: kept.said.deadline > first, WAIT_S, "a later deadline")


def test_the_ttl_counts_from_the_creation_of_the_master(kept):
    kept.fake.account.droplet(f"{STACK}-master").created_at -= 5000
    kept.start(TTL_S="6000")

    said = wait_until(lambda: kept.said if kept.said.deadline else None, WAIT_S, f"a deadline; {kept.log}")

    assert 900 < said.deadline - time.time() < 1000
    assert ending.sentence(said, time.time()).startswith("ends in 16 min")
    assert kept.machines == ALL


def test_when_the_ttl_is_over_running_jobs_end_and_no_others_start(kept):
    kept.submit(3)
    claims = kept.leases.claim(1)
    kept.beat(1)
    kept.start(TTL_S="1", GRACE_S="600")

    kept.reaches("draining")
    wait_until(lambda: kept.beat(1), WAIT_S, "the worker to be told")
    kept.beat(1)  # with which it says that it knows
    time.sleep(0.5)
    assert kept.said.stage == "draining"
    assert kept.machines == ALL
    kept.finish(claims)
    kept.beat(0)

    ended(kept)


def test_jobs_that_do_not_end_are_waited_for_only_so_long(kept):
    kept.submit(3)
    kept.leases.claim(1)
    kept.beat(1)
    kept.start(TTL_S="1", GRACE_S="1")

    ended(kept)

    assert "1 jobs still run" in kept.log


def test_work_that_comes_while_an_idle_stack_drains_keeps_it(kept):
    kept.beat(0)  # a worker that does not notice yet
    nodes.set_draining(kept.redis, f"{STACK}-2", True)
    kept.start(IDLE_S="1", GRACE_S="600")
    kept.reaches("draining")
    wait_until(lambda: nodes.read(kept.redis, f"{STACK}-1").draining, WAIT_S, "the node to be drained")

    kept.submit(1)

    kept.reaches("watching")
    wait_until(lambda: not nodes.read(kept.redis, f"{STACK}-1").draining, WAIT_S, "the node to work again")
    assert nodes.read(kept.redis, f"{STACK}-2").draining, "an operator wished so"
    assert kept.machines == ALL


def test_a_watching_client_collects_first(kept):
    ending.watch(kept.redis, "laptop")
    kept.start(TTL_S="1", SAVE_S="600")

    said = kept.reaches("collecting")
    time.sleep(0.5)
    assert kept.said.stage == "collecting"
    assert kept.machines == ALL
    ending.watch(kept.redis, "laptop", said.name)

    ended(kept)


def test_a_client_that_does_not_collect_is_waited_for_only_so_long(kept):
    ending.watch(kept.redis, "laptop", "another-ending")
    kept.start(TTL_S="1", SAVE_S="1")

    ended(kept)


def test_a_client_that_was_to_come_is_waited_for(kept):
    kept.start(TTL_S="1", SAVE_S="600", SAVE="1")

    said = kept.reaches("collecting")
    time.sleep(0.5)
    assert kept.said.stage == "collecting"
    ending.watch(kept.redis, "laptop", said.name)

    ended(kept)


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
def test_killed_at_call_after_call_it_comes_to_the_same_end(kept, executed):
    number, kills = 1, 0
    while kept.fake.account.left():
        call = len(kept.fake.calls) + number
        kept.fake.kill_at(call, lambda: kept.process.pid, executed=executed)
        kept.start(TTL_S="1", GRACE_S="5", SAVE_S="5")
        wait_until(
            lambda: kept.process.poll() is not None or not kept.fake.account.left(),
            WAIT_S,
            "a kill or the end",
        )
        kills += kept.process.poll() is not None
        kept.kill()
        number += 1
        assert number < 40

    assert kills >= 5


def test_killed_once_at_any_call_and_started_again_it_comes_to_the_same_end(kept):
    kept.fake.key_lists = 10_000  # this goes through many lives of a keeper in a minute
    points = 0
    while True:
        number = len(kept.fake.calls) + points + 1
        fault = kept.fake.kill_at(number, lambda: kept.process.pid)
        kept.start(TTL_S="1")
        wait_until(
            lambda: kept.process.poll() is not None or not kept.fake.account.left(),
            WAIT_S,
            "a kill or the end",
        )
        if not fault.happened:
            break
        points += 1
        kept.kill()
        kept.start(TTL_S="1")
        ended(kept)
        kept.kill()
        kept.fake.mend()
        kept.redis.flushall()
        kept.make()

    assert points >= 12
    print(f"\n  {points} kill points, nothing left", end=" ")  # noqa: T201 - the number is for people


@pytest.mark.parametrize(
    ("token", "said"), [("", "no token"), ("dop_v1_wrong", "401"), ("no\ttoken", "token")]
)
def test_a_token_that_is_no_use_is_told_at_once(kept, token, said):
    kept.token = token
    kept.start(TTL_S="3600")

    problem = wait_until(lambda: kept.said.problem, WAIT_S, "the problem")

    assert said in problem
    assert said in kept.log
    assert "but cannot: " in ending.sentence(kept.said, time.time())
    assert kept.said.deadline > time.time() + 3000
    assert kept.machines == ALL
    assert not token or token not in kept.log


def test_a_token_of_another_account_is_told(kept):
    for name in ALL:
        kept.fake.account.droplet(name).tags = ["cloudburst"]
    kept.start(TTL_S="3600")

    assert "another account" in wait_until(lambda: kept.said.problem, WAIT_S, "the problem")


def test_a_provider_that_fails_meanwhile_is_asked_again(kept):
    kept.fake.fault("DELETE /v2/droplets/*", "status", status=422, times=2)
    kept.fake.fault("DELETE /v2/firewalls/*", "status", status=403)
    kept.start(TTL_S="1")

    ended(kept)

    assert "403" in kept.log or "right" in kept.log


def test_a_stack_whose_queue_is_gone_ends_nevertheless(kept):
    kept.start(TTL_S="3", GRACE_S="1", SAVE_S="1")
    wait_until(lambda: kept.said.said_at, WAIT_S, "a first round")
    kept.redis_server.kill()

    ended(kept)
    kept.redis_server.start()
    with pytest.raises(redis.RedisError):
        redis.Redis.from_url(kept.redis_url).set("x", 1)


def test_settings_that_are_missing_are_named():
    with pytest.raises(ConfigError, match="CLOUDBURST_KEEPER_STACK"):
        KeeperConfig.from_environ({"CLOUDBURST_REDIS_URL": "redis://h"})
    config = KeeperConfig.from_environ(
        {
            "CLOUDBURST_REDIS_URL": "redis://x:secret@h",
            "CLOUDBURST_KEEPER_STACK": "a",
            "CLOUDBURST_KEEPER_TOKEN": "t0",
        }
    )
    assert not re.search("secret|t0", repr(config))
    assert config.own == "a-master"
