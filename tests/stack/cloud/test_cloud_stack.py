"""A stack at the fake provider: made, changed, shown and destroyed; its machines are records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloudburst.errors import ConfigError, StackError
from cloudburst.stack.cloud import ending
from tests.digitalocean.fake import FakeDigitalOcean
from tests.stack.cloud.parts import HERE, Swarm
from tests.stack.cloud.user import STACK, User


def refuse(question: str) -> None:
    raise ConfigError(f"no: {question}")


def test_a_stack_is_made_deployed_and_shut_to_others(user: User, fake: FakeDigitalOcean) -> None:
    done = user.up(3)

    assert done is not None
    assert done.changed
    assert fake.account.names("cloudburst:floods") == ["floods-1", "floods-2", "floods-3", "floods-master"]
    assert user.swarm.steps[-1] == "deploy floods-master floods-1 floods-2 floods-3"
    assert "price    $0.14284 per hour, $3.43 per day" in user.text
    (firewall,) = fake.account.firewalls.values()
    assert f"{HERE}/32" in str(firewall["inbound_rules"])
    assert "0.0.0.0/0" not in str(firewall["inbound_rules"])
    assert fake.token not in "".join(p.read_text() for p in user.directory.rglob("*") if p.is_file())


def test_a_second_run_finds_nothing_to_do(user: User, fake: FakeDigitalOcean) -> None:
    user.up(2)
    calls = len(fake.calls)

    done = user.up()

    assert done is not None
    assert not done.changed
    assert {call.method for call in fake.calls[calls:]} == {"GET"}


def test_a_dry_run_does_nothing(user: User, fake: FakeDigitalOcean) -> None:
    assert user.up(3, dry=True) is None

    assert "create   floods-3" in user.text
    assert {call.method for call in fake.calls} <= {"GET", "DELETE"}  # a DELETE of nothing tries the token
    assert fake.account.left() == []
    assert not user.directory.exists()


def test_nothing_is_created_unless_the_answer_is_yes(user: User, fake: FakeDigitalOcean) -> None:
    with pytest.raises(ConfigError, match="no: create 4 machines"):
        user.up(3, ask=refuse)

    assert fake.account.left() == []
    assert not user.directory.exists()


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [
        ({"max_cost": "0.1/h"}, r"would cost \$0.14284 per hour"),
        ({"size": "c-999"}, "c-999"),
        ({"region": "nyc2"}, "nyc2"),
    ],
)
def test_what_cannot_be_is_refused_before_anything(
    user: User, fake: FakeDigitalOcean, wishes: dict[str, str], reason: str
) -> None:
    with pytest.raises((ConfigError, StackError), match=reason):
        user.up(3, **wishes)

    assert fake.account.left() == []
    assert not (user.directory / "fleet.json").exists()


def test_a_quota_refuses_a_plan_that_is_too_heavy(user: User, fake: FakeDigitalOcean) -> None:
    user.directory.parent.joinpath("flavors.toml").write_text("maximum = 3\n[flavors]\ns-2vcpu-4gb = 1\n")

    with pytest.raises(ConfigError, match="would weigh 4"):
        user.up(3)

    assert fake.account.left() == []


def test_growing_keeps_what_is_there(user: User, fake: FakeDigitalOcean) -> None:
    user.up(1)
    before = {droplet.name: droplet.id for droplet in fake.account.droplets}

    user.up(3)

    after = {droplet.name: droplet.id for droplet in fake.account.droplets}
    assert after.items() > before.items()
    assert user.swarm.steps[-1] == "deploy floods-master floods-1 floods-2 floods-3"


def test_shrinking_drains_before_machines_go(user: User, fake: FakeDigitalOcean) -> None:
    user.up(3)

    user.up(1)

    assert fake.account.names() == ["floods-1", "floods-master"]
    drained = user.swarm.steps[-5:]
    assert drained[1:] == [
        "announce floods-3 floods-2",
        "drain floods-3",
        "drain floods-2",
        "deploy floods-master floods-1",
    ]


def test_jobs_that_do_not_end_keep_their_machine(user: User, fake: FakeDigitalOcean) -> None:
    user.up(2)

    def busy(name: str, timeout_s: float | None) -> None:
        raise StackError(f"{name}: 1 job still runs")

    user.swarm.drain = busy  # type: ignore[method-assign]
    with pytest.raises(StackError, match="floods-2: 1 job still runs"):
        user.up(1)

    assert fake.account.names() == ["floods-1", "floods-2", "floods-master"]


@pytest.mark.parametrize("how", ["off", "gone"])
def test_a_machine_that_is_lost_is_replaced(user: User, fake: FakeDigitalOcean, how: str) -> None:
    user.up(2)
    old = fake.account.droplet("floods-1").id
    if how == "off":
        fake.account.power_off("floods-1")
    else:
        fake.account.lose("floods-1")

    user.up()

    assert fake.account.names() == ["floods-1", "floods-2", "floods-master"]
    assert fake.account.droplet("floods-1").id != old
    assert "lost floods-1" in user.swarm.steps
    assert user.swarm.steps[-1] == "deploy floods-master floods-1 floods-2"
    assert f"HostKeyAlias cloudburst-{old}\n" not in (user.directory / "ssh_config").read_text()


def test_a_stack_without_its_master_is_not_patched_up(user: User, fake: FakeDigitalOcean) -> None:
    user.up(1)
    fake.account.lose("floods-master")

    with pytest.raises(StackError, match="floods-master is gone, and the queue, files and results"):
        user.up()

    assert fake.account.names() == ["floods-1"]


def test_what_one_machine_lacks_does_not_stop_the_others(user: User, fake: FakeDigitalOcean) -> None:
    fake.account.break_droplet("floods-2", times=2)

    with pytest.raises(StackError, match=r"floods-2 could not be made(.|\n)*works on the other machines"):
        user.up(2)

    assert fake.account.names() == ["floods-1", "floods-master"]
    assert user.swarm.steps[-1] == "deploy floods-master floods-1"
    user.up()
    assert user.swarm.steps[-1] == "deploy floods-master floods-1 floods-2"


def test_a_machine_that_lets_nobody_in_is_left_out_and_can_be_replaced(
    user: User, fake: FakeDigitalOcean
) -> None:
    user.swarm.silent = {"floods-2"}
    with pytest.raises(StackError, match=r"floods-2: runs, but does not let us in.*--drain floods-2 --lost"):
        user.up(2)
    assert user.swarm.steps[-1] == "deploy floods-master floods-1"
    old = fake.account.droplet("floods-2").id

    user.swarm.silent = set()
    user.drain("floods-2", lost=True)
    user.up()

    assert fake.account.droplet("floods-2").id != old
    assert user.swarm.steps[-1] == "deploy floods-master floods-1 floods-2"


def test_another_address_of_ours_is_let_in(user: User, fake: FakeDigitalOcean) -> None:
    user.up(1)
    elsewhere = "192.0.2.99"

    class Firewalled(Swarm):
        def reach(self, names: Any, timeout_s: float) -> dict[str, str]:
            (firewall,) = fake.account.firewalls.values()
            rules = str(firewall["inbound_rules"])
            return super().reach(names, timeout_s) if elsewhere in rules or "0.0.0.0/0" in rules else {}

    user.swarm = Firewalled(user.environ, STACK)
    user.swarm.caller = elsewhere
    user.up()

    (firewall,) = fake.account.firewalls.values()
    assert f"{elsewhere}/32" in str(firewall["inbound_rules"])
    assert HERE not in str(firewall["inbound_rules"])
    assert "0.0.0.0/0" not in str(firewall["inbound_rules"])


def test_whom_the_user_names_is_let_in_and_stays(user: User, fake: FakeDigitalOcean) -> None:
    user.up(1, allow=("203.0.113.0/24",))
    user.up()

    (firewall,) = fake.account.firewalls.values()
    assert "203.0.113.0/24" in str(firewall["inbound_rules"])
    assert HERE not in str(firewall["inbound_rules"])


def test_a_drained_node_takes_its_machine_along(user: User, fake: FakeDigitalOcean) -> None:
    user.up(3)

    user.drain("floods-1")

    assert fake.account.names() == ["floods-2", "floods-3", "floods-master"]
    assert user.wanted()["nodes"] == 2
    done = user.up()
    assert done is not None
    assert fake.account.names() == ["floods-2", "floods-3", "floods-master"]


@pytest.mark.parametrize("name", ["floods-master", "floods-9", "other"])
def test_what_is_no_compute_node_does_not_leave(user: User, fake: FakeDigitalOcean, name: str) -> None:
    user.up(1)

    with pytest.raises(StackError, match=name):
        user.drain(name)

    assert fake.account.names() == ["floods-1", "floods-master"]


def test_down_tells_asks_and_leaves_nothing(user: User, fake: FakeDigitalOcean) -> None:
    user.up(2)
    user.up(1)
    for droplet in fake.account.droplets:
        droplet.created_at -= 7200
    user.said.clear()
    with pytest.raises(ConfigError, match="no: destroy all of stack floods"):
        user.down(ask=refuse)
    assert fake.account.names() == ["floods-1", "floods-master"]

    gone = user.down()

    assert "1 jobs run and 5 wait: they are given up" in user.text
    assert "destroy  VPC cloudburst-floods" in user.text
    assert fake.account.left() == []
    assert not user.directory.exists()
    assert gone.cost == pytest.approx(fake.account.billed(), abs=0.001)
    assert gone.cost > 0.14


def test_down_of_nothing_does_nothing(user: User, fake: FakeDigitalOcean) -> None:
    gone = user.down(ask=refuse)

    assert (gone.removed, gone.was_here) == ((), False)


def test_a_stack_that_was_made_elsewhere_is_destroyed_with_the_token_alone(
    tmp_path: Path, user: User, fake: FakeDigitalOcean
) -> None:
    user.up(1)
    other = User(tmp_path / "laptop", fake, user.clock)
    with pytest.raises(StackError, match="stack floods was made elsewhere"):
        other.up(1)

    other.down()

    assert fake.account.left() == []


def test_what_could_not_be_destroyed_is_not_forgotten(user: User, fake: FakeDigitalOcean) -> None:
    user.up(1)
    fake.fault("DELETE /v2/firewalls/*", "status", status=403, times=99)

    with pytest.raises(StackError):
        user.down()
    assert (user.directory / "fleet.json").exists()
    fake.mend()
    user.down()

    assert fake.account.left() == []
    assert not user.directory.exists()


def test_the_status_names_what_is_billed_for_nothing(user: User, fake: FakeDigitalOcean) -> None:
    user.up(2)
    fake.account.power_off("floods-1")
    for droplet in fake.account.droplets:
        droplet.created_at -= 3600

    found = user.status()

    left_over = {one.node.name: one.left_over for one in found.machines if one.left_over}
    assert left_over == {"floods-1": "powered off, and billed"}
    assert found.price_hourly == pytest.approx(3 * 0.03571)
    assert found.cost == pytest.approx(3 * 0.03571, rel=0.01)


def test_a_client_destroys_the_stack_that_it_was_made_for(user: User, fake: FakeDigitalOcean) -> None:
    with pytest.raises(ConfigError, match="floods is none that was made from here"):
        ending.check(user.environ, STACK)
    user.up(1)
    ending.check(user.environ, STACK)

    with pytest.raises(StackError, match="has other work: 1 jobs run"):
        ending.down(user.environ, STACK, user.said.append, provider=user.provider, swarm=user.swarm)
    assert fake.account.names() == ["floods-1", "floods-master"]

    user.swarm.busy = lambda: ""  # type: ignore[method-assign]
    ending.down(user.environ, STACK, user.said.append, provider=user.provider, swarm=user.swarm)
    assert fake.account.left() == []
