"""``./buildstack.sh -n2`` and back, on droplets of a fake DigitalOcean that are virtual machines."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cloudburst import config
from cloudburst.ensemble import Stack
from cloudburst.ensemble.ensemble import Ensemble
from tests.digitalocean.account import Times
from tests.digitalocean.fake import FakeDigitalOcean
from tests.digitalocean.machines import Machines
from tests.swarm.conftest import Measured
from tests.swarm.deployed import PAYLOAD, REPOSITORY, environ, records
from tests.swarm.machines import Farm
from tests.swarm.process import run
from tests.wait import wait_until

KILLING = Path(__file__).parent / "killing"
BIN = Path(sys.executable).parent
NAME = "cloud"
TAG = f"cloudburst:{NAME}"
INTERRUPTED = ("install-docker", "docker swarm join", "docker stack deploy")
"""On machines, at which the first command is killed, one after another."""

slow = pytest.mark.skipif("CLOUDBURST_SLOW" not in os.environ, reason="takes long: CLOUDBURST_SLOW=1 runs it")

BATCH = 30
JOB_S = 0.4


class Cloud:
    """The stack, the account that it is at, and jobs for it."""

    def __init__(self, farm: Farm, fake: FakeDigitalOcean, directory: Path) -> None:
        self.farm, self.fake = farm, fake
        self._anywhere = directory
        self.environ = {**environ(farm, "home-cloud"), **fake.environ}
        self.ensembles: list[Ensemble] = []

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(REPOSITORY / "buildstack.sh"), *arguments],
            cwd=self._anywhere,
            env=environ or self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, timeout_s: float = 900) -> str:
        """What it says; fails when it fails."""
        child = self.start(*arguments)
        said, _ = child.communicate(timeout=timeout_s)
        assert child.returncode == 0, said
        self.fake.check()
        return said

    def killed_at(self, command: str, *arguments: str) -> None:
        """The same, with SIGKILL for the tool as soon as it runs this on a machine."""
        child = self.start(*arguments, environ={**self.environ, **self._killing, "KILL_AT": command})
        said, _ = child.communicate(timeout=900)
        assert child.returncode == -signal.SIGKILL, said

    def killed_everywhere(self, *arguments: str) -> int:
        """Killed at its first step on a machine, then at its second, and so on; how often."""
        steps = self._anywhere / "steps"
        for step in itertools.count(1):
            steps.unlink(missing_ok=True)
            killing = {**self._killing, "STEPS": str(steps), "KILL_AT_STEP": str(step)}
            child = self.start(*arguments, environ={**self.environ, **killing})
            said, _ = child.communicate(timeout=900)
            if child.returncode != -signal.SIGKILL:
                break
        assert child.returncode == 0, said
        self.fake.check()
        return step - 1

    @property
    def _killing(self) -> dict[str, str]:
        return {"PATH": f"{KILLING}:{self.environ['PATH']}"}

    def run_under_load(self, *arguments: str) -> str:
        """The same, while there are always jobs that wait."""
        child = self.start(*arguments)
        try:
            while child.poll() is None:
                self.feed()
                time.sleep(0.5)
        finally:
            said, _ = child.communicate(timeout=60)
        assert child.returncode == 0, said
        self.fake.check()
        return said

    def feed(self) -> None:
        """One more ensemble, unless the last is not half done."""
        if not self.ensembles or self.ensembles[-1].status().ended > BATCH / 2:
            jobs = ({"n": n, "s": JOB_S} for n in range(BATCH))
            name = f"e{len(self.ensembles)}"
            self.ensembles.append(
                self.stack().submit(name, payload=PAYLOAD, function="worker.work", jobs=jobs)
            )

    def stack(self) -> Stack:
        return Stack(config.endpoints(self.environ, NAME))

    def swarm(self) -> set[str]:
        """Machines that the swarm consists of."""
        master = self.farm.machines[f"{NAME}-master"]
        return set(master.run(["docker", "node", "ls", "--format", "{{.Hostname}}"]).stdout.split())

    def work_until_on(self, *nodes: str) -> None:
        """Jobs come until some have run on each of these nodes."""

        def missing() -> set[str]:
            self.feed()
            ran = {record.node for ensemble in self.ensembles for record in ensemble.results()}
            return set(nodes) - ran

        wait_until(lambda: not missing(), 180, f"jobs on {nodes}")

    def ran_on(self) -> set[str]:
        """Nodes on which jobs have run; every job has one record, and nothing is amiss."""
        for ensemble in self.ensembles:
            ensemble.wait(180)
        return {record.node for ensemble in self.ensembles for record in records(ensemble)}


@pytest.fixture(scope="module")
def cloud(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    times = Times(delete_s=1, member_s=2)
    # At an address that the keeper reaches from its container, too.
    place = farm.network.gateway
    with Machines(farm) as hardware, FakeDigitalOcean(times, hardware=hardware, host=place) as fake:
        yield Cloud(farm, fake, tmp_path_factory.mktemp("anywhere"))


def test_a_stack_is_made_grows_and_shrinks_under_load_and_leaves_nothing(
    cloud: Cloud, measured: Measured
) -> None:
    account = cloud.fake.account
    began = time.monotonic()
    for command in INTERRUPTED:
        cloud.killed_at(command, "-n2", "-y")
    said = cloud.run("-n2", "-y")
    what = f"./buildstack.sh -n2: from nothing to a working swarm, killed {len(INTERRUPTED)} times"
    measured(what, time.monotonic() - began)
    made = [f"{NAME}-{which}" for which in ("1", "2", "master")]
    assert account.names(TAG) == account.names("cloudburst") == made
    assert "$0.10713 per hour" in said  # three times the price of s-2vcpu-4gb

    # The nodes meet on their private addresses only.
    master = cloud.farm.machines[f"{NAME}-master"]
    advertised = master.run(["docker", "info", "--format", "{{.Swarm.NodeAddr}}"]).stdout.strip()
    assert advertised == master.private_address

    cloud.work_until_on(f"{NAME}-1", f"{NAME}-2")
    assert cloud.swarm() == set(made)

    before = len(cloud.fake.calls)
    assert "nothing to do" in cloud.run("-n2", "-y")
    changes = [call for call in cloud.fake.calls[before:] if call.method != "GET"]
    assert not changes, changes

    # More nodes, under load.
    began = time.monotonic()
    cloud.run_under_load("-n3", "-y")
    measured("./buildstack.sh -n3: one more node, under load", time.monotonic() - began)
    assert account.names(TAG) == [*(f"{NAME}-{n}" for n in (1, 2, 3)), f"{NAME}-master"]

    cloud.work_until_on(f"{NAME}-3")

    # Fewer, under load: no job is lost.
    began = time.monotonic()
    cloud.run_under_load("-n1", "-y")
    measured("./buildstack.sh -n1: two nodes drained and removed, under load", time.monotonic() - began)
    assert account.names(TAG) == [f"{NAME}-1", f"{NAME}-master"]
    assert cloud.swarm() == {f"{NAME}-1", f"{NAME}-master"}
    cloud.feed()
    assert cloud.ran_on() == {f"{NAME}-{n}" for n in (1, 2, 3)}
    assert f"{NAME}-1" in cloud.run("--status")

    # And away.
    began = time.monotonic()
    said = cloud.run("-d", "-y")
    measured("./buildstack.sh -d", time.monotonic() - began)
    assert "nothing of it is left" in said
    assert account.left() == []
    assert not [name for name in cloud.farm.machines if name.startswith(NAME)]
    assert not config.stack_dir(cloud.environ, NAME).exists()
    disks = [path.name for path in cloud.farm.directory.iterdir() if path.name.startswith(f"{NAME}-")]
    assert not disks
    assert cloud.farm.name not in run(["sh", "-c", f"cat /proc/self/mounts | grep {NAME}- || true"]).stdout
    assert f"nothing to do: there is no stack {NAME}" in cloud.run("-d", "-y")


@slow
def test_a_stack_that_nobody_uses_ends_itself_when_its_results_are_saved(
    cloud: Cloud, measured: Measured, tmp_path: Path
) -> None:
    account = cloud.fake.account
    rights = itertools.product(("droplet", "firewall", "ssh_key", "vpc", "tag"), ("read", "delete"))
    token = cloud.fake.another_token(*(":".join(right) for right in rights))
    cloud.environ["CLOUDBURST_KEEPER_TOKEN"] = token
    try:
        cloud.run("-n1", "-y", "--idle", "40s")
    finally:
        del cloud.environ["CLOUDBURST_KEEPER_TOKEN"]
    cloud.ensembles.clear()
    cloud.work_until_on(f"{NAME}-1")
    cloud.ran_on()
    watching = [BIN / "cloudburst", "stack", "watch", "--name", NAME, "--save-to", str(tmp_path)]
    began = time.monotonic()
    with subprocess.Popen(watching, env=cloud.environ, stdout=subprocess.PIPE, text=True) as watcher:
        wait_until(lambda: not account.names(TAG), 300, "all machines to be removed")
        measured(
            "a stack with --idle 40s: from its last job until no machine is left", time.monotonic() - began
        )
        watcher.wait(60)

    saved = {path.stem for path in tmp_path.glob("*.parquet")}
    assert saved == {ensemble.id for ensemble in cloud.ensembles}
    wait_until(lambda: not cloud.farm.machines.keys() & {f"{NAME}-1", f"{NAME}-master"}, 60, "no machines")
    assert set(account.left()) <= {f"VPC cloudburst-{NAME}"}
    cloud.run("-d", "-y")
    assert account.left() == []


@slow
@pytest.mark.timeout(3600)
def test_the_tool_is_killed_at_each_of_its_steps_on_machines(cloud: Cloud, measured: Measured) -> None:
    account = cloud.fake.account
    for nodes in (2, 1):
        began = time.monotonic()
        kills = cloud.killed_everywhere(f"-n{nodes}", "-y")
        measured(f"./buildstack.sh -n{nodes}, killed {kills} times", time.monotonic() - began)
        assert kills > 4
        expected = [*(f"{NAME}-{n + 1}" for n in range(nodes)), f"{NAME}-master"]
        assert account.names(TAG) == expected
        assert cloud.swarm() == set(expected)
        cloud.feed()
        cloud.ran_on()
    cloud.run("-d", "-y")
    assert account.left() == []
