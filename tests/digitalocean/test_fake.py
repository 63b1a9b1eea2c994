"""The fake itself: strict, stateful, and wrong on purpose only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.digitalocean.account import Times
from tests.digitalocean.fake import FakeDigitalOcean

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAWXzuHiLcnrVlqUVTmUIRcNlUCiYjEHmPNCx4ZRIQ5d test"
DROPLET = {"region": "fra1", "size": "s-2vcpu-4gb", "image": "ubuntu-24-04-x64"}
RULE = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["192.0.2.1/32"]}}


class Clock:
    def __init__(self) -> None:
        self.now = 1_760_000_000.0

    def __call__(self) -> float:
        return self.now


class Api:
    """A client without any care."""

    def __init__(self, fake: FakeDigitalOcean) -> None:
        self.fake = fake
        self.session = requests.Session()

    def __call__(self, method: str, path: str, body: object = None, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.fake.token}"}
        sent = {} if body is None else {"json": body}
        return self.session.request(
            method, self.fake.end_point + path, headers=headers, timeout=20, **sent, **options
        )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fake(clock: Clock) -> Iterator[FakeDigitalOcean]:
    with FakeDigitalOcean(Times(boot_s=40, address_s=50, delete_s=10, member_s=5), clock) as fake:
        yield fake


@pytest.fixture
def api(fake: FakeDigitalOcean) -> Api:
    return Api(fake)


def test_a_droplet_is_new_then_active_then_has_addresses(api: Api, clock: Clock) -> None:
    made = api("POST", "droplets", {"names": ["a", "b"], **DROPLET, "tags": ["t"]})
    assert made.status_code == 202
    assert [droplet["status"] for droplet in made.json()["droplets"]] == ["new", "new"]
    first, second = made.json()["links"]["actions"]
    assert first["id"] != second["id"]
    assert first["rel"] == "multiple_create"
    action = api("GET", f"actions/{first['id']}").json()["action"]
    assert (action["status"], action["completed_at"]) == ("in-progress", None)

    def seen() -> dict[str, tuple[str, list[str]]]:
        listed = api("GET", "droplets?tag_name=t").json()["droplets"]
        return {d["name"]: (d["status"], sorted(n["type"] for n in d["networks"]["v4"])) for d in listed}

    clock.now += 41
    assert seen() == {"a": ("active", []), "b": ("active", [])}
    clock.now += 10
    assert seen() == {name: ("active", ["private", "public"]) for name in "ab"}
    assert api("GET", f"actions/{first['id']}").json()["action"]["status"] == "completed"


def test_a_droplet_is_in_lists_late_if_wanted(api: Api, clock: Clock, fake: FakeDigitalOcean) -> None:
    fake.account.times.listed_s = 5
    made = api("POST", "droplets", {"name": "a", **DROPLET}).json()["droplet"]
    assert api("GET", "droplets").json()["droplets"] == []
    assert api("GET", f"droplets/{made['id']}").json()["droplet"]["name"] == "a"
    clock.now += 5
    assert len(api("GET", "droplets").json()["droplets"]) == 1


def test_deleting_takes_time_and_a_vpc_waits_for_its_members(
    api: Api, clock: Clock, fake: FakeDigitalOcean
) -> None:
    vpc = api("POST", "vpcs", {"name": "v", "region": "fra1"}).json()["vpc"]
    droplet = api("POST", "droplets", {"name": "a", **DROPLET, "vpc_uuid": vpc["id"]}).json()["droplet"]
    assert api("DELETE", f"droplets/{droplet['id']}").status_code == 422
    clock.now += 60
    assert api("DELETE", f"droplets/{droplet['id']}").status_code == 204
    assert [d["name"] for d in api("GET", "droplets").json()["droplets"]] == ["a"]
    clock.now += 11
    assert api("GET", f"droplets/{droplet['id']}").status_code == 404
    refused = api("DELETE", f"vpcs/{vpc['id']}")
    assert (refused.status_code, refused.json()["message"]) == (409, "Can not delete VPC with members")
    assert fake.account.left() == ["VPC v"]
    clock.now += 5
    assert api("DELETE", f"vpcs/{vpc['id']}").status_code == 204
    assert fake.account.left() == []
    assert fake.account.billed() == 0.01  # at least, for a minute
    fake.check()


@pytest.mark.parametrize(
    ("method", "path", "body", "options", "complaint"),
    [
        ("GET", "droplets/", None, {}, "no such method and path"),
        ("GET", "droplets?tag=x", None, {}, "query tag: there is no such parameter"),
        ("GET", "droplets?per_page=500", None, {}, "query per_page"),
        ("DELETE", "droplets", None, {}, "query tag_name: is missing"),
        ("DELETE", "droplets/1", {}, {}, "a body"),
        ("GET", "account", {}, {}, "a body"),
        ("POST", "droplets", {"name": "a", **DROPLET, "vpc_uuid": None}, {}, "vpc_uuid: None is no string"),
        ("POST", "droplets", {"name": "a", **DROPLET, "colour": "red"}, {}, "colour: there is no such field"),
        ("POST", "droplets", {"name": "a_b", **DROPLET}, {}, "body.name"),
        ("POST", "droplets", {"names": list("abcdefghijk"), **DROPLET}, {}, "11 items"),
        ("POST", "droplets", {"name": "a", "region": "fra1"}, {}, "body.size: is missing"),
        ("POST", "firewalls", {"name": "f", "inbound_rules": [{**RULE, "ports": 22}]}, {}, "22 is no string"),
        ("POST", "tags", None, {"data": "name=x"}, "Content-Type"),
    ],
)
def test_a_request_that_is_not_as_the_specification_says_is_a_violation(
    api: Api, fake: FakeDigitalOcean, method: str, path: str, body: object, options: Any, complaint: str
) -> None:
    assert api(method, path, body, **options).status_code == 400
    with pytest.raises(AssertionError, match=complaint):
        fake.check()
    assert fake.account.left() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "droplets", {"name": "a", **DROPLET, "size": "huge"}, 422, "invalid size"),
        ("POST", "droplets", {"name": "a", **DROPLET, "size": "c-32"}, 422, "not available in this region"),
        ("POST", "droplets", {"name": "a", **DROPLET, "region": "nyc2"}, 422, "invalid region"),
        ("POST", "droplets", {"name": "a", **DROPLET, "ssh_keys": [7]}, 422, "invalid key identifiers"),
        ("POST", "firewalls", {"name": "ff", "inbound_rules": [RULE], "tags": ["t"]}, 422, "tag t does not"),
        ("POST", "account/keys", {"name": "k", "public_key": "ssh-ed25519 x"}, 422, "Key invalid"),
        ("GET", "droplets/1", None, 404, "could not be found"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_in_the_real_words(
    api: Api, fake: FakeDigitalOcean, method: str, path: str, body: object, status: int, message: str
) -> None:
    answer = api(method, path, body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["message"]
    assert set(answer.json()) == {"id", "message", "request_id"}
    fake.check()


def test_droplet_limit(api: Api, fake: FakeDigitalOcean) -> None:
    fake.account.droplet_limit = 2
    answer = api("POST", "droplets", {"names": ["a", "b", "c"], **DROPLET})
    assert answer.status_code == 422
    assert answer.json()["message"] == "creating this/these droplet(s) will exceed your droplet limit"
    assert fake.account.names() == []


def test_keys_and_firewalls_are_there_once(api: Api, fake: FakeDigitalOcean) -> None:
    key = api("POST", "account/keys", {"name": "k", "public_key": KEY}).json()["ssh_key"]
    again = api("POST", "account/keys", {"name": "other", "public_key": KEY})
    assert (again.status_code, again.json()["message"]) == (422, "SSH Key is already in use on your account")
    assert api("GET", f"account/keys/{key['fingerprint']}").json()["ssh_key"] == key
    api("POST", "tags", {"name": "t:u"})
    rules = [RULE, {"protocol": "icmp", "ports": "0", "sources": {"tags": ["t:u"]}}]
    wanted = {"name": "ff", "inbound_rules": rules, "tags": ["t:u"]}
    made = api("POST", "firewalls", wanted)
    assert made.status_code == 202
    assert api("POST", "firewalls", wanted).status_code == 409
    identity = made.json()["firewall"]["id"]
    assert api("PUT", f"firewalls/{identity}", {**wanted, "inbound_rules": [RULE]}).status_code == 200
    assert api("GET", f"firewalls/{identity}").json()["firewall"]["inbound_rules"] == [RULE]
    assert api("DELETE", f"firewalls/{identity}").status_code == 204
    assert api("DELETE", f"account/keys/{key['id']}").status_code == 204
    assert fake.account.left() == []
    fake.check()


def test_tokens(api: Api, fake: FakeDigitalOcean) -> None:
    few = fake.another_token("account:read")
    for token, statuses in (("wrong", (401, 401)), (few, (200, 403)), (fake.token, (200, 200))):
        headers = {"Authorization": f"Bearer {token}"}
        asked = [
            requests.get(fake.end_point + path, headers=headers, timeout=9) for path in ("account", "vpcs")
        ]
        assert tuple(answer.status_code for answer in asked) == statuses


def test_pages_follow_one_another(api: Api, fake: FakeDigitalOcean) -> None:
    first = api("GET", "sizes").json()
    assert (len(first["sizes"]), first["meta"]["total"]) == (20, 27)
    rest = api("GET", first["links"]["pages"]["next"].removeprefix(fake.end_point)).json()
    assert len(rest["sizes"]) == 7
    assert "next" not in rest["links"]["pages"]


def test_too_many_calls_are_told_when_to_come_again(api: Api, fake: FakeDigitalOcean, clock: Clock) -> None:
    fake.rate_limit = 2
    assert [api("GET", "account").status_code for _ in range(3)] == [200, 200, 429]
    clock.now += 50
    refused = api("GET", "account")
    assert refused.headers["retry-after"] == "10"
    assert refused.headers["ratelimit-remaining"] == "0"
    clock.now += 10
    assert api("GET", "account").status_code == 200


def test_lost_replies_and_lost_requests(api: Api, fake: FakeDigitalOcean) -> None:
    fake.fault("POST /v2/droplets", "lost reply")
    with pytest.raises(requests.ConnectionError):
        api("POST", "droplets", {"name": "a", **DROPLET})
    assert fake.account.names() == ["a"]
    fake.fault("POST /v2/droplets", "lost request")
    with pytest.raises(requests.ConnectionError):
        api("POST", "droplets", {"name": "b", **DROPLET})
    assert fake.account.names() == ["a"]
    unlucky = fake.fault("GET /v2/droplets*", "status", times=2, status=429, retry_after=3)
    answers = [api("GET", "droplets") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "3"
    assert unlucky.happened == 2
    fake.check()


def test_a_droplet_that_breaks_has_an_errored_action(api: Api, fake: FakeDigitalOcean, clock: Clock) -> None:
    fake.account.break_droplet("a")
    made = api("POST", "droplets", {"name": "a", **DROPLET}).json()
    clock.now += 100
    assert api("GET", f"actions/{made['links']['actions'][0]['id']}").json()["action"]["status"] == "errored"
    assert api("GET", f"droplets/{made['droplet']['id']}").json()["droplet"]["status"] == "new"
    assert api("DELETE", f"droplets/{made['droplet']['id']}").status_code == 204
    made = api("POST", "droplets", {"name": "a", **DROPLET}).json()
    clock.now += 100
    assert api("GET", f"droplets/{made['droplet']['id']}").json()["droplet"]["status"] == "active"


@pytest.mark.parametrize("executed", [False, True])
def test_who_calls_can_be_killed_at_a_call(fake: FakeDigitalOcean, executed: bool) -> None:
    call = "urllib.request.urlopen(sys.argv[1] + 'account')"
    program = f"import sys, urllib.request\nwhile True:\n  try: {call}\n  except OSError: pass\n"
    child = subprocess.Popen([sys.executable, "-c", program, fake.end_point], stderr=subprocess.DEVNULL)
    fake.kill_at(3, lambda: child.pid, executed=executed)
    assert child.wait(60) == -9
    assert len(fake.calls) == 3
