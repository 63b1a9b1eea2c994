"""Calls of DigitalOcean's API, each as its specification has it.

python-digitalocean 1.17 sends paths with trailing slashes, null fields and bodies on DELETE, has neither
time-outs nor retries, loses the status and Retry-After of an error, and follows links to wherever they point,
token and all. This subclass replaces what differs.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
from digitalocean.baseapi import DELETE, GET, POST, PUT, BaseAPI
from requests.auth import AuthBase

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean.rate_limit import RateLimit
from cloudburst.providers.digitalocean.refusals import TOKENS, advice, words

log = logging.getLogger(__name__)

CONNECT_S = 10.0
READ_S = 60.0

RETRY_WAITS_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Between the attempts of a call that may safely be made twice."""

PAGE = 200
"""The most items that the API gives at once."""

_TOKEN = re.compile(r"[!-~]+")


class UncertainError(ProviderError):
    """No usable answer came to a POST: it may have been executed, and must not be repeated blindly."""


class _Bearer(AuthBase):
    """Puts the token into each request. Without it, an entry in ~/.netrc would replace the header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Api(BaseAPI):  # type: ignore[misc]  # the library has no types
    """One account's API. Every method raises ProviderError, whose message never holds the token."""

    def __init__(
        self,
        token: str,
        end_point: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        token = token.strip()
        if not _TOKEN.fullmatch(token):
            raise ProviderError(
                f"the token for DigitalOcean is empty or not one: copy it again, or make one at {TOKENS}"
            )
        if not re.match(r"https?://[^/]", end_point):
            raise ProviderError(f"{end_point!r} is no API's address: it should start with https://")
        super().__init__(token="", end_point=end_point.rstrip("/") + "/")
        self._session.auth = _Bearer(token)
        self._session.headers["User-Agent"] = "cloudburst"
        self._sleep = sleep
        self._clock = clock
        self.calls = 0
        """How many requests were sent."""

    def get(self, path: str, **params: str | int) -> dict[str, Any]:
        """One object, or one page."""
        return self.get_data(path, GET, params)

    def everything(self, path: str, key: str, **params: str | int) -> list[dict[str, Any]]:
        """The items under ``key`` of all pages; one that moved from page to page meanwhile is there once."""
        items = self._items(path, key, params)
        return list(
            {str(item.get("id") or item.get("slug") or item.get("name")): item for item in items}.values()
        )

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Sent once, since a second one might make a second thing; UncertainError if its answer was lost."""
        return self.get_data(path, POST, body)

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace what is there."""
        return self.get_data(path, PUT, body)

    def delete(self, path: str, **params: str) -> None:
        """Remove it; nothing happens if it is gone already."""
        try:
            self.get_data(path, DELETE, params)
        except ProviderError as error:
            if error.status != 404:
                raise

    def get_data(self, url: str, type: str = GET, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the API answers; {} if that is nothing. Names and their order are the library's.

        A call that may safely be made twice is repeated after failures of the connection or the API; every
        call waits, within bounds, when there were too many of them: such a one was not executed.
        """
        path = url.strip("/")
        limit = RateLimit(path, self._sleep, self._clock)
        waits_s = iter(RETRY_WAITS_S)
        while True:
            try:
                reply = self._send(path, type, params or {})
                if reply.status_code == 429:
                    limit.wait(reply.headers)
                    continue
                if reply.status_code < 500:
                    return self._content(reply, type, path)
                failure = _refusal(reply, type, path)
            except requests.RequestException as error:
                failure = self._silence(error, type, path)
            if type == POST:
                raise UncertainError(
                    str(failure),
                    status=failure.status,
                    identity=failure.identity,
                    reason=failure.reason,
                    request_id=failure.request_id,
                )
            wait_s = next(waits_s, None)
            if wait_s is None:
                raise failure
            log.info("%s; trying again in %g s", failure, wait_s)
            self._sleep(wait_s)

    def _items(self, path: str, key: str, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The API's link to the next page only says that there is one: it may lead to another host."""
        page = 1
        while True:
            data = self.get(path, **params, page=page, per_page=PAGE)
            yield from data.get(key) or []
            if not data.get(key) or not ((data.get("links") or {}).get("pages") or {}).get("next"):
                return
            page += 1

    def _send(self, path: str, method: str, params: Mapping[str, Any]) -> requests.Response:
        given = {name: value for name, value in params.items() if value is not None}
        has_body = method in {POST, PUT}
        self.calls += 1
        reply: requests.Response = self._session.request(
            method,
            self.end_point + path,
            params=None if has_body else given,
            json=given if has_body else None,
            timeout=(CONNECT_S, READ_S),
            allow_redirects=False,
        )
        log.debug("%s %s: HTTP %d", method, path, reply.status_code)
        return reply

    def _content(self, reply: requests.Response, method: str, path: str) -> dict[str, Any]:
        if not 200 <= reply.status_code < 300:
            raise _refusal(reply, method, path)
        if reply.status_code == 204 or not reply.content:
            return {}
        content = reply.json()  # its error is a RequestException: half an answer is none
        if not isinstance(content, dict):
            raise ProviderError(f"{self.end_point}{path} answers something that no API of DigitalOcean does")
        return content

    def _silence(self, error: requests.RequestException, method: str, path: str) -> ProviderError:
        if isinstance(error, requests.Timeout):
            what = "no answer in time"
        elif isinstance(error, requests.exceptions.SSLError):
            what = "its certificate is not accepted"
        elif isinstance(error, requests.ConnectionError):
            what = "no connection, or one that broke"
        else:
            what = "an answer that cannot be read"
        return ProviderError(
            f"{method} {self.end_point}{path}: {what}; check the network, and run the same command again: "
            "it goes on from what there is"
        )


def _refusal(reply: requests.Response, method: str, path: str) -> ProviderError:
    try:
        identity, reason, request_id = words(reply.json())
    except requests.RequestException:
        identity, reason, request_id = "", "", ""
    by_tag = "tag_name=" in (reply.request.url or "")
    return ProviderError(
        advice(method, path, reply.status_code, reason, by_tag=by_tag),
        status=reply.status_code,
        identity=identity,
        reason=reason,
        request_id=request_id,
    )
