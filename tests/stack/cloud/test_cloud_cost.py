"""What is there after a failure is said with its price, and what a stack has cost survives a kill."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloudburst.errors import StackError
from cloudburst.providers.digitalocean import billing
from cloudburst.providers.digitalocean.provider import DigitalOcean
from tests.digitalocean.fake import FakeDigitalOcean
from tests.stack.cloud.parts import Swarm
from tests.stack.cloud.user import STACK, User


class Killed(BaseException):
    """As SIGKILL: nothing of ours is run after it."""


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        ("2025-03-01T00:00", "2025-03-01T10:00", 0.3571),
        ("2025-03-01T00:00", "2025-03-01T00:01", 0.01),  # a cent at least
        ("2025-03-01T00:00", "2025-03-01T00:00", 0.01),
        ("2025-03-01T00:00", "2025-03-31T00:00", 24.0),  # 25.71 by the hour
        ("2025-12-31T14:00", "2026-01-01T10:00", 0.7142),
        ("2025-12-01T00:00", "2026-02-01T00:00", 48.0),
    ],
)
def test_a_droplet_costs_a_cent_at_least_and_a_months_price_at_most(
    begin: str, end: str, expected: float
) -> None:
    assert billing.cost(at(begin), at(end), 0.03571, 24.0) == pytest.approx(expected)


def test_what_has_no_price_or_age_costs_nothing_that_is_known() -> None:
    assert billing.cost(0.0, at("2025-03-01"), 0.03571, 24.0) == 0
    assert billing.cost(at("2025-03-01"), at("2025-03-02"), 0.0) == 0


def test_a_killed_d_forgets_no_cost(
    user: User, fake: FakeDigitalOcean, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.up(1)
    for droplet in fake.account.droplets:
        droplet.created_at -= 10 * 3600
    with monkeypatch.context() as patch:
        patch.setattr("cloudburst.providers.digitalocean.provider.DigitalOcean._remove_kind", _killed)
        with pytest.raises(Killed):
            user.down()
    assert fake.account.names() == []

    found = user.status()
    assert found.cost == pytest.approx(2 * 10 * 0.03571, rel=0.01)
    assert found.settings is not None
    assert found.settings.ending
    assert user.down().cost == pytest.approx(2 * 10 * 0.03571, rel=0.01)


def _killed(*_arguments: object) -> None:
    raise Killed


def test_a_stack_that_is_wanted_again_is_not_ending(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.up(1)
    with monkeypatch.context() as patch:
        patch.setattr("cloudburst.providers.digitalocean.provider.DigitalOcean.remove_all", _killed)
        with pytest.raises(Killed):
            user.down()
    user.up(1)
    found = user.status()
    assert found.settings is not None
    assert (found.settings.ending, found.settings.leaving) == (False, ())


def test_what_is_there_and_its_price_is_said_when_a_deployment_fails(
    user: User, fake: FakeDigitalOcean
) -> None:
    class Failing(Swarm):
        def deploy(self, names: object) -> object:  # type: ignore[override]
            raise StackError("floods-master: no answer\nnothing was deployed")

    user.swarm = Failing(user.environ, STACK)
    with pytest.raises(StackError) as error:
        user.up(3)
    (note,) = error.value.__notes__
    assert "there now: floods-master, floods-1, floods-2, floods-3: $0.14284 per hour" in note
    assert "./buildstack.sh --name floods -d" in note
    assert len(fake.account.names()) == 4


def test_a_failure_that_leaves_nothing_says_so(user: User, fake: FakeDigitalOcean) -> None:
    fake.fault("POST /v2/droplets", "status", status=422, message="will exceed your droplet limit")
    with pytest.raises(StackError) as error:
        user.up(1)
    assert "has no machines at DigitalOcean" in error.value.__notes__[-1]


def test_our_tags_go_with_the_last_stack(user: User, fake: FakeDigitalOcean, tmp_path: Path) -> None:
    other = DigitalOcean(fake.token, fake.end_point, sleep=user.clock.sleep, clock=user.clock)
    user.up(1)
    body = {"region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64"}
    fake.account.create_droplets({"name": "b-master", **body, "tags": ["cloudburst", "cloudburst:b"]})
    user.down()
    assert fake.account.tags == {"cloudburst", "cloudburst:b"}
    other.remove_all("b", lambda _line: None)
    assert fake.account.tags == set()
