"""The local stack's one organisation and one bucket, as InfluxDB v2 tells them; nothing changes them.

``GET /api/v2/buckets``
    ``{"buckets": [...]}``, by ``name``, ``id``, ``org``, ``orgID``, ``after``, ``offset`` and ``limit``.
``GET /api/v2/buckets/ID``
    That bucket, or 404.
``GET /api/v2/orgs``
    ``{"orgs": [...]}``, by ``org`` or ``orgID``: clients look an organisation up before they change a bucket.
"""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cloudburst.points.refusals import Refusal


class Buckets:
    """What there is, and whether a request means it."""

    def __init__(self, org: str, bucket: str) -> None:
        self._org, self._org_id = org, _identity(f"organisation {org}")
        self._bucket, self._bucket_id = bucket, _identity(f"bucket {bucket}")

    def check(self, request: Request) -> None:
        """Refuse a write to another bucket, or for another organisation: by name or by ID."""
        self._check_org(request)
        wanted = request.query_params.get("bucket", "")
        if wanted not in (self._bucket, self._bucket_id):
            raise Refusal(404, f'bucket "{wanted}" not found: this stack has "{self._bucket}" only')

    async def list(self, request: Request) -> Response:
        self._check_org(request)
        query = request.query_params
        offset, limit = _number(request, "offset", 0, 0), _number(request, "limit", 20, 1)
        meant = (
            query.get("name", self._bucket) == self._bucket
            and query.get("id", self._bucket_id) == self._bucket_id
            and query.get("after") != self._bucket_id
        )
        found = [self._described()] if meant else []
        return JSONResponse({"links": _links(request), "buckets": found[offset:][:limit]})

    async def one(self, request: Request) -> Response:
        if request.path_params["id"] != self._bucket_id:
            raise Refusal(404, "bucket not found")
        return JSONResponse(self._described())

    async def orgs(self, request: Request) -> Response:
        self._check_org(request)
        return JSONResponse({"links": _links(request), "orgs": [{"id": self._org_id, "name": self._org}]})

    def _check_org(self, request: Request) -> None:
        org = request.query_params.get("org") or request.query_params.get("orgID")
        if org and org not in (self._org, self._org_id):
            raise Refusal(404, f'organization name "{org}" not found: this stack has "{self._org}" only')

    def _described(self) -> dict[str, Any]:
        return {
            "id": self._bucket_id,
            "orgID": self._org_id,
            "type": "user",
            "name": self._bucket,
            "retentionRules": [{"type": "expire", "everySeconds": 0}],  # 0: never
            "labels": [],
        }


def _identity(name: str) -> str:
    """16 hexadecimal digits, as clients expect: the same whenever the stack starts."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _links(request: Request) -> dict[str, str]:
    """No ``next``: there are no further pages."""
    return {"self": str(request.url.replace(scheme="", netloc=""))}


def _number(request: Request, name: str, default: int, least: int) -> int:
    text = request.query_params.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise Refusal(400, f"{name}: should be an integer from {least}, got {text!r}")
    return int(text)
