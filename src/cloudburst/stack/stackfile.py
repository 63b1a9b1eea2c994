"""A stack in one file: what a colleague needs to submit to it and to read from it, and nothing else.

The file is JSON: the endpoints with a client's credentials, the authority's certificate as text, and a digest
of both, by which a file that was cut off or edited is told from a whole one. It names no path of any machine.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cloudburst import config, names
from cloudburst.errors import ConfigError
from cloudburst.model import Endpoints
from cloudburst.stack.paths import write_private

VERSION = 1
MOST_BYTES = 4 << 20
"""A certificate file with all the authorities of a system has a quarter of a MiB."""

CA_NAME = "ca.pem"

_SCHEMES = {
    "redis_url": ("redis", "rediss"),
    "filestore_url": ("http", "https"),
    "influx_url": ("http", "https"),
}


def exported(environ: Mapping[str, str], stack: str) -> str:
    """The file's text for a stack that is known here. Raises ConfigError when it is not."""
    where = config.endpoints(environ, stack)
    authority = _certificates(Path(where.ca_file)) if where.ca_file else ""
    body = {"endpoints": asdict(replace(where, ca_file="")), "ca": authority}
    said = {"cloudburst_stack": VERSION, **body, "digest": digest(body)}
    return json.dumps(said, indent=2) + "\n"


def imported(environ: Mapping[str, str], text: str, source: str, name: str | None = None) -> Endpoints:
    """Make the stack known here, as ``name`` or under its own; returns its endpoints as they are kept.

    ``source`` names the file in errors: ConfigError when it is damaged or no such file, or when a stack of
    that name was started or deployed from here. One that was imported before is replaced.
    """
    body = _body(text, source)
    found = Endpoints.from_json(json.dumps(body["endpoints"]), source)
    _check(found, body["ca"], source)
    name = name or found.stack
    directory = config.stack_dir(environ, name)
    if any((directory / made).exists() for made in ("settings.json", "secrets", "fleet.json")):
        raise ConfigError(
            f"a stack {name!r} was started from here ({directory}), and stays as it is: "
            "choose another name for this one, with --name"
        )
    where = replace(found, stack=name, ca_file=CA_NAME if body["ca"] else "")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if body["ca"]:
        write_private(directory / CA_NAME, body["ca"])
    write_private(directory / "endpoints.json", where.to_json())
    return where


def only_here(where: Endpoints) -> bool:
    """Whether the stack listens on this machine's loopback address alone."""
    host = urllib.parse.urlsplit(where.redis_url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


def _body(text: str, source: str) -> dict[str, Any]:
    """What the digest is of, once it has been compared."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(_damaged(source, "it is not whole JSON")) from error
    if not isinstance(raw, dict) or "cloudburst_stack" not in raw:
        raise ConfigError(_damaged(source, "it does not begin as one"))
    if raw["cloudburst_stack"] != VERSION:
        raise ConfigError(
            f"{source}: made by another version of CloudBurst (form {raw['cloudburst_stack']!r:.20}, this is "
            f"{names.VERSION} and reads form {VERSION}): install the one that made it"
        )
    body = {key: raw.get(key) for key in ("endpoints", "ca")}
    if not isinstance(body["endpoints"], dict) or not isinstance(body["ca"], str):
        raise ConfigError(_damaged(source, "the endpoints or the certificate are missing"))
    if raw.get("digest") != digest(body):
        raise ConfigError(_damaged(source, "its digest is of other contents, so it was changed on its way"))
    return body


def _check(where: Endpoints, authority: str, source: str) -> None:
    for field, schemes in _SCHEMES.items():
        address = getattr(where, field)
        if field == "influx_url" and not address:
            continue  # jobs and results need none
        try:
            parts = urllib.parse.urlsplit(address)
            fits = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            fits = False
        if not fits:
            raise ConfigError(_damaged(source, f"{field} is no address of the kind {' or '.join(schemes)}"))
    if not authority:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=authority)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(_damaged(source, "ca holds no certificate in PEM form")) from error


def _certificates(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the stack's authority cannot be read: {path} ({error})") from error


def _damaged(source: str, why: str) -> str:
    return (
        f"{source}: not a stack that `cloudburst stack export` wrote, or not all of it ({why}): "
        "have it exported and sent again"
    )


def digest(body: Mapping[str, Any]) -> str:
    """Of the endpoints and the certificate, however they are laid out."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
