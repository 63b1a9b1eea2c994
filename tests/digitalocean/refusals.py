"""Answers that are no success, with the real API's words."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Refusal(Exception):
    """Raised by the fake's account; becomes an answer ``{id, message, request_id}``."""

    status: int
    id: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)


def not_found() -> Refusal:
    return Refusal(404, "not_found", "The resource you were accessing could not be found.")


def unprocessable(message: str) -> Refusal:
    return Refusal(422, "unprocessable_entity", message)


def conflict(message: str) -> Refusal:
    return Refusal(409, "conflict", message)


def unauthorized() -> Refusal:
    return Refusal(401, "Unauthorized", "Unable to authenticate you")


def forbidden() -> Refusal:
    return Refusal(403, "Forbidden", "You are not authorized to perform this operation")


def read_only() -> Refusal:
    """The real one's words for a token that may read everything and change nothing."""
    return Refusal(403, "forbidden", "You do not have access for the attempted action.")


def too_many_lists(reset: float) -> Refusal:
    """Of a limit per minute: no Retry-After, and the headers tell of the hour."""
    headers = {"ratelimit-reset": str(round(reset)), "ratelimit-remaining": "4321"}
    return Refusal(429, "too_many_requests", "API rate limit exceeded.", headers)


def too_many(retry_after_s: float) -> Refusal:
    return Refusal(
        429,
        "too_many_requests",
        "API rate limit exceeded.",
        {"retry-after": str(max(1, round(retry_after_s)))},
    )


STATUS = {
    400: ("bad_request", "The request could not be understood."),
    401: ("Unauthorized", "Unable to authenticate you"),
    403: ("Forbidden", "You are not authorized to perform this operation"),
    404: ("not_found", "The resource you were accessing could not be found."),
    409: ("conflict", "The resource has a conflict."),
    422: ("unprocessable_entity", "The request was refused."),
    429: ("too_many_requests", "API rate limit exceeded."),
    500: ("server_error", "Unexpected server-side error"),
    502: ("bad_gateway", "Bad gateway"),
    503: ("service_unavailable", "Service unavailable"),
    504: ("gateway_timeout", "Gateway timeout"),
}
"""By status: id and message, where a test says no others."""
