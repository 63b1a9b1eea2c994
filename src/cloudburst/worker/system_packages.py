"""Debian packages that a payload needs on its node: asked for, never installed."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from cloudburst.commands import debian, images
from cloudburst.errors import BuildError

_ANSWER_S = 20.0


def check(packages: Sequence[str], environ: Mapping[str, str]) -> None:
    """BuildError, with the way to get them, when some of the packages are not installed on this node."""
    if not packages:
        return
    bare = [name.partition(":")[0] for name in packages]
    try:
        asked = subprocess.run(
            debian.query(bare).argv,
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
            check=False,
            env={"PATH": environ.get("PATH", ""), "LC_ALL": "C"},
        )
        there = debian.installed(asked.stdout)
    except (OSError, subprocess.SubprocessError):  # not Debian
        there = set()
    missing = [name for name, plain in zip(packages, bare, strict=True) if plain not in there]
    if missing:
        names = " ".join(missing)
        raise BuildError(
            f"cloudburst.toml: apt: not installed on this node: {', '.join(missing)}: bake them into the "
            f"worker image ({images.worker(APT=names)}), or install them here (apt-get install {names})"
        )
