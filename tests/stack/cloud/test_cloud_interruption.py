"""SIGKILL at every call of the API and every step on machines: nothing is doubled, and nothing left over."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.digitalocean.fake import FakeDigitalOcean
from tests.digitalocean.faults import Call
from tests.stack.cloud.command import KILLED, STACK, Commands, commands
from tests.stack.cloud.parts import home

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]

MOST = 200
"""No command makes so many calls."""


@pytest.fixture(scope="module")
def shell() -> Iterator[Commands]:
    with commands() as shell:
        yield shell


class World:
    """A provider and a user, with a stack of so many nodes, or none."""

    def __init__(self, directory: Path, fake: FakeDigitalOcean, shell: Commands, nodes: int | None) -> None:
        self.fake, self._shell = fake, shell
        self.environ = home(directory, fake.environ)
        self.directory = directory / STACK
        if nodes is not None:
            assert self.run("up", nodes) == 0

    def run(self, verb: str, nodes: int = 0, kill_at_step: int = 0) -> int:
        return self._shell.run(self.environ, verb, nodes, kill_at_step)

    def killed_at_call(self, number: int, executed: bool, verb: str, nodes: int) -> bool:
        """Whether the command made so many calls, and was killed at that one.

        ``executed``: it was killed after that one of the calls which change something.
        """
        before, seen = len(self.fake.calls), 0

        def meant(call: Call) -> bool:
            nonlocal seen
            if call.number > before and not (executed and call.method == "GET"):
                seen += 1
                return seen == number
            return False

        self.fake.kill_at(meant, lambda: self._shell.pid, executed=executed)
        code = self.run(verb, nodes)
        self.fake.mend()
        assert code in {0, KILLED}
        return code == KILLED

    def is_exactly(self, nodes: int) -> None:
        names = ["floods-master", *(f"floods-{number}" for number in range(1, nodes + 1))]
        assert self.fake.account.names() == sorted(names)
        around = [name for name in self.fake.account.left() if not name.startswith("droplet")]
        assert around == ["firewall cloudburst-floods", "VPC cloudburst-floods", "SSH key cloudburst-floods"]
        settings = json.loads((self.directory / "settings.json").read_text())
        assert [host.removeprefix("root@") for host in settings["hosts"]] == names
        (firewall,) = self.fake.account.firewalls.values()
        assert "198.51.100.7" in str(firewall)
        assert "0.0.0.0/0" not in str(firewall["inbound_rules"])

    def is_gone(self) -> None:
        assert self.fake.account.left() == []
        assert not (self.directory / "fleet.json").exists()
        assert not (self.directory / "endpoints.json").exists()


CASES = [(None, "up", 2), (1, "up", 2), (2, "up", 1), (2, "down", 0)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("before", "verb", "nodes"), CASES, ids=["new", "more", "fewer", "down"])
def test_killed_at_every_call(
    tmp_path: Path,
    shell: Commands,
    before: int | None,
    verb: str,
    nodes: int,
    executed: bool,
    capsys: Capture,
) -> None:
    def kill(world: World, number: int) -> bool:
        return world.killed_at_call(number, executed, verb, nodes)

    # Calls that only read are many: of two that follow one another, one is tried with each continuation.
    ways = (("again", "down"),) if executed else (("again",), ("down",))
    points = try_all(tmp_path, shell, before, verb, nodes, kill, ways)

    report(capsys, f"{points} calls")
    assert (0 if executed else 10) < points < MOST


@pytest.mark.parametrize(("before", "nodes"), [(None, 2), (1, 2), (2, 1)], ids=["new", "more", "fewer"])
def test_killed_at_every_step_on_machines(
    tmp_path: Path, shell: Commands, before: int | None, nodes: int, capsys: Capture
) -> None:
    def kill(world: World, number: int) -> bool:
        return world.run("up", nodes, kill_at_step=number) == KILLED

    points = try_all(tmp_path, shell, before, "up", nodes, kill)

    report(capsys, f"{points} steps")
    assert points >= 2


def try_all(
    directory: Path,
    shell: Commands,
    before: int | None,
    verb: str,
    nodes: int,
    kill: Callable[[World, int], bool],
    ways: Sequence[Sequence[str]] = (("again", "down"),),
) -> int:
    """Kill at the first point, the second, and so on until there are no more; how many there were.

    ``ways``: what is done after the first, the second..., each in a world of its own.
    """
    for number in range(1, MOST):
        for then in ways[number % len(ways)]:
            with FakeDigitalOcean() as fake:
                world = World(directory / f"{number}-{then}", fake, shell, before)
                if not kill(world, number):
                    return number - 1
                if then == "again" and verb == "up":
                    assert world.run("up", nodes) == 0
                    world.is_exactly(nodes)
                else:
                    assert world.run("down") == 0
                    world.is_gone()
                fake.check()
    raise AssertionError("it never ends")


def report(capsys: Capture, what: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f" killed at {what}, followed by the same command or by -d: ")
