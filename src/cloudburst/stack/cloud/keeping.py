"""What a stack at a provider tells the service that ends it: when, and with which token."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cloudburst import config
from cloudburst.errors import ConfigError
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.cloud.settings import Settings
from cloudburst.stack.paths import read_text
from cloudburst.stack.swarm.secrets import KEEPER_TOKEN


def check(environ: Mapping[str, str], paths: CloudPaths, settings: Settings) -> None:
    """Raise ConfigError for a stack that is to end itself, and could not."""
    if not (settings.ttl_s or settings.idle_s):
        return
    said = config.keeper_token(environ)
    if not (read_text(paths.secret(KEEPER_TOKEN)).strip() if said is None else said):
        raise ConfigError(
            "--ttl and --idle: a service on the master ends the stack, with a token of its own that you make "
            "for it: export CLOUDBURST_KEEPER_TOKEN=..., or CLOUDBURST_KEEPER_TOKEN_FILE=FILE "
            "(docs/keeping.md says which rights it needs). --ttl 0 --idle 0 do without"
        )


def variables(environ: Mapping[str, str], stack: str, settings: Settings) -> dict[str, str]:
    """Variables for the compose file; "" ends what was said before."""
    on = bool(settings.ttl_s or settings.idle_s)
    return {
        "CLOUDBURST_KEEPER_REPLICAS": "1" if on else "",
        "CLOUDBURST_KEEPER_STACK": stack if on else "",
        "CLOUDBURST_KEEPER_TTL_S": _seconds(settings.ttl_s),
        "CLOUDBURST_KEEPER_IDLE_S": _seconds(settings.idle_s),
        "CLOUDBURST_KEEPER_SAVE": "1" if on and settings.save_to else "",
        "CLOUDBURST_KEEPER_END_POINT": environ.get("DIGITALOCEAN_END_POINT", "") if on else "",
    }


def _seconds(value: float) -> str:
    return str(math.ceil(value)) if value else ""
