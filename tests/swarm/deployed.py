"""A stack on a farm's machines, deployed as a user does it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from cloudburst import config
from cloudburst.ensemble import Stack
from cloudburst.ensemble.ensemble import Ensemble
from cloudburst.model import JobRecord, WorkerStatus
from tests.swarm import base, debian, images
from tests.swarm.machines import Farm, Machine
from tests.wait import wait_until

REPOSITORY = Path(__file__).parents[2]
PAYLOAD = Path(__file__).parent / "payload"
NAME = "swarm"

LEASE_S = 5.0
"""Shorter than usual, so that the tests are."""


def environ(farm: Farm, home: str) -> dict[str, str]:
    """For a tool that deploys onto machines of this farm, and keeps its stacks in this folder of it."""
    certificates = farm.directory / "certificates.pem"
    certificates.write_text("".join(path.read_text() for path in base.extra_certificates()))
    return {
        **os.environ,
        "CLOUDBURST_HOME": str(farm.directory / home),
        "CLOUDBURST_CA_CERT": str(certificates),
        "CLOUDBURST_APT_MIRROR": f"{farm.mirror.url}/{debian.main()}",
        "CLOUDBURST_IMAGE_INFLUX": images.INFLUX,
        "CLOUDBURST_GRAFANA_REPLICAS": "0",
        "CLOUDBURST_LEASE_S": f"{LEASE_S:g}",
        "CLOUDBURST_GRACE_S": "20",
        "CLOUDBURST_STOP_GRACE": "30s",
        "CLOUDBURST_MONITOR": "3s",
    }


class Deployed:
    """A stack, its machines, and the tool's own directory; ``checkout`` is where the tool is run from."""

    def __init__(self, farm: Farm, machines: Sequence[Machine], checkout: Path = REPOSITORY) -> None:
        self.farm = farm
        self.machines = {machine.name: machine for machine in machines}
        self.checkout = checkout
        self.hosts = ",".join(self.machines)
        self.options: tuple[str, ...] = ()
        """What its user says with each deployment."""
        self.environ = environ(farm, "home")

    @property
    def master(self) -> Machine:
        return next(iter(self.machines.values()))

    def start(self, verb: str, *arguments: str, hosts: str = "") -> subprocess.Popen[str]:
        """``cloudburst stack VERB``, which is what ``buildstack.sh`` hands over to."""
        place = ["--hosts", hosts or self.hosts]
        if verb == "up":
            place += ["--ssh-config", str(self.farm.ssh_config), *self.options]
        program = "from cloudburst.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-P", "-c", program, "stack", verb, *place, *arguments],
            env={**self.environ, "PYTHONPATH": str(self.checkout / "src")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Tests may run where it is ignored, as in the background of a script.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no lock is held
        )

    def run(
        self, verb: str, *arguments: str, hosts: str = "", timeout_s: float = 900, check: bool = True
    ) -> str:
        """What it says; fails when it fails."""
        child = self.start(verb, *arguments, hosts=hosts)
        said, _ = child.communicate(timeout=timeout_s)
        assert not check or child.returncode == 0, said
        assert check or child.returncode != 0, said
        return said

    @property
    def complete(self) -> bool:
        """Whether a deployment has ended well, and it was not taken down since."""
        return (config.stack_dir(self.environ, NAME) / "endpoints.json").exists()

    def stack(self) -> Stack:
        """As a client sees it."""
        return Stack(config.endpoints(self.environ, NAME))

    def submit(self, count: int, seconds: float, name: str = "e") -> Ensemble:
        jobs = ({"n": n, "s": seconds} for n in range(count))
        return self.stack().submit(name, payload=PAYLOAD, function="worker.work", jobs=jobs)

    def secrets(self) -> dict[str, str]:
        """Every text that nobody may find, by the file that it is in."""
        found = {}
        for path in sorted((config.stack_dir(self.environ, NAME) / "secrets").iterdir()):
            text = path.read_text().strip()
            if "PRIVATE KEY" in text:
                text = text.splitlines()[2]  # one line of it tells it from others
            if path.name != "salt" and text and not text.startswith(("{", "-----BEGIN CERT")):
                found[path.name] = text
        return found

    def container(self, machine: Machine, service: str) -> str:
        """The id of the service's container there."""
        argv = ["docker", "ps", "-q", "--filter", f"name={NAME}_{service}."]

        def running() -> list[str]:
            found = machine.run(argv).stdout.split()
            return found if len(found) == 1 else []

        (container,) = wait_until(running, 60, f"one container of {service} on {machine.name}")
        return container

    def workers(self) -> dict[str, WorkerStatus]:
        """By node; of two on one, of which one is dead, the one that was heard of last."""
        found = sorted(self.stack().workers(), key=lambda worker: worker.heartbeat_at)
        return {worker.node: worker for worker in found}

    def wait_for_workers(self, *nodes: str, timeout_s: float = 120) -> None:
        """Until these work, and no others."""

        def missing() -> set[str]:
            there = {node for node, worker in self.workers().items() if worker.state in {"idle", "busy"}}
            return there ^ set(nodes)

        wait_until(lambda: not missing(), timeout_s, f"workers on {nodes}")

    def variant(self, directory: Path) -> Path:
        """A copy of the checkout, with a difference in the worker."""
        for name in ("src", "images", "stack", "grafana"):
            shutil.copytree(REPOSITORY / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in [*REPOSITORY.glob("*.toml"), *REPOSITORY.glob("*.lock"), *REPOSITORY.glob("*.md")]:
            shutil.copy(path, directory)
        with (directory / "src/cloudburst/worker/__init__.py").open("a") as module:
            module.write("# Another version.\n")
        return directory


def records(ensemble: Ensemble) -> list[JobRecord]:
    """All of an ensemble that has ended: each job's one record, and nothing else amiss."""
    found = sorted(ensemble.results(), key=lambda record: record.index)
    account = ensemble.audit()
    assert not account.breach_count, account.breaches
    assert [record.index for record in found] == list(range(account.submitted))
    assert Counter(record.state for record in found) == {"finished": len(found)}
    assert [record.value for record in found] == [{"n": record.index} for record in found]
    return found


def repeated(found: Sequence[JobRecord]) -> Iterator[JobRecord]:
    """Those that ran more than once."""
    return (record for record in found if record.attempt > 1)
