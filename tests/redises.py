"""The Redis servers that users have, for ``make test-redis``: those of Debian 12 and 13, beside the wheel's.

``python -m tests.redises`` makes them, once, and prints the path of a program for each. A whole Debian tree
stands around each server, because it needs that Debian's libraries; nothing is installed,
started, or put on PATH.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.swarm import cache, debian
from tests.swarm.mirror import Mirror
from tests.swarm.process import run

SUITES = ("bookworm", "trixie")
UNNEEDED = ("usr/share", "var", "boot", "root")


def program(suite: str) -> Path:
    """A program that is this Debian's redis-server, and its version's tools beside it."""
    made_from = cache.digest(suite, debian.main(), Path(__file__))
    return cache.made(f"redis-{suite}-{made_from}", lambda tree: _make(suite, tree)) / "redis-server"


def why_not() -> str:
    """Why no tree can be made here; empty if it can."""
    if os.geteuid() != 0:
        return "debootstrap needs root"
    if shutil.which("debootstrap") is None:
        return "debootstrap is not installed"
    return "" if debian.repositories() else "this machine's apt does not say where Debian's packages are"


def _make(suite: str, tree: Path) -> None:
    with Mirror(cache.directory() / "packages", "127.0.0.1") as mirror:
        url = f"{mirror.url}/{debian.main()}"
        argv = ["debootstrap", "--variant=minbase", "--include=redis-server", suite, str(tree), url]
        run(argv, timeout_s=900)
    for folder in UNNEEDED:
        cache.remove(tree / folder)
    (libraries,) = (path.parent.relative_to(tree) for path in tree.glob("usr/lib/*/libc.so.6"))
    (loader,) = (path.name for path in (tree / libraries).glob("ld-linux-*.so.*"))
    final = tree.with_suffix("")  # the cache gives it this name when it is whole
    start = f"{final / libraries / loader} --argv0 redis-server --library-path {final / libraries}"
    (tree / "redis-server").write_text(f'#!/bin/sh\nexec {start} {final}/usr/bin/redis-server "$@"\n')
    (tree / "redis-server").chmod(0o755)


def main() -> int:
    reason = why_not()
    if reason:
        sys.stderr.write(f"no Redis of Debian 12 and 13 here: {reason}\n")
        return 1
    sys.stdout.writelines(f"{program(suite)}\n" for suite in SUITES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
