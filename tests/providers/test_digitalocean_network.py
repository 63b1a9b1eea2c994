"""Who may reach a stack's machines, and what its network becomes when it goes."""

from __future__ import annotations

import pytest

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean.fleet import Fleet
from cloudburst.providers.digitalocean.network import firewall_of, says
from tests.providers.conftest import ANOTHER_KEY, KEY, Place


def reach(firewall: dict[str, object]) -> set[tuple[str, str, str]]:
    """Protocol, ports and origin of everything that may come in."""
    return {(fact[1], fact[2], fact[4]) for fact in says(firewall) if fact[0] == "inbound_rules"}


def test_others_reach_three_ports_from_the_allowed_addresses_only() -> None:
    firewall = firewall_of(Fleet("floods", 2, allow=("203.0.113.7", "198.51.100.0/24")))
    tag = "cloudburst:floods"
    outside = {
        ("tcp", port, origin)
        for port in ("22", "443", "6380")
        for origin in ("203.0.113.7/32", "198.51.100.0/24")
    }
    assert reach(firewall) == outside | {("tcp", "0", tag), ("udp", "0", tag), ("icmp", "0", tag)}
    assert firewall["tags"] == [tag]


def test_without_allowed_addresses_nobody_comes_in() -> None:
    assert {origin for *_, origin in reach(firewall_of(Fleet("floods", 2)))} == {"cloudburst:floods"}


def test_firewalls_are_compared_by_what_they_let_pass() -> None:
    wanted = firewall_of(Fleet("s", 1, allow=("1.2.3.4", "5.6.7.0/24")))
    shown = {
        **wanted,
        "id": "x",
        "status": "succeeded",
        "droplet_ids": [],
        "inbound_rules": [
            {"protocol": "tcp", "ports": port, "sources": {"addresses": [address], "tags": []}}
            for address in ("5.6.7.0/24", "1.2.3.4")
            for port in ("6380", "443", "22")
        ]
        + [
            {"protocol": protocol, "ports": "all", "sources": {"tags": ["cloudburst:s"]}}
            for protocol in ("icmp", "udp", "tcp")
        ],
    }
    assert says(shown) == says(wanted)
    shown["inbound_rules"].pop()
    assert says(shown) != says(wanted)


def test_a_firewall_is_changed_when_who_may_reach_it_changes(place: Place) -> None:
    place.up(Fleet("s", 1, allow=("1.2.3.4",)))
    changed = place.provider.plan(Fleet("s", 1, allow=("5.6.7.8",)))
    assert changed.new_resources == ("firewall cloudburst-s (changed)",)
    place.up(Fleet("s", 1, allow=("5.6.7.8",)))
    (firewall,) = place.fake.account.firewalls.values()
    assert {origin for _, port, origin in reach(firewall) if port == "22"} == {"5.6.7.8/32"}
    before = place.fake.count("P* /v2/*")
    place.up(Fleet("s", 1, allow=("5.6.7.8/32",)))
    assert place.fake.count("P* /v2/*") == before


def test_the_first_vpc_of_a_region_stays_and_is_not_ours_any_more(place: Place) -> None:
    place.up(Fleet("s", 1, region="ams3"))
    assert [vpc["default"] for vpc in place.fake.account.vpcs.values()] == [True, True]
    place.provider.remove_all("s", place.said.append)
    assert {vpc["name"] for vpc in place.fake.account.vpcs.values()} == {"default-fra1", "default-ams3"}
    assert place.provider.audit() == []
    assert any("now default-ams3" in line for line in place.said)


def test_a_vpc_is_asked_for_until_its_members_have_gone(slow: Place) -> None:
    slow.up(Fleet("s", 1))
    slow.fake.account.vpc_refusal = 403
    slow.provider.remove_all("s", slow.said.append)
    assert slow.fake.account.left() == []
    assert slow.fake.count("DELETE /v2/vpcs/*") > 1


def test_a_vpc_with_a_member_of_somebody_else_is_reported(place: Place) -> None:
    place.up(Fleet("s", 0))
    vpc = next(vpc for vpc in place.fake.account.vpcs.values() if vpc["name"] == "cloudburst-s")
    place.fake.account.create_droplets(
        {
            "name": "guest",
            "region": "fra1",
            "size": "s-1vcpu-1gb",
            "image": "debian-12-x64",
            "vpc_uuid": vpc["id"],
        }
    )
    with pytest.raises(ProviderError, match=r"cloudburst-s .*with members.*run -d again"):
        place.provider.remove_all("s", place.said.append)
    assert place.fake.account.left() == ["droplet guest", "VPC cloudburst-s"]


def test_a_key_of_an_earlier_stack_is_replaced_and_one_in_use_is_not(place: Place) -> None:
    provider, account = place.provider, place.fake.account
    account.create_key({"name": "cloudburst-s", "public_key": ANOTHER_KEY})
    place.up(Fleet("s", 0))
    assert [key["public_key"] for key in account.keys.values()] == [KEY]
    with pytest.raises(ProviderError, match="made with another SSH key"):
        provider.make(provider.plan(Fleet("s", 1)), ANOTHER_KEY, place.said.append)
    assert account.names() == ["s-master"]


def test_a_key_that_the_account_has_under_another_name_serves_and_stays(place: Place) -> None:
    place.fake.account.create_key({"name": "laptop", "public_key": KEY.replace("cloudburst", "me@laptop")})
    place.up(Fleet("s", 0))
    assert len(place.fake.account.droplet("s-master").keys) == 1
    place.provider.remove_all("s", place.said.append)
    assert place.fake.account.left() == ["SSH key laptop"]


def test_a_vpc_left_over_in_another_region_is_replaced(place: Place) -> None:
    place.fake.account.create_vpc({"name": "cloudburst-s", "region": "fra1"})
    place.up(Fleet("s", 0, region="lon1"))
    ours = [vpc for vpc in place.fake.account.vpcs.values() if vpc["name"] == "cloudburst-s"]
    assert [vpc["region"] for vpc in ours] == ["lon1"]
