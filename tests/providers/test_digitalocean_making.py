"""Machines are made once each, whatever happens to the calls, and those that fail are replaced."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable

import pytest

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean import api
from cloudburst.providers.digitalocean.fleet import Fleet
from cloudburst.providers.digitalocean.provider import DigitalOcean
from tests.digitalocean.account import Times
from tests.digitalocean.fake import FakeDigitalOcean
from tests.digitalocean.faults import Kind
from tests.providers.conftest import KEY, Clock, Place

pytestmark = pytest.mark.slow

FLEET = Fleet("s", 3, allow=("203.0.113.7",))
NAMES = ["s-1", "s-2", "s-3", "s-master"]
EVERYTHING = [f"droplet {name}" for name in ("s-master", "s-1", "s-2", "s-3")] + [
    "firewall cloudburst-s",
    "VPC cloudburst-s",
    "SSH key cloudburst-s",
]


def test_machines_are_made_with_all_that_is_theirs(slow: Place) -> None:
    nodes, problems = slow.provider.make(slow.provider.plan(FLEET), KEY, slow.said.append)
    assert problems == []
    assert [node.name for node in nodes] == ["s-master", "s-1", "s-2", "s-3"]
    account = slow.fake.account
    assert account.left() == EVERYTHING
    (vpc,) = (vpc for vpc in account.vpcs.values() if not vpc["default"])
    for node, droplet in zip(nodes, account.droplets, strict=True):
        assert (node.identity, node.state, node.region) == (str(droplet.id), "active", "fra1")
        assert (node.address, node.private_address) == (droplet.address, droplet.private_address)
        assert node.price_hourly == pytest.approx(0.03571)
        assert node.created_at == pytest.approx(droplet.created_at, abs=1)
        assert droplet.tags == ["cloudburst", "cloudburst:s"]
        assert droplet.keys == [KEY]
        assert droplet.vpc == vpc["id"]
        assert droplet.user_data == ""
    assert slow.provider.nodes("s") == nodes
    assert slow.said[-1] == "4 of 4 machines are ready (55 s)"


def test_calls_per_machine(slow: Place, record_property: Callable[[str, object], None]) -> None:
    for nodes in (3, 20):
        before = slow.provider.calls
        slow.up(Fleet("s", nodes))
        calls, machines = slow.provider.calls - before, nodes + 1
        record_property(f"calls for {machines} machines", calls)
        assert calls <= 35


def test_more_machines_than_one_call_takes(place: Place) -> None:
    assert len(place.up(Fleet("s", 23))) == 24
    calls = [call for call in place.fake.calls if (call.method, call.path) == ("POST", "/v2/droplets")]
    assert [len(call.body["names"]) for call in calls] == [10, 10, 4]


def test_master_and_nodes_of_their_own_sizes(place: Place) -> None:
    place.up(Fleet("s", 2, size="c-4", master_size="s-4vcpu-8gb"))
    sizes = {droplet.name: droplet.size["slug"] for droplet in place.fake.account.droplets}
    assert sizes == {"s-master": "s-4vcpu-8gb", "s-1": "c-4", "s-2": "c-4"}


def test_again_does_nothing(place: Place) -> None:
    place.up(FLEET)
    before = place.fake.count("P* /v2/*")
    assert place.up(FLEET) == ["s-master", "s-1", "s-2", "s-3"]
    assert place.fake.count("P* /v2/*") == before


def test_more_later_fill_the_gaps(place: Place) -> None:
    place.up(FLEET)
    place.fake.account.lose("s-2")
    place.up(Fleet("s", 4))
    assert place.fake.account.names() == ["s-1", "s-2", "s-3", "s-4", "s-master"]


@pytest.mark.parametrize("path", ["vpcs", "account/keys", "tags", "firewalls", "droplets"])
@pytest.mark.parametrize("kind", ["lost reply", "lost request", "status"])
@pytest.mark.parametrize("times", [1, 3])
def test_answers_that_are_lost_double_nothing(place: Place, path: str, kind: Kind, times: int) -> None:
    fault = place.fake.fault(f"POST /v2/{path}", kind, times=times, status=500)
    place.up(FLEET)
    assert fault.happened == (1 if kind == "lost reply" else times)
    assert place.fake.account.left() == EVERYTHING


@pytest.mark.parametrize("path", ["vpcs", "account/keys", "firewalls"])
def test_what_a_lost_call_made_may_be_listed_only_after_the_next_one(place: Place, path: str) -> None:
    account = place.fake.account
    name = {"vpcs": "list_vpcs", "account/keys": "list_keys", "firewalls": "list_firewalls"}[path]
    listed = getattr(account, name)

    def late() -> list[dict[str, object]]:
        return listed() if place.fake.count(f"POST /v2/{path}") > 1 else []

    setattr(account, name, late)
    place.fake.fault(f"POST /v2/{path}", "lost reply")
    place.up(FLEET)
    assert place.fake.count(f"POST /v2/{path}") == 2
    assert account.left() == EVERYTHING


def test_an_answer_that_takes_too_long_is_a_lost_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "READ_S", 1.0)
    fault = place.fake.fault("POST /v2/droplets", "slow", seconds=5)
    place.up(FLEET)
    assert fault.happened == 1
    assert place.fake.account.left() == EVERYTHING


@pytest.mark.parametrize(("kind", "status"), [("status", 429), ("lost reply", 0)])
def test_something_goes_wrong_at_each_call_of_a_stack_and_its_end(
    kind: Kind, status: int, record_property: Callable[[str, object], None]
) -> None:
    number, happened = 0, 1
    while happened:
        number += 1
        with FakeDigitalOcean(clock=Clock()) as fake:
            place = Place(fake, Clock())
            fault = fake.fault(number, kind, status=status, retry_after=7)
            place.up(FLEET)
            assert fake.account.left() == EVERYTHING, (number, kind, status)
            place.provider.remove_all("s", place.said.append)
            assert fake.account.left() == [], (number, kind, status)
            happened = fault.happened
            fake.check()
    record_property("calls that failed", number - 1)
    assert number > 30


def test_who_is_killed_at_any_call_goes_on_where_it_was_or_leaves_nothing(
    record_property: Callable[[str, object], None],
) -> None:
    """After each call of a first ``up``, which is before the next one.

    (a) The same again makes exactly what was asked for; (b) nothing is left.
    """
    fork = multiprocessing.get_context("fork")
    number = killed = 0
    while killed == number:
        number += 1
        for ending in ("again", "down"):
            with FakeDigitalOcean() as fake:
                place = Place(fake, Clock())
                child = fork.Process(target=_up_and_exit, args=(fake,))
                fake.kill_at(number, lambda child=child: child.pid, executed=True)
                child.start()
                child.join(60)
                if child.exitcode == 0:
                    assert len(fake.calls) < number
                    break
                assert child.exitcode == -9
                fake.mend()
                if ending == "again":
                    killed += 1
                    place.up(FLEET)
                    assert fake.account.left() == EVERYTHING
                place.provider.remove_all("s", place.said.append)
                assert fake.account.left() == []
                assert place.provider.audit() == []
                fake.check()
    record_property("kill points", killed)
    assert killed > 15


def _up_and_exit(fake: FakeDigitalOcean) -> None:
    place = Place(fake, Clock())
    place.provider = DigitalOcean(fake.token, fake.end_point, sleep=lambda _: None)
    place.up(FLEET)
    os._exit(0)


def test_a_machine_that_fails_is_made_once_more(slow: Place) -> None:
    slow.fake.account.break_droplet("s-2")
    nodes, problems = slow.provider.make(slow.provider.plan(FLEET), KEY, slow.said.append)
    assert problems == []
    assert [node.name for node in nodes] == ["s-master", "s-1", "s-2", "s-3"]
    assert slow.fake.account.names() == NAMES
    assert any("s-2: DigitalOcean failed to create it: making it once more" in line for line in slow.said)
    assert slow.clock.now - 1_760_000_000 < 200


def test_a_machine_that_fails_twice_is_a_problem_of_a_stack_that_works(slow: Place) -> None:
    slow.fake.account.break_droplet("s-2", times=2)
    nodes, problems = slow.provider.make(slow.provider.plan(FLEET), KEY, slow.said.append)
    assert [node.name for node in nodes] == ["s-master", "s-1", "s-3"]
    assert problems == [
        "s-2 could not be made: DigitalOcean failed to create it, twice; it was removed again"
    ]
    assert slow.fake.account.names() == ["s-1", "s-3", "s-master"]
    slow.up(FLEET)
    assert slow.fake.account.names() == NAMES


def test_a_master_that_fails_twice_is_an_error(slow: Place) -> None:
    slow.fake.account.break_droplet("s-master", times=2)
    with pytest.raises(ProviderError, match=r"no master: s-master could not be made.*-d to remove"):
        slow.provider.make(slow.provider.plan(FLEET), KEY, slow.said.append)
    assert slow.fake.account.names() == ["s-1", "s-2", "s-3"]
    assert "s-master" in slow.up(FLEET)


def test_a_machine_that_failed_while_nobody_looked_is_replaced(slow: Place) -> None:
    slow.fake.account.break_droplet("s-1")
    slow.fake.fault("GET /v2/droplets", "status", status=418, times=1, after=2)
    with pytest.raises(ProviderError, match="418"):
        slow.provider.make(slow.provider.plan(FLEET), KEY, slow.said.append)
    plan = slow.provider.plan(FLEET)
    assert {node.name: node.state for node in plan.keep}["s-1"] == "new"
    slow.up(FLEET)
    assert slow.fake.account.names() == NAMES


def test_machines_that_are_destroyed_while_they_are_made_are_made_again(slow: Place) -> None:
    fake = slow.fake
    lost: list[str] = []

    def lose_one(call: object) -> bool:
        if slow.clock.now > 1_760_000_020 and not lost:
            lost.append("s-3")
            fake.account.lose("s-3")
        return False

    fake.fault(lose_one, "slow")
    slow.up(FLEET)
    assert lost
    assert fake.account.names() == NAMES


@pytest.mark.parametrize("times", [Times(boot_s=20, address_s=200), Times(boot_s=500, address_s=10)])
def test_addresses_and_machines_that_come_late(clock: Clock, times: Times) -> None:
    with FakeDigitalOcean(times, clock) as fake:
        place = Place(fake, clock)
        nodes, _ = place.provider.make(place.provider.plan(FLEET), KEY, place.said.append)
        assert all(node.address and node.private_address for node in nodes)
        assert clock.now - 1_760_000_000 == pytest.approx(max(times.boot_s, times.address_s), abs=6)


def test_machines_that_never_come_are_given_up_and_removed(clock: Clock) -> None:
    with FakeDigitalOcean(Times(boot_s=30, address_s=1e9), clock) as fake:
        place = Place(fake, clock)
        with pytest.raises(ProviderError, match="not given its addresses within 10 min"):
            place.provider.make(place.provider.plan(FLEET), KEY, place.said.append)
        assert fake.account.names() == []


def test_a_second_machine_of_a_call_that_was_executed_late_is_removed(slow: Place) -> None:
    """The reply is lost, and what it made is not listed until the call has been made again."""
    account = slow.fake.account
    list_droplets, hidden = account.list_droplets, slow.fake.fault("POST /v2/droplets", "lost reply")

    def late(*asked: str) -> list[dict[str, object]]:
        if slow.fake.count("POST /v2/droplets") < 2:
            return []
        return list_droplets(*asked)

    account.list_droplets = late  # type: ignore[method-assign]
    slow.up(Fleet("s", 1))
    assert hidden.happened == 1
    assert len(account.all_droplets) == 4
    assert account.names() == ["s-1", "s-master"]


def test_a_machine_with_a_name_that_is_taken_already_is_surplus(place: Place) -> None:
    place.up(FLEET)
    younger = place.fake.account.droplet("s-2")
    place.clock.now += 60
    body = {"region": "fra1", "size": "s-2vcpu-4gb", "image": "ubuntu-24-04-x64", "tags": younger.tags}
    place.fake.account.create_droplets({"name": "s-2", **body})
    plan = place.provider.plan(FLEET)
    assert [node.name for node in plan.surplus] == ["s-2"]
    place.provider.remove(plan.surplus, place.said.append)
    assert str(younger.id) in {node.identity for node in place.provider.nodes("s")}
    assert place.fake.account.names() == NAMES


def test_nodes_that_are_refused_are_a_problem_of_a_stack_that_works(place: Place) -> None:
    place.up(Fleet("s", 1))
    plan = place.provider.plan(FLEET)
    place.fake.account.droplet_limit = 3
    nodes, problems = place.provider.make(plan, KEY, place.said.append)
    assert [node.name for node in nodes] == ["s-master", "s-1"]
    assert len(problems) == 1
    assert "s-2, s-3 could not be made" in problems[0]
    assert "will exceed your droplet limit" in problems[0]


@pytest.mark.parametrize(
    "missing", [f"{kind}:create" for kind in ("vpc", "ssh_key", "tag", "firewall", "droplet")]
)
def test_a_token_that_may_not_make_something_leaves_nothing(place: Place, missing: str) -> None:
    kinds = ("droplet", "firewall", "vpc", "ssh_key", "tag")
    rights = {f"{kind}:{verb}" for kind in kinds for verb in ("create", "read", "update", "delete")}
    rights |= {"account:read", "sizes:read", "regions:read", "image:read"}
    provider = place.with_token(place.fake.another_token(*rights - {missing}))
    with pytest.raises(ProviderError, match=f"the token lacks the right {missing}"):
        provider.make(provider.plan(FLEET), KEY, place.said.append)
    assert place.fake.account.left() == []
