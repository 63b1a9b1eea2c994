"""The WSGI application: rq-dashboard, read-only, for every serializer at once."""

from __future__ import annotations

import re
import urllib.parse

import redis
import rq.serializers
from flask import Flask, Response, request
from rq.exceptions import NoSuchJobError
from rq_dashboard.cli import make_flask_app
from rq_dashboard.web import setup_rq_connection

from cloudburst.queue_dash import reading

READ_ONLY = (
    "queue-dash shows and changes nothing, so that ensembles keep count of their jobs: "
    "use `cloudburst retry` and `cloudburst cancel`, or for jobs of plain RQ `rq requeue`"
)
REGISTRIES = ("queued", "started", "finished", "failed", "deferred", "scheduled", "canceled")
LOOPBACK = ("127.0.0.1", "localhost", "::1")

# The dashboard's buttons for what is refused here; it hides those for deleting itself.
_NO_BUTTONS = (
    b"<style>#requeue-all-btn, #requeue-job-btn, #compact-btn, [data-role=requeue-job-btn] "
    b"{ display: none !important; }</style></head>"
)


def make_app(redis_url: str, *, host: str) -> Flask:
    """queue-dash for the Redis at that URL, to be served on ``host``.

    Reads every serializer of RQ in the whole process from here on: rq-dashboard leaves the choice to RQ
    in some places, which then unpickles what clients wrote, and answers 500 for jobs written as JSON.
    """
    rq.serializers.DefaultSerializer.loads = reading.loads
    app: Flask = make_flask_app(config=None, username=None, password=None, url_prefix="")
    app.config["RQ_DASHBOARD_REDIS_URL"] = [redis_url]
    app.config["RQ_DASHBOARD_DISABLE_DELETE"] = True
    setup_rq_connection(app)
    app.before_request(_refuse_changes)
    app.before_request(_refuse_nonsense)
    if host in LOOPBACK:
        app.before_request(_refuse_foreign_names)
    app.after_request(_hide_buttons)
    app.register_error_handler(NoSuchJobError, lambda _: ("This job does not exist (any more).", 404))
    app.register_error_handler(redis.RedisError, lambda error: (f"Redis does not answer: {error}", 503))
    return app


def _refuse_changes() -> tuple[dict[str, str], int] | None:
    # /requeue/<queue> changes things by GET, which any page in the same browser could trigger.
    if request.method in {"GET", "HEAD"} and request.endpoint != "rq_dashboard.requeue_all":
        return None
    return {"status": "READ-ONLY", "error": READ_ONLY}, 403


def _refuse_nonsense() -> tuple[str, int] | None:
    """Addresses that no page refers to; rq-dashboard answers some of them with 500."""
    asked: dict[str, str | int] = {"instance_number": 0, "registry_name": "queued", "job_id": "a"}
    asked |= {"per_page": 1, "page": 1} | (request.view_args or {})
    if (
        asked["instance_number"] == 0
        and asked["registry_name"] in REGISTRIES
        and all(re.fullmatch("[1-9][0-9]{0,6}", str(asked[name])) for name in ("per_page", "page"))
        and re.fullmatch(r"[\w-]+", str(asked["job_id"]))
    ):
        return None
    return "There is no such page.", 404


def _refuse_foreign_names() -> tuple[str, int] | None:
    """Another name that leads to 127.0.0.1 is a page that wants to read the queue (DNS rebinding)."""
    if urllib.parse.urlsplit(f"//{request.host}").hostname in LOOPBACK:
        return None
    return f"queue-dash answers on this machine only, not as {request.host}", 403


def _hide_buttons(response: Response) -> Response:
    if response.mimetype == "text/html" and not response.direct_passthrough:
        response.set_data(response.get_data().replace(b"</head>", _NO_BUTTONS, 1))
    return response
