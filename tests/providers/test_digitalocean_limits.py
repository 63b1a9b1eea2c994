"""What cannot be had is refused before anything is made, with the exact reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean.fleet import Fleet
from tests.digitalocean.account import Account
from tests.providers.conftest import Place

EVERY_READ = ("account:read", "droplet:read", "sizes:read", "regions:read", "image:read", "vpc:read")
EVERY_READ += ("firewall:read", "ssh_key:read")

DROPLET = {"region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64"}


def nothing(account: Account) -> None: ...


def limit(most: int, others: int) -> Callable[[Account], None]:
    def prepare(account: Account) -> None:
        account.droplet_limit = most
        for number in range(others):
            account.create_droplets({"name": f"mine{number}", **DROPLET})

    return prepare


def lock(account: Account) -> None:
    account.status = "locked"


def take_a_name(account: Account) -> None:
    account.create_droplets({"name": "s-2", **DROPLET})


@pytest.mark.parametrize(
    ("fleet", "prepare", "reason"),
    [
        (Fleet("s", 3), limit(6, 3), r"may have 6 droplets and has 3: the 4 .* are too many"),
        (Fleet("s", 3), lock, r"has locked the account"),
        (Fleet("s", 3), take_a_name, r"has a droplet s-2 that is not of the stack s: .*--name"),
        (
            Fleet("s", 1, region="moon1"),
            nothing,
            r"no region 'moon1': take --region with one of ams3, blr1, fra1",
        ),
        (Fleet("s", 1, region="nyc2"), nothing, r"no droplets can be made in nyc2 at the moment: .* nyc3"),
        (Fleet("s", 1, image="windows-95"), nothing, r"no image 'windows-95': ubuntu-24-04-x64"),
        (Fleet("s", 1, size="s-2vcpu-4g"), nothing, r"no size 's-2vcpu-4g': perhaps s-2vcpu-4gb"),
        (Fleet("s", 1, size="-"), nothing, r"no size '-': perhaps s-1vcpu-1gb or"),
        (
            Fleet("s", 1, size="c-32"),
            nothing,
            r"c-32 is not to be had in fra1 at the moment, but in: nyc1, sfo3; fra1 has nothing like it",
        ),
        (
            Fleet("s", 1, region="blr1", size="c-4"),
            nothing,
            r"c-4 is not to be had in blr1 .* blr1 has s-4vcpu-8gb \(4 CPUs, 8 GB, \$0.071/h\) or s-4vcpu",
        ),
        (Fleet("s", 1, size="c-48"), nothing, r"c-48 .* but in: nowhere"),
        (
            Fleet("s", 1, master_size="s-1vcpu-1gb"),
            nothing,
            r"s-1vcpu-1gb .* too little memory: a master needs 2 GB; fra1 has s-1vcpu-2gb",
        ),
        (
            Fleet("s", 1, size="s-1vcpu-512mb-10gb"),
            nothing,
            r"a compute node needs 1 GB; fra1 has s-1vcpu-1gb",
        ),
        (Fleet("S", 1), nothing, r"'S' cannot name a stack"),
    ],
)
def test_a_plan_that_cannot_be(
    place: Place, fleet: Fleet, prepare: Callable[[Account], None], reason: str
) -> None:
    prepare(place.fake.account)
    before = place.fake.account.left()
    with pytest.raises(ProviderError, match=reason):
        place.provider.plan(fleet)
    assert place.fake.account.left() == before
    assert place.fake.count("P* /v2/*") == 0


def test_a_small_size_is_enough_for_a_compute_node(place: Place) -> None:
    assert place.up(Fleet("s", 1, size="s-1vcpu-1gb")) == ["s-master", "s-1"]


def test_just_as_many_as_the_account_may_have(place: Place) -> None:
    limit(4, 1)(place.fake.account)
    assert len(place.up(Fleet("s", 2))) == 3


def test_a_stack_stays_in_its_region(place: Place) -> None:
    place.up(Fleet("s", 1))
    with pytest.raises(ProviderError, match=r"s is in fra1, .*take --region fra1"):
        place.provider.plan(Fleet("s", 2, region="ams3"))


@pytest.mark.parametrize("missing", EVERY_READ)
def test_a_token_that_may_not_read_something(place: Place, missing: str) -> None:
    rights = (*(right for right in EVERY_READ if right != missing), "droplet:delete")
    with pytest.raises(ProviderError, match=f"the token lacks the right {missing}"):
        place.with_token(place.fake.another_token(*rights)).plan(Fleet("s", 1))


def test_a_token_that_could_not_remove_what_it_makes(place: Place) -> None:
    provider = place.with_token(place.fake.another_token(*EVERY_READ, "droplet:create"))
    with pytest.raises(ProviderError, match="the token lacks the right droplet:delete"):
        provider.check_rights(provider.plan(Fleet("s", 1)))
    assert place.fake.account.left() == []


def test_a_plan_says_what_it_costs_and_changes_nothing(place: Place) -> None:
    plan = place.provider.plan(Fleet("floods", 3, size="c-8"))
    assert plan.price_hourly == pytest.approx(0.03571 + 3 * 0.25)
    assert plan.price_hourly_now == 0
    assert plan.new_resources == (
        "VPC cloudburst-floods",
        "firewall cloudburst-floods",
        "SSH key cloudburst-floods",
    )
    assert place.fake.account.left() == []
    assert place.fake.count("P* /v2/*") == 0


def test_the_plan_of_what_is_there_has_nothing_to_do_and_its_price(place: Place) -> None:
    place.up(Fleet("s", 2))
    plan = place.provider.plan(Fleet("s", 1))
    assert (plan.make, plan.new_resources) == ((), ())
    assert [node.name for node in plan.surplus] == ["s-2"]
    assert plan.price_hourly_now == pytest.approx(3 * 0.03571)
    assert plan.price_hourly == pytest.approx(2 * 0.03571)
