"""What a stock client asks for beside the call itself: callbacks, and a job to look at from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cloudburst.rqwire import encoding

CALLBACK_TIMEOUT_S = 60
"""What RQ gives a callback that names no timeout (rq/defaults.py)."""

NAMES = (
    "description",
    "origin",
    "created_at",
    "enqueued_at",
    "meta",
    "retries_left",
    "success_callback_name",
    "success_callback_timeout",
    "failure_callback_name",
    "failure_callback_timeout",
    "stopped_callback_name",
    "stopped_callback_timeout",
)
"""Fields of the job's hash, in the order of ASKED in ``lua/stock.lua``."""


@dataclass(frozen=True)
class Callback:
    """A function of the payload that is called when its job has ended in a certain way."""

    name: str
    timeout_s: int


@dataclass(frozen=True)
class Asked:
    """All "" and None for a job of an ensemble, and for a stock job that asks for nothing."""

    description: str = ""
    origin: str = ""
    """Name of the queue."""
    created_at: str = ""
    """As RQ writes times."""
    enqueued_at: str = ""
    retries_left: int | None = None
    meta: bytes = field(default=b"", repr=False)
    """As the client's serializer wrote it."""
    on_success: Callback | None = None
    on_failure: Callback | None = None
    on_stopped: Callback | None = None

    @property
    def callbacks_s(self) -> int:
        """How long the callbacks of one attempt may take in all."""
        return sum(callback.timeout_s for callback in (self.on_success, self.on_failure) if callback)


NOTHING = Asked()


def asked(values: Sequence[bytes | int | None]) -> Asked:
    """From the values of NAMES, whose numbers ``lua/prelude.lua`` has checked; from none, NOTHING."""
    if not values:
        return NOTHING
    raw = dict(zip(NAMES, values, strict=False))
    meta, retries_left = raw["meta"], raw["retries_left"]
    return Asked(
        description=_text(raw["description"]),
        origin=_text(raw["origin"]),
        created_at=_text(raw["created_at"]),
        enqueued_at=_text(raw["enqueued_at"]),
        retries_left=None if retries_left is None else encoding.whole(retries_left),
        meta=meta if isinstance(meta, bytes) else b"",
        on_success=_callback(raw, "success"),
        on_failure=_callback(raw, "failure"),
        on_stopped=_callback(raw, "stopped"),
    )


def _callback(raw: dict[str, bytes | int | None], kind: str) -> Callback | None:
    name = _text(raw[f"{kind}_callback_name"])
    timeout_s = encoding.whole(raw[f"{kind}_callback_timeout"], CALLBACK_TIMEOUT_S)
    return Callback(name, timeout_s) if name else None


def _text(value: bytes | int | None) -> str:
    return encoding.text(value) if isinstance(value, bytes) else str(value or "")
