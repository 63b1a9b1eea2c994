"""Writing line protocol to InfluxDB with influxdb-client, every answer told apart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

TIMEOUT_S = 10
"""A write that takes longer is taken for failed; writing again overwrites."""


class Malformed(Exception):
    """The database will never take these lines."""


class TooLarge(Exception):
    """The database wants fewer lines at a time."""


class Away(Exception):
    """The database does not take anything now. ``retry_after_s`` is what it asked for, or 0."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Login:
    """Where points go, and what lets them in."""

    url: str
    token: str
    org: str
    bucket: str

    def __repr__(self) -> str:
        return f"Login({self.url!r}, bucket={self.bucket!r})"


class Database:
    """One connection that writes synchronously: only a write that returns has arrived."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._client = InfluxDBClient(
            login.url, token=login.token, org=login.org, timeout=TIMEOUT_S * 1000, enable_gzip=False
        )
        self._writer = self._client.write_api(write_options=SYNCHRONOUS)

    def write(self, lines: bytes) -> None:
        """Write lines with nanosecond times. Raises Malformed, TooLarge or Away."""
        try:
            # WritePrecision's constants are plain texts, whatever the stub says.
            precision: Any = WritePrecision.NS
            self._writer.write(self._login.bucket, self._login.org, lines, precision)
        except ApiException as error:
            raise self._explained(error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Away(f"{self._login.url} does not answer ({error})") from error

    def close(self) -> None:
        """Give the connection up."""
        self._client.close()

    def _explained(self, error: ApiException) -> Exception:
        message = _message(error)
        if error.status in {400, 422}:
            return Malformed(message)
        if error.status == 413:
            return TooLarge(message)
        if error.status in {401, 403}:
            return Away(f"{self._login.url} refuses the token: check INFLUX_TOKEN ({message})")
        if error.status == 404:
            return Away(
                f"{self._login.url} has no bucket {self._login.bucket!r}: check INFLUX_BUCKET ({message})"
            )
        return Away(f"{self._login.url} answers {error.status} ({message})", _retry_after_s(error))


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, LookupError, TypeError):
        return str(error.body or error.reason or "no reason given")[:500]


def _retry_after_s(error: ApiException) -> float:
    try:
        return min(float(error.headers["Retry-After"]), 60.0)
    except (ValueError, LookupError, TypeError):
        return 0.0
