"""Writing line protocol to InfluxDB with influxdb-client, every answer told apart."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from cloudburst import trust
from cloudburst.errors import PointsError
from cloudburst.points.batch import Malformed
from cloudburst.points.parse import whole_lines

RETRY_AFTER_LIMIT_S = 300.0
"""A database that wants to be left alone for longer is asked again nevertheless."""


SHOWN_CHARS = 1000
"""Of what the database says about an error."""


class Away(PointsError):
    """The database takes nothing now. ``retry_after_s`` is what it asked for, or 0.

    ``setting`` names the variable that is wrong, or is "": then the database may come back by itself.
    """

    def __init__(self, message: str, *, retry_after_s: float = 0.0, setting: str = "") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.setting = setting


class _TooLarge(PointsError):
    """The database wants fewer lines at a time."""


@dataclass(frozen=True)
class Login:
    """Where points go, and what lets them in."""

    url: str
    token: str
    org: str
    bucket: str
    ca_file: str = ""
    """PEM file of the only authority whose certificates are believed; "": those of this machine are."""

    def __repr__(self) -> str:
        return f"Login({self.url!r}, bucket={self.bucket!r})"


class Database:
    """One connection that writes synchronously: only what ``write`` returns from has arrived."""

    def __init__(self, login: Login, *, timeout_s: float) -> None:
        """A write that takes longer than ``timeout_s`` is taken for failed; writing again overwrites."""
        self.url = login.url
        self._login = login
        self._client = InfluxDBClient(
            login.url,
            token=login.token,
            org=login.org,
            timeout=round(timeout_s * 1000),
            enable_gzip=False,
            ssl_ca_cert=trust.checked(login.ca_file) or None,
        )
        self._api = self._client.write_api(write_options=SYNCHRONOUS)

    def write(self, lines: bytes) -> None:
        """Write lines with nanosecond times, in pieces if the database wants that. Malformed or Away."""
        pieces = deque([lines])
        while pieces:
            try:
                self._post(pieces[0])
            except _TooLarge as error:
                halves = _halves(pieces.popleft())
                if not halves:
                    raise Malformed(str(error)) from error
                pieces.extendleft(reversed(halves))
            else:
                pieces.popleft()

    def close(self) -> None:
        """Give the connection up."""
        self._client.close()

    def _post(self, lines: bytes) -> None:
        url = self._login.url
        # WritePrecision's constants are plain texts, whatever the stub says.
        precision: Any = WritePrecision.NS
        try:
            self._api.write(self._login.bucket, self._login.org, lines, precision)
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            if wrong := trust.distrust(error, self._login.ca_file):
                raise Away(f"{url}: {wrong}", setting="INFLUX_URL") from error
            if isinstance(error, ApiException):
                raise self._explained(error) from error
            raise Away(f"{url} does not answer ({_cause(error)})") from error
        except UnicodeDecodeError as error:
            raise self._not_influx("with what is no text") from error
        status = self._client.api_client.last_response.status
        if status != 204:
            # Any web server might answer 200, and the points would be gone.
            raise self._not_influx(f"{status} instead of 204")

    def _not_influx(self, what: str) -> Away:
        return Away(
            f"{self._login.url} answers a write {what}: it is no InfluxDB, check INFLUX_URL",
            setting="INFLUX_URL",
        )

    def _explained(self, error: ApiException) -> Exception:
        url, status, message = self._login.url, error.status, _message(error)
        if status in {400, 422}:
            return Malformed(message)
        if status == 413:
            return _TooLarge(message)
        if status in {401, 403}:
            return Away(f"{url} refuses the token: check INFLUX_TOKEN ({message})", setting="INFLUX_TOKEN")
        if status == 404:
            return Away(
                f"{url} has no bucket {self._login.bucket!r} in organisation {self._login.org!r}:"
                f" check INFLUX_BUCKET and INFLUX_ORG ({message})",
                setting="INFLUX_BUCKET",
            )
        if status == 429 or status >= 500:
            return Away(f"{url} answers {status} ({message})", retry_after_s=_retry_after_s(error))
        return self._not_influx(f"{status} ({message})")


def _halves(lines: bytes) -> tuple[bytes, bytes] | None:
    """The lines in two parts, or None when it is a single one."""
    pieces = list(whole_lines(lines))
    middle = len(pieces) // 2
    return (b"".join(pieces[:middle]), b"".join(pieces[middle:])) if middle else None


def _cause(error: BaseException) -> str:
    """What went wrong: urllib3 names the connection, and what it has caught says what happened to it."""
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "no answer in time"
    return str(error.__cause__ or error)


def _message(error: ApiException) -> str:
    try:
        message = str(json.loads(error.body)["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        message = str(error.body or error.reason or "no reason given")
    return message.strip()[:SHOWN_CHARS]


def _retry_after_s(error: ApiException) -> float:
    """Of the header Retry-After: seconds, or a date."""
    text = (error.headers.get("Retry-After") if error.headers else None) or "0"
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    # "nan" is a number too, and a pause of that length would never end.
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT_S) if math.isfinite(seconds) else 0.0
