"""A stack at the fake provider, its queue in a real Redis, and the keeper as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from cloudburst.model import EnsembleSpec
from cloudburst.rqwire import ending
from cloudburst.rqwire.ending import Announcement
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.leases import Claim, Leases, Outcome
from cloudburst.rqwire.workers import Registration
from tests.conftest import RedisServer
from tests.digitalocean.fake import FakeDigitalOcean
from tests.wait import wait_until

STACK = "floods"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAWXzuHiLcnrVlqUVTmUIRcNlUCiYjEHmPNCx4ZRIQ5d test"
RIGHTS = (
    "droplet:read",
    "droplet:delete",
    "firewall:read",
    "firewall:delete",
    "ssh_key:read",
    "ssh_key:delete",
    "vpc:read",
    "vpc:update",
    "vpc:delete",
    "tag:read",
    "tag:delete",
)
"""What docs/keeping.md says that the keeper's token needs."""

WAIT_S = 60


class Kept:
    """One stack of a master and two nodes, and what ends it."""

    def __init__(self, fake: FakeDigitalOcean, redis_server: RedisServer, directory: Path) -> None:
        self.fake = fake
        self.redis_server = redis_server
        self.redis_url = redis_server.url_of("keeper")
        self.redis = redis_server.client()
        self.ensembles = Ensembles(self.redis)
        self.leases = Leases(self.redis, queue="default", worker="w1", node=f"{STACK}-1", lease_s=600)
        self.worker = Registration(self.redis, name="w1", queue="default", node=f"{STACK}-1", slots=2)
        self.log_file = directory / "keeper.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.token = fake.another_token(*RIGHTS)
        self.make()

    def make(self) -> None:
        """As the provider's own client would have made it."""
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {self.fake.token}"

        def post(path: str, body: dict) -> dict:
            answer = session.post(self.fake.end_point + path, json=body, timeout=20)
            assert answer.ok, answer.text
            return answer.json()

        tag = f"cloudburst:{STACK}"
        key = post("account/keys", {"name": f"cloudburst-{STACK}", "public_key": KEY})["ssh_key"]
        vpc = post("vpcs", {"name": f"cloudburst-{STACK}", "region": "fra1"})["vpc"]
        post("tags", {"name": tag})
        rule = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["192.0.2.1/32"]}}
        post("firewalls", {"name": f"cloudburst-{STACK}", "inbound_rules": [rule], "tags": [tag]})
        post(
            "droplets",
            {
                "names": [f"{STACK}-master", f"{STACK}-1", f"{STACK}-2"],
                "region": "fra1",
                "size": "s-2vcpu-4gb",
                "image": "ubuntu-24-04-x64",
                "ssh_keys": [key["id"]],
                "vpc_uuid": vpc["id"],
                "tags": ["cloudburst", tag],
            },
        )

    def start(self, **settings: str) -> None:
        environ = {
            "CLOUDBURST_REDIS_URL": self.redis_url,
            "CLOUDBURST_KEEPER_TOKEN": self.token,
            "CLOUDBURST_KEEPER_STACK": STACK,
            "CLOUDBURST_KEEPER_END_POINT": self.fake.end_point,
            "CLOUDBURST_KEEPER_EVERY_S": "0.1",
        }
        settings = {f"CLOUDBURST_KEEPER_{name}": value for name, value in settings.items()}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cloudburst.keeper"],
                env=os.environ | environ | settings,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def said(self) -> Announcement:
        return ending.read(self.redis) or Announcement()

    def reaches(self, stage: str) -> Announcement:
        return wait_until(
            lambda: self.said if self.said.stage == stage else None, WAIT_S, f"stage {stage}; {self.log}"
        )

    @property
    def machines(self) -> list[str]:
        return self.fake.account.names(f"cloudburst:{STACK}")

    def dies_with_the_master(self) -> None:
        """The process ends when the machine that it runs on has been removed."""
        number = self.fake.account.droplet(f"{STACK}-master").id
        self.fake.kill_at(f"DELETE /v2/droplets/{number}", lambda: self.process.pid, executed=True)

    def submit(self, jobs: int) -> str:
        ensemble = self.ensembles.create(EnsembleSpec("e", "worker.work", ""))
        self.ensembles.append(ensemble, "worker.work", 0, [b"{}"] * jobs)
        self.ensembles.seal(ensemble)
        return ensemble

    def finish(self, claims: list[Claim]) -> None:
        self.leases.finish([Outcome(one, "finished", time.time(), 1.0, value=b"1") for one in claims])

    def beat(self, busy: int) -> bool:
        """What a worker does every second; whether it is to take no new jobs."""
        self.worker.heartbeat(busy=busy, current_job="")
        return self.worker.draining


@pytest.fixture
def fake() -> Iterator[FakeDigitalOcean]:
    with FakeDigitalOcean() as fake:
        yield fake
        fake.check()


@pytest.fixture
def kept(fake: FakeDigitalOcean, redis_server: RedisServer, tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(fake, redis_server, tmp_path)
    yield kept
    kept.kill()
