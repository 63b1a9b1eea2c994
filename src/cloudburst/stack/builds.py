"""What the worker is told about building environments: kept as a secret is, since it may hold passwords."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cloudburst.config import BUILD_PREFIX
from cloudburst.errors import ConfigError
from cloudburst.stack.paths import Paths, read_text, write_private

_KEPT = "builds.json"


def remember(paths: Paths, said: Mapping[str, str]) -> dict[str, str]:
    """The variables for builds: what is said this time, over what was said before. "" ends one."""
    path = paths.secret(_KEPT)
    text = read_text(path)
    try:
        before: dict[str, str] = json.loads(text) if text else {}
        now = {name: value for name, value in {**before, **said}.items() if value}
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not what a stack keeps ({error}); remove it and start again") from error
    if now != before:
        write_private(path, json.dumps(now, indent=2, sort_keys=True) + "\n")
    return now


def handed_over(paths: Paths, builds: Mapping[str, str]) -> tuple[dict[str, str], dict[Path, str]]:
    """Variables for the worker, and the files that hold those that a Pipfile may name."""
    variables: dict[str, str] = {}
    files: dict[Path, str] = {}
    for name, value in builds.items():
        if name.startswith(BUILD_PREFIX) and not name.endswith("_FILE"):
            file = paths.secret(f"build-{name.removeprefix(BUILD_PREFIX)}")
            files[file] = value
            variables[f"{name}_FILE"] = str(file)
        else:
            variables[name] = value
    return variables, files
