"""How a stack is to be run: what was said this time, over what was said last time, over the defaults."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from cloudburst import names
from cloudburst.errors import ConfigError
from cloudburst.stack.paths import read_text, write_private

PORTS = {
    "queue": names.PORT_QUEUE,
    "filestore": names.PORT_FILESTORE,
    "influx": names.PORT_INFLUX,
    "queue-dash": names.PORT_QUEUE_DASH,
}
"""Services that listen, with their ports unless told otherwise."""

PORT_FLAGS = {
    "queue": "--redis-port",
    "filestore": "--file-port",
    "influx": "--influx-port",
    "queue-dash": "--dash-port",
}


@dataclass(frozen=True)
class Influx:
    """An InfluxDB that is not the stack's own."""

    url: str
    org: str = names.ORG
    bucket: str = names.BUCKET


@dataclass(frozen=True)
class Settings:
    """Everything about a local stack that a user can choose, apart from secrets."""

    slots: int
    ports: Mapping[str, int]
    auth: bool = True
    influx: Influx | None = None
    """None: the stack stores points itself."""

    def save(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Settings | None:
        """What ``save`` wrote; None when there is nothing (ConfigError when it is something else)."""
        text = read_text(path)
        if not text:
            return None
        try:
            raw = json.loads(text)
            influx = Influx(**raw["influx"]) if raw["influx"] else None
            ports = {service: int(raw["ports"][service]) for service in PORTS}
            return cls(slots=int(raw["slots"]), ports=ports, auth=bool(raw["auth"]), influx=influx)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{path}: not the settings of a stack ({error!r}); remove it to start with the defaults"
            ) from error


_SECRET = {"token", "influx_token", "builds"}


@dataclass(frozen=True)
class Wishes:
    """What the user said this time; None: nothing, so it stays as it was."""

    slots: int | None = None
    redis_port: int | None = None
    """0: any free port. The same for the others."""
    file_port: int | None = None
    influx_port: int | None = None
    dash_port: int | None = None
    auth: bool | None = None
    influx_url: str | None = None
    """"" ends the use of another InfluxDB."""
    influx_org: str | None = None
    influx_bucket: str | None = None
    token: str | None = None
    """For the file store and for points."""
    influx_token: str | None = None
    builds: Mapping[str, str] = field(default_factory=dict)
    """Variables about building environments, see ``config.for_builds``."""

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _SECRET}
        return f"Wishes({shown})"

    def port(self, service: str) -> int | None:
        ports = {
            "queue": self.redis_port,
            "filestore": self.file_port,
            "influx": self.influx_port,
            "queue-dash": self.dash_port,
        }
        return ports[service]


@dataclass(frozen=True)
class PortChoice:
    """What may be listened on: whether a service can have a port, and one that nobody has."""

    usable: Callable[[str, int], bool]
    free: Callable[[], int]


def resolve(wishes: Wishes, last: Settings | None, choice: PortChoice, *, standard_ports: bool) -> Settings:
    """Settings for this start.

    ``standard_ports``: the default ports are what clients expect, so they are taken or the start fails;
    else a default port that is in use gives way to a free one. Raises ConfigError for impossible wishes.
    """
    slots = wishes.slots if wishes.slots is not None else (last.slots if last else cpus())
    if slots < 1:
        raise ConfigError(f"-n: a stack needs at least one slot, got {slots}")
    auth = wishes.auth if wishes.auth is not None else (last.auth if last else True)
    ports: dict[str, int] = {}
    for service in PORTS:
        ports[service] = _port(service, wishes.port(service), last, choice, standard=standard_ports)
    for service, port in ports.items():
        same = [other for other in ports if ports[other] == port]
        if len(same) > 1:
            flags = " and ".join(PORT_FLAGS[other] for other in same)
            raise ConfigError(f"{flags}: {' and '.join(same)} cannot share port {port}")
        if not 1 <= port <= 65535:
            raise ConfigError(f"{PORT_FLAGS[service]}: a port is a number from 1 to 65535, or 0, got {port}")
    return Settings(
        slots=slots, ports=ports, auth=auth, influx=_influx(wishes, last.influx if last else None)
    )


def cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _port(
    service: str, wish: int | None, last: Settings | None, choice: PortChoice, *, standard: bool
) -> int:
    if wish:
        return wish
    before = last.ports[service] if last else PORTS[service]
    if wish is None and (last or standard):
        return before
    keep = (wish is None or last) and choice.usable(service, before)
    return before if keep else choice.free()


def _influx(wishes: Wishes, last: Influx | None) -> Influx | None:
    url = wishes.influx_url if wishes.influx_url is not None else (last.url if last else "")
    if not url:
        return None
    return Influx(
        url=url.rstrip("/"),
        org=wishes.influx_org or (last.org if last else names.ORG),
        bucket=wishes.influx_bucket or (last.bucket if last else names.BUCKET),
    )
