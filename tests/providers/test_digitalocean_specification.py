"""What DigitalOcean's specification says beyond the obvious: GPUs, limits of lists, probes, words of 403."""

from __future__ import annotations

import pytest

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean.fleet import Fleet
from cloudburst.providers.digitalocean.from_inside import FromInside
from cloudburst.providers.digitalocean.rate_limit import RateLimit
from tests.digitalocean.account import Times
from tests.digitalocean.fake import KEY_LISTS, FakeDigitalOcean
from tests.providers.conftest import KEY, Clock, Place

READ = tuple(
    f"{kind}:read"
    for kind in ("account", "sizes", "regions", "image", "droplet", "vpc", "firewall", "ssh_key", "tag")
)
GPU = "gpu-4000adax1-20gb"


def make_gpu_node(place: Place, name: str) -> None:
    """As a version of CloudBurst that did not refuse it has left it."""
    body = {
        "region": "fra1",
        "size": GPU,
        "image": "ubuntu-24-04-x64",
        "tags": ["cloudburst", "cloudburst:s"],
    }
    place.fake.account.create_droplets({"name": name, **body})


def test_a_size_with_a_gpu_is_refused_before_anything_is_made(place: Place) -> None:
    with pytest.raises(ProviderError, match=r"gpu-4000adax1-20gb has a GPU.*s-1vcpu-1gb"):
        place.provider.plan(Fleet("s", 1, size=GPU))
    assert place.fake.account.left() == []


def test_machines_with_a_gpu_that_are_there_are_listed_and_removed(place: Place) -> None:
    place.up(Fleet("s", 0))
    make_gpu_node(place, "s-1")
    there = Place(place.fake, place.clock).provider
    assert [node.name for node in there.nodes("s")] == ["s-master", "s-1"]
    assert [one.name for one in there.audit() if one.kind == "droplet"] == ["s-master", "s-1"]
    assert there.plan(Fleet("s", 1)).make == ()
    there.remove_all("s", place.said.append)
    assert place.fake.account.left() == []


def test_keys_are_listed_once_per_command(place: Place) -> None:
    place.up(Fleet("s", 1))
    assert place.fake.count("GET /v2/account/keys") == 1
    there = Place(place.fake, place.clock).provider
    there.audit()
    there.remove_all("s", place.said.append)
    assert place.fake.count("GET /v2/account/keys") == 2


def test_a_limit_of_lists_is_waited_for_and_everything_goes(place: Place) -> None:
    place.up(Fleet("s", 1))
    for _ in range(KEY_LISTS - 1):  # by a colleague
        place.with_token(place.fake.token).audit()
    before = place.clock.now
    place.with_token(place.fake.token).remove_all("s", place.said.append)
    assert place.clock.now - before == pytest.approx(60, abs=5)
    assert place.fake.account.left() == []


def test_an_hour_that_is_used_up_is_not_waited_for() -> None:
    clock = Clock()
    headers = {"ratelimit-remaining": "0", "ratelimit-reset": str(clock.now + 3420)}
    with pytest.raises(ProviderError, match="try again in 57 min"):
        RateLimit("droplets", clock.sleep, clock).wait(headers)
    RateLimit("droplets", clock.sleep, clock).wait({**headers, "ratelimit-remaining": "4000"})
    assert clock.slept == [60.0]


def test_keys_that_are_removed_here_are_known_to_be_gone(place: Place) -> None:
    place.up(Fleet("s", 0))
    place.provider.remove_all("s", place.said.append)
    place.up(Fleet("s", 0))
    assert len(place.fake.account.keys) == 1


def test_what_a_read_only_token_lacks_is_said_at_once(place: Place) -> None:
    place.up(Fleet("s", 3))
    provider = place.with_token(place.fake.another_token(*READ))
    before = len(place.fake.calls)
    with pytest.raises(ProviderError, match=r"lacks the right droplet:delete: .*do not have access"):
        provider.remove_all("s", place.said.append)
    assert len(place.fake.calls) - before < 10
    assert place.clock.slept == []


