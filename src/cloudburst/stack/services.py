"""The services of a local stack, as its settings want them."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cloudburst import names
from cloudburst.commands import services as commands
from cloudburst.commands.redis_server import RedisServer
from cloudburst.hosts.tcp import LOOPBACK
from cloudburst.model import Endpoints
from cloudburst.stack import builds, probes, secrets
from cloudburst.stack.paths import Paths
from cloudburst.stack.secrets import Secrets
from cloudburst.stack.service import Service
from cloudburst.stack.settings import Settings

STOP_S = 10.0
"""Beyond the grace that a worker gives to its jobs."""


def endpoints(stack: str, settings: Settings, secret: Secrets) -> Endpoints:
    """What clients of the stack need to know."""
    ports = settings.ports
    password = urllib.parse.quote(secret.redis_password, safe="")
    login = f":{password}@" if password else ""
    influx = settings.influx
    return Endpoints(
        stack=stack,
        redis_url=f"redis://{login}{LOOPBACK}:{ports['queue']}/0",
        filestore_url=f"http://{LOOPBACK}:{ports['filestore']}",
        filestore_token=secret.filestore_token,
        influx_url=influx.url if influx else f"http://{LOOPBACK}:{ports['influx']}",
        influx_token=secret.influx_token,
        influx_org=influx.org if influx else names.ORG,
        influx_bucket=influx.bucket if influx else names.BUCKET,
        queue_dash_url=f"http://{LOOPBACK}:{ports['queue-dash']}",
    )


@dataclass(frozen=True, repr=False)
class LocalServices:
    """The services of one local stack; ``where`` and ``secret`` are never shown."""

    where: Endpoints
    settings: Settings
    secret: Secrets
    paths: Paths
    redis_binary: Path
    python: str
    worker_grace_s: float

    def all(self) -> tuple[Service, ...]:
        """In the order in which they start."""
        points = () if self.settings.influx else (self.influx(),)
        return (self.queue(), self.filestore(), *points, self.queue_dash(), self.worker())

    def queue(self) -> Service:
        port = self.settings.ports["queue"]
        server = RedisServer(
            binary=self.redis_binary,
            port=port,
            directory=self.paths.root / "redis",
            config_file=self.paths.run / "redis.conf",
            password=self.secret.redis_password,
        )
        return Service(
            name="queue",
            command=server.command(),
            settings={"port": str(port), "password": _digest(self.secret.redis_password)},
            ready=self._ready("queue"),
            address=f"{LOOPBACK}:{port}",
            port=port,
            ready_s=300,  # loading a large append-only file
            files={server.config_file: server.config()},
            before=server.repair(self.python),
        )

    def filestore(self) -> Service:
        port = self.settings.ports["filestore"]
        return Service(
            name="filestore",
            command=commands.filestore(
                self.python,
                host=LOOPBACK,
                port=port,
                directory=self.paths.root / "files",
                token_file=self.paths.secret(secrets.FILESTORE_TOKEN),
            ),
            settings=_own(port=str(port), token=_digest(self.secret.filestore_token)),
            ready=self._ready("filestore"),
            address=self.where.filestore_url,
            port=port,
        )

    def influx(self) -> Service:
        port = self.settings.ports["influx"]
        return Service(
            name="influx",
            command=commands.points(
                self.python,
                host=LOOPBACK,
                port=port,
                database=self.paths.root / "points" / "points.db",
                token_file=self.paths.secret(secrets.influx_token_file(self.settings)),
            ),
            settings=_own(port=str(port), token=_digest(self.secret.influx_token)),
            ready=self._ready("influx"),
            address=self.where.influx_url,
            port=port,
        )

    def queue_dash(self) -> Service:
        port = self.settings.ports["queue-dash"]
        url_file = self.paths.secret("redis-url")
        return Service(
            name="queue-dash",
            command=commands.queue_dash(self.python, host=LOOPBACK, port=port, redis_url_file=url_file),
            settings=_own(port=str(port), queue=_digest(self.where.redis_url)),
            ready=self._ready("queue-dash"),
            address=self.where.queue_dash_url,
            port=port,
            files={url_file: self.where.redis_url},
        )

    def worker(self) -> Service:
        where, settings = self.where, self.settings
        influx = {
            "INFLUX_URL": where.influx_url,
            "INFLUX_ORG": where.influx_org,
            "INFLUX_BUCKET": where.influx_bucket,
            "INFLUX_TOKEN_FILE": str(self.paths.secret(secrets.influx_token_file(settings))),
        }
        for_builds, build_files = builds.handed_over(self.paths, self.secret.builds)
        return Service(
            name="worker",
            command=commands.worker(
                self.python,
                redis_host=LOOPBACK,
                redis_port=settings.ports["queue"],
                redis_password_file=self.paths.secret(secrets.REDIS_PASSWORD) if settings.auth else None,
                filestore_host=LOOPBACK,
                filestore_port=settings.ports["filestore"],
                filestore_token_file=self.paths.secret(secrets.FILESTORE_TOKEN),
                influx=influx,
                state_dir=self.paths.root / "worker",
                slots=settings.slots,
                allow_pickle=True,
                builds=for_builds,
            ),
            settings=_own(
                slots=str(settings.slots),
                queue=_digest(where.redis_url),
                filestore=_digest(where.filestore_url + where.filestore_token),
                influx=_digest("\n".join([*influx.values(), where.influx_token])),
                builds=_digest(json.dumps(sorted(self.secret.builds.items())) if self.secret.builds else ""),
            ),
            ready=self._ready("worker"),
            files=build_files,
            grace_s=self.worker_grace_s + STOP_S,
        )

    def _ready(self, service: str) -> probes.Ready:
        return probes.of(self.where)[service]


def _own(**settings: str) -> Mapping[str, str]:
    """Settings of a service that is part of CloudBurst: an upgrade restarts it too."""
    return {**settings, "version": names.VERSION}


def _digest(text: str) -> str:
    """Tells a change of something that must not be shown; 48 bits are enough for that."""
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""
