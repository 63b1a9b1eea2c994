"""Packages that only some of CloudBurst needs, and that the client is installed without."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cloudburst.errors import ConfigError


@contextlib.contextmanager
def needed(extra: str, what: str) -> Iterator[None]:
    """Say which of pyproject.toml's extras ``what`` needs if a package is not there (ConfigError)."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"", "cloudburst"}:  # a fault of our own
            raise
        raise ConfigError(
            f"{what} needs the package {missing}, which is not there: pip install 'cloudburst[{extra}]'"
        ) from error