def test_rights_are_tried_out_by_calls_that_the_specification_knows(place: Place) -> None:
    plan = place.provider.plan(Fleet("s", 1))
    assert {call.method for call in place.fake.calls} == {"GET"}
    place.provider.check_rights(plan)
    assert place.fake.account.left() == []
    place.fake.check()


@pytest.mark.parametrize("missing", ["droplet:delete", "firewall:update"])
def test_a_token_that_could_not_remove_or_protect_is_refused_before(place: Place, missing: str) -> None:
    rights = {*READ, "droplet:delete", "droplet:create", "firewall:create", "firewall:update"} - {missing}
    provider = place.with_token(place.fake.another_token(*rights))
    with pytest.raises(ProviderError, match=f"the token lacks the right {missing}"):
        provider.check_rights(provider.plan(Fleet("s", 1)))


def test_regions_are_what_a_token_lacks_that_lacks_them(place: Place) -> None:
    """Sizes are refused then, too, since each names its regions."""
    place.fake.fault("GET /v2/sizes", "status", status=403, message="You are not authorized")
    rights = set(READ) - {"regions:read"}
    with pytest.raises(ProviderError, match="lacks the right regions:read"):
        place.with_token(place.fake.another_token(*rights)).plan(Fleet("s", 1))


def test_a_key_that_was_made_just_now_is_known_a_little_later(clock: Clock) -> None:
    with FakeDigitalOcean(Times(key_s=20), clock) as fake:
        place = Place(fake, clock)
        assert place.up(Fleet("s", 1)) == ["s-master", "s-1"]
        assert fake.count("POST /v2/account/keys") == 1
        fake.check()


def test_a_key_that_never_becomes_known_leaves_nothing(clock: Clock) -> None:
    with FakeDigitalOcean(Times(key_s=1e6), clock) as fake:
        place = Place(fake, clock)
        with pytest.raises(ProviderError, match="invalid key identifiers"):
            place.provider.make(place.provider.plan(Fleet("s", 1)), KEY, place.said.append)
        assert fake.account.left() == []
        assert clock.now - 1_760_000_000 < 120


def test_a_key_that_cannot_be_removed_does_not_keep_the_vpc(place: Place) -> None:
    place.up(Fleet("s", 1))
    place.fake.fault("DELETE /v2/account/keys/*", "status", status=403, times=9)
    with pytest.raises(ProviderError, match="lacks the right ssh_key:delete"):
        place.provider.remove_all("s", place.said.append)
    assert place.fake.account.left() == ["SSH key cloudburst-s"]


@pytest.mark.parametrize("missing", ["", "vpc:update"])
def test_the_keepers_token_needs_to_rename_a_vpc_that_became_the_default(place: Place, missing: str) -> None:
    place.up(Fleet("s", 1, region="ams3"))
    kinds = ("droplet", "firewall", "ssh_key", "vpc", "tag")
    rights = {f"{kind}:{verb}" for kind in kinds for verb in ("read", "delete")} | {"vpc:update"}
    token = place.fake.another_token(*rights - {missing})
    inside = FromInside(token, place.fake.end_point, sleep=place.clock.sleep, clock=place.clock)
    if missing:
        with pytest.raises(ProviderError, match="lacks the right vpc:update"):
            inside.remove_from_inside("s", "s-master", place.said.append)
    else:
        inside.remove_from_inside("s", "s-master", place.said.append)
        assert "default-ams3" in [vpc["name"] for vpc in place.fake.account.vpcs.values()]
    assert place.fake.account.left() == []


def test_a_token_that_may_not_read_tags_is_told_so(place: Place) -> None:
    place.up(Fleet("s", 1))
    rights = set(READ) - {"tag:read"}
    with pytest.raises(ProviderError, match="lacks the right droplet:read or tag:read"):
        place.with_token(place.fake.another_token(*rights)).nodes("s")
