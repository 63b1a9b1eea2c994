"""What comes into a function and what comes out of it, as bytes."""

from __future__ import annotations

import json
import pickle
from typing import Any

from .frames import VALUE_LIMIT


class Refused(Exception):
    """The job's data is not something that this executor runs."""


def decode(data: bytes, allow_pickle: bool) -> tuple[str, list[Any], dict[str, Any]]:
    """Function name, args and kwargs of job data (Refused when it may not be read)."""
    if data[:1] == b"\x80":
        if not allow_pickle:
            raise Refused(
                "this stack does not run pickled jobs: enqueue with Queue(..., serializer=JSONSerializer) "
                "from rq.serializers"
            )
        call = pickle.loads(data)
    else:
        try:
            call = json.loads(data)
        except ValueError:
            raise Refused(
                "the job's data is neither JSON nor a pickle; it begins with %r" % data[:40]
            ) from None
    try:
        name, instance, args, kwargs = call
    except (TypeError, ValueError):
        raise Refused("the job's data is not [function, null, [arguments], {}]") from None
    if instance is not None or not isinstance(name, str):
        raise Refused(
            "only functions named as text can be run, such as 'worker.work', not methods of objects"
        )
    return name, args, kwargs


def encode(value: Any) -> bytes:
    """The returned value as JSON (Refused when it is not, or too large)."""
    try:
        text = json.dumps(value, default=_plain, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(
            "what the function returned is not JSON (%s): return numbers, text, lists and dicts" % error
        ) from None
    body = text.encode()
    if len(body) > VALUE_LIMIT:
        raise Refused(
            "what the function returned has {:,} bytes as JSON, the limit is {:,}: write large results as "
            "points (cloudburst.results.write) or to a file store".format(len(body), VALUE_LIMIT)
        )
    return body


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    raise TypeError("%s found in it" % type(value).__name__)
