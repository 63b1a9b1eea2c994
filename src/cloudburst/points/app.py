"""The local stack's stand-in for InfluxDB v2: what its clients need to write points, and a way to read them.

``POST /api/v2/write``
    204 when every point is on disk. 400 when a line is malformed: nothing of the body was stored.
    422 when fields have another type than before, or a measurement has too many: the points concerned were
    left out, the others stored.
    401, 404 (organisation or bucket), 413, 503 as InfluxDB. ``precision`` ns, us, ms or s; gzip bodies.
``GET /ping``, ``/health``, ``/ready``
    That it is there; without a token.
``GET /api/v2/buckets``, ``/api/v2/orgs``
    What there is: ``buckets``.
``GET /query``, ``POST /query``
    A part of InfluxQL that only reads, as InfluxDB 1 answers it: ``influxql``.
``POST /api/v2/query``
    501: no Flux.
``GET /cloudburst/points?measurement=M&tag=KEY=VALUE&start=NS&end=NS``
    JSON Lines ``{"time": ns, "tags": {}, "fields": {}}``, series by series, each in the order of time;
    points must have all of the tags, and ``start <= time < end``.
``GET /cloudburst/measurements``
    ``{"measurements": [{"name": "", "series": 0, "points": 0}]}``
"""

from __future__ import annotations

import hmac
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

import anyio
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cloudburst import names
from cloudburst.points import refusals
from cloudburst.points.body import Bodies, as_text
from cloudburst.points.buckets import Buckets
from cloudburst.points.influxql.endpoint import Queries
from cloudburst.points.parse import PRECISIONS, TIME_LIMIT, parse
from cloudburst.points.refusals import Refusal
from cloudburst.points.store import Selection, Store

OPEN_PATHS = frozenset({"/ping", "/health", "/ready"})
"""What is answered without a token, as by InfluxDB."""

LINES_TOGETHER = 1000
"""Of an answer with points."""

NO_FLUX = (
    "the local stack keeps points without InfluxDB and answers no Flux: a part of InfluxQL at /query and "
    "GET /cloudburst/points?measurement=NAME read them here; a swarm's InfluxDB answers all of both "
    "(./buildstack.sh --docker, --hosts or -n), and INFLUX_URL, set before the start, makes a local "
    "stack use one"
)

VERSION = f"2.7.0+cloudburst.{names.VERSION}"
"""The version of InfluxDB whose write endpoint this one follows, marked as not being it."""


def create_app(store: Store, token: str, *, org: str = names.ORG, bucket: str = names.BUCKET) -> Starlette:
    """The endpoint for everybody who has ``token``; what they write goes into ``store``."""
    buckets = Buckets(org, bucket)
    queries = Queries(store, bucket)
    answers = Answers(store, buckets)
    return Starlette(
        routes=[
            Route("/api/v2/write", answers.write, methods=["POST"]),
            Route("/api/v2/buckets", buckets.list, methods=["GET"]),
            Route("/api/v2/buckets/{id}", buckets.one, methods=["GET"]),
            Route("/api/v2/orgs", buckets.orgs, methods=["GET"]),
            Route("/api/v2/query", answers.flux, methods=["POST"]),
            Route("/query", queries.query, methods=["GET", "POST"]),
            Route("/ping", answers.ping, methods=["GET"]),
            Route("/health", answers.health, methods=["GET"]),
            Route("/ready", answers.ready, methods=["GET"]),
            Route("/cloudburst/points", answers.points, methods=["GET"]),
            Route("/cloudburst/measurements", answers.measurements, methods=["GET"]),
        ],
        middleware=[Middleware(Authentication, token=token)],
        exception_handlers=refusals.BY_ERROR,
    )


