"""The firewall is open for the first contact only, and closed again however that ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cloudburst.errors import ProviderError, StackError
from cloudburst.providers.digitalocean.provider import DigitalOcean
from tests.digitalocean.fake import FakeDigitalOcean
from tests.stack.cloud.parts import HERE, Swarm
from tests.stack.cloud.user import STACK, User

ALL = "0.0.0.0/0"


def rules(fake: FakeDigitalOcean) -> str:
    """Who may come in."""
    (firewall,) = fake.account.firewalls.values()
    return str(firewall["inbound_rules"])


class Doorstep(Swarm):
    """Writes down who might come in when it tried to, and may be cut off then."""

    def __init__(self, user: User, ends: Callable[[], object] = lambda: None) -> None:
        super().__init__(user.environ, STACK)
        self._fake, self._ends = user.fake, ends
        self.open: list[bool] = []

    def reach(self, names: Sequence[str], timeout_s: float) -> dict[str, str]:
        if names:
            self.open.append(ALL in rules(self._fake))
            self._ends()
        return super().reach(names, timeout_s)


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


def test_nobody_is_let_in_before_the_machines_are_there(user: User, fake: FakeDigitalOcean) -> None:
    fake.fault("POST /v2/droplets", "status", status=409, message="no")
    with pytest.raises(ProviderError):
        user.up(1)
    assert ALL not in rules(fake)

    user.swarm = doorstep = Doorstep(user)
    user.up(1)
    assert doorstep.open == [True]
    assert HERE in rules(fake)
    assert ALL not in rules(fake)


@pytest.mark.parametrize("ends", [interrupt, terminate, hang_up])
def test_it_is_closed_when_the_contact_is_cut_off(
    user: User, fake: FakeDigitalOcean, ends: Callable[[], object]
) -> None:
    user.swarm = doorstep = Doorstep(user, ends)
    with pytest.raises((KeyboardInterrupt, StackError)):
        user.up(1)
    assert doorstep.open == [True]
    assert ALL not in rules(fake)

    user.swarm = Doorstep(user)
    user.up(1)
    assert HERE in rules(fake)


def test_it_is_closed_when_no_machine_lets_us_in(user: User, fake: FakeDigitalOcean) -> None:
    user.swarm.silent = {"floods-master", "floods-1"}
    with pytest.raises(
        StackError, match=r"floods-master: runs, but .*: ./buildstack.sh --name floods -d,"
    ) as e:
        user.up(1)
    assert "--drain floods-master" not in str(e.value)
    assert ALL not in rules(fake)


def test_it_is_closed_when_our_address_has_changed_and_nothing_answers(
    user: User, fake: FakeDigitalOcean
) -> None:
    user.up(1)
    user.swarm.silent = {"floods-master", "floods-1"}
    user.up(1)
    assert ALL not in rules(fake)
    assert HERE in rules(fake)


def test_who_comes_by_several_addresses_is_let_in_by_all(user: User, fake: FakeDigitalOcean) -> None:
    class Several(Swarm):
        def reach(self, names: Sequence[str], timeout_s: float) -> dict[str, str]:
            found = super().reach(names, timeout_s)
            return {name: f"192.0.2.{place}" for place, name in enumerate(found, 1)}

    user.swarm = Several(user.environ, STACK)
    user.up(1)
    assert "192.0.2.1/32" in rules(fake)
    assert "192.0.2.2/32" in rules(fake)
    assert ALL not in rules(fake)


def test_a_token_that_cannot_close_it_is_refused_before(user: User, fake: FakeDigitalOcean) -> None:
    rights: set[Any] = {
        f"{kind}:{verb}"
        for kind in ("account", "sizes", "regions", "image", "droplet", "vpc", "firewall", "ssh_key", "tag")
        for verb in ("create", "read", "update", "delete")
    }
    token = fake.another_token(*rights - {"firewall:update"})
    user.provider = DigitalOcean(token, fake.end_point, sleep=user.clock.sleep, clock=user.clock)
    with pytest.raises(ProviderError, match="the token lacks the right firewall:update"):
        user.up(1)
    assert fake.account.left() == []


def test_that_it_could_not_be_closed_is_said(user: User, fake: FakeDigitalOcean) -> None:
    # The first PUT tries the right, the second opens, the third closes.
    fault = fake.fault("PUT /v2/firewalls/*", "status", status=403, after=2, times=99)
    user.swarm = Doorstep(user, interrupt)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        user.up(1)
    assert fault.happened
    note, _ = interrupted.value.__notes__
    assert "may still let in everybody" in note
    assert "firewall:update" in note

    fake.mend()
    user.swarm = Swarm(user.environ, STACK)
    user.up(1)
    assert ALL not in rules(fake)


def test_status_says_that_a_killed_first_login_left_it_open(user: User, fake: FakeDigitalOcean) -> None:
    user.up(1)
    assert not user.status().is_open
    (firewall,) = fake.account.firewalls.values()
    rule = {"protocol": "tcp", "ports": "22", "sources": {"addresses": [ALL, "::/0"]}}
    firewall["inbound_rules"].append(rule)
    assert user.status().is_open

    user.up(1)
    assert not user.status().is_open
