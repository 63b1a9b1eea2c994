"""How a swarm's stack is to be run: what was said this time, over what was said last time."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from cloudburst import config
from cloudburst.commands.openssh import Target
from cloudburst.errors import ConfigError
from cloudburst.points.retention import retention_s
from cloudburst.stack.paths import read_text, write_private
from cloudburst.stack.swarm import limits

Kind = Literal["hosts", "docker"]

STACK_NAMES: Mapping[Kind, str] = {"hosts": "swarm", "docker": "docker"}
"""Names of stacks that are given no other."""

_VARIABLE = re.compile(
    r"CLOUDBURST_(IMAGE_\w+|KEEPER_(REPLICAS|STACK|TTL_S|IDLE_S|GRACE_S|SAVE_S|SAVE|END_POINT)"
    r"|GRAFANA_REPLICAS|RETENTION|MTU|GRACE_S|STOP_GRACE|MONITOR|LEASE_S|ENVIRONMENTS_GB|SERIES_LIMIT"
    r"|QUEUE_MEMORY|INFLUX_MEMORY)"
)
"""Variables of the caller that the compose file knows."""

RETENTION = "CLOUDBURST_RETENTION"
"""How long InfluxDB keeps what the stack measures of itself."""

_BUILD = {
    "CLOUDBURST_BASE_IMAGE": "BASE_IMAGE",
    "CLOUDBURST_APT_MIRROR": "APT_MIRROR",
    "CLOUDBURST_PIP_INDEX_URL": "PIP_INDEX_URL",
    "CLOUDBURST_CA_CERT": "CA_CERT",
    "CLOUDBURST_APT": "APT",
    "CLOUDBURST_PYTHONS": "PYTHONS",
}
"""Variables of the caller that are build arguments of the images. CA_CERT is the contents of a file."""


@dataclass(frozen=True)
class Settings:
    """Everything about the stack that a user can choose, apart from secrets."""

    kind: Kind
    hosts: tuple[str, ...] = ()
    """As the user wrote them, the master first; none for ``docker``."""
    https_port: int = 443
    queue_port: int = 6380
    ssh_key: str = ""
    """A private key; "" leaves it to ssh."""
    ssh_config: str = ""
    """A file in place of ~/.ssh/config; "" for that."""
    private_interface: str = ""
    """The network interface by which nodes reach one another; "": as they are reached from here."""
    tls_cert: str = ""
    """A certificate for the gateway that is not the stack's own, with its chain; "" for its own."""
    tls_key: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    """For the compose file."""
    build: Mapping[str, str] = field(default_factory=dict)
    """Build arguments of the images."""

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(Target.parse(host) for host in self.hosts)

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
            if "kind" not in raw:
                raise ConfigError(
                    f"{path.parent} belongs to a stack of this machine (--local); choose another --name"
                )
            known = {f.name: raw[f.name] for f in fields(cls) if f.name in raw}
            return cls(**known | {"hosts": tuple(raw.get("hosts", ()))})
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"{path}: not the settings of a stack ({error}); remove it to start with the defaults"
            ) from error


@dataclass(frozen=True)
class Wishes:
    """What the user said this time; None: nothing, so it stays as it was."""

    hosts: str | None = None
    """Separated by commas."""
    https_port: int | None = None
    queue_port: int | None = None
    ssh_key: str | None = None
    ssh_config: str | None = None
    private_interface: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    builds: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables about building environments, see ``config.for_builds``."""
    keeper_token: str | None = field(default=None, repr=False)
    """The provider's, for the service that ends the stack by itself; "": none any more."""


def kind_of(environ: Mapping[str, str], stack: str) -> Literal["local", "hosts", "docker"] | None:
    """What kind of stack was started from here under that name; None when none was."""
    text = read_text(config.stack_dir(environ, stack) / "settings.json")
    try:
        found: Literal["local", "hosts", "docker"] | None = (
            json.loads(text).get("kind", "local") if text else None
        )
    except (ValueError, AttributeError):
        return None
    return found


def resolve(kind: Kind, wishes: Wishes, last: Settings | None, environ: Mapping[str, str]) -> Settings:
    """Settings for this deployment. Raises ConfigError for impossible wishes."""
    if last and last.kind != kind:
        raise ConfigError(f"this stack is one of --{last.kind}, not of --{kind}: choose another --name")
    now = last or Settings(kind)
    said = {
        f.name: getattr(wishes, f.name)
        for f in fields(wishes)
        if f.name not in {"hosts", "builds", "keeper_token"} and getattr(wishes, f.name) is not None
    }
    hosts = _hosts(wishes.hosts) if wishes.hosts is not None else now.hosts
    if kind == "hosts" and not hosts:
        raise ConfigError("--hosts: name at least one machine, the master: root@master,root@a,root@b")
    if bool(said.get("tls_cert", now.tls_cert)) != bool(said.get("tls_key", now.tls_key)):
        raise ConfigError("--tls-cert and --tls-key belong together")
    variables = _remembered(now.variables, _variables(environ))
    retention_s(variables.get(RETENTION, "0"))
    for name in (limits.INFLUX, limits.QUEUE):
        limits.memory(name, variables.get(name, "0"))
    return replace(
        now,
        **said,
        hosts=hosts,
        variables=variables,
        build=_remembered(now.build, _build_arguments(environ)),
    )


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(host.strip() for host in text.split(",") if host.strip())
    names = [(target.host, target.port) for target in map(Target.parse, hosts)]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--hosts: {name[0]} is named twice")
    return hosts


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if _VARIABLE.fullmatch(name)}


def _build_arguments(environ: Mapping[str, str]) -> dict[str, str]:
    given = {argument: environ[name] for name, argument in _BUILD.items() if name in environ}
    if "PIP_INDEX_URL" not in given and environ.get("PIP_INDEX_URL"):
        given["PIP_INDEX_URL"] = environ["PIP_INDEX_URL"]
    if urllib.parse.urlsplit(given.get("PIP_INDEX_URL", "")).password:
        raise ConfigError(
            "PIP_INDEX_URL holds a password, which would stay in the images: "
            "set CLOUDBURST_PIP_INDEX_URL to an index that needs none, for building them"
        )
    if given.get("CA_CERT"):
        try:
            given["CA_CERT"] = Path(given["CA_CERT"]).read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise ConfigError(f"CLOUDBURST_CA_CERT: cannot read {given['CA_CERT']} ({error})") from error
    return given


def _remembered(before: Mapping[str, str], said: Mapping[str, str]) -> dict[str, str]:
    """What is said, over what was said before; "" ends it."""
    return {name: value for name, value in sorted({**before, **said}.items()) if value}
