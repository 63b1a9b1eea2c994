"""Callbacks of stock RQ jobs: what they see of their job, and how long they may take."""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
import signal
from typing import Any, Dict, Iterator

from .values import decode


class JobTimeoutException(Exception):
    """A job with callbacks, or a callback, has used up its time; named as in RQ (rq/timeouts.py)."""


class JobView:
    """What a callback sees of its job: attributes of rq.job.Job, read-only, and none that needs Redis."""

    def __init__(self, header: Dict[str, Any], data: bytes, status: str, allow_pickle: bool) -> None:
        asked = header["asked"]
        name, args, kwargs = decode(data, allow_pickle)
        self.__dict__.update(
            id=header["id"],
            func_name=name,
            args=args,
            kwargs=kwargs,
            meta=read_meta(asked, allow_pickle),
            description=asked["description"],
            origin=asked["origin"],
            timeout=asked["timeout"],
            created_at=_datetime(asked["created_at"]),
            enqueued_at=_datetime(asked["enqueued_at"]),
            retries_left=asked["retries_left"],
            worker_name=asked["worker"],
            _status=status,
        )

    def get_id(self) -> str:
        job_id: str = self.__dict__["id"]
        return job_id

    def get_status(self, refresh: bool = True) -> str:
        status: str = self.__dict__["_status"]
        return status

    def get_meta(self, refresh: bool = True) -> Any:
        return self.__dict__["meta"]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            "a callback's job has no %r here: callbacks run where user code runs, without Redis" % name
        )

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a callback's job is read-only: %s cannot be set" % name)

    def __repr__(self) -> str:
        return "<JobView %s: %s>" % (self.__dict__["id"], self.__dict__["description"])


def _datetime(text: str) -> Any:
    """What RQ wrote as an aware datetime; None for nothing."""
    if not text:
        return None
    import datetime

    found = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
    return found.replace(tzinfo=datetime.timezone.utc)


def read_meta(asked: Dict[str, Any], allow_pickle: bool) -> Any:
    """The job's meta; what cannot be read is {"unserialized": ...}, as RQ has it."""
    raw = base64.b64decode(asked["meta"])
    if not raw:
        return {}
    try:
        return pickle.loads(raw) if allow_pickle and raw[:1] == b"\x80" else json.loads(raw)
    except Exception:  # noqa: BLE001 (whatever unpickling raises)
        return {"unserialized": raw}


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise JobTimeoutException in the body when it takes longer; 0: no limit."""

    def late(_number: int, _frame: Any) -> None:
        raise JobTimeoutException("Task exceeded maximum timeout value (%g seconds)" % seconds)

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
