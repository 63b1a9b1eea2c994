"""The user's account at the provider."""

from __future__ import annotations

from collections.abc import Mapping

from cloudburst import config
from cloudburst.errors import ConfigError
from cloudburst.providers.digitalocean.provider import END_POINT, DigitalOcean

TOKENS = ("DOTOKEN", "DIGITALOCEAN_ACCESS_TOKEN")


def token(environ: Mapping[str, str]) -> str:
    """The token; "" when none is given. Raises ConfigError for a file of one that cannot be read."""
    return next((found for name in TOKENS if (found := config.secret(environ, name).strip())), "")


def opened(environ: Mapping[str, str]) -> DigitalOcean:
    """Raises ConfigError without a token."""
    found = token(environ)
    if not found:
        raise ConfigError(
            "no token of DigitalOcean: make one at https://cloud.digitalocean.com/account/api/tokens "
            "and set it, export DOTOKEN=... (docs/digitalocean.md)"
        )
    return DigitalOcean(found, environ.get("DIGITALOCEAN_END_POINT") or END_POINT)
