"""Settings, read once at an entry point into frozen objects: files and environment variables.

It is long because it is a list: every setting of every service, with its name, default and bounds.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from cloudburst import names
from cloudburst.errors import ConfigError
from cloudburst.model import Endpoints, PayloadSettings

Environ = Mapping[str, str]

BUILD_PREFIX = "CLOUDBURST_BUILD_"
"""Variables of this prefix reach builds, without it; nothing else of the worker's settings does."""

_CHOICES = {"isolation": ("reuse", "fork"), "seed": ("on", "off")}
"""Settings of a payload that are one of two words."""

_LISTS = {
    "apt": (re.compile(r"[a-z0-9][a-z0-9.+-]+(:[a-z0-9-]+)?"), "Debian package"),
    "preload": (re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*"), "module"),
}
"""Settings of a payload that are lists: what each entry looks like, and what it is the name of."""

_FOR_BUILDS = re.compile(
    r"CLOUDBURST_BUILD_\w+|(?i:(https?|all|no)_proxy)|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|PIPENV_PYPI_MIRROR"
    r"|PIP_(CONFIG_FILE|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|TRUSTED_HOST|CERT|CLIENT_CERT|PROXY)"
    r"|PIP_(DEFAULT_TIMEOUT|TIMEOUT|RETRIES|KEYRING_PROVIDER|NO_BINARY|ONLY_BINARY)"
    r"|UV_(DEFAULT_INDEX|INDEX|FIND_LINKS|INSECURE_HOST|HTTP_TIMEOUT|HTTP_RETRIES)"
)


def home(environ: Environ) -> Path:
    """Directory of all local stacks: ``$CLOUDBURST_HOME``, else ``~/.cloudburst``."""
    try:
        return Path(environ.get("CLOUDBURST_HOME") or "~/.cloudburst").expanduser().absolute()
    except RuntimeError as error:  # a user without a home
        raise ConfigError(f"CLOUDBURST_HOME is not set, and {error}: set it to a directory") from error


def stack_dir(environ: Environ, stack: str) -> Path:
    """Where everything of the stack of that name is kept on this machine."""
    if not names.NAME.fullmatch(stack):
        raise ConfigError(f"stack name {stack!r:.100}: {names.NAME_RULE}")
    return home(environ) / stack


def endpoints(environ: Environ, stack: str | None = None) -> Endpoints:
    """Endpoints of the stack of that name, else of ``$CLOUDBURST_STACK``, else of the local one.

    Raises ConfigError when that stack was never started here.
    """
    name = stack or environ.get("CLOUDBURST_STACK") or names.LOCAL_STACK
    path = stack_dir(environ, name) / "endpoints.json"
    found = read_endpoints(path)
    if found is None:
        start = "./buildstack.sh --local" if name == names.LOCAL_STACK else f"buildstack.sh for {name!r}"
        raise ConfigError(
            f"no stack {name!r} is known here ({path} does not exist): start it with {start}, "
            "or have it exported where it is known: cloudburst stack import FILE"
        )
    return found


def read_endpoints(path: Path) -> Endpoints | None:
    """What an ``endpoints.json`` says; None when there is no such file, ConfigError when it is damaged."""
    text = _text(path)
    if text is None:
        return None
    found = Endpoints.from_json(text, str(path))
    # Beside it, as a rule: so the directory can be copied to other machines.
    return replace(found, ca_file=str(path.parent / found.ca_file)) if found.ca_file else found


def secret(environ: Environ, name: str, default: str = "") -> str:
    """Value of ``name``, or the contents of the file that ``<name>_FILE`` points to."""
    path = environ.get(f"{name}_FILE")
    if not path:
        return environ.get(name, default)
    text = _text(Path(path), f"{name}_FILE: ")
    if text is None:
        raise ConfigError(f"{name}_FILE: cannot read {path} (No such file or directory)")
    return text.strip()


def _text(path: Path, whose: str = "") -> str | None:
    """What a file holds; None when it is not there, ConfigError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{whose}cannot read {path}: it is not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{whose}cannot read {path} ({error.strerror or error})") from error


def keeper_token(environ: Environ) -> str | None:
    """The token that the stack's own keeper gets; None when nothing is said about it. Raises ConfigError."""
    name = "CLOUDBURST_KEEPER_TOKEN"
    return secret(environ, name).strip() if {name, f"{name}_FILE"} & environ.keys() else None


def build_variables(environ: Environ) -> dict[str, str]:
    """What ``CLOUDBURST_BUILD_<NAME>`` and ``CLOUDBURST_BUILD_<NAME>_FILE`` give to builds, by ``<NAME>``."""
    names_given = {
        name.removeprefix(BUILD_PREFIX).removesuffix("_FILE")
        for name in environ
        if name.startswith(BUILD_PREFIX)
    }
    return {name: secret(environ, BUILD_PREFIX + name) for name in sorted(names_given) if name}


def for_builds(environ: Environ) -> dict[str, str]:
    """The variables that say how environments are built, with passwords and all; "" ends an earlier value."""
    return {name: value for name, value in environ.items() if _FOR_BUILDS.fullmatch(name)}


def worker_environ(environ: Environ) -> dict[str, str]:
    """``environ``, and the variables for builds of the JSON file CLOUDBURST_BUILDS_FILE that it lacks.

    ConfigError when that file is not an object of texts, or names what builds do not read.
    """
    path = environ.get("CLOUDBURST_BUILDS_FILE")
    if not path:
        return dict(environ)
    try:
        builds = json.loads(secret(environ, "CLOUDBURST_BUILDS"))
    except ValueError as error:
        raise ConfigError(f"CLOUDBURST_BUILDS_FILE: {path} is not JSON ({error})") from error
    if not isinstance(builds, dict) or not all(isinstance(value, str) for value in builds.values()):
        raise ConfigError(f"CLOUDBURST_BUILDS_FILE: {path} should hold an object of texts")
    unknown = sorted(set(builds) - set(for_builds(builds)))
    if unknown:
        raise ConfigError(f"CLOUDBURST_BUILDS_FILE: {path}: builds do not read {', '.join(unknown)}")
    return {**builds, **environ}


def integer(environ: Environ, name: str, default: int, *, low: int = 0) -> int:
    """Whole number in the variable ``name``, at least ``low``."""
    text = environ.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise ConfigError(f"{name}: should be a whole number, got {text!r}") from None
    if value < low:
        raise ConfigError(f"{name}: should be at least {low}, got {value}")
    return value


def number(environ: Environ, name: str, default: float) -> float:
    """Number in the variable ``name``, more than 0."""
    text = environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        raise ConfigError(f"{name}: should be a number, got {text!r}") from None
    if not 0 < value < math.inf:
        raise ConfigError(f"{name}: should be a number above 0, got {text}")
    return value


def uids(environ: Environ, name: str) -> range:
    """User numbers in the variable ``name``, such as 20000-29999; none when it is empty."""
    text = environ.get(name, "")
    if not text:
        return range(0)
    match = re.fullmatch(r"([0-9]{1,10})-([0-9]{1,10})", text)
    first, last = (int(part) for part in match.groups()) if match else (0, 0)
    if not 1000 <= first < last < 2**31:
        raise ConfigError(f"{name}: should be two numbers from 1000 on, such as 20000-29999, got {text!r}")
    return range(first, last + 1)


def flag(environ: Environ, name: str, *, default: bool = False) -> bool:
    """Yes or no in the variable ``name``: 1, true, yes, on or 0, false, no, off."""
    text = environ.get(name, "").lower()
    if not text:
        return default
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise ConfigError(f"{name}: should be 1 or 0, got {text!r}")


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker needs to know; secrets stay out of ``repr``."""

    redis_url: str
    filestore_url: str
    filestore_token: str
    influx_url: str
    influx_token: str
    influx_org: str
    influx_bucket: str
    state_dir: Path
    """Payloads, environments, scratch directories and the spool of this worker."""
    slots: int
    """0: as many as an operator wishes of the node, else as many as it has CPUs."""
    queue: str = names.QUEUE
    node: str = ""
    allow_pickle: bool = False
    lease_s: float = 15.0
    """A job whose worker has not been heard of for so long is run again elsewhere."""
    grace_s: float = 30.0
    """After SIGTERM, running jobs get so long to finish."""
    image: str = ""
    """Digest of the image that the worker runs in; "" outside of one."""

    ca_file: str = ""
    """PEM file of the only authority whose certificates are believed; "": those of this machine are."""
    executor_uids: range = range(0)
    """User numbers for executors, each of which gets its own; empty: they run as the worker's user."""
    environments_gb: float = 20.0
    """Environments and payloads that are not in use go, those first that were used least recently, if all
    together take more than so many gigabytes (10**9 bytes) on the disk."""

    series_limit: int = 100_000
    """Series of points that the jobs of an ensemble may write; 0: any number."""

    observe: bool = False
    """Write points about the node, for the stack's dashboard."""
    observe_s: float = 10.0
    """How often the node is measured."""
    stack_bucket: str = names.BUCKET_STACK
    """Where points about the node go."""

    def __repr__(self) -> str:
        return f"WorkerConfig(queue={self.queue!r}, slots={self.slots}, state_dir={str(self.state_dir)!r})"

    @classmethod
    def from_environ(cls, environ: Environ) -> WorkerConfig:
        """Read the variables of docs/operating.md (ConfigError when one is wrong)."""
        host = environ.get("REDIS_HOST") or "127.0.0.1"
        port = integer(environ, "REDIS_PORT", names.PORT_QUEUE, low=1)
        password = urllib.parse.quote(secret(environ, "REDIS_PASSWORD"), safe="")
        user = urllib.parse.quote(environ.get("REDIS_USERNAME", ""), safe="")
        login = f"{user}:{password}@" if password else ""
        file_host = environ.get("FILE_HOST") or "127.0.0.1"
        file_port = integer(environ, "FILE_HOST_PORT", names.PORT_FILESTORE, low=1)
        state_dir = environ.get("CLOUDBURST_STATE_DIR") or str(home(environ) / "worker")
        return cls(
            redis_url=secret(environ, "CLOUDBURST_REDIS_URL") or f"redis://{login}{host}:{port}/0",
            filestore_url=environ.get("CLOUDBURST_FILESTORE_URL") or f"http://{file_host}:{file_port}",
            filestore_token=secret(environ, "FILE_HOST_TOKEN"),
            influx_url=environ.get("INFLUX_URL", ""),
            influx_token=secret(environ, "INFLUX_TOKEN"),
            influx_org=environ.get("INFLUX_ORG") or names.ORG,
            influx_bucket=environ.get("INFLUX_BUCKET") or names.BUCKET,
            state_dir=Path(state_dir).absolute(),
            slots=integer(environ, "CLOUDBURST_SLOTS", 0),
            queue=environ.get("CLOUDBURST_QUEUE") or names.QUEUE,
            node=environ.get("CLOUDBURST_NODE") or os.uname().nodename,
            allow_pickle=flag(environ, "CLOUDBURST_ALLOW_PICKLE"),
            lease_s=float(integer(environ, "CLOUDBURST_LEASE_S", 15, low=1)),
            grace_s=float(integer(environ, "CLOUDBURST_GRACE_S", 30)),
            image=environ.get("CLOUDBURST_IMAGE", ""),
            ca_file=environ.get("CLOUDBURST_CA_FILE", ""),
            executor_uids=uids(environ, "CLOUDBURST_EXECUTOR_UIDS"),
            environments_gb=number(environ, "CLOUDBURST_ENVIRONMENTS_GB", 20.0),
            series_limit=integer(environ, "CLOUDBURST_SERIES_LIMIT", 100_000),
            observe=flag(environ, "CLOUDBURST_OBSERVE"),
            observe_s=number(environ, "CLOUDBURST_OBSERVE_S", 10.0),
            stack_bucket=environ.get("CLOUDBURST_STACK_BUCKET") or names.BUCKET_STACK,
        )


@dataclass(frozen=True)
class ObserverConfig:
    """What the observer needs to know; secrets stay out of ``repr``."""

    redis_url: str
    influx_url: str
    influx_token: str
    influx_org: str
    stack_bucket: str
    queue: str = names.QUEUE
    disk: Path | None = None
    """A directory on the disk that must not fill up; None: none is watched."""
    interval_s: float = 10.0

    def __repr__(self) -> str:
        return f"ObserverConfig(queue={self.queue!r}, disk={self.disk}, interval_s={self.interval_s})"

    @classmethod
    def from_environ(cls, environ: Environ) -> ObserverConfig:
        """Read the variables of docs/operating.md (ConfigError when one is wrong or missing)."""
        redis_url = secret(environ, "CLOUDBURST_REDIS_URL")
        influx_url = environ.get("INFLUX_URL", "")
        for name, value in (("CLOUDBURST_REDIS_URL", redis_url), ("INFLUX_URL", influx_url)):
            if not value:
                raise ConfigError(f"observer: {name} is not set: it observes the one and writes to the other")
        disk = environ.get("CLOUDBURST_OBSERVED_DISK", "")
        return cls(
            redis_url=redis_url,
            influx_url=influx_url,
            influx_token=secret(environ, "INFLUX_TOKEN"),
            influx_org=environ.get("INFLUX_ORG") or names.ORG,
            stack_bucket=environ.get("CLOUDBURST_STACK_BUCKET") or names.BUCKET_STACK,
            queue=environ.get("CLOUDBURST_QUEUE") or names.QUEUE,
            disk=Path(disk) if disk else None,
            interval_s=number(environ, "CLOUDBURST_OBSERVE_S", 10.0),
        )


@dataclass(frozen=True)
class KeeperConfig:
    """What the keeper needs to know; secrets stay out of ``repr``."""

    redis_url: str
    token: str
    """The provider's; "" when none was given."""
    stack: str
    own: str
    """Name of the machine that this runs on, which goes last."""
    ttl_s: float = 0.0
    """So long after it was made the stack ends; 0: never for that reason."""
    idle_s: float = 0.0
    """After it had nothing to do for so long the stack ends; 0: never for that reason."""
    grace_s: float = 300.0
    """When the stack ends, running jobs get so long to end."""
    save_s: float = 600.0
    """When they have ended, clients get so long to collect results."""
    save: bool = False
    """Wait for that even if no client is there: one was meant to be."""
    end_point: str = ""
    every_s: float = 5.0
    queue: str = names.QUEUE

    def __repr__(self) -> str:
        return f"KeeperConfig(stack={self.stack!r}, ttl_s={self.ttl_s}, idle_s={self.idle_s})"

    @classmethod
    def from_environ(cls, environ: Environ) -> KeeperConfig:
        """Read the variables of docs/operating.md (ConfigError when one is wrong or missing)."""
        redis_url = secret(environ, "CLOUDBURST_REDIS_URL")
        stack = environ.get("CLOUDBURST_KEEPER_STACK", "")
        for name, value in (("CLOUDBURST_REDIS_URL", redis_url), ("CLOUDBURST_KEEPER_STACK", stack)):
            if not value:
                raise ConfigError(f"keeper: {name} is not set: it keeps the stack of that name")
        return cls(
            redis_url=redis_url,
            token=secret(environ, "CLOUDBURST_KEEPER_TOKEN"),
            stack=stack,
            own=f"{stack}-master",
            ttl_s=float(integer(environ, "CLOUDBURST_KEEPER_TTL_S", 0)),
            idle_s=float(integer(environ, "CLOUDBURST_KEEPER_IDLE_S", 0)),
            grace_s=float(integer(environ, "CLOUDBURST_KEEPER_GRACE_S", 300)),
            save_s=float(integer(environ, "CLOUDBURST_KEEPER_SAVE_S", 600)),
            save=flag(environ, "CLOUDBURST_KEEPER_SAVE"),
            end_point=environ.get("CLOUDBURST_KEEPER_END_POINT") or names.DIGITALOCEAN_END_POINT,
            every_s=number(environ, "CLOUDBURST_KEEPER_EVERY_S", 5.0),
            queue=environ.get("CLOUDBURST_QUEUE") or names.QUEUE,
        )


def payload_settings(directory: Path) -> PayloadSettings:
    """The payload's ``cloudburst.toml``; defaults when it has none. ConfigError for unknown keys."""
    path = directory / "cloudburst.toml"
    text = _text(path)
    if text is None:
        return PayloadSettings()
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"cloudburst.toml: {error}") from error
    known = {field.name: type(getattr(PayloadSettings(), field.name)) for field in fields(PayloadSettings)}
    for key, value in table.items():
        _check_setting(key, value, known)
    return PayloadSettings(**table | {key: tuple(table.get(key, ())) for key in _LISTS})


def _check_names(key: str, value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"cloudburst.toml: {key}: should be a list of texts, got {value!r}")
    pattern, what = _LISTS[key]
    for name in value:
        if not pattern.fullmatch(name):
            raise ConfigError(f"cloudburst.toml: {key}: {name!r} is not the name of a {what}")


def _check_setting(key: str, value: object, known: Mapping[str, type]) -> None:
    if key not in known:
        raise ConfigError(f"cloudburst.toml: {key}: unknown key; known are {', '.join(known)}")
    if key in _LISTS:
        _check_names(key, value)
    elif type(value) is not known[key]:
        words = {int: "a whole number", bool: "true or false", str: "a text"}
        raise ConfigError(f"cloudburst.toml: {key}: should be {words[known[key]]}, got {value!r}")
    for name, choices in _CHOICES.items():
        if key == name and value not in choices:
            first, second = choices
            raise ConfigError(f'cloudburst.toml: {key}: should be "{first}" or "{second}", got {value!r}')
    if isinstance(value, int) and value < 0:
        raise ConfigError(f"cloudburst.toml: {key}: should not be negative, got {value}")
    if isinstance(value, int) and value >= 2**31:
        raise ConfigError(f"cloudburst.toml: {key}: should be less than {2**31}, got {value}")
