"""Where the Debian of virtual machines comes from: wherever this machine's own apt has it from."""

from __future__ import annotations

import shutil
from functools import cache

from tests.swarm.process import run

SUITE = "bookworm"


@cache
def repositories() -> tuple[tuple[str, str], ...]:
    """Address (``HOST/path``) and release of each; none where apt is not set up for that Debian."""
    if shutil.which("apt-get") is None:
        return ()
    asked = ["--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages", "Component: main"]
    lines = [line.split() for line in run(["apt-get", "indextargets", *asked]).stdout.splitlines()]
    found = [(uri.partition("://")[2].rstrip("/"), release) for uri, release in lines]
    ours = tuple(dict.fromkeys(one for one in found if one[1].partition("-")[0] == SUITE))
    return ours if any(release == SUITE for _, release in ours) else ()


def main() -> str:
    """The address of the release itself."""
    return next(address for address, release in repositories() if release == SUITE)


def hosts() -> frozenset[str]:
    return frozenset(address.partition("/")[0] for address, _ in repositories())


def sources() -> str:
    """For apt on the machines, which asks through a proxy."""
    return "".join(f"deb http://{address} {release} main\n" for address, release in repositories())
