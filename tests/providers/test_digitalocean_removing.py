"""What is removed is gone, and what is ours is found, also when no stack knows of it any more."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable

import pytest

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean.fleet import Fleet
from cloudburst.providers.digitalocean.provider import DigitalOcean
from tests.digitalocean.fake import FakeDigitalOcean
from tests.providers.conftest import ANOTHER_KEY, Clock, Place

pytestmark = pytest.mark.slow


def test_everything_is_removed_and_its_cost_is_told(slow: Place) -> None:
    slow.up(Fleet("s", 3))
    slow.clock.now += 3600
    removal = slow.provider.remove_all("s", slow.said.append)
    assert slow.fake.account.left() == []
    assert "cloudburst:s" not in slow.fake.account.tags
    assert slow.provider.audit() == []
    assert [resource.kind for resource in removal.removed] == ["droplet"] * 4 + ["firewall", "SSH key", "VPC"]
    assert removal.cost == pytest.approx(slow.fake.account.billed(), rel=0.01)
    assert removal.cost == pytest.approx(4 * 0.03571, rel=0.05)


def test_removing_what_is_not_there_is_fine(place: Place) -> None:
    removal = place.provider.remove_all("s", place.said.append)
    assert (removal.removed, removal.cost) == ((), 0)


def test_machines_that_are_still_being_made_are_removed_when_they_can_be(slow: Place) -> None:
    slow.fake.fault("GET /v2/droplets", "status", status=418, after=2)
    with pytest.raises(ProviderError, match="418"):
        slow.up(Fleet("s", 2))
    assert {node.state for node in slow.provider.nodes("s")} == {"new"}
    slow.provider.remove_all("s", slow.said.append)
    assert slow.fake.account.left() == []
    assert slow.clock.now - 1_760_000_000 > 45


def test_machines_that_are_off_are_listed_and_removed(place: Place) -> None:
    place.up(Fleet("s", 2))
    place.fake.account.power_off("s-1")
    place.fake.account.power_off("s-master")
    assert [(node.name, node.state) for node in place.provider.nodes("s")] == [
        ("s-master", "off"),
        ("s-1", "off"),
        ("s-2", "active"),
    ]
    place.provider.remove_all("s", place.said.append)
    assert place.fake.account.left() == []


def test_only_the_named_machines_go(slow: Place) -> None:
    slow.up(Fleet("s", 3))
    plan = slow.provider.plan(Fleet("s", 1))
    slow.provider.remove(plan.surplus, slow.said.append)
    assert slow.fake.account.names() == ["s-1", "s-master"]
    assert [droplet.name for droplet in slow.fake.account.droplets] == ["s-master", "s-1"]


def test_other_stacks_and_other_things_stay(place: Place) -> None:
    place.up(Fleet("a", 1))
    place.up(Fleet("a-1", 1))
    place.fake.account.create_droplets(
        {"name": "a-9", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64", "tags": ["mine"]}
    )
    place.provider.remove_all("a", place.said.append)
    assert place.fake.account.names() == ["a-1-1", "a-1-master", "a-9"]
    assert {resource.stack for resource in place.provider.audit()} == {"a-1"}


def test_a_machine_that_does_not_go_is_named(place: Place) -> None:
    place.up(Fleet("s", 1))
    stuck = f"DELETE /v2/droplets/{place.fake.account.droplet('s-1').id}"
    place.fake.fault(stuck, "status", status=422, times=9999, message="pending event")
    with pytest.raises(
        ProviderError, match=r"did not remove s-1 within 10 min .*\(pending event\): it costs"
    ):
        place.provider.remove_all("s", place.said.append)
    place.fake.mend()
    place.provider.remove_all("s", place.said.append)
    assert place.fake.account.left() == []


def test_an_accepted_removal_that_was_forgotten_is_asked_for_again(place: Place) -> None:
    place.up(Fleet("s", 1))
    forgotten = place.fake.account.droplet("s-1")
    delete = place.fake.account.delete_droplet

    def forget(number: str) -> None:
        if number != str(forgotten.id) or place.fake.count(f"DELETE /v2/droplets/{number}") > 1:
            delete(number)

    place.fake.account.delete_droplet = forget  # type: ignore[method-assign]
    place.provider.remove_all("s", place.said.append)
    assert place.fake.account.left() == []


def test_a_machine_that_appears_at_the_end_is_not_passed_over(place: Place) -> None:
    """A call of a tool that was killed may be executed after everything else was removed."""
    place.up(Fleet("s", 0))
    body = {"region": "fra1", "size": "s-2vcpu-4gb", "image": "ubuntu-24-04-x64"}
    tags = ["cloudburst", "cloudburst:s"]

    def late(call: object) -> bool:
        if str(call).find("DELETE /v2/firewalls/") > 0:
            place.fake.account.create_droplets({"name": "s-1", **body, "tags": tags})
        return False

    place.fake.fault(late, "slow")
    with pytest.raises(ProviderError, match="still there: droplet s-1"):
        place.provider.remove_all("s", place.said.append)
    place.fake.mend()
    place.provider.remove_all("s", place.said.append)
    assert place.fake.account.left() == []


def test_audit_finds_every_stack_and_what_is_left_without_machines(place: Place) -> None:
    place.up(Fleet("a", 1))
    place.up(Fleet("b", 0), ANOTHER_KEY)
    place.fake.account.lose("b-master")
    place.fake.account.power_off("a-1")
    place.clock.now += 7200
    found = [(r.stack, r.kind, r.name, r.state) for r in place.provider.audit()]
    assert found == [
        ("a", "droplet", "a-master", "active"),
        ("a", "droplet", "a-1", "off"),
        ("a", "firewall", "cloudburst-a", ""),
        ("a", "SSH key", "cloudburst-a", ""),
        ("a", "VPC", "cloudburst-a", ""),
        ("b", "firewall", "cloudburst-b", ""),
        ("b", "SSH key", "cloudburst-b", ""),
        ("b", "VPC", "cloudburst-b", ""),
    ]
    assert place.provider.audit()[0].cost(place.clock.now) == pytest.approx(2 * 0.03571, rel=0.01)


def test_a_token_that_may_not_remove_tags_is_enough(place: Place) -> None:
    place.up(Fleet("s", 1))
    kinds = ("droplet", "firewall", "vpc", "ssh_key")
    rights = {f"{kind}:{verb}" for kind in kinds for verb in ("read", "delete")} | {"tag:read"}
    place.with_token(place.fake.another_token(*rights)).remove_all("s", place.said.append)
    assert place.fake.account.left() == []


def test_who_is_killed_while_removing_leaves_nothing_the_next_time(
    record_property: Callable[[str, object], None],
) -> None:
    """Killed after a call was executed, which is before the next one is: so at each that there is."""
    fork = multiprocessing.get_context("fork")
    number = 0
    while True:
        number += 1
        with FakeDigitalOcean() as fake:
            place = Place(fake, Clock())
            place.up(Fleet("s", 2))
            child = fork.Process(target=_down_and_exit, args=(fake,))
            fake.kill_at(len(fake.calls) + number, lambda child=child: child.pid, executed=True)
            child.start()
            child.join(60)
            if child.exitcode == 0:
                break
            fake.mend()
            place.provider.remove_all("s", place.said.append)
            assert fake.account.left() == []
            fake.check()
    record_property("kill points", number - 1)
    assert number > 10


def _down_and_exit(fake: FakeDigitalOcean) -> None:
    provider = DigitalOcean(fake.token, fake.end_point, sleep=lambda _: None)
    provider.remove_all("s", lambda line: None)
    os._exit(0)