class Authentication:
    """Answers 401 to every request that does not bring the token, before anything else looks at it."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._is_let_in(scope):
            await self.app(scope, receive, send)
            return
        await refusals.answer(401, "unauthorized access")(scope, receive, send)

    def _is_let_in(self, scope: Scope) -> bool:
        kind, _, brought = Headers(scope=scope).get("authorization", "").partition(" ")
        return kind.lower() in {"token", "bearer"} and hmac.compare_digest(
            brought.strip().encode(), self._token
        )


class Answers:
    """One method for each kind of request."""

    def __init__(self, store: Store, buckets: Buckets) -> None:
        self._store = store
        self._buckets = buckets
        self._bodies = Bodies()
        self._one_at_a_time = anyio.CapacityLimiter(1)
        self._started = datetime.now(UTC)

    async def write(self, request: Request) -> Response:
        self._buckets.check(request)
        precision = request.query_params.get("precision") or "ns"
        if precision not in PRECISIONS:
            raise Refusal(400, "invalid precision; valid precision units are ns, us, ms, and s")
        with self._bodies.reading(request) as body:
            contents = await body.contents()
            refused = await run_sync(self._store_lines, contents, precision, limiter=self._one_at_a_time)
        if refused:
            raise Refusal(422, f"partial write: {next(iter(refused))} dropped={refused.total()}")
        return Response(status_code=204, headers={"X-Influxdb-Version": VERSION})

    def _store_lines(self, body: bytes, precision: str) -> Counter[str]:
        # Decoded here, one at a time: as text, a body with a rare letter in it takes four times the memory.
        return self._store.write(parse(as_text(body), precision=precision, now=time.time_ns()))

    async def flux(self, request: Request) -> Response:
        return refusals.answer(501, NO_FLUX)

    async def ping(self, request: Request) -> Response:
        return Response(
            status_code=204, headers={"X-Influxdb-Build": "CloudBurst", "X-Influxdb-Version": VERSION}
        )

    async def health(self, request: Request) -> Response:
        return JSONResponse(
            {
                "name": "influxdb",
                "message": "ready for queries and writes",
                "status": "pass",
                "checks": [],
                "version": VERSION,
                "commit": "",
            }
        )

    async def ready(self, request: Request) -> Response:
        up_s = (datetime.now(UTC) - self._started).total_seconds()
        return JSONResponse(
            {"status": "ready", "started": self._started.isoformat(), "up": f"{up_s:.0f}s"},
        )

    async def points(self, request: Request) -> Response:
        selection = _selection(request)
        return StreamingResponse(self._json_lines(selection), media_type="application/x-ndjson")

    def _json_lines(self, selection: Selection) -> Iterator[str]:
        # Each text that is yielded costs a change of threads: short series are sent together.
        texts: list[str] = []
        size = 0
        for page in self._store.pages(selection):
            texts += [
                f'{{"time":{time},"tags":{page.tags},"fields":{fields}}}\n' for time, fields in page.rows
            ]
            size += len(page.rows)
            if size >= LINES_TOGETHER:
                yield "".join(texts)
                texts, size = [], 0
        yield "".join(texts)

    async def measurements(self, request: Request) -> Response:
        found = await run_sync(self._store.measurements)
        return JSONResponse({"measurements": [asdict(measurement) for measurement in found]})


def _selection(request: Request) -> Selection:
    query = request.query_params
    if not query.get("measurement"):
        raise Refusal(400, "measurement: is missing; /cloudburst/measurements lists all")
    tags = {}
    for tag in query.getlist("tag"):
        key, equals, value = tag.partition("=")
        if not equals:
            raise Refusal(400, f"tag: should be KEY=VALUE, got {tag!r}")
        tags[key] = value
    times = {name: _nanoseconds(name, query[name]) for name in ("start", "end") if query.get(name)}
    return Selection(query["measurement"], tags, **times)


def _nanoseconds(name: str, text: str) -> int:
    try:
        return max(-TIME_LIMIT, min(int(text), TIME_LIMIT + 1))
    except ValueError:
        raise Refusal(400, f"{name}: should be whole nanoseconds since 1970, got {text!r}") from None
