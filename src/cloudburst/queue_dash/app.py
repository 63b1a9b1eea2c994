"""The WSGI application: rq-dashboard, read-only, for every serializer at once."""

from __future__ import annotations

import re
import secrets
import urllib.parse

import redis
import rq.serializers
import rq_dashboard.web
from flask import Flask, Response, g, request
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.utils import get_call_string
from rq_dashboard.cli import make_flask_app

from cloudburst.queue_dash import reading
from cloudburst.queue_dash.templates import Escaping

READ_ONLY = (
    "queue-dash shows and changes nothing, so that ensembles keep count of their jobs: "
    "use `cloudburst retry` and `cloudburst cancel`, or for jobs of plain RQ `rq requeue`"
)
REGISTRIES = ("queued", "started", "finished", "failed", "deferred", "scheduled", "canceled")
LOOPBACK = ("127.0.0.1", "localhost", "::1")

DESCRIBED = 300
"""Characters shown of the call of a job that has no description of its own, as those of ensembles."""

# Without the dashboard's buttons for what is refused here (it hides those for deleting itself). Long paths
# and descriptions are broken instead of widening the table, and a traceback shows its end: the rest is
# scrolled.
_STYLE = b"""<style>
#requeue-all-btn, #requeue-job-btn, #compact-btn, [data-role=requeue-job-btn] { display: none !important; }
#jobs, #workers { table-layout: fixed; width: 100%; }
#jobs th:nth-child(2) { width: 9em; }
#jobs th:nth-child(3), #jobs td:nth-child(3) { display: none; }
td, pre, #job-data span { overflow-wrap: anywhere; min-width: 0; }
pre { white-space: pre-wrap; max-height: 60vh; overflow-y: auto; }
#jobs .description { display: block; white-space: normal; max-height: 4.5em; overflow-y: auto; }
#jobs pre.exc_info { display: flex; flex-direction: column-reverse; max-height: 6.5em; }
</style></head>"""

_POLICY = {
    "default-src": "'none'",
    "connect-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
"""What a page may do, beside running the scripts that it came with."""


def make_app(redis_url: str, *, host: str) -> Flask:
    """queue-dash for the Redis at that URL, to be served on ``host``.

    Reads every serializer of RQ in the whole process from here on: rq-dashboard leaves the choice to RQ
    in some places, which then unpickles what clients wrote, and answers 500 for jobs written as JSON.
    """
    rq.serializers.DefaultSerializer.loads = reading.loads
    rq_dashboard.web.format_job_description = described
    app: Flask = make_flask_app(config=None, username=None, password=None, url_prefix="")
    app.config["RQ_DASHBOARD_REDIS_URL"] = [redis_url]
    app.config["RQ_DASHBOARD_DISABLE_DELETE"] = True
    app.jinja_env.autoescape = True  # also of scripts
    app.jinja_env.loader = Escaping(app.create_global_jinja_loader())
    rq_dashboard.web.setup_rq_connection(app)
    app.before_request(_make_nonce)
    app.context_processor(lambda: {"nonce": g.nonce})
    app.before_request(_refuse_changes)
    app.before_request(_refuse_nonsense)
    if host in LOOPBACK:
        app.before_request(_refuse_foreign_names)
    app.after_request(_style)
    app.after_request(_protect)
    app.register_error_handler(NoSuchJobError, lambda _: _said("This job does not exist (any more).", 404))
    app.register_error_handler(redis.RedisError, lambda error: _said(f"Redis does not answer: {error}", 503))
    return app


def described(job: Job) -> str:
    """What a job does, in a line: its description, which jobs of ensembles have not, else its call."""
    call = job.description or get_call_string(job.func_name, job.args, job.kwargs, DESCRIBED) or ""
    return call if job.description or len(call) <= DESCRIBED else f"{call[:DESCRIBED]}..."


def _said(text: str, status: int) -> Response:
    """Plain text: it may quote what was asked."""
    return Response(f"{text}\n", status, mimetype="text/plain")


def _make_nonce() -> None:
    g.nonce = secrets.token_urlsafe(16)


def _refuse_changes() -> tuple[dict[str, str], int] | None:
    # /requeue/<queue> changes things by GET, which any page in the same browser could trigger.
    if request.method in {"GET", "HEAD"} and request.endpoint != "rq_dashboard.requeue_all":
        return None
    return {"status": "READ-ONLY", "error": READ_ONLY}, 403


def _refuse_nonsense() -> Response | None:
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
    return _said("There is no such page.", 404)


def _refuse_foreign_names() -> Response | None:
    """Another name that leads to 127.0.0.1 is a page that wants to read the queue (DNS rebinding)."""
    if urllib.parse.urlsplit(f"//{request.host}").hostname in LOOPBACK:
        return None
    return _said(f"queue-dash answers on this machine only, not as {request.host}", 403)


def _style(response: Response) -> Response:
    if response.mimetype == "text/html" and not response.direct_passthrough:
        response.set_data(response.get_data().replace(b"</head>", _STYLE, 1))
    return response


def _protect(response: Response) -> Response:
    # Underscore makes functions of its templates, which is eval. Attributes such as onerror have no effect.
    policy = _POLICY | {"script-src": f"'nonce-{g.nonce}' 'unsafe-eval'"}
    response.headers["Content-Security-Policy"] = "; ".join(
        f"{name} {value}" for name, value in policy.items()
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
